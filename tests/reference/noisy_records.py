"""Records with the noise that made them, in plain numpy, independent of the simulators package."""

import numpy as np
import scipy.linalg
from reference import linear_sde


def linear(n_members, n_times, h, seed, drift=linear_sde.DRIFT, noise=linear_sde.NOISE):
    """Exact joint transitions of dx = B x dt + dN and its increments: x, Delta of shape (member, time, component).

    Over h, (int e^{B (h - s)} dN, int dN) is Gaussian; its covariance by Van Loan's block exponential of the doubled
    system d(x, N) = (B x dt + dN, dN).
    """
    rng = np.random.default_rng(seed)
    d = drift.shape[0]
    doubled = np.block([[drift, np.zeros((d, d))], [np.zeros((d, 2 * d))]])
    q = np.block([[noise, noise], [noise, noise]])
    block = scipy.linalg.expm(h * np.block([[-doubled, q], [np.zeros((2 * d, 2 * d)), doubled.T]]))
    propagator = block[2 * d :, 2 * d :].T
    values, vectors = np.linalg.eigh(propagator @ block[: 2 * d, 2 * d :])
    root = vectors * np.sqrt(np.clip(values, 0, None))
    pairs = rng.standard_normal((n_members, n_times, 2 * d)) @ root.T
    x = np.empty((n_members, n_times, d))
    x[:, 0] = rng.standard_normal((n_members, d)) @ np.linalg.cholesky(linear_sde.stationary_covariance(drift, noise)).T
    for t in range(n_times - 1):
        x[:, t + 1] = x[:, t] @ propagator[:d, :d].T + pairs[:, t, :d]
    return x, pairs[:, :, d:].copy()


def double_well(n_members, n_times, h, seed, *, noise=2**-0.5, dt=0.01, spinup=20.0):
    """Heun steps (weak order 2) of dx = (x - x^3) dt + s dW, and the increments s dW summed over each interval h."""
    rng = np.random.default_rng(seed)
    n_steps = round(h / dt)
    x, increments = np.empty((2, n_members, n_times))
    now = rng.choice([-1.0, 1.0], n_members)
    for t in range(-round(spinup / h), n_times):
        if t >= 0:
            x[:, t] = now
        total = np.zeros(n_members)
        for _ in range(n_steps):
            kick = noise * np.sqrt(dt) * rng.standard_normal(n_members)
            slope = now - now**3
            ahead = now + dt * slope + kick
            now = now + dt / 2 * (slope + ahead - ahead**3) + kick
            total += kick
        if t >= 0:
            increments[:, t] = total
    return x[..., None], increments[..., None]
