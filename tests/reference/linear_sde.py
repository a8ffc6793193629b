"""An exactly sampled linear SDE in plain numpy, independent of the simulators package."""

import numpy as np
import scipy.linalg

DRIFT = np.array([[-1.0, 2.0, 0.0, 0.0], [0.0, -0.8, 1.5, 0.0], [0.0, 0.0, -1.2, 1.0], [-0.3, 0.0, 0.0, -0.7]])
NOISE = np.eye(4)


def stationary_covariance(drift=DRIFT, noise=NOISE):
    return scipy.linalg.solve_continuous_lyapunov(drift, -noise)


def exact_response(lags, drift=DRIFT):
    return np.stack([scipy.linalg.expm(drift * lag) for lag in lags])


def sample(n_members, n_times, dt, seed, drift=DRIFT, noise=NOISE):
    """Exact transitions from an exact stationary start: (member, time, component)."""
    rng = np.random.default_rng(seed)
    covariance = stationary_covariance(drift, noise)
    step = scipy.linalg.expm(drift * dt)
    increment = np.linalg.cholesky(covariance - step @ covariance @ step.T)
    x = np.empty((n_members, n_times, drift.shape[0]))
    x[:, 0] = rng.standard_normal((n_members, drift.shape[0])) @ np.linalg.cholesky(covariance).T
    for t in range(1, n_times):
        x[:, t] = x[:, t - 1] @ step.T + rng.standard_normal((n_members, drift.shape[0])) @ increment.T
    return x
