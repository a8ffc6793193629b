"""Whitened coordinates as those of a family: noise that is white in them has the correlations of the data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gfdt.covariance import DenseCovariance
from gfdt.density.family import Diagonal

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gfdt.scores.whitening import Whitening

__all__ = ["Whitened", "covariance_of_data"]


@dataclass(frozen=True)
class Whitened:
    """The map a = W (x - m), WᵀW = C⁻¹, with the methods of :class:`gfdt.density.family.Diagonal`.

    Attributes
    ----------
    whitening : Whitening
        m and W.
    shape : tuple of int
        Of a state.
    """

    whitening: Whitening
    shape: tuple[int, ...]

    @property
    def covariance(self) -> DenseCovariance:
        """That of a, I."""
        d = self.whitening.mean.size
        return DenseCovariance(np.zeros(d), np.ones(d), np.eye(d))

    def simplified(self) -> Whitened | Diagonal:
        """Return the same map; of a single component as one that only scales."""
        if self.whitening.mean.size > 1:
            return self
        return Diagonal(self.whitening.mean.reshape(self.shape), 1 / self.whitening.matrix.reshape(self.shape))

    def states(self, x: NDArray[Any]) -> NDArray[np.float64]:
        """Return a for states x (batch, *state)."""
        return self.whitening.states(x).reshape(x.shape)

    def data(self, a: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return x for a (batch, *state)."""
        x = np.linalg.solve(self.whitening.matrix, a.reshape(len(a), -1).T).T + self.whitening.mean
        return x.reshape(a.shape)

    def directions(self, v: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the direction in a of a direction v in x."""
        return self.whitening.directions(v).reshape(v.shape)

    def gradient(self, s: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return a score with respect to x from one with respect to a."""
        return self.whitening.gradient(s.reshape(len(s), -1), s.shape)

    def log_volume(self, shape: tuple[int, ...]) -> float:  # noqa: ARG002  the same call for every map
        """Return ln |dx/da| = -ln |det W|."""
        return -float(np.linalg.slogdet(self.whitening.matrix)[1])


def covariance_of_data(whitening: Whitening) -> DenseCovariance:
    """Return mean and covariance C = (WᵀW)⁻¹ of x."""
    _, values, right = np.linalg.svd(whitening.matrix)
    return DenseCovariance(whitening.mean, values**-2, right.T)
