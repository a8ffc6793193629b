r"""The algebra of the t = 0 matrices, on the support of the density.

M = -<x s^T> and its kin are matrices ("matrix": arrays (..., i, j)) or, for a homogeneous field, one number per
wavenumber ("numbers": arrays (..., k), products are elementwise), or one matrix of the variables per wavenumber
("blocks": arrays (..., k, v, w)). Directions or wavenumbers without any variance lie outside the support of the
density: no score and no response is defined there, both are zero, and the identity to compare with is the projector Pi
on the rest. Nothing is ever divided by what is missing:

    A M^-1  means  A U (U' M U)^-1 U',        U the orthonormal basis of the support, Pi = U U'.

Series of the conjugate variable, (time, j), (time, k) or (time, k, v), are divided so that the correlations are:
<a b^H> M^-1 = <a (M^-H b)^H>.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

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
    kind : "matrix", "numbers" or "blocks"
    size : int
        Rows of the matrix; number of wavenumbers; wavenumbers times variables.
    support : (d, r) orthonormal basis, (n_modes,) bool, (n_modes, v, v) projectors, or None
        Where there is variance; None: everywhere.
    n_variables : int
        Rows of a block.
    """

    kind: Literal["matrix", "numbers", "blocks"]
    size: int
    support: NDArray[Any] | None = None
    n_variables: int = 1

    @property
    def dense(self) -> bool:
        """Whether all of it is one matrix."""
        return self.kind == "matrix"

    @property
    def n_present(self) -> int:
        """Number of directions or wavenumbers with variance."""
        if self.support is None:
            return self.size
        if self.kind == "matrix":
            return int(self.support.shape[1])
        if self.kind == "numbers":
            return int(np.count_nonzero(self.support))
        return round(float(np.trace(self.support, axis1=-2, axis2=-1).real.sum()))

    @property
    def n_entries(self) -> int:
        """Number of entries that can depart from the identity."""
        return {"matrix": self.n_present**2, "numbers": self.n_present, "blocks": self.n_present * self.n_variables}[
            self.kind
        ]

    @property
    def identity(self) -> NDArray[Any]:
        """Pi: what M of an exact score is."""
        if self.kind == "blocks":
            n_modes = self.size // self.n_variables
            whole = np.broadcast_to(np.eye(self.n_variables), (n_modes, self.n_variables, self.n_variables)).copy()
            return whole if self.support is None else self.support
        if self.support is None:
            return np.eye(self.size) if self.dense else np.ones(self.size)
        return self.support @ self.support.T if self.dense else self.support.astype(np.float64)

    def times(self, left: NDArray[Any], right: NDArray[Any]) -> NDArray[Any]:
        """Return the product; the second factor acts on the perturbation index."""
        return left * right if self.kind == "numbers" else left @ right

    def divide(self, values: NDArray[Any], divisor: NDArray[Any]) -> NDArray[Any]:
        """Return ``values`` M^-1 for M = ``divisor``, on the support.

        Raises
        ------
        InputError
            If M is singular on the support.
        """
        inverse = self.inverse(divisor)
        return values * inverse if self.kind == "numbers" else values @ inverse

    def inverse(self, matrix: NDArray[Any]) -> NDArray[Any]:
        """Return M^-1 on the support, zero elsewhere."""
        if self.kind == "numbers":
            present = np.ones(self.size, dtype=bool) if self.support is None else self.support
            if not np.abs(matrix[present]).min() > 0:
                raise InputError(_SINGULAR)
            return np.divide(1.0, matrix, out=np.zeros_like(matrix), where=present)
        try:
            if self.support is None:
                return np.linalg.inv(matrix)
            if self.kind == "matrix":
                return self.support @ np.linalg.inv(self.support.T @ matrix @ self.support) @ self.support.T
            absent = np.eye(self.n_variables) - self.support
            return self.support @ np.linalg.inv(self.support @ matrix @ self.support + absent) @ self.support
        except np.linalg.LinAlgError as error:
            raise InputError(_SINGULAR) from error

    def divide_series(self, series: NDArray[Any], divisor: NDArray[Any]) -> NDArray[Any]:
        """Return the series M^-H b, whose correlations with anything are those of b times M^-1."""
        return self.times_series(series, self.inverse(divisor))

    def times_series(self, series: NDArray[Any], factor: NDArray[Any]) -> NDArray[Any]:
        """Return the series F^H b: <a (F^H b)^H> = <a b^H> F."""
        if self.kind == "matrix":
            return series @ factor
        if self.kind == "numbers":
            return series * factor.conj()
        return np.einsum("tkv,kvw->tkw", series, factor.conj(), optimize=True)

    def strengths(self, matrix: NDArray[Any]) -> NDArray[np.float64]:
        """Return the singular values on the support, in decreasing order: all 1 for M = Pi."""
        if self.kind == "matrix":
            return np.linalg.svd(matrix, compute_uv=False)[: self.n_present]
        if self.kind == "blocks":
            return np.sort(np.linalg.svd(matrix, compute_uv=False).ravel())[::-1][: self.n_present]
        size = np.abs(matrix if self.support is None else matrix[self.support])
        return np.sort(size)[::-1]
