"""Allen-Cahn in NumPy, in the form of the published code: RK4, then noise as the transform of white noise."""

import numpy as np

import problem
from batches import thread_variants

CONTESTANTS = {"NumPy RK4": {"scheme": "RK4 + noise by rfft2", "answer": "stochastic"}}


class Chunk:
    def __init__(self, n, dt, dtype, members, first):
        real, complex_ = problem.precision(dtype)
        self.n, self.dt, self.real = n, real(dt), real
        self.linear = problem.allen_cahn_linear(n).astype(complex_)
        self.filter = problem.allen_cahn_filter(n).astype(real)
        self.kick = problem.allen_cahn_kick(n, dt).astype(real)
        self.rng = np.random.default_rng([0, first])
        self.u_hat = np.fft.rfft2(problem.allen_cahn_start(n, members, dtype))

    def tendency(self, u_hat):
        u = np.fft.irfft2(u_hat, s=(self.n, self.n))
        return self.linear * u_hat + self.filter * np.fft.rfft2(u * (1 - u * u))

    def run(self, n_steps):
        dt, u_hat = self.dt, self.u_hat
        shape = (len(u_hat), self.n, self.n)
        for _ in range(n_steps):
            a = self.tendency(u_hat)
            b = self.tendency(u_hat + dt / 2 * a)
            c = self.tendency(u_hat + dt / 2 * b)
            d = self.tendency(u_hat + dt * c)
            w_hat = np.fft.rfft2(self.rng.standard_normal(shape, dtype=self.real))
            u_hat = u_hat + dt / 6 * (a + 2 * b + 2 * c + d) + self.kick * w_hat
        self.u_hat = u_hat

    def fields(self):
        return np.fft.irfft2(self.u_hat, s=(self.n, self.n))


def make(_contestant, n, members, dtype, dt, _steps):
    return thread_variants(lambda count, first: Chunk(n, dt, dtype, count, first), members)
