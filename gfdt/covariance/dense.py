"""C of a general state: a matrix and its eigenvectors."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from gfdt.covariance.shrinkage import BlockMean, blocks
from gfdt.errors import InputError, ReliabilityWarning

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["RELATIVE_FLOOR", "DenseCovariance"]

RELATIVE_FLOOR = 1e-12  # eigenvalues below this times the largest are rounding, in float64


@dataclass(frozen=True)
class DenseCovariance:
    """C = V diag(eigenvalues) V^T of a general state, flattened to d components.

    Attributes
    ----------
    mean : (d,)
    eigenvalues : (d,), ascending; exactly 0 along directions without variance
    eigenvectors : (d, d), columns
    shrinkage : the weight a that was used
    """

    mean: NDArray[np.float64]
    eigenvalues: NDArray[np.float64]
    eigenvectors: NDArray[np.float64]
    shrinkage: float = 0.0

    @classmethod
    def estimate(cls, states: NDArray[Any], shrinkage: float | str, scale: NDArray[np.float64] | float = 1.0) -> Self:
        """Estimate from states/scale of shape (n, *state), C <- (1 - a) C + a diag(C).

        A ``scale`` of one standard deviation for each component keeps what components of very different unit would
        lose by rounding.

        Raises
        ------
        InputError
            If there are no more states than components, and no shrinkage.

        Warns
        -----
        ReliabilityWarning
            If some combination of the components is constant.
        """
        flat = states.reshape(states.shape[0], -1)
        n, d = flat.shape
        mean = flat.mean(axis=0, dtype=np.float64)
        scale = np.broadcast_to(scale, states.shape[1:]).ravel()
        sums = BlockMean()
        for batches in blocks(states.shape):
            total, count = np.zeros((d, d)), 0
            for part in batches:
                centred = (flat[part].astype(np.float64) - mean) / scale
                total += centred.T @ centred
                count += len(centred)
            sums.add(total, count)
        covariance, a = sums.shrunk(np.diag(np.diagonal(sums.mean())), shrinkage)
        eigenvalues, eigenvectors = np.linalg.eigh(covariance)
        absent = eigenvalues <= RELATIVE_FLOOR * eigenvalues[-1]
        if absent.any():
            _explain_singular(n, d, int(absent.sum()), eigenvalues)
        return cls(mean / scale, np.where(absent, 0.0, eigenvalues), eigenvectors, a)

    def centre(self, x: NDArray[Any]) -> NDArray[np.float64]:
        """Return x - m for x of shape (batch, *state)."""
        return x - self.mean.reshape(x.shape[1:])

    def apply(self, x: NDArray[Any], f: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> NDArray[np.float64]:
        """Return f(C) x for x of shape (batch, *state)."""
        matrix = (self.eigenvectors * f(self.eigenvalues)) @ self.eigenvectors.T
        return (x.reshape(x.shape[0], -1) @ matrix).reshape(x.shape)

    def trace(self, f: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> float:
        """Return tr f(C)."""
        return float(f(self.eigenvalues).sum())

    def rescaled(self, scale: NDArray[np.float64]) -> Self:
        """Return mean and covariance of x/scale, for a scale that broadcasts against the flattened state."""
        scale = np.broadcast_to(scale, self.mean.shape)
        if np.ptp(scale) == 0:
            return type(self)(self.mean / scale, self.eigenvalues / scale[0] ** 2, self.eigenvectors, self.shrinkage)
        root = self.eigenvectors * np.sqrt(self.eigenvalues) / scale[:, None]
        eigenvalues, eigenvectors = np.linalg.eigh(root @ root.T)
        rank = np.count_nonzero(self.eigenvalues)
        eigenvalues[: eigenvalues.size - rank] = 0.0
        return type(self)(self.mean / scale, eigenvalues, eigenvectors, self.shrinkage)


def _explain_singular(n: int, d: int, absent: int, eigenvalues: NDArray[np.float64]) -> None:
    spread = f"eigenvalues {eigenvalues[0]:.3g} to {eigenvalues[-1]:.3g}"
    if n <= d:
        raise InputError(
            f"the covariance of the {d} state components is singular from {n} samples ({spread}): pass more samples, "
            'shrinkage="ledoit-wolf", or homogeneous=(...) for a field that looks the same everywhere.'
        )
    warnings.warn(
        f"{absent} of the {d} directions of the state carry no variance ({spread}): the score and the response are "
        "zero along them. If that is not a property of the system, drop dependent components.",
        ReliabilityWarning,
        stacklevel=6,
    )
