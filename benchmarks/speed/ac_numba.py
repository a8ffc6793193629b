"""Allen-Cahn as a plain compiled loop: numba, rocket-fft, numba's own np.random, one member after another."""

import numpy as np
import rocket_fft  # noqa: F401  (registers scipy.fft inside numba)
import scipy.fft
from numba import njit

import problem
from batches import Threads

CONTESTANTS = {"numba + rocket-fft ETD1": {"scheme": "ETD1", "answer": "stochastic"}}


@njit(nogil=True)
def advance(u_hat, w, propagator, gain, kick, n_steps):
    n = w.shape[0]
    for _ in range(n_steps):
        u = scipy.fft.irfft2(u_hat, (n, n))
        for iy in range(n):
            for ix in range(n):
                u[iy, ix] *= 1 - u[iy, ix] * u[iy, ix]
                w[iy, ix] = np.random.standard_normal()  # noqa: NPY002  (the generator a first numba version uses)
        v_hat = scipy.fft.rfft2(u)
        w_hat = scipy.fft.rfft2(w)
        for iy in range(n):
            for ix in range(n // 2 + 1):
                u_hat[iy, ix] = (
                    propagator[iy, ix] * u_hat[iy, ix] + gain[iy, ix] * v_hat[iy, ix] + kick[iy, ix] * w_hat[iy, ix]
                )


class Chunk:
    def __init__(self, n, dt, dtype, members, first):
        self.tables = problem.etd1_tables(n, dt, dtype)
        start = problem.allen_cahn_start(n, first + members, dtype)[first:]
        self.u_hat = scipy.fft.rfft2(start)
        self.w = np.empty((n, n), dtype=start.dtype)

    def run(self, n_steps):
        for u_hat in self.u_hat:
            advance(u_hat, self.w, *self.tables, n_steps)

    def fields(self):
        return scipy.fft.irfft2(self.u_hat, s=self.w.shape)


def make(_contestant, n, members, dtype, dt, _steps):
    def chunk(count, first):
        return Chunk(n, dt, dtype, count, first)

    return {f"{min(members, problem.CORES)} threads": lambda: Threads(chunk, members, 1, problem.CORES)}
