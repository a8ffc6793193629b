"""Microseconds per saved field of the OU simulator, beside its floor and a plain NumPy/SciPy twin, in one run.

The floor of one field is what no implementation can do without: n^2 normal numbers and one inverse transform.
"""

import time

import numpy as np
import scipy.fft
from numba import njit

import simulators


def best_of(function, repeats=5):
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


@njit
def fill(rng, out):
    """Normal numbers from compiled code: faster than NumPy's own loop over the same stream."""
    for i in range(out.size):
        out[i] = rng.standard_normal()


def floor(n, count):
    """Normals and inverse transforms of many fields at once, so that no call overhead is in it."""
    rng = np.random.default_rng(0)
    batch = 2**16 // n**2
    buffer = np.empty(batch * n * n)
    fill(rng, buffer)
    field = np.ones((batch, n, n // 2 + 1), dtype=complex)
    rounds = max(count // batch, 1)

    def normals():
        for _ in range(rounds):
            fill(rng, buffer)

    def transforms():
        for _ in range(rounds):
            scipy.fft.irfft2(field, s=(n, n))

    return (best_of(normals) + best_of(transforms)) / (rounds * batch) * 1e6


def plain(system, n, count):
    """The same exact transition in NumPy and SciPy, one field at a time: transform of the noise, and back."""
    rng = np.random.default_rng(0)
    propagator = system.propagator(1.0)
    amplitude = np.sqrt(-system.spectrum() * np.expm1(-2 * system.rate()))
    u_hat = np.zeros((n, n // 2 + 1), dtype=complex)

    def steps():
        nonlocal u_hat
        for _ in range(count):
            noise = scipy.fft.rfft2(rng.standard_normal((n, n)))
            u_hat = propagator * u_hat + amplitude * noise
            scipy.fft.irfft2(u_hat, s=(n, n))

    return best_of(steps) / count * 1e6


def main():
    """Print the table."""
    titles = ("n", "members", "workers", "ours", "floor", "plain", "ours/floor", "plain/ours")
    print(" ".join(f"{title:>10}" for title in titles))
    for n in (32, 64, 128):
        system = simulators.OrnsteinUhlenbeck(n=n)
        count = 2**21 // n**2
        below, twin = floor(n, count), plain(system, n, count)
        for members, workers in ((1, 1), (8, 1), (8, 2)):
            each = max(count // members, 8)
            system.simulate(members, float(each), 1.0, workers=workers, seed=0, progress=False)
            ours = best_of(
                lambda s=system, m=members, e=each, w=workers: s.simulate(m, float(e), 1.0, workers=w, progress=False)
            )
            ours *= 1e6 / (each * members)
            row = (ours, below, twin, ours / below, twin / ours)
            print(" ".join([f"{n:10d} {members:10d} {workers:10d}", *(f"{value:10.2f}" for value in row)]))


if __name__ == "__main__":
    main()
