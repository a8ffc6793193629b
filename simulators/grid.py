"""The periodic grid shared by all fields.

Box [0, 2 pi)^2 with n x n points at 2 pi i / n; array index order (y, x); wavenumbers are integers. Spectra have
the half-plane layout of ``numpy.fft.rfft2``: shape (n, n//2 + 1), unnormalised forward transform.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["advection_wavenumber", "displacements", "positions", "wavenumber_squared"]


def positions(n: int) -> NDArray[np.float64]:
    """Return the coordinates 2 pi i / n of the grid points along one axis, shape (n,)."""
    return 2 * np.pi * np.arange(n) / n


def displacements(n: int) -> NDArray[np.int64]:
    """Return the centred signed displacements along one axis, in grid cells, in ``fftshift`` order.

    Even n: -n/2 ... n/2 - 1; odd n: -(n-1)/2 ... (n-1)/2.
    """
    return np.arange(n) - n // 2


def wavenumber_squared(n: int) -> NDArray[np.float64]:
    """Return |k|^2 = kx^2 + ky^2 in half-plane layout, shape (n, n//2 + 1); it is even in k exactly."""
    ky = n * np.fft.fftfreq(n)
    kx = n * np.fft.rfftfreq(n)
    return ky[:, None] ** 2 + kx[None, :] ** 2


def advection_wavenumber(n: int) -> NDArray[np.float64]:
    """Return the kx that d/dx multiplies by i, in half-plane layout, shape (n, n//2 + 1).

    On an even grid the Nyquist column is zero: cos(n x / 2) sampled on the grid is +1, -1, +1, ..., and its
    derivative vanishes at every grid point, so a real field has no odd derivative there.
    """
    kx = n * np.fft.rfftfreq(n)
    if n % 2 == 0:
        kx[-1] = 0.0
    return np.broadcast_to(kx, (n, n // 2 + 1)).copy()
