"""Time loop of two-dimensional turbulence: Runge-Kutta of order 4 with an exact linear part, four transforms a stage.

Notation of `simulators.navier_stokes`; h = n/2. A spectrum is one flat float64 array of n^2 numbers: the real parts
[row h + kx] for kx < h, then the imaginary parts; `row_wavenumbers` gives ky of each row. The column kx = h and the row
ky = -h (Nyquist) are zero by construction. A field is flat too, in whatever order the inverse transform leaves it:
products need no more. Two transforms share everything else: `simulators.kernels.lanes` where n is one of its sizes
(``Tables.size`` is then its type-level size), ``numpy.fft`` for other n (an empty ``Tables.size``); both unnormalised.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from simulators.kernels import lanes
from simulators.kernels.noise import STREAMS, fill_normals
from simulators.spectral import inverse_transform  # also registers numpy.fft inside numba

__all__ = [
    "Tables",
    "advance",
    "draw_phases",
    "force",
    "row_wavenumbers",
    "save",
    "step",
    "tendency",
    "transform_tables",
]

Flat = NDArray[np.float64]


class Tables(NamedTuple):
    """Everything about the equation that a step needs; flat over (row, kx) unless said otherwise.

    Attributes
    ----------
    size : tuple
        Type-level size of the lane transform, () for ``numpy.fft``.
    twiddle, position : ndarray
        Of the lane transform; empty for ``numpy.fft``.
    mirror : ndarray
        Row of -ky for each row, shape (n,).
    to_u, to_v : ndarray
        ky / k2 / n^2 and kx / k2 / n^2: times +-i they make velocities out of vorticity.
    shear, cross : ndarray
        ky^2 - kx^2 and -kx ky, zero outside the modes kept: what multiplies the transforms of u v and v^2 - u^2.
    decay, turn : ndarray
        Real and imaginary part of exp(L dt / 2).
    site, twin : ndarray
        Index of each forced k, and of -k where it is stored too (kx = 0); else the same index. Shape (pair,).
    amplitude : ndarray
        n^2 F / 2 for each pair, preceded by n^2 F (1 - mean_damping) for k = 0; shape (1 + pair,).
    """

    size: tuple[int, ...]
    twiddle: Flat
    position: NDArray[np.int64]
    mirror: NDArray[np.int64]
    to_u: Flat
    to_v: Flat
    shear: Flat
    cross: Flat
    decay: Flat
    turn: Flat
    site: NDArray[np.int64]
    twin: NDArray[np.int64]
    amplitude: Flat


# ---- layout, in plain numpy


def row_wavenumbers(n: int, *, use_lanes: bool | None = None) -> NDArray[np.int64]:
    """Return the wavenumber ky of each row, shape (n,); by default with the lane transform where there is one."""
    if n in lanes.SIZES if use_lanes is None else use_lanes:
        return lanes.row_wavenumbers(n)
    return np.fft.fftfreq(n, 1 / n).round().astype(np.int64)


def transform_tables(n: int, *, use_lanes: bool | None = None) -> dict[str, Any]:
    """Return the first entries of `Tables`, those that concern the transform and not the equation."""
    rows = row_wavenumbers(n, use_lanes=use_lanes)
    mirror = np.argsort(rows % n)[-rows % n]
    if n in lanes.SIZES if use_lanes is None else use_lanes:
        position = np.argsort(rows % n)
        return {"size": lanes.size_type(n), "twiddle": lanes.twiddles(n), "position": position, "mirror": mirror}
    return {"size": (), "twiddle": np.empty(0), "position": np.empty(0, dtype=np.int64), "mirror": mirror}


# ---- transforms


@njit(cache=True, nogil=True, error_model="numpy")
def _inverse(spectrum, field, tables):  # type: ignore[no-untyped-def]
    """Write n^2 times the field of `spectrum` (destroyed) into `field`."""
    if len(tables.size) > 0:
        lanes.inverse(spectrum, field, tables.size, tables.size[1:], tables.twiddle, tables.position)
    else:
        n = tables.mirror.shape[0]
        h, m = n // 2, n * (n // 2)
        half_plane = np.zeros((n, h + 1), dtype=np.complex128)
        for iy in range(n):
            for ix in range(h):
                i = iy * h + ix
                half_plane[iy, ix] = n * n * complex(spectrum[i], spectrum[m + i])
        inverse_transform(half_plane, field.reshape(n, n))


@njit(cache=True, nogil=True, error_model="numpy")
def _forward(field, spectrum, tables):  # type: ignore[no-untyped-def]
    """Write the transform of `field` (destroyed) into `spectrum`; its column kx = 0 still needs `_real_columns`."""
    if len(tables.size) > 0:
        lanes.forward(field, spectrum, tables.size, tables.size[1:], tables.twiddle, tables.position)
    else:
        n = tables.mirror.shape[0]
        h, m = n // 2, n * (n // 2)
        half_plane = np.fft.rfft2(field.reshape(n, n))
        for iy in range(n):
            for ix in range(h):
                i = iy * h + ix
                spectrum[i], spectrum[m + i] = half_plane[iy, ix].real, half_plane[iy, ix].imag


@njit(cache=True, nogil=True, error_model="numpy")
def save(z, tables, spectrum, field, out):  # type: ignore[no-untyped-def]
    """Write the field of spectrum `z` into `out`, shape (n, n), casting to its dtype; the others are scratch."""
    n = tables.mirror.shape[0]
    spectrum[:] = z
    _inverse(spectrum, field, tables)
    if len(tables.size) > 0:
        lanes.from_field(field, 1 / (n * n), out)
    else:
        for iy in range(n):
            for ix in range(n):
                out[iy, ix] = field[iy * n + ix] / (n * n)


# ---- forcing


@njit(cache=True, nogil=True, error_model="numpy")
def draw_phases(rng: np.random.Generator, phases: Flat) -> None:
    """Fill `phases` with their stationary law, uniform on the circle."""
    for i in range(phases.shape[0]):
        phases[i] = 2 * math.pi * rng.random()


@njit(cache=True, nogil=True, error_model="numpy")
def _move_phases(words, normals, phases, size):  # type: ignore[no-untyped-def]
    """Add independent N(0, size^2) increments; `normals` is scratch, at least as long as `phases`."""
    fill_normals(words, normals)
    for i in range(phases.shape[0]):
        phases[i] += size * normals[i]


# pi/2 in two parts, the first with 33 bits: its multiples below 2^20 are exact (Cody and Waite, Software Manual for the
# Elementary Functions, 1980).
_HALF_PI_HIGH = float.fromhex("0x1.921fb544p+0")
_HALF_PI_LOW = float.fromhex("0x1.0b4611a626331p-34")
_TWO_OVER_PI = 2 / math.pi
# Taylor's polynomials up to r^17 and r^16: at r = pi/4 the next terms are below 1e-17.
_S3, _S5, _S7, _S9 = -1 / 6, 1 / math.factorial(5), -1 / math.factorial(7), 1 / math.factorial(9)
_S11, _S13, _S15, _S17 = (s / math.factorial(k) for s, k in ((-1, 11), (1, 13), (-1, 15), (1, 17)))
_C4, _C6, _C8, _C10 = 1 / 24, -1 / math.factorial(6), 1 / math.factorial(8), -1 / math.factorial(10)
_C12, _C14, _C16 = 1 / math.factorial(12), -1 / math.factorial(14), 1 / math.factorial(16)


@njit(cache=True, nogil=True, error_model="numpy")
def _cos_sin(phases, cosine, sine):  # type: ignore[no-untyped-def]
    """Fill cosine and sine of `phases`; without branches, so that it runs at vector speed (math.cos does not)."""
    for i in range(phases.shape[0]):
        quarter = np.floor(phases[i] * _TWO_OVER_PI + 0.5)
        r = (phases[i] - quarter * _HALF_PI_HIGH) - quarter * _HALF_PI_LOW
        x = r * r
        s = _S3 + x * (_S5 + x * (_S7 + x * (_S9 + x * (_S11 + x * (_S13 + x * (_S15 + x * _S17))))))
        c = _C4 + x * (_C6 + x * (_C8 + x * (_C10 + x * (_C12 + x * (_C14 + x * _C16)))))
        s = r + r * x * s
        c = 1 - (0.5 * x - x * x * c)
        half = np.floor(quarter * 0.5)
        odd = quarter - 2 * half
        sign = 1 - 2 * (half - 2 * np.floor(half * 0.5))
        # a rotation by `quarter` quarter turns
        cosine[i] = sign * ((1 - odd) * c - odd * s)
        sine[i] = sign * ((1 - odd) * s + odd * c)


@njit(cache=True, nogil=True, error_model="numpy")
def force(phases, tables, cosine, sine, f):  # type: ignore[no-untyped-def]
    """Write the forcing of `phases` into the forced entries of the spectrum `f`, which is zero elsewhere.

    `phases` holds that of k = 0, those of all k and those of all -k; `cosine` and `sine` are scratch of its shape.
    """
    m = f.shape[0] // 2
    n_pairs = tables.site.shape[0]
    _cos_sin(phases, cosine, sine)
    f[0] = tables.amplitude[0] * cosine[0]
    for p in range(n_pairs):
        a, i, j = tables.amplitude[1 + p], tables.site[p], tables.twin[p]
        real = a * (cosine[1 + p] + cosine[1 + n_pairs + p])
        imag = a * (sine[1 + p] - sine[1 + n_pairs + p])
        f[j], f[m + j] = real, -imag
        f[i], f[m + i] = real, imag  # after its twin, which is itself unless kx = 0


# ---- right-hand side and step


@njit(cache=True, nogil=True, error_model="numpy")
def _times(a, x, c, out):  # type: ignore[no-untyped-def]
    """Write out = c a x."""
    for i in range(out.shape[0]):
        out[i] = c * a[i] * x[i]


@njit(cache=True, nogil=True, error_model="numpy")
def _products(u, v):  # type: ignore[no-untyped-def]
    """Replace the fields u, v by u v and v^2 - u^2."""
    for i in range(u.shape[0]):
        a, b = u[i], v[i]
        u[i] = a * b
        v[i] = b * b - a * a


@njit(cache=True, nogil=True, error_model="numpy")
def _combine(a, x, b, y, f, out):  # type: ignore[no-untyped-def]
    """Write out = a x + b y + f."""
    for i in range(out.shape[0]):
        out[i] = a[i] * x[i] + b[i] * y[i] + f[i]


@njit(cache=True, nogil=True, error_model="numpy")
def _real_columns(z, mirror):  # type: ignore[no-untyped-def]
    """Keep U of what column kx = 0 holds, U(ky, 0) + i U(ky, n/2) or U(ky, 0): its Hermitian part."""
    n = mirror.shape[0]
    h, m = n // 2, n * (n // 2)
    for iy in range(n):
        i, j = iy * h, mirror[iy] * h
        if i <= j:
            real, imag = 0.5 * (z[i] + z[j]), 0.5 * (z[m + i] - z[m + j])
            z[i], z[m + i] = real, imag
            z[j], z[m + j] = real, -imag


@njit(cache=True, nogil=True, error_model="numpy")
def tendency(z, f, tables, spectrum, u, v, out):  # type: ignore[no-untyped-def]
    """Write -v.grad z + f of the spectrum `z` into `out`; the arrays between are scratch, all of n^2 numbers.

    Basdevant's form needs two inverse and two forward transforms: with P = u v and Q = v^2 - u^2,
    -v.grad z = (dxx - dyy) P + dxy Q for the sign of v used here.
    """
    m = z.shape[0] // 2
    # u = dy psi, v = -dx psi, psi = -z / k2
    _times(tables.to_u, z[m:], 1.0, spectrum[:m])
    _times(tables.to_u, z[:m], -1.0, spectrum[m:])
    _inverse(spectrum, u, tables)
    _times(tables.to_v, z[m:], -1.0, spectrum[:m])
    _times(tables.to_v, z[:m], 1.0, spectrum[m:])
    _inverse(spectrum, v, tables)
    _products(u, v)
    _forward(u, spectrum, tables)
    _forward(v, u, tables)  # from here on u is the transform of v^2 - u^2
    _combine(tables.shear, spectrum[:m], tables.cross, u[:m], f[:m], out[:m])
    _combine(tables.shear, spectrum[m:], tables.cross, u[m:], f[m:], out[m:])
    _real_columns(out, tables.mirror)


@njit(cache=True, nogil=True, error_model="numpy")
def _add(x, c, y, out):  # type: ignore[no-untyped-def]
    """Write out = x + c y."""
    for i in range(out.shape[0]):
        out[i] = x[i] + c * y[i]


@njit(cache=True, nogil=True, error_model="numpy")
def _rotate(a, b, x, out):  # type: ignore[no-untyped-def]
    """Write out = (a + i b) x for spectra `x` and `out`, which differ."""
    m = a.shape[0]
    re, im = x[:m], x[m:]
    out_re, out_im = out[:m], out[m:]
    for i in range(m):
        out_re[i] = a[i] * re[i] - b[i] * im[i]
    for i in range(m):
        out_im[i] = a[i] * im[i] + b[i] * re[i]


@njit(cache=True, nogil=True, error_model="numpy")
def step(z, f_now, f_half, f_next, dt, tables, work):  # type: ignore[no-untyped-def]
    """Advance the spectrum `z` by dt, with the forcing at the beginning, middle and end; `work` has the shape (7, n^2).

    The classical Runge-Kutta scheme for exp(-L t) z (Lawson's scheme): with E = exp(L dt / 2) and N = tendency,
    a = N(z), b = N(E (z + dt a / 2)), c = N(E z + dt b / 2), d = N(E (E z + dt c)),
    z <- E (E (z + dt a / 6) + dt (b + c) / 3) + dt d / 6.
    """
    decay, turn = tables.decay, tables.turn
    spectrum, u, v, k = work[0], work[1], work[2], work[3]
    middle, total, stage = work[4], work[5], work[6]
    tendency(z, f_now, tables, spectrum, u, v, k)
    _rotate(decay, turn, z, middle)
    _rotate(decay, turn, k, u)  # u is free again
    _add(middle, dt / 2, u, stage)
    _add(middle, dt / 6, u, total)
    tendency(stage, f_half, tables, spectrum, u, v, k)
    _add(middle, dt / 2, k, stage)
    _add(total, dt / 3, k, total)
    tendency(stage, f_half, tables, spectrum, u, v, k)
    _add(middle, dt, k, middle)
    _rotate(decay, turn, middle, stage)
    _add(total, dt / 3, k, total)
    _rotate(decay, turn, total, z)
    tendency(stage, f_next, tables, spectrum, u, v, k)
    _add(z, dt / 6, k, z)


@njit(cache=True, nogil=True, error_model="numpy")
def advance(z, phases, words, tables, dt, n_steps, out, forcing):  # type: ignore[no-untyped-def]
    """Save the field of `z` and take `n_steps` steps of `dt`, for each snapshot of `out`, shape (time, n, n).

    Parameters
    ----------
    z : ndarray
        Spectrum of the vorticity, flat.
    phases : ndarray
        Phases of the forcing, shape (1 + 2 pair,).
    words : ndarray
        Random generators (`simulators.kernels.noise`): all phase increments of the first half step, then the second.
    tables : Tables
        With ``decay`` and ``turn`` for this `dt`.
    dt : float
        Step.
    n_steps : int
        Steps per snapshot.
    out, forcing : ndarray
        Vorticity and forcing, shape (time, n, n); a `forcing` of length 0 is not saved.
    """
    work = np.empty((7, z.shape[0]))
    f_now, f_half, f_next = np.zeros(z.shape[0]), np.zeros(z.shape[0]), np.zeros(z.shape[0])
    cosine, sine = np.empty(phases.shape[0]), np.empty(phases.shape[0])
    batch = 2 * STREAMS
    normals = np.empty((phases.shape[0] + batch - 1) // batch * batch)
    force(phases, tables, cosine, sine, f_now)
    for it in range(out.shape[0]):
        save(z, tables, work[0], work[1], out[it])
        if forcing.shape[0] > 0:
            save(f_now, tables, work[0], work[1], forcing[it])
        for _ in range(n_steps):
            _move_phases(words, normals, phases, math.sqrt(dt))
            force(phases, tables, cosine, sine, f_half)
            _move_phases(words, normals, phases, math.sqrt(dt))
            force(phases, tables, cosine, sine, f_next)
            step(z, f_now, f_half, f_next, dt, tables, work)
            f_now, f_next = f_next, f_now
