"""The linear part of a learned score, in float64: what needs no training.

In the notation of :mod:`gfdt.diffusion.units` and :mod:`gfdt.diffusion.preconditioning`, with C the covariance of a,

    gaussian   g(a) = -(C + level²)⁻¹ a          edm   g(a) = -a/(tr C/d + level²)          none   g(a) = 0

At level 0 the inverse is the pseudo-inverse: along directions without variance there is no score.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from gfdt.covariance import Covariance, DenseCovariance, SpectralCovariance
from gfdt.diffusion.noise_level import default_level, warn_if_coarse
from gfdt.diffusion.symmetries import make_group, symmetrise_covariance
from gfdt.diffusion.units import Units, mean_of_state

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from gfdt.diffusion.settings import Settings

__all__ = ["Linear"]


@dataclass(frozen=True)
class Linear:
    """Units, covariance and noise level, and the score they make.

    Attributes
    ----------
    units : Units
    covariance : of the anomalies, which have no mean
    precondition : "gaussian", "edm" or "none"
    level : noise level in units of ``scale``
    noise_level : the same in the units of the data, a float or an array broadcastable to a state
    shape : of a state
    """

    units: Units
    covariance: Covariance
    precondition: str
    level: float
    noise_level: Any
    shape: tuple[int, ...]

    @classmethod
    def of_statistics(
        cls,
        centre: NDArray[np.float64],
        deviation: NDArray[np.float64],
        covariance_in: Callable[[NDArray[np.float64]], Covariance],
        settings: Settings,
        dims: tuple[str, ...],
    ) -> Self:
        """Derive everything from mean and standard deviation (*state), and the covariance in units of a scale."""
        shape = centre.shape
        homogeneous = tuple(range(len(shape) - settings.n_homogeneous, len(shape)))
        units = Units.of_moments(centre, deviation, homogeneous, settings.scale_axes)
        covariance = covariance_in(units.scale)
        n_grid = settings.n_grid if isinstance(covariance, DenseCovariance) else settings.n_homogeneous
        start = len(shape) - n_grid
        group = make_group(settings.architecture.symmetries, dims[start:], shape[start:])
        covariance = symmetrise_covariance(covariance, group)
        units = dataclasses.replace(units, mean=mean_of_state(covariance, shape) * units.scale)
        covariance = dataclasses.replace(covariance, mean=0 * covariance.mean)  # type: ignore[arg-type]
        if settings.sigma is not None:
            warn_if_coarse(settings.sigma, deviation)
            level, noise_level = settings.sigma / float(units.scale.flat[0]), settings.sigma
        else:
            level = default_level(covariance) if settings.objective == "dsm" else 0.0
            noise_level = units.in_data_units(level)
        return cls(units, covariance, settings.architecture.precondition, level, noise_level, shape)

    def score(self, a: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return g(a) for anomalies (batch, *state), in units of 1/scale."""
        if self.precondition == "none":
            return np.zeros_like(a)
        if self.precondition == "edm":
            return a * self._gain(np.asarray(self._variance()))
        return self.covariance.apply(a, self._gain)

    def divergence(self) -> float:
        """Return div g in the units of the data, sum_i (dg_i/da_i)/scale_i²: the same at every state."""
        precision = np.broadcast_to(1 / self.units.scale**2, self.shape)
        if self.precondition == "none":
            return 0.0
        if self.precondition == "edm":
            return float(self._gain(np.asarray(self._variance())) * precision.sum())
        if isinstance(self.covariance, DenseCovariance):
            diagonal = np.square(self.covariance.eigenvectors) @ self._gain(self.covariance.eigenvalues)
            return float(diagonal @ precision.ravel())
        # The derivative is the same at every site: that at the first one, for each variable.
        grid = self.covariance.shape
        n_sites = int(np.prod(grid))
        first = precision.reshape(-1, n_sites)[:, 0]
        n = first.size
        units = np.zeros((n, n, n_sites))
        units[:, :, 0] = np.eye(n)
        answers = self.covariance.apply(units.reshape(n, *self.shape), self._gain).reshape(units.shape)
        return float(np.diagonal(answers[:, :, 0]) @ first * n_sites)

    def at(self, level: float, noise_level: Any) -> Self:
        """Return the same at another noise level."""
        return dataclasses.replace(self, level=level, noise_level=noise_level)

    def covariance_of_data(self) -> Covariance:
        """Return mean and covariance in the units of the data."""
        back = Units(np.zeros_like(self.units.mean), 1 / self.units.scale)
        return self._with_mean(back.covariance(self._with_mean(self.covariance)))

    def _with_mean(self, covariance: Covariance) -> Covariance:
        mean = self.units.mean
        if isinstance(covariance, SpectralCovariance):
            return dataclasses.replace(covariance, mean=float(mean.flat[0]))
        return dataclasses.replace(covariance, mean=mean.ravel())

    def _variance(self) -> float:
        return self.covariance.trace(lambda c: c) / float(np.prod(self.shape))

    def _gain(self, eigenvalues: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return -1/(c + level²), and 0 where that is infinite."""
        blurred = eigenvalues + self.level**2
        return np.divide(-1.0, blurred, out=np.zeros_like(blurred), where=blurred > 0)
