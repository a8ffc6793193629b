r"""What the errors of the score and of the mean do to a response, unit by unit.

Each function returns one that changes the errors (unit, lag, ...) in place:

- of the score: - R(t) E_u, E_u from :meth:`gfdt.responses.correction.Correction.slopes`;
- of the mean m, for an observable of x - m: + dA_u, made of the response of A' (or of x itself).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from gfdt.responses.algebra import Algebra
from gfdt.responses.bound import Bound
from gfdt.responses.prepare import Prepared

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["amplitude_slope", "field_shift", "field_slope", "matrix_slope", "mean_shift"]

_PRODUCT_BYTES = 2**28  # of R E_u held at once


def matrix_slope(slopes: NDArray[Any]) -> Callable[[NDArray[Any], NDArray[Any]], None]:
    """R E_u of every unit by few large matrix products."""
    q, n_units = slopes.shape[:2]
    side_by_side = slopes.reshape(q, n_units * q)

    def slope(response: NDArray[Any], errors: NDArray[Any]) -> None:
        rows = response.reshape(-1, q)
        at_once = max(1, _PRODUCT_BYTES // max(8 * len(rows) * q, 1))
        for first in range(0, n_units, at_once):
            some = slice(first, min(first + at_once, n_units))
            product = rows @ side_by_side[:, some.start * q : some.stop * q]
            errors[some] -= product.reshape(*response.shape[:-1], -1, q).transpose(2, 0, 1, 3)

    return slope


def field_slope(slopes: NDArray[Any], algebra: Algebra) -> Callable[[NDArray[Any], NDArray[Any]], None]:
    """R_k E_u,k for each wavenumber."""

    def slope(response: NDArray[Any], errors: NDArray[Any]) -> None:
        for error, one in zip(errors, slopes, strict=True):
            error -= algebra.times(response, one)

    return slope


def amplitude_slope(
    gradient: NDArray[np.float64], flat: NDArray[Any] | None
) -> Callable[[NDArray[Any], NDArray[Any]], None]:
    """R E_u from <A e> of the error columns, (lag, column, q, unit or entry)."""

    def slope(response: NDArray[Any], errors: NDArray[Any]) -> None:  # noqa: ARG001  same call as for matrices
        errors -= np.moveaxis(gradient if flat is None else gradient @ flat.T, -1, 0)

    return slope


def mean_shift(
    ready: Prepared, observable: Bound, columns: slice, response: NDArray[np.float64]
) -> Callable[[NDArray[Any]], None]:
    """Errors through the mean, from the response of g (:meth:`gfdt.responses.bound.Bound.shift_series`)."""
    layout: Any = ready.layout
    shifts = ready.mean_errors
    if not layout.dense and observable.local:
        # Site averages: one component for each variable.
        shifts = shifts.reshape(len(shifts), layout.n_variables, -1)[:, :, 0]

    def shift(errors: NDArray[Any]) -> None:
        for error, one in zip(errors, shifts, strict=True):
            error += observable.effect_of_shift(one, response, columns.start, columns.stop)

    return shift


def field_shift(ready: Prepared, response: NDArray[Any]) -> Callable[[NDArray[Any]], None]:
    """-dm <A' B> for each wavenumber."""
    layout: Any = ready.layout
    shifts = ready.mean_errors.reshape(len(ready.units), layout.n_variables, -1)[:, :, 0]

    def shift(errors: NDArray[Any]) -> None:
        for error, one in zip(errors, shifts, strict=True):
            error -= response * (one[:, None] if layout.several else one[0])

    return shift
