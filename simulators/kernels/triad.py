"""Time loop of the slow-fast triad: the exact linear transition, with the burst amplitude averaged over the step."""

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["advance"]


@njit(cache=True, nogil=True)
def advance(
    x: NDArray[np.float64],
    rng: np.random.Generator,
    propagator: NDArray[np.float64],
    slow_root: NDArray[np.float64],
    burst_root: NDArray[np.float64],
    modulation: float,
    n_steps: int,
    out: NDArray[np.floating],
) -> None:
    """Save `x` = (u1, u2, tau) and take `n_steps` steps, for each snapshot of `out`, shape (time, 3).

    x* = propagator x + slow_root v,   x <- x* + a burst_root w,   a^2 = [h(u1)^2 + h(u1*)^2] / 2,
    h(u1) = 1 + modulation tanh u1,   v ~ N(0, I_2), w ~ N(0, I_3), drawn in this order;
    `propagator` and `burst_root` are (3, 3), `slow_root` is (3, 2).
    """
    v, w, x_next = np.empty(2), np.empty(3), np.empty(3)
    for it in range(out.shape[0]):
        for i in range(3):
            out[it, i] = x[i]
        for _ in range(n_steps):
            for j in range(2):
                v[j] = rng.standard_normal()
            for j in range(3):
                w[j] = rng.standard_normal()
            for i in range(3):
                x_next[i] = slow_root[i, 0] * v[0] + slow_root[i, 1] * v[1]
                for j in range(3):
                    x_next[i] += propagator[i, j] * x[j]
            before = 1 + modulation * math.tanh(x[0])
            after = 1 + modulation * math.tanh(x_next[0])
            amplitude = math.sqrt((before * before + after * after) / 2)
            for i in range(3):
                x[i] = x_next[i]
                for j in range(3):
                    x[i] += amplitude * burst_root[i, j] * w[j]
