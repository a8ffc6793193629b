"""Fourier transforms and spectral white noise inside numba kernels: the only module that knows rocket-fft.

Spectra are unnormalised half-planes, shape (n, n//2 + 1), as in `simulators.grid`. Importing this module
registers ``numpy.fft`` with numba (that is what ``import rocket_fft`` does) and costs the import of numba; with
``NUMBA_DISABLE_JIT=1`` the same lines run as plain numpy.
"""

import math

import numpy as np
import rocket_fft  # noqa: F401  (registers numpy.fft inside numba)
from numba import njit
from numpy.typing import NDArray

__all__ = ["inverse_transform", "white_noise_hat"]


@njit(cache=True, nogil=True)
def inverse_transform(u_hat: NDArray[np.complex128], u: NDArray[np.floating]) -> None:
    """Write the real field of the half-plane spectrum `u_hat` into `u`, shape (n, n), casting to its dtype."""
    n = u.shape[0]
    # double precision inside, whatever the precision on disk: rounding then never feeds back into the dynamics
    field = np.fft.irfft2(u_hat, (n, n))
    for iy in range(n):
        for ix in range(n):
            u[iy, ix] = field[iy, ix]


@njit(cache=True, nogil=True)
def white_noise_hat(rng: np.random.Generator, w_hat: NDArray[np.complex128]) -> None:
    """Fill `w_hat`, shape (n, n//2 + 1), with the transform of an n x n field of independent N(0, 1) numbers.

    The transform of real white noise is white: <|w_k|^2> = n^2, with w_(-k) = conj(w_k). Drawing it directly
    takes the same n^2 normals as drawing the field, and saves one transform a step. In the columns kx = 0 and,
    for even n, kx = n/2, the mode -k lies in the half-plane too, so there only half is drawn and mirrored, and
    the modes that are their own mirror image are real.
    """
    n, n_columns = w_hat.shape
    for ix in range(n_columns):
        if ix == 0 or 2 * ix == n:
            w_hat[0, ix] = n * rng.standard_normal()
            for iy in range(1, (n + 1) // 2):
                real = rng.standard_normal()
                imag = rng.standard_normal()
                w_hat[iy, ix] = n * math.sqrt(0.5) * complex(real, imag)
                w_hat[n - iy, ix] = n * math.sqrt(0.5) * complex(real, -imag)
            if n % 2 == 0:
                w_hat[n // 2, ix] = n * rng.standard_normal()
        else:
            for iy in range(n):
                real = rng.standard_normal()
                imag = rng.standard_normal()
                w_hat[iy, ix] = n * math.sqrt(0.5) * complex(real, imag)
