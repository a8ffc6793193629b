r"""Lagged correlation sums of two labelled series, unit by unit.

For a unit u (start times t of one member) and a lag l, the kernels return

    S_u(l) = sum_{t in u, t + l < T} A(t + l) B(t),        n_u(l) = the number of terms,

so that sum_u S_u / sum_u n_u is the unbiased estimate of <A(t + l) B(t)>: never a circular wrap-around, always
divided by the number of pairs there are. Members are never mixed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.fft

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gfdt.responses.units import Unit

__all__ = ["outer_sums", "pair_counts", "spectral_sums"]

# Up to this many components the transforms in time cost at most about twice a product per lag on idle cores, and unlike
# short threaded products they do not collapse (seen: 400 x) when the cores are shared with another program.
_FFT_COMPONENTS = 8


def pair_counts(unit: Unit, times: int, lags: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return n_u(l) for a record of ``times`` samples."""
    return np.clip(np.minimum(unit.stop, times - lags) - unit.start, 0, None).astype(np.float64)


def outer_sums(a: NDArray[Any], b: NDArray[Any], unit: Unit, lags: NDArray[np.int64]) -> NDArray[np.float64]:
    """Sums of the outer product: zero-padded FFT in time for few components, one matrix product per lag for many.

    Parameters
    ----------
    a : (time, p), b : (time, q)
        Centred series of the unit's member.
    unit : Unit
    lags : (n_lags,) in samples

    Returns
    -------
    (n_lags, p, q)
    """
    if max(a.shape[1], b.shape[1]) <= _FFT_COMPONENTS:
        return _outer_sums_by_fft(a, b, unit, lags)
    return _outer_sums_by_products(a, b, unit, lags)


def _outer_sums_by_fft(a: NDArray[Any], b: NDArray[Any], unit: Unit, lags: NDArray[np.int64]) -> NDArray[np.float64]:
    reach = min(unit.stop + int(lags[-1]), a.shape[0])
    n_fft = scipy.fft.next_fast_len(reach - unit.start + int(lags[-1]), real=True)
    a_omega = scipy.fft.rfft(np.ascontiguousarray(a[unit.start : reach].T), n_fft)
    b_omega = scipy.fft.rfft(np.ascontiguousarray(b[unit.start : unit.stop].T), n_fft)
    sums = scipy.fft.irfft(a_omega[:, None] * b_omega[None, :].conj(), n_fft, overwrite_x=True)
    return np.ascontiguousarray(np.moveaxis(sums[..., lags], -1, 0))


def _outer_sums_by_products(
    a: NDArray[Any], b: NDArray[Any], unit: Unit, lags: NDArray[np.int64]
) -> NDArray[np.float64]:
    times = a.shape[0]
    out = np.zeros((lags.size, a.shape[1], b.shape[1]))
    for i, lag in enumerate(lags):
        stop = min(unit.stop, times - lag)
        if stop > unit.start:
            np.matmul(a[unit.start + lag : stop + lag].T, b[unit.start : stop], out=out[i])
    return out


def spectral_sums(
    a_hat: NDArray[Any], b_hat: NDArray[Any], unit: Unit, lags: NDArray[np.int64]
) -> NDArray[np.complex128]:
    """Sums of a_k(t + l) conj(b_k(t)) for each wavenumber, by zero-padded FFT in time.

    Parameters
    ----------
    a_hat, b_hat : (time, n_modes) complex
        Fourier transforms of two centred fields, of the unit's member.
    unit : Unit
    lags : (n_lags,) in samples

    Returns
    -------
    (n_lags, n_modes) complex
    """
    reach = min(unit.stop + int(lags[-1]), a_hat.shape[0])
    n_fft = scipy.fft.next_fast_len(reach - unit.start + int(lags[-1]))
    # Time along the last axis: contiguous transforms, twice as fast as strided ones.
    a_omega = scipy.fft.fft(np.ascontiguousarray(a_hat[unit.start : reach].T), n_fft, overwrite_x=True, workers=-1)
    b_omega = scipy.fft.fft(np.ascontiguousarray(b_hat[unit.start : unit.stop].T), n_fft, overwrite_x=True, workers=-1)
    np.conjugate(b_omega, out=b_omega)
    a_omega *= b_omega
    sums = scipy.fft.ifft(a_omega, overwrite_x=True, workers=-1)
    return np.ascontiguousarray(sums[:, lags].T)
