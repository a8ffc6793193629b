"""Navier-Stokes in NumPy and SciPy: RK4, products in the form that needs four transforms a stage, 2/3 rule."""

import numpy as np
import scipy.fft

import problem
from batches import Threads, thread_variants

CONTESTANTS = {"scipy.fft RK4": {"scheme": "RK4", "answer": "random phases"}}


class Chunk:
    def __init__(self, n, dt, dtype, members, first, workers=1):
        real, complex_ = problem.precision(dtype)
        self.n, self.dt, self.workers, self.real = n, real(dt), workers, real
        kx, ky, _ = problem.wavenumbers(n)
        kept = problem.two_thirds(n)
        k2 = np.where(kx**2 + ky**2 == 0, 1, kx**2 + ky**2)
        self.linear = (kept * problem.navier_stokes_linear(n)).astype(complex_)
        # psi_hat = -z_hat / k2, v = (dy psi, -dx psi)
        self.to_v = np.stack([-1j * ky / k2, 1j * kx / k2]).astype(complex_)
        # -v.grad z = dx dy (v2^2 - v1^2) + (dx^2 - dy^2)(v1 v2)
        self.shear, self.cross = (-kx * ky * kept).astype(real), ((ky**2 - kx**2) * kept).astype(real)
        amplitude, self.plus, self.minus = problem.forcing_sites(n)
        self.amplitude, self.kept = amplitude.astype(real), kept
        self.rng = np.random.default_rng([0, first])
        self.phases = self.rng.uniform(0, 2 * np.pi, (members, amplitude.size)).astype(real)
        self.wave = np.zeros((members, amplitude.size + 1), dtype=complex_)
        self.z_hat = np.zeros((members, n, n // 2 + 1), dtype=complex_)

    def forcing_hat(self):
        self.wave[:, :-1].real = self.amplitude * np.cos(self.phases)
        self.wave[:, :-1].imag = self.amplitude * np.sin(self.phases)
        return (self.wave[:, self.plus] + self.wave[:, self.minus].conj()) * self.kept

    def tendency(self, z_hat, f_hat):
        size = (self.n, self.n)
        v1, v2 = scipy.fft.irfft2(self.to_v[:, None] * z_hat, s=size, workers=self.workers)
        squares = scipy.fft.rfft2(v2 * v2 - v1 * v1, workers=self.workers)
        product = scipy.fft.rfft2(v1 * v2, workers=self.workers)
        return self.linear * z_hat + self.shear * squares + self.cross * product + f_hat

    def run(self, n_steps):
        dt, z_hat = self.dt, self.z_hat
        f_hat = self.forcing_hat()
        for _ in range(n_steps):
            a = self.tendency(z_hat, f_hat)
            self.move_phases()
            f_hat = self.forcing_hat()
            b = self.tendency(z_hat + dt / 2 * a, f_hat)
            c = self.tendency(z_hat + dt / 2 * b, f_hat)
            self.move_phases()
            f_hat = self.forcing_hat()
            d = self.tendency(z_hat + dt * c, f_hat)
            z_hat = z_hat + dt / 6 * (a + 2 * b + 2 * c + d)
        self.z_hat = z_hat

    def move_phases(self):
        self.phases += self.real(np.sqrt(self.dt)) * self.rng.standard_normal(self.phases.shape, dtype=self.real)

    def fields(self):
        return scipy.fft.irfft2(self.z_hat, s=(self.n, self.n))


def make(_contestant, n, members, dtype, dt, _steps):
    variants = thread_variants(lambda count, first: Chunk(n, dt, dtype, count, first), members)
    cores = problem.CORES
    variants[f"one batch, workers={cores}"] = lambda: Threads(
        lambda count, first: Chunk(n, dt, dtype, count, first, cores), members, members, 1
    )
    return variants
