r"""Lagged correlation sums of two series, unit by unit.

For a unit u (start times t of one member) and a lag l, the kernels return

    S_u(l) = sum_{t in u, t + l < T} A(t + l) B(t),        n_u(l) = the number of terms,

so that sum_u S_u / sum_u n_u is the unbiased estimate of <A(t + l) B(t)>: never a circular wrap-around, always
divided by the number of pairs there are. Members are never mixed. Missing samples are zeros in A and B and False in the
mask that :func:`valid_pairs` counts.

There are three ways to sum for every pair of components, and :mod:`gfdt.responses.cost` says which one when; for fields
that are the same everywhere, :mod:`gfdt.responses.spectral` pairs every wavenumber with itself only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gfdt.responses.cost import METHODS, best_segmentation, bytes_needed, cheapest
from gfdt.responses.pairs import ProductSums, TransformSums
from gfdt.responses.segments import SegmentSums
from gfdt.responses.spectral import spectral_lagged_sums
from gfdt.responses.windows import valid_pairs, window_sums
from gfdt.validation import one_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gfdt.responses.units import Unit

__all__ = [
    "LaggedSums",
    "bytes_needed",
    "lagged_sums",
    "outer_sums",
    "pair_counts",
    "spectral_lagged_sums",
    "spectral_sums",
    "valid_pairs",
    "window_sums",
]


class LaggedSums:
    """The sums of any a against one b, whose transforms are made once.

    Parameters
    ----------
    b : (time, q), single or double precision
        Centred series of one member.
    units : of this member
    lags : (n_lags,) increasing, in samples
    n_observed : int, optional
        How many columns of a there will be in all, which decides the method. Default None: as many as b has.
    method : "products", "transforms" or "segments", optional
        Default None: what costs least.

    Attributes
    ----------
    method : the one chosen
    """

    def __init__(
        self,
        b: NDArray[Any],
        units: Sequence[Unit],
        lags: NDArray[np.int64],
        *,
        n_observed: int | None = None,
        method: str | None = None,
    ) -> None:
        self._shape = (len(units), lags.size)
        self._q = b.shape[1]
        columns = n_observed or self._q
        if method is None:
            method, cut = cheapest(units, lags, columns, self._q)
        else:
            one_of("method", method, METHODS)
            cut, _ = best_segmentation(units, lags, columns, self._q)
        self.method = method
        self._sums: ProductSums | TransformSums | SegmentSums
        if method == "segments":
            self._sums = SegmentSums(b, units, lags, cut)
        else:
            self._sums = (ProductSums if method == "products" else TransformSums)(b, units, lags)

    def against(self, a: NDArray[Any], out: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
        """Return S_u(l) = sum_t a(t + l) b(t)^T.

        Parameters
        ----------
        a : (time, p), single or double precision
        out : (n_units, n_lags, p, q) float64, optional
            Where to write. Default None: a new array.

        Returns
        -------
        (n_units, n_lags, p, q) float64
        """
        if out is None:
            out = np.empty((*self._shape, a.shape[1], self._q))
        self._sums.against(a, out)
        return out


def lagged_sums(
    a: NDArray[Any], b: NDArray[Any], units: Sequence[Unit], lags: NDArray[np.int64], *, method: str | None = None
) -> NDArray[np.float64]:
    """Sums of the outer product a(t + l) b(t)^T for each unit and lag.

    Parameters
    ----------
    a : (time, p), b : (time, q), single or double precision
        Centred series of one member; sums are made in double precision.
    units : of this member
    lags : (n_lags,) increasing, in samples
    method : "products", "transforms" or "segments", optional
        Default None: what costs least (:mod:`gfdt.responses.cost`).

    Returns
    -------
    (n_units, n_lags, p, q) float64
    """
    return LaggedSums(b, units, lags, n_observed=a.shape[1], method=method).against(a)


def pair_counts(unit: Unit, times: int, lags: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return n_u(l) for a record of ``times`` samples."""
    return np.clip(np.minimum(unit.stop, times - lags) - unit.start, 0, None).astype(np.float64)


def outer_sums(a: NDArray[Any], b: NDArray[Any], unit: Unit, lags: NDArray[np.int64]) -> NDArray[np.float64]:
    """:func:`lagged_sums` of a single unit: (n_lags, p, q)."""
    return lagged_sums(a, b, [unit], lags)[0]


def spectral_sums(
    a_hat: NDArray[Any], b_hat: NDArray[Any], unit: Unit, lags: NDArray[np.int64]
) -> NDArray[np.complex128]:
    """:func:`spectral_lagged_sums` of a single unit: (n_lags, n_modes)."""
    return spectral_lagged_sums(a_hat, b_hat, [unit], lags)[0]
