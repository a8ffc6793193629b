r"""The algebra of the t = 0 matrices, on the support of the density.

M = -<x s^T> and its kin are matrices ("dense": arrays (..., i, j)) or, for a homogeneous field, one number per
wavenumber ("diagonal": arrays (..., k), products are elementwise). Directions or wavenumbers without any variance lie
outside the support of the density: no score and no response is defined there, both are zero, and the identity to
compare with is the projector Pi on the rest. Nothing is ever divided by what is missing:

    A M^-1  means  A U (U' M U)^-1 U',        U the orthonormal basis of the support, Pi = U U'.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gfdt.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Algebra"]

_SINGULAR = (
    "the measured R(0) = -<x s^T> is singular, so it cannot be divided out: the score is zero or constant along some "
    "direction; check its formula, fit it again, or pass correction='none'."
)


@dataclass(frozen=True)
class Algebra:
    """Products, quotients and the identity.

    Attributes
    ----------
    dense : bool
        Matrices, or one number per wavenumber.
    size : int
        Rows of a matrix, or number of wavenumbers.
    support : (d, r) orthonormal basis, (n_modes,) bool, or None
        Where there is variance; None: everywhere.
    """

    dense: bool
    size: int
    support: NDArray[Any] | None = None

    @property
    def n_present(self) -> int:
        """Number of directions or wavenumbers with variance."""
        if self.support is None:
            return self.size
        return int(self.support.shape[1] if self.dense else np.count_nonzero(self.support))

    @property
    def identity(self) -> NDArray[np.float64]:
        """Pi: what M of an exact score is."""
        if self.support is None:
            return np.eye(self.size) if self.dense else np.ones(self.size)
        return self.support @ self.support.T if self.dense else self.support.astype(np.float64)

    def times(self, left: NDArray[Any], right: NDArray[Any]) -> NDArray[Any]:
        """Return the product; the second factor acts on the perturbation index."""
        return left @ right if self.dense else left * right

    def divide(self, values: NDArray[Any], divisor: NDArray[Any]) -> NDArray[Any]:
        """Return ``values`` M^-1 for M = ``divisor``, on the support.

        Raises
        ------
        InputError
            If M is singular on the support.
        """
        if self.dense:
            return values @ self._inverse(divisor)
        present = np.ones(self.size, dtype=bool) if self.support is None else self.support
        if not np.abs(divisor[present]).min() > 0:
            raise InputError(_SINGULAR)
        out = np.zeros(values.shape, dtype=np.result_type(values, divisor))
        return np.divide(values, divisor, out=out, where=present)

    def _inverse(self, matrix: NDArray[Any]) -> NDArray[Any]:
        try:
            if self.support is None:
                return np.linalg.inv(matrix)
            return self.support @ np.linalg.inv(self.support.T @ matrix @ self.support) @ self.support.T
        except np.linalg.LinAlgError as error:
            raise InputError(_SINGULAR) from error

    def strengths(self, matrix: NDArray[Any]) -> NDArray[np.float64]:
        """Return the singular values on the support, in decreasing order: all 1 for M = Pi."""
        if self.dense:
            return np.linalg.svd(matrix, compute_uv=False)[: self.n_present]
        size = np.abs(matrix if self.support is None else matrix[self.support])
        return np.sort(size)[::-1]
