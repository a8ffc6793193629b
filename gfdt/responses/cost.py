r"""Which way of summing is fastest, by counting operations; and how much memory it takes.

The seconds of each way are modelled as counts times the rates below, which were set to follow the run times that
``benchmarks/response_speed.py --calibrate`` prints (one core of an AMD EPYC, AVX-512, OpenBLAS, pocketfft; other work
on the machine). Only their ratios decide. Over its 20 shapes the method chosen took at most 1.2 times as long as the
fastest. The lags are in steps of their largest common divisor g; U units of T_u start times; p and q series.

products    U n_lags matrix products:  2 p q sum_u T_u n_lags multiplications and additions, and (p + q) T_u n_lags
            numbers read, which is what counts for few series
transforms  p + q transforms of the whole unit and p q back, of T_u + g max(lags) samples and more
segments    J windows of W steps, K segments of M, n >= M + W - 1 (:mod:`gfdt.responses.segments`):
            4 p q n K J for the cross-spectra, 2 p q n n_lags U for the way back, n K (q + 2 p J) numbers transformed,
            p q n U J numbers of cross-spectra written and read; M and W are those for which this is least
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import scipy.fft

from gfdt.responses.segments import Segmentation, segment_starts, split_lags, tile_columns

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gfdt.responses.units import Unit

__all__ = ["METHODS", "best_segmentation", "bytes_needed", "cheapest", "costs", "spread"]

METHODS = ("products", "transforms", "segments")

# Seconds; where from: module docstring.
_FLOP = 1 / 45e9  # of a large matrix product
_READ = 0.15e-9  # a number read by a product too narrow to hide it
_CALL = 2e-6  # a product called from Python
_POINT = 0.55e-9  # a sample of a real transform along contiguous time, for each factor of two in its length
_COLUMN = 1.0e-9  # the same with time along the columns, cut into segments and sorted by frequency
_CROSS = 0.5e-9  # a number of the cross-spectra written and read again
_BATCHED = 0.6e-6  # one of a batch of products
_SEGMENT = 3e-6  # a segment or a unit cut out
_ANGLE = 6e-9  # an entry of the matrix of cosines and sines

_RATIO = 1.3  # between the numbers of segments or windows that are tried


def cheapest(units: Sequence[Unit], lags: NDArray[np.int64], p: int, q: int) -> tuple[str, Segmentation]:
    """Return the fastest method for these sums, and the segmentation that it would use."""
    modelled = costs(units, lags, p, q)
    return min(modelled, key=modelled.__getitem__), best_segmentation(units, lags, p, q)[0]


def costs(units: Sequence[Unit], lags: NDArray[np.int64], p: int, q: int) -> dict[str, float]:
    """Return the seconds of each method by the model."""
    return {
        "products": sum(_products_cost(unit, lags.size, p, q) for unit in units),
        "transforms": sum(_transforms_cost(unit, lags, p, q) for unit in units),
        "segments": best_segmentation(units, lags, p, q)[1],
    }


def best_segmentation(units: Sequence[Unit], lags: NDArray[np.int64], p: int, q: int) -> tuple[Segmentation, float]:
    """Return the segments and windows that cost least, and their seconds by the model."""
    return _search(tuple(unit.stop - unit.start for unit in units), tuple(lags.tolist()), p, q)


@functools.lru_cache(maxsize=64)  # milliseconds, and a trajectory asks the same for every member
def _search(lengths: tuple[int, ...], lags: tuple[int, ...], p: int, q: int) -> tuple[Segmentation, float]:
    step, numbers = split_lags(np.array(lags))
    span = int(numbers[-1]) + 1
    phases = np.minimum(step, lengths)
    sparse = -(-np.array(lengths) // step)
    longest = max(int(sparse.max(initial=1)), 1)
    best, least = Segmentation(longest, span, scipy.fft.next_fast_len(longest + span - 1, real=True)), np.inf
    for window in {-(-span // parts) for parts in spread(span)}:
        n_windows = np.unique(numbers // window).size
        for samples in {-(-longest // parts) for parts in spread(2 * (longest // window) + 1)}:
            n_fft = scipy.fft.next_fast_len(samples + window - 1, real=True)
            n_segments = float((phases * -(-sparse // samples)).sum())
            cost = _segments_cost(len(lengths), len(lags), n_windows, n_segments, n_fft, window, p, q)
            if cost < least:
                best, least = Segmentation(samples, window, n_fft), cost
    return best, least


def bytes_needed(
    units: Sequence[Unit],
    lags: NDArray[np.int64],
    p: int,
    q: int,
    *,
    kept: int | None = None,
    method: str | None = None,
) -> int:
    """Memory of lagged sums in bytes, beside the two series: the result, what is kept of b, and scratch.

    segments    8 [U n_lags p q + K n q + n p_t (q + 2 max_u K_u)],   K n about (1 + W/M) sum_u T_u
                (p_t columns of a at a time, so that n p_t q numbers are 64 MiB)
    transforms  8 [U n_lags p q + sum_u n_u (3 q + 2 p)],   n_u = T_u + 2 max(lags) + 1
    products    8 [U n_lags p q + n_lags p q],   the second term for single precision only

    Parameters
    ----------
    units, lags : of the sums
    p, q : columns of a (in one call) and of b
    kept : int, optional
        Columns of a in all calls, if the method was chosen for more than ``p``. Default None: ``p``.
    method : str, optional
        Default None: what costs least.
    """
    chosen, cut = cheapest(units, lags, kept or p, q)
    result = len(units) * lags.size * p * q
    if (method or chosen) == "products":
        return 8 * (result + lags.size * p * q)
    if (method or chosen) == "transforms":
        return 8 * (result + (3 * q + 2 * p) * sum(_padded(unit, lags) for unit in units))
    step, _ = split_lags(lags)
    n_segments = [len(segment_starts(unit, step, cut.samples)) for unit in units]
    n_real = 2 * (cut.n_fft // 2 + 1)
    tile = min(tile_columns(cut.n_fft, q), p)
    scratch = n_real * tile * q + 2 * n_real * max(n_segments, default=0) * tile
    return 8 * (result + sum(n_segments) * n_real * q + scratch)


def _products_cost(unit: Unit, n_lags: int, p: int, q: int) -> float:
    length = unit.stop - unit.start
    return n_lags * (length * (2 * p * q * _FLOP + (p + q) * _READ) + _CALL)


def _transforms_cost(unit: Unit, lags: NDArray[np.int64], p: int, q: int) -> float:
    n_fft = _padded(unit, lags)
    return (p + q + p * q) * n_fft * np.log2(n_fft) * _POINT + (p + q) * _SEGMENT


def _padded(unit: Unit, lags: NDArray[np.int64]) -> int:
    return unit.stop - unit.start + 2 * int(lags[-1]) + 1


def _segments_cost(
    n_units: int, n_lags: int, n_windows: int, n_segments: float, n_fft: int, window: int, p: int, q: int
) -> float:
    flops = 4 * p * q * n_fft * n_segments * n_windows + 2 * p * q * n_fft * n_lags * n_units
    points = n_segments * n_fft * np.log2(n_fft) * (q + 2 * p * n_windows)
    products = n_units * n_windows * n_fft / 2
    return (
        flops * _FLOP
        + points * _COLUMN
        + products * (2 * p * q * _CROSS + _BATCHED)
        + n_segments * (1 + n_windows) * _SEGMENT
        + window * n_fft * _ANGLE
    )


def spread(largest: int) -> list[int]:
    """Return whole numbers from 1 to ``largest``, ever further apart."""
    out = [1]
    while out[-1] < largest:
        out.append(min(max(int(out[-1] * _RATIO), out[-1] + 1), largest))
    return out
