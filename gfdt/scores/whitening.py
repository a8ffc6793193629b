"""Coordinates in which the data have mean 0 and covariance I, for estimators that measure distances.

    y = W (x - m),   W^T W = C^-1,    so   s_x = W^T s_y,    J_x v = W^T J_y W v.

A kernel that is round in y does not depend on the units of the components, nor on how they are mixed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from gfdt.errors import CheckpointError, InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Whitening", "checked_array"]

_RELATIVE_FLOOR = 1e-12  # eigenvalues of the correlation matrix below this are rounding


@dataclass(frozen=True)
class Whitening:
    """The map to y.

    Attributes
    ----------
    mean : (d,), m in the units of the data
    matrix : (d, d), W: W^T W = C^-1
    """

    mean: NDArray[np.float64]
    matrix: NDArray[np.float64]

    @classmethod
    def estimate(cls, states: NDArray[Any], *, correlations: bool = True) -> Self:
        """Estimate from states (n, d); without ``correlations`` W is diagonal, one over the standard deviations.

        The root is taken of the correlation matrix, after the standard deviations, so that components of very
        different size lose no accuracy: W = Corr^(-1/2) diag(1/sd).

        Raises
        ------
        InputError
            If a component is a combination of the others.
        """
        mean = states.mean(axis=0, dtype=np.float64)
        deviation = states.std(axis=0, dtype=np.float64)
        if not correlations:
            return cls(mean, np.diag(1 / deviation))
        scaled = (states - mean) / deviation
        eigenvalues, vectors = np.linalg.eigh(scaled.T @ scaled / len(scaled))
        if eigenvalues[0] <= _RELATIVE_FLOOR * eigenvalues[-1]:
            raise InputError(
                f"the {mean.size} state components are linearly dependent (eigenvalues of their correlation matrix "
                f"from {eigenvalues[0]:.3g} to {eigenvalues[-1]:.3g}): drop the dependent ones."
            )
        return cls(mean, (vectors / np.sqrt(eigenvalues)) @ vectors.T / deviation)

    def states(self, x: NDArray[Any]) -> NDArray[np.float64]:
        """Return y (n, d) of states x (n, *state)."""
        return (x.reshape(x.shape[0], -1) - self.mean) @ self.matrix.T

    def directions(self, v: NDArray[Any]) -> NDArray[np.float64]:
        """Return W v (n, d) of directions v (n, *state)."""
        return v.reshape(v.shape[0], -1) @ self.matrix.T

    def gradient(self, s: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.float64]:
        """Return W^T s_y of shape ``shape`` (n, *state): a gradient in y turned into one in x."""
        return (s @ self.matrix).reshape(shape)

    def pack(self) -> dict[str, NDArray[np.float64]]:
        """Return the arrays a score file keeps."""
        return {"mean": self.mean, "whitening": self.matrix}

    @classmethod
    def unpack(cls, arrays: dict[str, NDArray[Any]], size: int) -> Self:
        """Rebuild from saved arrays; raises CheckpointError unless they are those of a state of ``size`` components."""
        mean = checked_array(arrays, "mean", (size,))
        matrix = checked_array(arrays, "whitening", (size, size))
        values = np.linalg.svd(matrix, compute_uv=False)
        if not values[-1] > 1e-15 * values[0] > 0:
            raise CheckpointError("the score file holds a singular whitening matrix: it was altered; fit it anew.")
        return cls(mean, matrix)


def checked_array(arrays: dict[str, NDArray[Any]], name: str, shape: tuple[int | None, ...]) -> NDArray[np.float64]:
    """Return a saved array as float64 if it has the expected shape (None: any size but 0); else CheckpointError."""
    found = arrays.get(name)
    fits = (
        found is not None
        and found.dtype == np.float64
        and found.ndim == len(shape)
        and all(have > 0 and want in (None, have) for have, want in zip(found.shape, shape, strict=True))
    )
    if found is None or not fits:
        wanted = tuple("any" if size is None else size for size in shape)
        described = "nothing" if found is None else f"{found.dtype} of shape {found.shape}"
        raise CheckpointError(
            f"the score file holds {described} for {name!r}, expected float64 of shape {wanted}: it was altered or "
            "cut; fit the score anew."
        )
    return found
