"""The two equations every contestant solves, their tables, and the range a sane answer lies in.

Grid n x n on [0, 2 pi)^2, index order (y, x); spectra are unnormalised half-planes, shape (n, n//2 + 1).

Allen-Cahn, by collocation, additive Ito noise:
    du/dt = kappa Lap u - A dx u + alpha Sigma[u (1 - u^2)] + eps Sigma^(1/2) xi,   Sigma = (1 - Lap)^-1.
Over a step dt the noise adds eps n sqrt(dt Sigma_k) w_k, w the transform of an n x n field of standard normals.

Navier-Stokes vorticity, v = (dy psi, -dx psi), psi = Lap^-1 z:
    dz/dt = -v.grad z - A dx z - (nu k^4 + nu_h k^-4) z + f,
f = Re F^-1[300 (n/128)^2 exp(i phi_k)] on kx^2 + ky^2 <= 2 (n/4)^2, phi_k Brownian with <dphi^2> = 2 dt.
"""

import os

import numpy as np

CORES = len(os.sched_getaffinity(0))

ALPHA, KAPPA, ADVECTION, NOISE = 16.0, 2.5e-4, 0.02, 2 * 10**-1.5
# A quarter of the explicit limit of the fastest relaxation (rate 32); the cost of a step does not depend on it.
DT_ALLEN_CAHN = 1 / 64

NU, NU_LARGE, DRIFT = 1e-5, 1e-2, np.pi

# What a run of CHECK_TIME must end at: root mean square of u; standard deviation of z. Both still drift then (to 0.87
# over hundreds of time units; from rest to 0.43), but every contestant along the same curve.
SANE = {
    "stochastic": (0.84, 0.95),  # Allen-Cahn from the wells: 0.91 with noise, 1 without
    "deterministic": (0.99, 1.01),
    "random phases": (0.30, 0.55),  # Navier-Stokes from rest: 0.42
    "own forcing": (1e-2, 100.0),  # the peer's own forcing: only that it moves and does not blow up
}
CHECK_N, CHECK_MEMBERS = 32, 4
CHECK_TIME = {"allen-cahn": 16.0, "navier-stokes": 40.0}


def time_step(system, n):
    return DT_ALLEN_CAHN if system == "allen-cahn" else 1 / (4 * n)


def precision(dtype):
    """Return the real and the complex NumPy type of a dtype name."""
    return (np.float32, np.complex64) if dtype == "float32" else (np.float64, np.complex128)


def wavenumbers(n):
    """Return kx and ky, shape (n, n//2 + 1), and kx without the Nyquist column, which has no odd derivative."""
    ky, kx = np.meshgrid(n * np.fft.fftfreq(n), n * np.fft.rfftfreq(n), indexing="ij")
    return kx, ky, np.where(kx == n / 2, 0, kx)


# ---- Allen-Cahn


def allen_cahn_linear(n):
    """Return kappa Lap - A dx per mode."""
    kx, ky, kx_odd = wavenumbers(n)
    return -KAPPA * (kx**2 + ky**2) - 1j * ADVECTION * kx_odd


def allen_cahn_filter(n):
    """Return alpha Sigma per mode."""
    kx, ky, _ = wavenumbers(n)
    return ALPHA / (1 + kx**2 + ky**2)


def allen_cahn_kick(n, dt):
    """Return eps n sqrt(dt Sigma) per mode, the factor of the transform of standard normals."""
    return NOISE * n * np.sqrt(dt * allen_cahn_filter(n) / ALPHA)


def etd1_tables(n, dt, dtype):
    """Return E, F, a of u_hat <- E u_hat + F FFT(u - u^3) + a w_hat, in the asked precision."""
    real, complex_ = precision(dtype)
    linear = allen_cahn_linear(n)
    at_rest = linear == 0
    gain = np.where(at_rest, dt, np.expm1(linear * dt) / np.where(at_rest, 1, linear))
    tables = np.exp(linear * dt), gain * allen_cahn_filter(n), allen_cahn_kick(n, dt)
    return tables[0].astype(complex_), tables[1].astype(complex_), tables[2].astype(real)


def allen_cahn_start(n, members, dtype):
    """Return members that sit in one of the two wells, shape (members, n, n)."""
    sign = np.where(np.arange(members) % 2, -0.9, 0.9)
    return np.broadcast_to(sign[:, None, None], (members, n, n)).astype(precision(dtype)[0])


# ---- Navier-Stokes


def navier_stokes_linear(n):
    """Return -A dx - nu Lap^2 - nu_h Lap^-2 per mode; the mean relaxes at rate 1."""
    kx, ky, kx_odd = wavenumbers(n)
    k2 = kx**2 + ky**2
    k2[0, 0] = 1
    linear = -1j * DRIFT * kx_odd - NU * k2**2 - NU_LARGE / k2**2
    linear[0, 0] = -1
    return linear


def two_thirds(n):
    """Return the mask of the 2/3 rule, without the Nyquist row and column."""
    kx, ky, _ = wavenumbers(n)
    return (np.abs(kx) < n / 3) & (np.abs(ky) < n / 3)


def forcing_sites(n):
    """Return amplitudes (site,) and, per half-plane mode, the positions of the sites k and -k.

    f_hat_k = (F_k + conj F_-k) / 2 with F_k = amplitude exp(i phi_k) on the full plane. Unforced modes point one
    past the last site, where callers put a zero.
    """
    k = n * np.fft.fftfreq(n)
    ky, kx = np.meshgrid(k, k, indexing="ij")
    forced = (kx**2 + ky**2 <= n**2 / 8) & (kx != -n / 2) & (ky != -n / 2)
    count = int(forced.sum())
    position = np.full((n, n), count)
    position[forced] = np.arange(count)
    amplitude = np.full(count, 300 * (n / 128) ** 2)
    amplitude[position[0, 0]] *= 0.1  # the mean of the forcing is damped by 0.9
    minus = position[np.ix_(-np.arange(n) % n, -np.arange(n) % n)]
    return amplitude / 2, position[:, : n // 2 + 1].copy(), minus[:, : n // 2 + 1].copy()


def smooth_vorticity(n, members, dtype):
    """Return random large-scale vorticity of standard deviation 1, shape (members, n, n), for unforced starts."""
    rng = np.random.default_rng(1)
    kx, ky, _ = wavenumbers(n)
    k2 = kx**2 + ky**2
    keep = (k2 > 0) & (k2 <= 16)
    fields = np.fft.irfft2(keep * np.fft.rfft2(rng.standard_normal((members, n, n))), s=(n, n))
    return (fields / fields.std(axis=(1, 2), keepdims=True)).astype(precision(dtype)[0])


# ---- answers


def size_of(system, fields):
    """Return the number that `SANE` bounds: rms of u, standard deviation of z."""
    fields = np.asarray(fields, dtype=np.float64)
    return float(np.sqrt(np.mean(fields**2)) if system == "allen-cahn" else fields.std(axis=(1, 2)).mean())
