r"""Lagged sums through the cross-spectra of short segments: the work of a few products, for all lags at once.

The start times of a unit are cut into K segments of M samples, which never cross its ends. Of segment k, b is
zero-padded to n >= M + W - 1 samples, and a is read W - 1 samples further, so that the circular correlation of length n
is the wanted one for the W lags l_0 <= l < l_0 + W of a window, without wrapping around:

    S(l_0 + m) = (1/n) sum_f exp(2 pi i f m/n) C_f,        C_f = sum_k a_kf b_kf^*,        m = 0 .. W - 1.

C_f is one matrix product over segments for each frequency, and the step from C_f to the lags is one real product with
the cosines and sines of the wanted lags. In real numbers both together cost, for a unit of T samples, p x q series and
n = c W,

    4 p q T c/(c - 1) + 2 p q c W^2        instead of        2 p q T W

for a product per lag. More lags than one window are taken window by window; the cost per lag is least for c = 2 and
W = sqrt(2 T), where it is 11 sqrt(T) p q; for a record cut into U units, sqrt(U) times that of the record in one
(256 components, 20,000 times, 100 lags, one core: 0.40 s, in 20 units 1.65 s, b transformed before). Lags that are all
multiples of g see only the samples of one phase t mod g at a time: the phases are more segments of a series g times as
sparse.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.fft

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gfdt.responses.units import Unit

__all__ = [
    "SegmentSums",
    "Segmentation",
    "batches",
    "segment_spectra",
    "segment_starts",
    "split_lags",
    "tile_columns",
    "workers",
]

_BATCH_BYTES = 2**22  # of segments transformed in one call: large enough for threads, small enough for the cache
_THREADED_SAMPLES = 2**17  # about half a millisecond of transforms, ten times what waking a thread takes
_SCRATCH_BYTES = 2**26  # of cross-spectra held at a time


@dataclass(frozen=True)
class Segmentation:
    """How start times and lags are cut, in multiples of the lag step g.

    Attributes
    ----------
    samples : M, start times in a segment
    window : W, lags in a window
    n_fft : n >= M + W - 1
    """

    samples: int
    window: int
    n_fft: int


def split_lags(lags: NDArray[np.int64]) -> tuple[int, NDArray[np.int64]]:
    """Return the largest step g that divides every lag, and the lags in units of it."""
    step = max(int(np.gcd.reduce(lags)), 1)
    return step, lags // step


def tile_columns(n_fft: int, q: int) -> int:
    """How many columns of a are taken at a time, so that their cross-spectra with ``q`` columns stay small."""
    return max(_SCRATCH_BYTES // (16 * (n_fft // 2 + 1) * max(q, 1)), 1)


def segment_starts(unit: Unit, step: int, samples: int) -> list[int]:
    """First samples of the segments of a unit: every phase t mod ``step``, cut into ``samples`` of that phase."""
    phases = range(unit.start, min(unit.start + step, unit.stop))
    return [first for phase in phases for first in range(phase, unit.stop, step * samples)]


def segment_spectra(
    series: NDArray[Any], starts: Sequence[int], stop: int, step: int, length: int, n_fft: int, *, real: bool
) -> NDArray[np.complex128]:
    """Transforms in time of the segments [start, start + step length) up to ``stop``, zero-padded to ``n_fft``.

    ``real`` series (time, column) give the n/2 + 1 frequencies of ``rfft``, others all n.

    Returns
    -------
    (segment, frequency, column) complex128
    """
    batch = np.zeros((len(starts), n_fft, series.shape[1]), dtype=np.float64 if real else np.complex128)
    for row, start in zip(batch, starts, strict=True):
        piece = series[start : min(start + step * length, stop) : step]
        row[: piece.shape[0]] = piece
    transform = scipy.fft.rfft if real else scipy.fft.fft
    return transform(batch, axis=1, overwrite_x=True, workers=workers(batch.size))


def workers(size: int) -> int | None:
    """All cores where there is work for them: waking them costs more than short transforms."""
    return -1 if size >= _THREADED_SAMPLES else None


def batches(n_segments: int, n_fft: int, columns: int, itemsize: int) -> Iterator[slice]:
    """Slices of so many segments that their transforms fit the cache."""
    size = max(_BATCH_BYTES // (itemsize * n_fft * max(columns, 1)), 1)
    return (slice(first, min(first + size, n_segments)) for first in range(0, n_segments, size))


class SegmentSums:
    """Lagged sums of many series against the same b, whose transforms are kept.

    Parameters
    ----------
    b : (time, q)
    units : of one member
    lags : (n_lags,) increasing, in samples
    cut : Segmentation
    """

    def __init__(self, b: NDArray[Any], units: Sequence[Unit], lags: NDArray[np.int64], cut: Segmentation) -> None:
        self.cut, self.times, self.n_lags = cut, b.shape[0], lags.size
        self.step, numbers = split_lags(lags)
        self.starts = [segment_starts(unit, self.step, cut.samples) for unit in units]
        self.windows = _windows(numbers, cut)
        # Real and imaginary parts as two blocks of rows, so that everything after is a product of real matrices.
        self.b_hat = []
        for unit, starts in zip(units, self.starts, strict=True):
            kept = np.empty((cut.n_fft // 2 + 1, 2, len(starts), b.shape[1]))
            for rows in batches(len(starts), cut.n_fft, b.shape[1], 8):
                spectrum = segment_spectra(b, starts[rows], unit.stop, self.step, cut.samples, cut.n_fft, real=True)
                kept[:, 0, rows] = spectrum.real.swapaxes(0, 1)
                kept[:, 1, rows] = spectrum.imag.swapaxes(0, 1)
            self.b_hat.append(kept.reshape(kept.shape[0], -1, b.shape[1]))

    def against(self, a: NDArray[Any], out: NDArray[np.float64]) -> None:
        """Write the sums of a (time, p) against b into ``out`` (unit, n_lags, p, q)."""
        p, q = out.shape[2:]
        half = self.cut.n_fft // 2 + 1
        tile = tile_columns(self.cut.n_fft, q)
        for first in range(0, p, tile):
            columns = a[:, first : first + tile]
            cross = np.empty((half, 2 * columns.shape[1], q))
            for u, (starts, b_hat) in enumerate(zip(self.starts, self.b_hat, strict=True)):
                for shift, chosen, inverse in self.windows:
                    a_hat = self._observed(columns, [start + self.step * shift for start in starts])
                    np.matmul(a_hat.swapaxes(1, 2), b_hat, out=cross)
                    target = out[u, chosen, first : first + tile]
                    flat = target.reshape(target.shape[0], -1)
                    np.matmul(inverse, cross.reshape(2 * half, -1), out=flat)
                    if not np.may_share_memory(flat, target):  # an ``out`` whose last two axes do not lie together
                        target[...] = flat.reshape(target.shape)

    def _observed(self, a: NDArray[Any], starts: list[int]) -> NDArray[np.float64]:
        """Transforms of a as [[Re, Im], [Im, -Re]]: times [Re b; Im b] this gives Re and Im of a b^*."""
        cut, p = self.cut, a.shape[1]
        out = np.empty((cut.n_fft // 2 + 1, 2, len(starts), 2, p))
        reach = cut.samples + cut.window - 1
        for rows in batches(len(starts), cut.n_fft, p, 8):
            spectrum = segment_spectra(a, starts[rows], self.times, self.step, reach, cut.n_fft, real=True)
            real, imag = spectrum.real.swapaxes(0, 1), spectrum.imag.swapaxes(0, 1)
            out[:, 0, rows, 0] = real
            out[:, 0, rows, 1] = imag
            out[:, 1, rows, 0] = imag
            np.negative(real, out=out[:, 1, rows, 1])
        return out.reshape(out.shape[0], -1, 2 * p)


def _windows(numbers: NDArray[np.int64], cut: Segmentation) -> list[tuple[int, slice, NDArray[np.float64]]]:
    """For each window with wanted lags: its first lag, where its lags stand in ``numbers``, and the inverse transform.

    The inverse (wanted lags, 2 (n/2 + 1)) acts on [Re C_f, Im C_f]; frequencies between 0 and n/2 count twice.
    """
    n = cut.n_fft
    frequency = np.arange(n // 2 + 1)
    weight = np.where((frequency == 0) | (2 * frequency == n), 1.0, 2.0) / n
    turn = np.exp(2j * np.pi / n * np.arange(n))
    span = min(cut.window, int(numbers[-1]) + 1)
    inverse = weight * turn[np.outer(np.arange(span), frequency) % n].conj()
    inverse = inverse.view(np.float64)  # cos and -sin, as C_f has its real and imaginary part
    out = []
    for shift in range(0, int(numbers[-1]) + 1, cut.window):
        low, high = np.searchsorted(numbers, [shift, shift + cut.window])
        if high > low:
            out.append((shift, slice(int(low), int(high)), inverse[numbers[low:high] - shift]))
    return out
