"""Forced two-dimensional turbulence written out on the full plane of wavenumbers, one formula a line."""

import numpy as np


def wavenumbers(n):
    """Signed integers in FFT order, shapes (1, n) and (n, 1)."""
    k = np.round(n * np.fft.fftfreq(n))
    return k[None, :], k[:, None]


def highest(n, dealias):
    """Largest |kx|, |ky| that exist."""
    return (n - 1) // 3 if dealias else n // 2 - 1


def forced_wavenumbers(n, dealias):
    """(kx, ky) in the order of the phases: the mean; one of each pair, by kx, then ky in FFT order; their mirrors."""
    top = highest(n, dealias)
    ky_order = [*range(top + 1), *range(-top, 0)]
    pairs = [
        (kx, ky) for kx in range(top + 1) for ky in ky_order if (kx > 0 or ky > 0) and kx**2 + ky**2 <= 2 * (n / 4) ** 2
    ]
    return [(0, 0), *pairs, *((-kx, -ky) for kx, ky in pairs)]


def forcing_field(phases, n, dealias, amplitude, mean_damping):
    """The sum of cosines at the grid points, shape (y, x)."""
    x = 2 * np.pi * np.arange(n) / n
    f = np.zeros((n, n))
    for (kx, ky), phase in zip(forced_wavenumbers(n, dealias), phases, strict=True):
        height = amplitude / 128**2 * ((1 - mean_damping) if kx == ky == 0 else 1)
        f += height * np.cos(kx * x[None, :] + ky * x[:, None] + phase)
    return f


def quadratic(z_hat, dealias):
    """Full-plane transform of -v.grad z: the advective form without aliases, Basdevant's form where they matter."""
    n = len(z_hat)
    kx, ky = wavenumbers(n)
    k2 = kx**2 + ky**2
    psi_hat = -z_hat / np.where(k2 == 0, np.inf, k2)
    u, v = np.fft.ifft2(1j * ky * psi_hat).real, np.fft.ifft2(-1j * kx * psi_hat).real
    if dealias:
        zx, zy = np.fft.ifft2(1j * kx * z_hat).real, np.fft.ifft2(1j * ky * z_hat).real
        product = -np.fft.fft2(u * zx + v * zy)
    else:
        # dxx - dyy and dxy in Fourier space
        product = (ky**2 - kx**2) * np.fft.fft2(u * v) - kx * ky * np.fft.fft2(v**2 - u**2)
    top = highest(n, dealias)
    return product * ((np.abs(kx) <= top) & (np.abs(ky) <= top))


def linear(n, viscosity, hypoviscosity, advection, mean_relaxation):
    """L_k on the full plane."""
    kx, ky = wavenumbers(n)
    k2 = kx**2 + ky**2
    rate = viscosity * k2**2 + hypoviscosity / np.where(k2 == 0, np.inf, k2) ** 2
    return -(rate + mean_relaxation * (k2 == 0)) - 1j * advection * kx


def advance(phases, rng, system, dt, n_steps, n_snapshots):
    """Vorticity and forcing snapshots from rest, by the classical Runge-Kutta scheme for w(t) = exp(-L t) z(t)."""
    n = system.n
    operator = linear(n, system.viscosity, system.hypoviscosity, system.advection, system.mean_relaxation)

    def force(phases):
        return forcing_field(phases, n, system.dealias, system.forcing, system.mean_damping)

    def rate(t, w, f):
        return np.exp(-operator * t) * (quadratic(np.exp(operator * t) * w, system.dealias) + np.fft.fft2(f))

    z_hat = np.zeros((n, n), dtype=complex)
    vorticity, forcing = [], []
    for _ in range(n_snapshots):
        vorticity.append(np.fft.ifft2(z_hat).real)
        forcing.append(force(phases))
        for _ in range(n_steps):
            now = force(phases)
            phases = phases + np.sqrt(dt) * rng.standard_normal(len(phases))
            half = force(phases)
            phases = phases + np.sqrt(dt) * rng.standard_normal(len(phases))
            a = rate(0, z_hat, now)
            b = rate(dt / 2, z_hat + dt / 2 * a, half)
            c = rate(dt / 2, z_hat + dt / 2 * b, half)
            d = rate(dt, z_hat + dt * c, force(phases))
            z_hat = np.exp(operator * dt) * (z_hat + dt / 6 * (a + 2 * b + 2 * c + d))
    return np.array(vorticity), np.array(forcing)
