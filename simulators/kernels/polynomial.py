"""Time loop of dx = f(x) dt + s dW with a polynomial drift and equal additive noise, by stochastic Heun steps."""

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["advance"]


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
) -> None:
    """Save `x`, shape (d,), and take `n_steps` Heun steps, for each snapshot of `out`, shape (time, d).

    x* = x + f(x) dt + s sqrt(dt) w,   x <- x + (f(x) + f(x*)) dt / 2 + s sqrt(dt) w,   w ~ N(0, I),
    f_i is the sum over starts[i] <= n < starts[i + 1] of coefficients[n] times the three x of factors[n], where index
    d means 1 (`simulators.polynomial.PolynomialDrift.arrays`). `starts` and `factors` are unsigned: signed indices,
    which may count from the end, double to quadruple its cost.
    """
    d = x.shape[0]
    kick = noise * math.sqrt(dt)
    here, predictor = np.ones(d + 1), np.ones(d + 1)
    slope, slope_there, increment = np.empty(d), np.empty(d), np.empty(d)
    here[:d] = x
    for it in range(out.shape[0]):
        for i in range(d):
            out[it, i] = here[i]
        for _ in range(n_steps):
            _drift(here, starts, coefficients, factors, slope)
            for i in range(d):
                increment[i] = kick * rng.standard_normal()
                predictor[i] = here[i] + slope[i] * dt + increment[i]
            _drift(predictor, starts, coefficients, factors, slope_there)
            for i in range(d):
                here[i] += 0.5 * (slope[i] + slope_there[i]) * dt + increment[i]
    x[:] = here[:d]
