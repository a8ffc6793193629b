r"""Lagged sums at each wavenumber: many short complex series, each correlated with its own partner only.

For every mode k, and every pair of variables v, w at it,

    S_u(l)_{k v w} = sum_{t in u, t + l < T} a_{k v}(t + l) b_{k w}(t)^*

through the cross-spectra of segments (:mod:`gfdt.responses.segments`): the segments of a unit are added up while they
are transforms, so that a unit pays for one transform back, of the length of a segment.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.fft

from gfdt.responses.cost import spread
from gfdt.responses.segments import Segmentation, batches, segment_spectra, segment_starts, split_lags, workers

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gfdt.responses.units import Unit

__all__ = ["spectral_lagged_sums"]

_BLOCK_BYTES = 2**22  # of one segment of all the modes taken at a time
_PASSES = 4.0  # log2 n stages of a transform, and this much for copying in and multiplying


def spectral_lagged_sums(
    a_hat: NDArray[Any],
    b_hat: NDArray[Any],
    units: Sequence[Unit],
    lags: NDArray[np.int64],
    *,
    samples: int | None = None,
) -> NDArray[np.complex128]:
    """Sums of a_k(t + l) b_k(t)^* for each unit, lag and wavenumber.

    Parameters
    ----------
    a_hat : (time, n_modes) or (time, n_modes, V) complex or real
        Fourier transforms of the centred fields of one member, single or double precision.
    b_hat : (time, n_modes) or (time, n_modes, W)
    units : of this member
    lags : (n_lags,) increasing, in samples
    samples : int, optional
        Start times in a segment, in multiples of the lags' common step. Default None: what costs least.

    Returns
    -------
    (n_units, n_lags, n_modes[, V, W]) complex128
        V, W only for inputs that have them.
    """
    several = a_hat.ndim == 3
    a = a_hat if several else a_hat[..., None]
    b = b_hat if several else b_hat[..., None]
    out = np.zeros((len(units), lags.size, a.shape[1], a.shape[2], b.shape[2]), dtype=np.complex128)
    step, numbers = split_lags(lags)
    window = int(numbers[-1]) + 1
    for unit, target in zip(units, out, strict=True):
        length = -(-(unit.stop - unit.start) // step)
        cut = _cut(samples or _best_samples(length, window), window)
        modes = max(_BLOCK_BYTES // (16 * cut.n_fft * max(a.shape[2], b.shape[2])), 1)
        for first in range(0, a.shape[1], modes):
            block = slice(first, first + modes)
            cross = _cross_spectra(a[:, block], b[:, block], unit, step, cut)
            target[:, block] = scipy.fft.ifft(cross, axis=0, overwrite_x=True, workers=workers(cross.size))[numbers]
    return out if several else out[..., 0, 0]


def _cross_spectra(
    a: NDArray[Any], b: NDArray[Any], unit: Unit, step: int, cut: Segmentation
) -> NDArray[np.complex128]:
    """Sum over the unit's segments of a_f b_f^*: (n_fft, modes, V, W)."""
    times, modes, n_a = a.shape
    n_b = b.shape[2]
    out = np.zeros((cut.n_fft, modes, n_a, n_b), dtype=np.complex128)
    starts = segment_starts(unit, step, cut.samples)
    reach = cut.samples + cut.window - 1
    for rows in batches(len(starts), cut.n_fft, modes * max(n_a, n_b), 16):
        observed = segment_spectra(a.reshape(times, -1), starts[rows], times, step, reach, cut.n_fft, real=False)
        source = segment_spectra(
            b.reshape(times, -1), starts[rows], unit.stop, step, cut.samples, cut.n_fft, real=False
        )
        observed = observed.reshape(*observed.shape[:2], modes, n_a)
        source = np.conjugate(source, out=source).reshape(*source.shape[:2], modes, n_b)
        for v in range(n_a):
            for w in range(n_b):
                for x, y in zip(observed[..., v], source[..., w], strict=True):
                    out[..., v, w] += x * y
    return out


def _cut(samples: int, window: int) -> Segmentation:
    return Segmentation(samples, window, scipy.fft.next_fast_len(samples + window - 1))


def _best_samples(length: int, window: int) -> int:
    """Start times in a segment for which the transforms of a unit cost least: two a segment, and one back."""
    costs = {}
    for parts in spread(2 * length // window + 1):
        cut = _cut(max(-(-length // parts), 1), window)
        costs[cut.samples] = (2 * parts + 1) * cut.n_fft * (np.log2(cut.n_fft) + _PASSES)
    return min(costs, key=costs.__getitem__)
