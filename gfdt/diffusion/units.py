"""Anomalies a = (x - m)/scale: the units in which a network learns.

m is the mean of the data; ``scale`` has one entry for each component of a vector (its standard deviation), one for each
variable of a field, or one in all. White noise of standard deviation ``level`` in these units is noise of
``level * scale`` in the data; scores transform as s_x = s_a/scale. With one entry for every quantity of its own unit
nothing that is learned depends on the units of the data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from gfdt.covariance import Covariance, DenseCovariance
from gfdt.record import state_batches

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Units", "mean_of_state"]


@dataclass(frozen=True)
class Units:
    """Mean and scale, both broadcastable to one state.

    Attributes
    ----------
    mean : m
    scale : standard deviations
    """

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]

    @classmethod
    def of_moments(
        cls,
        centre: NDArray[np.float64],
        deviation: NDArray[np.float64],
        same_mean: tuple[int, ...],
        same_scale: tuple[int, ...],
    ) -> Self:
        """Take both from mean and standard deviation of each component, the same along these axes of the state."""
        mean = centre.mean(axis=same_mean, keepdims=True)
        variance = np.mean(deviation**2 + (centre - mean) ** 2, axis=same_scale, keepdims=True)
        return cls(mean, np.sqrt(variance))

    def anomalies(self, x: NDArray[Any]) -> NDArray[np.float64]:
        """Return (x - m)/scale in float64, for x (batch, *state)."""
        return (x.astype(np.float64) - self.mean) / self.scale

    def single(self, states: NDArray[Any]) -> NDArray[np.float32]:
        """Return all anomalies of states (n, *state) in float32; the difference is taken in float64."""
        out = np.empty(states.shape, dtype=np.float32)
        for part in state_batches(states.shape):
            out[part] = self.anomalies(states[part])
        return out

    def in_data_units(self, level: float) -> Any:
        """Return level * scale: a float if all entries are equal, else an array broadcastable to a state."""
        noise = level * self.scale
        return float(noise.flat[0]) if np.ptp(noise) == 0 else noise

    def covariance(self, covariance: Covariance) -> Covariance:
        """Return the covariance of a, from that of x."""
        if isinstance(covariance, DenseCovariance):
            shape = np.broadcast_shapes(self.scale.shape, self.mean.shape)
            return covariance.rescaled(np.broadcast_to(self.scale, shape).ravel())
        return covariance.rescaled(self.scale)


def mean_of_state(covariance: Covariance, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return m with the dims of a state: its shape, or 1 along dims on which the mean does not depend."""
    mean = np.asarray(covariance.mean, dtype=np.float64)
    if isinstance(covariance, DenseCovariance):
        return mean.reshape(shape)
    lead = mean.shape
    return mean.reshape(*lead, *[1] * (len(shape) - len(lead)))
