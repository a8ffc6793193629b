"""Time loop of a linear stochastic equation with its exact transition law."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["advance", "advance_many"]


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


@njit(cache=True, nogil=True)
def advance_many(
    x: NDArray[np.float64],
    normals: NDArray[np.float64],
    kicks: NDArray[np.float64],
    propagator: NDArray[np.float64],
    noise_root: NDArray[np.float64],
) -> None:
    """Take the steps of `advance` with members `x`, shape (member, d), driven by `normals`, shape (member, step, d).

    ``kicks[j]``, shape (step, d), is added to every member before step j.
    """
    d = x.shape[1]
    x_next = np.empty(d)
    for member in range(x.shape[0]):
        for step in range(normals.shape[1]):
            for i in range(d):
                x[member, i] += kicks[step, i]
            for i in range(d):
                total = 0.0
                for j in range(d):
                    total += propagator[i, j] * x[member, j] + noise_root[i, j] * normals[member, step, j]
                x_next[i] = total
            for i in range(d):
                x[member, i] = x_next[i]
