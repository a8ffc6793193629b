"""Time loop of dx = f(x) dt + s dW with f a cubic polynomial, by stochastic Heun steps."""

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["advance", "advance_many"]


@njit(cache=True, nogil=True)
def advance(
    x: NDArray[np.float64],
    rng: np.random.Generator,
    coefficients: NDArray[np.float64],
    noise: float,
    dt: float,
    n_steps: int,
    out: NDArray[np.floating],
    increments: NDArray[np.floating] | None = None,
) -> None:
    """Save `x`, shape (1,), and take `n_steps` Heun steps, for each snapshot of `out`, shape (time, 1).

    x* = x + f(x) dt + s sqrt(dt) w,   x <- x + (f(x) + f(x*)) dt / 2 + s sqrt(dt) w,   w ~ N(0, 1),
    f(x) = c0 + c1 x + c2 x^2 + c3 x^3 with `coefficients` (c0, c1, c2, c3). `increments`, of the shape of `out`, gets
    the sums of s sqrt(dt) w over the steps that follow each snapshot.
    """
    c0, c1, c2, c3 = coefficients[0], coefficients[1], coefficients[2], coefficients[3]
    kick = noise * math.sqrt(dt)
    y = x[0]
    for it in range(out.shape[0]):
        out[it, 0] = y
        total = 0.0
        for _ in range(n_steps):
            increment = kick * rng.standard_normal()
            total += increment
            slope = c0 + y * (c1 + y * (c2 + y * c3))
            predictor = y + slope * dt + increment
            slope += c0 + predictor * (c1 + predictor * (c2 + predictor * c3))
            y += 0.5 * slope * dt + increment
        if increments is not None:
            increments[it, 0] = total
    x[0] = y


@njit(cache=True, nogil=True)
def advance_many(
    x: NDArray[np.float64],
    normals: NDArray[np.float64],
    kicks: NDArray[np.float64],
    coefficients: NDArray[np.float64],
    noise: float,
    dt: float,
) -> None:
    """Take the steps of `advance` with members `x`, shape (member, 1), driven by `normals`, shape (member, step, 1).

    ``kicks[j]``, shape (step, 1), is added to every member before step j.
    """
    c0, c1, c2, c3 = coefficients[0], coefficients[1], coefficients[2], coefficients[3]
    kick = noise * math.sqrt(dt)
    here = x[:, 0].copy()
    for step in range(normals.shape[1]):
        # the inner loop, so that members are side by side in vector registers: ten times faster than one by one
        for member in range(here.shape[0]):
            y = here[member] + kicks[step, 0]
            increment = kick * normals[member, step, 0]
            slope = c0 + y * (c1 + y * (c2 + y * c3))
            predictor = y + slope * dt + increment
            slope += c0 + predictor * (c1 + predictor * (c2 + predictor * c3))
            here[member] = y + (0.5 * slope * dt + increment)
    x[:, 0] = here
