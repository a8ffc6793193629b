r"""Counts of pairs and window sums: what it takes to centre lagged sums afterwards, gaps or not.

With v(t) = 1 where a sample is there and 0 where it is missing, and A, B zero where missing,

    n_u(l) = sum_{t in u} v(t) v(t + l),
    a_u(l) = sum_{t in u} v(t) A(t + l),        b_u(l) = sum_{t in u} v(t + l) B(t),

all with t + l < T, the sums of the centred series are S_u - a_u <B>^T - <A> b_u^T + n_u <A> <B>^T. Without gaps a
window sum differs from the sum over the unit by a few samples at its ends; with gaps it is a product with a matrix of
0 and 1, [v(tau - l)] or [v(t + l)].
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gfdt.validation import one_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gfdt.responses.units import Unit

__all__ = ["valid_pairs", "window_sums"]

_MATRIX_BYTES = 2**24  # of the matrix of 0 and 1 held at a time


def valid_pairs(valid: NDArray[np.bool_], units: Sequence[Unit], lags: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return n_u(l), the number of pairs (t, t + l) of which both samples are there: (n_units, n_lags).

    Parameters
    ----------
    valid : (time,) bool
    units : of one member
    lags : (n_lags,) increasing, in samples
    """
    times = valid.size
    out = np.zeros((len(units), lags.size))
    for u, unit in enumerate(units):
        for i, lag in enumerate(lags):
            last = max(min(unit.stop, times - int(lag)), unit.start)
            out[u, i] = np.count_nonzero(valid[unit.start : last] & valid[unit.start + lag : last + lag])
    return out


def window_sums(
    values: NDArray[Any],
    valid: NDArray[np.bool_],
    units: Sequence[Unit],
    lags: NDArray[np.int64],
    which: str = "observed",
) -> NDArray[Any]:
    """Sums of one series over the pairs of each unit and lag.

    Parameters
    ----------
    values : (time, p) real or complex, single or double precision
        A or B; zero where missing.
    valid : (time,) bool
        Which samples are there.
    units : of one member
    lags : (n_lags,) increasing, in samples
    which : "observed" or "source"
        a_u(l), the sum of v(t) A(t + l), or b_u(l), the sum of v(t + l) B(t). Default "observed".

    Returns
    -------
    (n_units, n_lags, p) float64 or complex128
    """
    one_of("which", which, ("observed", "source"))
    out = np.zeros((len(units), lags.size, values.shape[1]), dtype=np.result_type(values.dtype, np.float64))
    for target, unit in zip(out, units, strict=True):
        reach = min(unit.stop + int(lags[-1]), values.shape[0])
        if valid[unit.start : reach].all():
            _without_gaps(target, values, unit, lags, which)
        else:
            _with_gaps(target, values, valid, unit, lags, which)
    return out


def _without_gaps(out: NDArray[Any], values: NDArray[Any], unit: Unit, lags: NDArray[np.int64], which: str) -> None:
    """Sum over [first, last), which moves with the lag: the sum over the unit, corrected at both ends."""
    times = values.shape[0]
    last = np.maximum(np.minimum(unit.stop, times - lags), unit.start)
    first = np.full_like(last, unit.start)
    if which == "observed":
        first, last = first + lags, last + lags
    # Only the samples that enter or leave are summed cumulatively: no difference of sums over a long record.
    whole = values[unit.start : unit.stop].sum(axis=0, dtype=out.dtype)
    some = last > first
    out[some] = (
        whole + _moved(values, unit.stop, last[some], out.dtype) - _moved(values, unit.start, first[some], out.dtype)
    )


def _moved(values: NDArray[Any], origin: int, to: NDArray[np.int64], kind: np.dtype[Any]) -> NDArray[Any]:
    """Sum of the values from ``origin`` to each of ``to``, negative where it lies before."""
    if to.size == 0:
        return np.zeros((0, values.shape[1]), dtype=kind)
    low, high = min(int(to.min()), origin), max(int(to.max()), origin)
    sums = np.zeros((high - low + 1, values.shape[1]), dtype=kind)
    np.cumsum(values[low:high], axis=0, out=sums[1:])
    return sums[to - low] - sums[origin - low]


def _with_gaps(
    out: NDArray[Any],
    values: NDArray[Any],
    valid: NDArray[np.bool_],
    unit: Unit,
    lags: NDArray[np.int64],
    which: str,
) -> None:
    """Product of the matrix of 0 and 1 with the values, a stretch of time at a time."""
    times, span = values.shape[0], int(lags[-1])
    # v on the axis time + span, False outside of the record; as a start time, False outside of the unit as well.
    mask = np.zeros(times + 2 * span, dtype=bool)
    if which == "observed":
        mask[span + unit.start : span + unit.stop] = valid[unit.start : unit.stop]
        begin, end, sign = unit.start, min(unit.stop + span, times), -1
    else:
        mask[span : span + times] = valid
        begin, end, sign = unit.start, unit.stop, 1
    stretch = max(_MATRIX_BYTES // (8 * lags.size), 1)
    for first in range(begin, end, stretch):
        time = np.arange(first, min(first + stretch, end))
        matrix = mask[time[None] + sign * lags[:, None] + span].astype(np.float64)
        piece = np.ascontiguousarray(values[time[0] : time[-1] + 1], dtype=out.dtype)
        out += (matrix @ piece.view(np.float64)).view(out.dtype)
