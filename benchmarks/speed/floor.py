"""What a field-step made of library calls cannot do without: transforms and normals, each in the fastest library here.

In large batches, so that no call overhead is in it. Transforms written for these sizes may lie below.

Allen-Cahn: one transform pair and n^2 normals. Navier-Stokes with four stages: eight pairs (two velocities back, two
products forward, each stage) and a normal per forced mode and half step, 0.79 n^2; sines and cosines not counted.
"""

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

import problem

CONTESTANTS = {
    "library floor: 1 pair + n^2 normals": {"scheme": "-", "answer": None},
    "library floor: 8 pairs + 0.79 n^2 normals": {"scheme": "-", "answer": None},
}
WORK = {"library floor: 1 pair + n^2 normals": (1, 1.0), "library floor: 8 pairs + 0.79 n^2 normals": (8, np.pi / 4)}


def pyfftw_pair(shape, dtype):
    import pyfftw

    real, complex_ = problem.precision(dtype)
    u = pyfftw.empty_aligned(shape, dtype=real)
    u_hat = pyfftw.empty_aligned((*shape[:2], shape[2] // 2 + 1), dtype=complex_)
    forward = pyfftw.FFTW(u, u_hat, axes=(1, 2), flags=("FFTW_MEASURE", "FFTW_DESTROY_INPUT"))
    back = pyfftw.FFTW(u_hat, u, axes=(1, 2), direction="FFTW_BACKWARD", flags=("FFTW_MEASURE", "FFTW_DESTROY_INPUT"))
    # an unnormalised pair multiplies by n^2: anything but zero would overflow; the time does not depend on the numbers
    u[:] = 0

    def pair():
        forward.execute()
        back.execute()

    return pair


def scipy_pair(shape, dtype):
    import scipy.fft

    u = np.zeros(shape, dtype=dtype)
    return lambda: scipy.fft.irfft2(scipy.fft.rfft2(u), s=shape[1:], overwrite_x=True)


def torch_pair(shape, dtype):
    import torch

    u = torch.zeros(shape, dtype=getattr(torch, dtype))

    def pair():
        torch.set_num_threads(1)
        with torch.inference_mode():
            torch.fft.irfft2(torch.fft.rfft2(u), s=shape[1:])

    return pair


def numpy_normals(count, dtype):
    rng, out = np.random.Generator(np.random.SFC64()), np.empty(count, dtype=dtype)
    return lambda: rng.standard_normal(dtype=out.dtype, out=out)


def numba_normals(count, dtype):
    from numba import njit

    @njit(nogil=True)
    def fill(rng, out):
        for i in range(out.size):
            out[i] = rng.standard_normal()

    rng, out = np.random.default_rng(), np.empty(count, dtype=dtype)
    return lambda: fill(rng, out)


def torch_normals(count, dtype):
    import torch

    generator = torch.Generator()
    out = torch.empty(count, dtype=getattr(torch, dtype))

    def normals():
        torch.set_num_threads(1)
        with torch.inference_mode():
            out.normal_(generator=generator)

    return normals


def fastest(makers, *arguments):
    """Return the name and the maker of the fastest one that is installed."""
    times = {}
    for name, maker in makers.items():
        try:
            call = maker(*arguments)
        except ImportError:
            continue
        call()
        times[name] = min(_seconds(call) for _ in range(7))
    best = min(times, key=times.get)
    return best, makers[best]


def _seconds(call):
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


class Batch:
    """The work of `members` fields, divided among the cores if there is more than one member."""

    fixed_steps = None

    def __init__(self, pair_maker, normals_maker, n, members, dtype, work):
        self.threads = min(members, problem.CORES)
        self.size = max(1, 2**15 // n**2)
        self.members, self.pairs = members, work[0]
        self.calls = [
            (pair_maker((self.size, n, n), dtype), normals_maker(int(self.size * work[1] * n**2), dtype))
            for _ in range(self.threads)
        ]
        self.pool = ThreadPoolExecutor(self.threads)

    def run(self, n_steps):
        fields = -(-n_steps * self.members // self.threads)

        def work(calls):
            pair, normals = calls
            for _ in range(-(-fields // self.size)):
                for _ in range(self.pairs):
                    pair()
                normals()

        list(self.pool.map(work, self.calls))

    def steps_done(self, n_steps):
        """Return the steps that a `run` really takes: whole batches."""
        fields = -(-n_steps * self.members // self.threads)
        return -(-fields // self.size) * self.size * self.threads / self.members

    def fields(self):
        return None


def make(contestant, n, members, dtype, _dt, _steps):
    shape = (max(1, 2**15 // n**2), n, n)
    pairs = {"pyFFTW": pyfftw_pair, "SciPy": scipy_pair, "torch": torch_pair}
    normals = {"NumPy SFC64": numpy_normals, "numba PCG64": numba_normals, "torch": torch_normals}
    pair_name, pair = fastest(pairs, shape, dtype)
    normals_name, fill = fastest(normals, 2**15, dtype)
    name = f"{min(members, problem.CORES)} threads, pair {pair_name}, normals {normals_name}"
    return {name: lambda: Batch(pair, fill, n, members, dtype, WORK[contestant])}
