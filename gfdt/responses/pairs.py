"""Lagged sums one lag or one pair of series at a time: the two plain ways, for few lags and for few series."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.fft

from gfdt.responses.segments import workers

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gfdt.responses.units import Unit

__all__ = ["ProductSums", "TransformSums"]

_PAIR_SAMPLES = 2**18  # of lagged sums of pairs transformed back at a time: fits the cache
_CONVERTED_SAMPLES = 4096  # of a float32 record made float64 at a time; long enough that adding up costs nothing


class ProductSums:
    """One matrix product over time for each lag.

    Parameters
    ----------
    b : (time, q)
    units : of one member
    lags : (n_lags,) increasing, in samples
    """

    def __init__(self, b: NDArray[Any], units: Sequence[Unit], lags: NDArray[np.int64]) -> None:
        self.b, self.units, self.lags = b, units, lags

    def against(self, a: NDArray[Any], out: NDArray[np.float64]) -> None:
        """Write the sums of a (time, p) against b into ``out`` (unit, n_lags, p, q)."""
        for u, unit in enumerate(self.units):
            if a.dtype == self.b.dtype == np.float64:
                self._products(a, self.b, unit.start, unit.stop, out[u])
                continue
            out[u] = 0.0
            part = np.empty(out.shape[1:])
            for start in range(unit.start, unit.stop, _CONVERTED_SAMPLES):
                stop = min(start + _CONVERTED_SAMPLES, unit.stop)
                observed = a[start : stop + int(self.lags[-1])].astype(np.float64)
                self._products(observed, self.b[start:stop].astype(np.float64), 0, stop - start, part)
                out[u] += part

    def _products(self, a: NDArray[Any], b: NDArray[Any], start: int, stop: int, out: NDArray[np.float64]) -> None:
        for i, lag in enumerate(self.lags):
            last = max(min(stop, a.shape[0] - int(lag)), start)
            np.matmul(a[start + lag : last + lag].T, b[start:last], out=out[i])


class TransformSums:
    """One zero-padded FFT over the whole unit for each series, and one back for each pair.

    Parameters
    ----------
    b : (time, q)
    units : of one member
    lags : (n_lags,) increasing, in samples
    """

    def __init__(self, b: NDArray[Any], units: Sequence[Unit], lags: NDArray[np.int64]) -> None:
        self.units, self.lags = units, lags
        self.b_hat = []
        for unit in units:
            reach = min(unit.stop + int(lags[-1]), b.shape[0])
            n_fft = scipy.fft.next_fast_len(max(reach - unit.start + int(lags[-1]), 1), real=True)
            self.b_hat.append((n_fft, reach, _spectrum(b[unit.start : unit.stop], n_fft).conj()))

    def against(self, a: NDArray[Any], out: NDArray[np.float64]) -> None:
        """Write the sums of a (time, p) against b into ``out`` (unit, n_lags, p, q)."""
        for unit, (n_fft, reach, b_hat), target in zip(self.units, self.b_hat, out, strict=True):
            a_hat = _spectrum(a[unit.start : reach], n_fft)
            rows = max(_PAIR_SAMPLES // (n_fft * max(b_hat.shape[0], 1)), 1)
            for first in range(0, a_hat.shape[0], rows):
                sums = scipy.fft.irfft(
                    a_hat[first : first + rows, None] * b_hat,
                    n_fft,
                    overwrite_x=True,
                    workers=workers(n_fft * b_hat.shape[0]),
                )
                target[:, first : first + rows] = np.moveaxis(sums[..., self.lags], -1, 0)


def _spectrum(series: NDArray[Any], n_fft: int) -> NDArray[np.complex128]:
    """Series (time, column) to (column, frequency)."""
    return scipy.fft.rfft(np.ascontiguousarray(series.T, dtype=np.float64), n_fft, workers=workers(series.size))
