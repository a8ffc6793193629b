"""What the stochastic Heun scheme converges to at a finite step, without sampling.

One step is a Markov chain x' = step(x, w), w ~ N(0, 1). Its backward operator (P g)(x) = E g(step(x, w)) is made
into a matrix by Gauss-Hermite quadrature in w and cubic splines in x; the stationary law of the chain is the left
eigenvector of eigenvalue 1.
"""

import numpy as np
from scipy.interpolate import CubicSpline


def heun_step(x, w, coefficients, noise, dt):
    """One step, the obvious way."""
    drift = np.polynomial.Polynomial(coefficients)
    increment = noise * np.sqrt(dt) * w
    predictor = x + drift(x) * dt + increment
    return x + (drift(x) + drift(predictor)) * dt / 2 + increment


def heun_chain(coefficients, noise, dt, support, n_points=240, n_hermite=24):
    """Return grid, stationary weights and transition matrix of the chain."""
    x = np.linspace(*support, n_points)
    w, quadrature = np.polynomial.hermite_e.hermegauss(n_hermite)
    quadrature = quadrature / quadrature.sum()
    spline = CubicSpline(x, np.eye(n_points))
    matrix = np.zeros((n_points, n_points))
    for node, weight in zip(w, quadrature, strict=True):
        matrix += weight * spline(np.clip(heun_step(x, node, coefficients, noise, dt), *support))
    system = np.vstack([matrix.T - np.eye(n_points), np.ones(n_points)])
    stationary = np.linalg.lstsq(system, np.append(np.zeros(n_points), 1.0), rcond=None)[0]
    return x, stationary, matrix
