"""Allen-Cahn in NumPy and SciPy at its best: ETD1, noise drawn in Fourier space, arrays reused."""

import numpy as np
import scipy.fft

import problem
from batches import Threads, thread_variants

CONTESTANTS = {"scipy.fft ETD1": {"scheme": "ETD1", "answer": "stochastic"}}


class Chunk:
    def __init__(self, n, dt, dtype, members, first, workers=1):
        self.n, self.workers = n, workers
        self.real = problem.precision(dtype)[0]
        self.propagator, self.gain, kick = problem.etd1_tables(n, dt, dtype)
        # standard deviation of real and imaginary part of the transform of n x n normals
        self.kick = kick * self.real(n * np.sqrt(0.5))
        self.rng = np.random.default_rng([0, first])
        self.u_hat = scipy.fft.rfft2(problem.allen_cahn_start(n, members, dtype))
        self.normals = np.empty((*self.u_hat.shape, 2), dtype=self.real)
        self.mirror = -np.arange(n) % n

    def run(self, n_steps):
        u_hat, size = self.u_hat, (self.n, self.n)
        w_hat = self.normals.view(u_hat.dtype)[..., 0]
        for _ in range(n_steps):
            u = scipy.fft.irfft2(u_hat, s=size, workers=self.workers)
            cube = u * u
            np.subtract(1, cube, out=cube)
            cube *= u
            v_hat = scipy.fft.rfft2(cube, workers=self.workers, overwrite_x=True)
            self.rng.standard_normal(dtype=self.real, out=self.normals)
            # columns kx = 0 and n/2 hold k and -k: make them Hermitian, variance unchanged
            for column in (0, -1):
                w = w_hat[..., column]
                w_hat[..., column] = (w + w[:, self.mirror].conj()) * self.real(np.sqrt(0.5))
            u_hat *= self.propagator
            v_hat *= self.gain
            u_hat += v_hat
            np.multiply(w_hat, self.kick, out=v_hat)
            u_hat += v_hat

    def fields(self):
        return scipy.fft.irfft2(self.u_hat, s=(self.n, self.n))


def make(_contestant, n, members, dtype, dt, _steps):
    variants = thread_variants(lambda count, first: Chunk(n, dt, dtype, count, first), members)
    cores = problem.CORES
    variants[f"one batch, workers={cores}"] = lambda: Threads(
        lambda count, first: Chunk(n, dt, dtype, count, first, cores), members, members, 1
    )
    return variants
