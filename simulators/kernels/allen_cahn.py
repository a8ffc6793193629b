"""Time loops of the Allen-Cahn field: exponential two-step scheme with exact linear part and exact noise.

With v = FFT of the remainder 2.5 u - u^3 and per-mode tables E, F, G, a (`simulators.allen_cahn` states the scheme),

    u_hat <- E u_hat + F v + G v_before + a w_hat,     v_before <- v,

w_hat the transform of white noise. A step needs one inverse and one forward transform and n^2 normals. `advance` does
it for any n with a library transform; `advance_lanes` for powers of two with `simulators.kernels.lanes`, whose module
docstring states the layouts. Both leave out of the remainder, if `dealias`, the Nyquist row and column, and compute the
cube on a grid of 2 n x 2 n points, where no alias of it reaches a wavenumber below n/2.
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from simulators.kernels.lanes import (
    Size,
    forward,
    forward_low_rows,
    from_field,
    inverse,
    inverse_low_rows,
    join_columns,
    mirror_rows,
    packed_noise,
    packed_symbol,
    row_positions,
    row_wavenumbers,
    size_type,
    split_columns,
    twiddles,
)
from simulators.kernels.noise import fill_normals
from simulators.spectral import inverse_transform, white_noise_hat

__all__ = ["LaneTables", "Tables", "advance", "advance_lanes", "make_lane_tables", "remainder", "remainder_lanes"]

# The linear part of the scheme takes -DAMPING u from the reaction u - u^3: near <3 u^2> - 1, 1.44 at the default
# parameters, the remainder has no linear part on average.
DAMPING = 1.5


class Tables(NamedTuple):
    """Per-mode tables in half-plane layout, shape (n, n//2 + 1)."""

    propagator: NDArray[np.complex128]
    now: NDArray[np.complex128]
    before: NDArray[np.complex128]
    amplitude: NDArray[np.float64]


# ---- any n


@njit(cache=True, nogil=True, error_model="numpy")
def remainder(u_hat: NDArray[np.complex128], n: int, dealias: bool, v_hat: NDArray[np.complex128]) -> None:
    """Write the transform of 2.5 u - u^3 into `v_hat`; dealiased as the module docstring says."""
    if not dealias:
        u = np.fft.irfft2(u_hat, (n, n))
        v_hat[:] = np.fft.rfft2(u * (1 + DAMPING - u * u))
        return
    top = (n - 1) // 2  # the largest wavenumber that is not Nyquist
    m = 2 * n
    fine_hat = np.zeros((m, n + 1), dtype=np.complex128)
    for ky in range(-top, top + 1):
        # (m / n)^2 = 4 against the 1 / m^2 of the inverse transform
        fine_hat[ky, : top + 1] = 4 * u_hat[ky, : top + 1]
    u = np.fft.irfft2(fine_hat, (m, m))
    fine_hat = np.fft.rfft2(u * (1 + DAMPING - u * u))
    v_hat[:] = 0
    for ky in range(-top, top + 1):
        v_hat[ky, : top + 1] = fine_hat[ky, : top + 1] / 4


@njit(cache=True, nogil=True, error_model="numpy")
def advance(
    u_hat: NDArray[np.complex128],
    before: NDArray[np.complex128],
    rng: np.random.Generator,
    tables: Tables,
    dealias: bool,
    n_steps: int,
    out: NDArray[np.floating],
) -> None:
    """Save the field and take `n_steps` steps, for each snapshot of `out`, shape (time, n, n)."""
    n = out.shape[1]
    w_hat = np.empty_like(u_hat)
    v_hat = np.empty_like(u_hat)
    for it in range(out.shape[0]):
        inverse_transform(u_hat, out[it])
        for _ in range(n_steps):
            remainder(u_hat, n, dealias, v_hat)
            white_noise_hat(rng, w_hat)
            for iy in range(u_hat.shape[0]):
                for ix in range(u_hat.shape[1]):
                    u_hat[iy, ix] = (
                        tables.propagator[iy, ix] * u_hat[iy, ix]
                        + tables.now[iy, ix] * v_hat[iy, ix]
                        + tables.before[iy, ix] * before[iy, ix]
                        + tables.amplitude[iy, ix] * w_hat[iy, ix]
                    )
                    before[iy, ix] = v_hat[iy, ix]


# ---- powers of two


class LaneTables(NamedTuple):
    """Per-mode tables in the packed layout of `simulators.kernels.lanes`, and what its transforms need.

    Attributes
    ----------
    propagator, now, before : ndarray
        Flat, n^2 numbers: real parts, then imaginary parts.
    amplitude : ndarray
        Flat, n^2 / 2 numbers, times the standard deviation of the packed noise.
    mirrored : ndarray
        The same four tables for the mirror image of column 0, shape (4, n), see `packed_symbol`.
    mirror : ndarray
        Row of -k for the row of each k, shape (n,).
    twiddle, position : ndarray
        Of the transform of length n.
    fine_twiddle, fine_position : ndarray
        Of the transform of length m in which the cube is computed: n, or 2 n if dealiased.
    fine_row : ndarray
        Row in the transform of length m for each row of the spectrum, -1 where it is left out, shape (n,).
    """

    propagator: NDArray[np.float64]
    now: NDArray[np.float64]
    before: NDArray[np.float64]
    amplitude: NDArray[np.float64]
    mirrored: NDArray[np.float64]
    mirror: NDArray[np.int64]
    twiddle: NDArray[np.float64]
    position: NDArray[np.int64]
    fine_twiddle: NDArray[np.float64]
    fine_position: NDArray[np.int64]
    fine_row: NDArray[np.int64]


@njit(cache=True, nogil=True, error_model="numpy")
def remainder_lanes(spectrum, v, work, field, tables, rows, lanes, fine):  # type: ignore[no-untyped-def]
    """Write the transform of 2.5 u - u^3 into `v`, packed like `spectrum`.

    Parameters
    ----------
    spectrum, v : ndarray
        Flat, n^2 numbers.
    work, field : ndarray
        Scratch of m n and m^2 numbers.
    tables : LaneTables
        Geometry.
    rows, lanes, fine : tuple
        `size_type` of n, n/2 and m; m = n computes by collocation, m = 2 n without aliasing.
    """
    n, h = 1 << len(rows), 1 << len(lanes)
    scale = 1.0 / (n * n)
    if len(fine) == len(rows):
        for i in range(n * n):
            work[i] = spectrum[i]
        inverse(work, field, rows, lanes, tables.twiddle, tables.position)
        for i in range(n * n):
            u = scale * field[i]
            field[i] = u * (1.0 + DAMPING - u * u)
        forward(field, v, rows, lanes, tables.twiddle, tables.position)
        return
    m = 1 << len(fine)
    im, im_fine = n * h, m * h
    for iy in range(n):
        row = tables.fine_row[iy]
        if row >= 0:
            for ix in range(h):
                work[row * h + ix] = spectrum[iy * h + ix]
                work[im_fine + row * h + ix] = spectrum[im + iy * h + ix]
            # column 0 without the Nyquist column packed into it
            mirror = tables.mirror[iy] * h
            work[row * h] = 0.5 * (spectrum[iy * h] + spectrum[mirror])
            work[im_fine + row * h] = 0.5 * (spectrum[im + iy * h] - spectrum[im + mirror])
        else:  # -n/2, the one row of those that are read to which nothing was written
            row = tables.fine_position[m - h]
            for ix in range(h):
                work[row * h + ix] = 0.0
                work[im_fine + row * h + ix] = 0.0
    inverse_low_rows(work, fine, lanes, tables.fine_twiddle)
    join_columns(work, field, fine, lanes, tables.fine_position)
    inverse_low_rows(field, fine, rows, tables.fine_twiddle)
    for i in range(m * m):
        u = scale * field[i]
        field[i] = 0.25 * u * (1.0 + DAMPING - u * u)  # 1/4: the fine transform sums four times as many points
    forward_low_rows(field, fine, rows, tables.fine_twiddle)
    split_columns(field, work, fine, lanes, tables.fine_position)
    forward_low_rows(work, fine, lanes, tables.fine_twiddle)
    for iy in range(n):
        row = tables.fine_row[iy]
        if row >= 0:
            for ix in range(h):
                v[iy * h + ix] = work[row * h + ix]
                v[im + iy * h + ix] = work[im_fine + row * h + ix]
        else:
            for ix in range(h):
                v[iy * h + ix] = 0.0
                v[im + iy * h + ix] = 0.0


@njit(cache=True, nogil=True, error_model="numpy")
def _update_lanes(spectrum, v, before, w, correction, tables, rows, lanes):  # type: ignore[no-untyped-def]
    """Take spectrum <- E spectrum + F v + G before + a w and before <- v; `correction` is scratch of 2 n numbers."""
    n, h = 1 << len(rows), 1 << len(lanes)
    im = n * h
    e, f, g, a = tables.propagator, tables.now, tables.before, tables.amplitude
    for iy in range(n):
        mirror = tables.mirror[iy] * h
        me, mf, mg, ma = tables.mirrored[0, iy], tables.mirrored[1, iy], tables.mirrored[2, iy], tables.mirrored[3, iy]
        correction[iy] = me * spectrum[mirror] + mf * v[mirror] + mg * before[mirror] + ma * w[mirror]
        mirror += im
        correction[n + iy] = -(me * spectrum[mirror] + mf * v[mirror] + mg * before[mirror] + ma * w[mirror])
    for i in range(n * h):
        sr, si, vr, vi, br, bi = spectrum[i], spectrum[im + i], v[i], v[im + i], before[i], before[im + i]
        spectrum[i] = (
            (e[i] * sr - e[im + i] * si) + (f[i] * vr - f[im + i] * vi) + (g[i] * br - g[im + i] * bi) + a[i] * w[i]
        )
        spectrum[im + i] = (
            (e[i] * si + e[im + i] * sr)
            + (f[i] * vi + f[im + i] * vr)
            + (g[i] * bi + g[im + i] * br)
            + a[i] * w[im + i]
        )
        before[i], before[im + i] = vr, vi
    for iy in range(n):
        spectrum[iy * h] += correction[iy]
        spectrum[im + iy * h] += correction[n + iy]


@njit(cache=True, nogil=True, error_model="numpy")
def advance_lanes(spectrum, before, words, tables, rows, lanes, fine, n_steps, out):  # type: ignore[no-untyped-def]
    """Save the field and take `n_steps` steps, for each snapshot of `out`, shape (time, n, n).

    Parameters
    ----------
    spectrum, before : ndarray
        State: packed spectra of u and of the remainder one step ago, flat, n^2 numbers each.
    words : ndarray
        Random generators (`simulators.kernels.noise`).
    tables : LaneTables
        Of the step.
    rows, lanes, fine : tuple
        As for `remainder_lanes`.
    n_steps : int
        Steps per snapshot.
    out : ndarray
        Record to fill.
    """
    n, m = 1 << len(rows), 1 << len(fine)
    work, field = np.empty(m * n), np.empty(m * m)
    v, w, correction = np.empty(n * n), np.empty(n * n), np.empty(2 * n)
    for it in range(out.shape[0]):
        v[:] = spectrum
        inverse(v, w, rows, lanes, tables.twiddle, tables.position)
        from_field(w, 1.0 / (n * n), out[it])
        for _ in range(n_steps):
            remainder_lanes(spectrum, v, work, field, tables, rows, lanes, fine)
            fill_normals(words, w)
            _update_lanes(spectrum, v, before, w, correction, tables, rows, lanes)


def make_lane_tables(tables: Tables, dealias: bool) -> tuple[LaneTables, Size, Size, Size]:
    """Return the tables in the packed layout and the `size_type` of n, n/2 and m.

    Parameters
    ----------
    tables : Tables
        In half-plane layout; n must be in `simulators.kernels.lanes.SIZES`.
    dealias : bool
        m = 2 n instead of m = n.
    """
    n = len(tables.propagator)
    m = 2 * n if dealias else n
    propagator, now, before = (packed_symbol(table) for table in tables[:3])
    amplitude = packed_noise(tables.amplitude)
    wavenumber = row_wavenumbers(n)
    position, fine_position = (row_positions(length) for length in (n, m))
    fine_row = fine_position[wavenumber % m]
    if dealias:
        fine_row[wavenumber == -n // 2] = -1
    packed = LaneTables(
        propagator[0],
        now[0],
        before[0],
        amplitude[0],
        np.array([propagator[1], now[1], before[1], amplitude[1]]),
        mirror_rows(n),
        twiddles(n),
        position,
        twiddles(m),
        fine_position,
        fine_row,
    )
    return packed, size_type(n), size_type(n // 2), size_type(m)
