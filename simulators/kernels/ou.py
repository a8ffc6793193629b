"""Time loops of a field whose Fourier modes are independent Ornstein-Uhlenbeck processes.

`advance` for any n, `advance_lanes` for powers of two in the layouts of `simulators.kernels.lanes`.
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from simulators.kernels.lanes import (
    Size,
    from_field,
    inverse,
    mirror_rows,
    packed_noise,
    packed_symbol,
    row_positions,
    size_type,
    twiddles,
)
from simulators.kernels.noise import fill_normals
from simulators.spectral import inverse_transform, white_noise_hat

__all__ = ["LaneTables", "advance", "advance_lanes", "make_lane_tables", "stationary_draw"]

# ---- any n


@njit(cache=True, nogil=True)
def stationary_draw(
    rng: np.random.Generator, standard_deviation: NDArray[np.float64], u_hat: NDArray[np.complex128]
) -> None:
    """Fill `u_hat` with a draw from the stationary law: standard deviation per mode times white noise."""
    white_noise_hat(rng, u_hat)
    for iy in range(u_hat.shape[0]):
        for ix in range(u_hat.shape[1]):
            u_hat[iy, ix] *= standard_deviation[iy, ix]


@njit(cache=True, nogil=True)
def advance(
    u_hat: NDArray[np.complex128],
    w_hat: NDArray[np.complex128],
    rng: np.random.Generator,
    propagator: NDArray[np.complex128],
    amplitude: NDArray[np.float64],
    n_steps: int,
    out: NDArray[np.floating],
) -> None:
    """Save `u_hat` as a field and take `n_steps` steps u_hat <- propagator u_hat + amplitude w_hat, for each snapshot.

    `w_hat` is scratch of the shape of `u_hat`, (n, n//2 + 1); `out` has the shape (time, n, n).
    """
    for it in range(out.shape[0]):
        inverse_transform(u_hat, out[it])
        for _ in range(n_steps):
            white_noise_hat(rng, w_hat)
            for iy in range(u_hat.shape[0]):
                for ix in range(u_hat.shape[1]):
                    u_hat[iy, ix] = propagator[iy, ix] * u_hat[iy, ix] + amplitude[iy, ix] * w_hat[iy, ix]


# ---- powers of two


class LaneTables(NamedTuple):
    """Factors of one step in the packed layout, and what the transform needs.

    Attributes
    ----------
    propagator : ndarray
        Flat, n^2 numbers: real parts, then imaginary parts.
    amplitude : ndarray
        Flat, n^2 / 2 numbers, times the standard deviation of the packed noise.
    mirrored : ndarray
        Both tables for the mirror image of column 0, shape (2, n), see `packed_symbol`.
    mirror : ndarray
        Row of -k for the row of each k, shape (n,).
    twiddle, position : ndarray
        Of the transform.
    """

    propagator: NDArray[np.float64]
    amplitude: NDArray[np.float64]
    mirrored: NDArray[np.float64]
    mirror: NDArray[np.int64]
    twiddle: NDArray[np.float64]
    position: NDArray[np.int64]


@njit(cache=True, nogil=True, error_model="numpy")
def _update_lanes(spectrum, w, correction, tables, rows, lanes):  # type: ignore[no-untyped-def]
    """Take spectrum <- E spectrum + a w; `correction` is scratch of 2 n numbers."""
    n, h = 1 << len(rows), 1 << len(lanes)
    im = n * h
    e, a = tables.propagator, tables.amplitude
    for iy in range(n):
        mirror = tables.mirror[iy] * h
        me, ma = tables.mirrored[0, iy], tables.mirrored[1, iy]
        correction[iy] = me * spectrum[mirror] + ma * w[mirror]
        correction[n + iy] = -(me * spectrum[im + mirror] + ma * w[im + mirror])
    for i in range(n * h):
        real, imag = spectrum[i], spectrum[im + i]
        spectrum[i] = e[i] * real - e[im + i] * imag + a[i] * w[i]
        spectrum[im + i] = e[i] * imag + e[im + i] * real + a[i] * w[im + i]
    for iy in range(n):
        spectrum[iy * h] += correction[iy]
        spectrum[im + iy * h] += correction[n + iy]


@njit(cache=True, nogil=True, error_model="numpy")
def advance_lanes(spectrum, words, tables, rows, lanes, n_steps, out):  # type: ignore[no-untyped-def]
    """Save the field and take `n_steps` steps, for each snapshot of `out`, shape (time, n, n).

    Parameters
    ----------
    spectrum : ndarray
        State: packed spectrum, flat, n^2 numbers.
    words : ndarray
        Random generators (`simulators.kernels.noise`).
    tables : LaneTables
        Of the step.
    rows, lanes : tuple
        `size_type` of n and n/2.
    n_steps : int
        Steps per snapshot.
    out : ndarray
        Record to fill.
    """
    n = 1 << len(rows)
    work, w, correction = np.empty(n * n), np.empty(n * n), np.empty(2 * n)
    for it in range(out.shape[0]):
        work[:] = spectrum
        inverse(work, w, rows, lanes, tables.twiddle, tables.position)
        from_field(w, 1.0 / (n * n), out[it])
        for _ in range(n_steps):
            fill_normals(words, w)
            _update_lanes(spectrum, w, correction, tables, rows, lanes)


def make_lane_tables(
    propagator: NDArray[np.complex128], amplitude: NDArray[np.float64]
) -> tuple[LaneTables, Size, Size]:
    """Return half-plane tables in the packed layout, and the `size_type` of n and n/2."""
    n = len(propagator)
    factor, factor_mirrored = packed_symbol(propagator)
    noise, noise_mirrored = packed_noise(amplitude)
    mirrored = np.array([factor_mirrored, noise_mirrored])
    position = row_positions(n)
    tables = LaneTables(factor, noise, mirrored, mirror_rows(n), twiddles(n), position)
    return tables, size_type(n), size_type(n // 2)
