"""Time loop of dx = f(x) dt + s dW with a polynomial drift and equal additive noise, by stochastic Heun steps."""

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["advance", "advance_many"]


@njit(cache=True, nogil=True)
def _drift(
    x: NDArray[np.float64],
    starts: NDArray[np.uint64],
    coefficients: NDArray[np.float64],
    factors: NDArray[np.uint64],
    f: NDArray[np.float64],
) -> None:
    """Fill `f`, shape (d,), with the drift at `x`, shape (d + 1,), whose last entry is 1."""
    for i in range(f.shape[0]):
        total = 0.0
        for n in range(starts[i], starts[i + 1]):
            total += coefficients[n] * x[factors[n, 0]] * x[factors[n, 1]] * x[factors[n, 2]]
        f[i] = total


@njit(cache=True, nogil=True)
def advance(
    x: NDArray[np.float64],
    rng: np.random.Generator,
    starts: NDArray[np.uint64],
    coefficients: NDArray[np.float64],
    factors: NDArray[np.uint64],
    noise: float,
    dt: float,
    n_steps: int,
    out: NDArray[np.floating],
    increments: NDArray[np.floating] | None = None,
) -> None:
    """Save `x`, shape (d,), and take `n_steps` Heun steps, for each snapshot of `out`, shape (time, d).

    x* = x + f(x) dt + s sqrt(dt) w,   x <- x + (f(x) + f(x*)) dt / 2 + s sqrt(dt) w,   w ~ N(0, I),
    f_i is the sum over starts[i] <= n < starts[i + 1] of coefficients[n] times the three x of factors[n], where index
    d means 1 (`simulators.polynomial.PolynomialDrift.arrays`). `starts` and `factors` are unsigned: signed indices,
    which may count from the end, double to quadruple its cost. `increments`, of the shape of `out`, gets the sums of
    s sqrt(dt) w over the steps that follow each snapshot.
    """
    d = x.shape[0]
    kick = noise * math.sqrt(dt)
    here, predictor = np.ones(d + 1), np.ones(d + 1)
    slope, slope_there, increment, total = np.empty(d), np.empty(d), np.empty(d), np.empty(d)
    here[:d] = x
    for it in range(out.shape[0]):
        for i in range(d):
            out[it, i] = here[i]
            total[i] = 0.0
        for _ in range(n_steps):
            _drift(here, starts, coefficients, factors, slope)
            for i in range(d):
                increment[i] = kick * rng.standard_normal()
                total[i] += increment[i]
                predictor[i] = here[i] + slope[i] * dt + increment[i]
            _drift(predictor, starts, coefficients, factors, slope_there)
            for i in range(d):
                here[i] += 0.5 * (slope[i] + slope_there[i]) * dt + increment[i]
        if increments is not None:
            for i in range(d):
                increments[it, i] = total[i]
    x[:] = here[:d]


@njit(cache=True, nogil=True)
def advance_many(
    x: NDArray[np.float64],
    normals: NDArray[np.float64],
    kicks: NDArray[np.float64],
    starts: NDArray[np.uint64],
    coefficients: NDArray[np.float64],
    factors: NDArray[np.uint64],
    noise: float,
    dt: float,
) -> None:
    """Take the steps of `advance` with members `x`, shape (member, d), driven by `normals`, shape (member, step, d).

    ``kicks[j]``, shape (step, d), is added to every member before step j.
    """
    d = x.shape[1]
    kick = noise * math.sqrt(dt)
    here, predictor = np.ones(d + 1), np.ones(d + 1)
    slope, slope_there, increment = np.empty(d), np.empty(d), np.empty(d)
    for member in range(x.shape[0]):
        here[:d] = x[member]
        for step in range(normals.shape[1]):
            for i in range(d):
                here[i] += kicks[step, i]
            _drift(here, starts, coefficients, factors, slope)
            for i in range(d):
                increment[i] = kick * normals[member, step, i]
                predictor[i] = here[i] + slope[i] * dt + increment[i]
            _drift(predictor, starts, coefficients, factors, slope_there)
            for i in range(d):
                here[i] += 0.5 * (slope[i] + slope_there[i]) * dt + increment[i]
        x[member] = here[:d]
