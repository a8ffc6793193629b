"""Time loop of a linear stochastic equation with its exact transition law."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["advance"]


@njit(cache=True, nogil=True)
def advance(
    x: NDArray[np.float64],
    rng: np.random.Generator,
    propagator: NDArray[np.float64],
    noise_root: NDArray[np.float64],
    n_steps: int,
    out: NDArray[np.floating],
) -> None:
    """Save `x` and take `n_steps` steps x <- propagator x + noise_root w, w ~ N(0, I), for each snapshot.

    The products are written as loops, not BLAS calls: d is small, and the rounding is then the same for every
    number of threads. `out` has the shape (time, d).
    """
    d = x.shape[0]
    w = np.empty(d)
    x_next = np.empty(d)
    for it in range(out.shape[0]):
        for i in range(d):
            out[it, i] = x[i]
        for _ in range(n_steps):
            for j in range(d):
                w[j] = rng.standard_normal()
            for i in range(d):
                total = 0.0
                for j in range(d):
                    total += propagator[i, j] * x[j] + noise_root[i, j] * w[j]
                x_next[i] = total
            for i in range(d):
                x[i] = x_next[i]
