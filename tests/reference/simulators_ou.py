"""The Ornstein-Uhlenbeck field written out as matrices and plain loops, without any FFT trick."""

import numpy as np


def wavenumbers(n):
    """Signed integer wavenumbers, -n/2 ... for even n."""
    return [k - n if k >= (n + 1) // 2 else k for k in range(n)]


def matrix_of(n, symbol):
    """Real (n*n, n*n) matrix of the operator that multiplies mode (ky, kx) by symbol(ky, kx)."""
    points = [(iy, ix) for iy in range(n) for ix in range(n)]
    matrix = np.zeros((n * n, n * n), dtype=complex)
    for a, (ya, xa) in enumerate(points):
        for b, (yb, xb) in enumerate(points):
            for ky in wavenumbers(n):
                for kx in wavenumbers(n):
                    phase = 2j * np.pi * (ky * (ya - yb) + kx * (xa - xb)) / n
                    matrix[a, b] += symbol(ky, kx) * np.exp(phase) / n**2
    assert np.abs(matrix.imag).max() < 1e-12
    return matrix.real


def generator(n, lam, kappa, advection):
    """-lam Sigma + kappa Lap - c dx, with no derivative in the Nyquist column."""

    def symbol(ky, kx):
        k2 = ky**2 + kx**2
        odd = 0 if 2 * abs(kx) == n else kx
        return -lam / (1 + k2) - kappa * k2 - 1j * advection * odd

    return matrix_of(n, symbol)


def noise_covariance(n, noise):
    """eps^2 n^2 Sigma, per unit time."""
    return matrix_of(n, lambda ky, kx: noise**2 * n**2 / (1 + ky**2 + kx**2))


def white_noise_hat(rng, n):
    """Half-plane spectrum of white noise in the drawing order of the kernel, mirrored by an explicit dictionary."""
    modes = {}
    for kx in range(n // 2 + 1):
        for ky in range(n):
            mirror = (-ky % n, -kx % n)
            if mirror == (ky, kx):
                modes[ky, kx] = n * rng.standard_normal()
            elif mirror in modes:
                modes[ky, kx] = np.conj(modes[mirror])
            else:
                real, imag = rng.standard_normal(2)
                modes[ky, kx] = n * np.sqrt(0.5) * (real + 1j * imag)
    return np.array([[modes[ky, kx] for kx in range(n // 2 + 1)] for ky in range(n)], dtype=complex)


def advance(u_hat, rng, propagator, amplitude, n_steps, n_snapshots):
    """Snapshots and final spectrum, one numpy line each."""
    n = len(u_hat)
    snapshots = []
    for _ in range(n_snapshots):
        snapshots.append(np.fft.irfft2(u_hat, s=(n, n)))
        for _ in range(n_steps):
            u_hat = propagator * u_hat + amplitude * white_noise_hat(rng, n)
    return np.array(snapshots), u_hat
