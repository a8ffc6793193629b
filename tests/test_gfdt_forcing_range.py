"""The threshold of the linear range, from forced Fokker-Planck operators; predictions from estimated responses."""

import numpy as np
import pytest
import xarray as xr
from scipy.integrate import cumulative_simpson
from scipy.linalg import eigh_tridiagonal, expm

import gfdt
from gfdt.forcing.linear_range import LINEAR_SHIFT
from gfdt.forcing.predict import predict
from gfdt.forcing.step import step_response
from tests.reference.linear_sde import DRIFT, sample

# drift polynomial, noise, grid, lags long enough to settle
DOUBLE_WELL = ((0.0, 1.0, 0.0, -1.0), 2**-0.5, np.linspace(-3.2, 3.2, 900), np.linspace(0, 40, 801))
CLIMATE = ((0.6, -0.0222, -0.2, -0.0494), 0.7071, np.linspace(-7.0, 5.5, 900), np.linspace(0, 15, 601))


def generator(coefficients, noise, x, force):
    """Eigenpairs of the backward operator, symmetrised by its own stationary density, and that density."""
    potential = np.polynomial.Polynomial((coefficients[0] + force, *coefficients[1:])).integ()
    diffusivity, h = noise**2 / 2, x[1] - x[0]
    log_rho = potential(x) / diffusivity
    log_mid = potential((x[1:] + x[:-1]) / 2) / diffusivity
    diagonal = np.zeros(x.size)
    diagonal[:-1] -= np.exp(log_mid - log_rho[:-1])
    diagonal[1:] -= np.exp(log_mid - log_rho[1:])
    off = np.exp(log_mid - (log_rho[1:] + log_rho[:-1]) / 2)
    values, vectors = eigh_tridiagonal(diagonal * diffusivity / h**2, off * diffusivity / h**2)
    root = np.exp((log_rho - log_rho.max()) / 2)
    return np.clip(-values, 0, None), vectors, root / np.linalg.norm(root)


def linear_error(case, shift):
    """|linear / true - 1| of the settled mean under the force whose predicted shift is given, and the true shift."""
    _, noise, x, lag = case
    rates, vectors, root = generator(*case[:3], 0.0)
    density = root**2
    std = np.sqrt(density @ (x - density @ x) ** 2)
    amplitudes = rates * (vectors.T @ (root * x)) ** 2 / (noise**2 / 2)
    R = xr.DataArray(np.exp(-np.outer(lag, rates)) @ amplitudes, dims="lag", coords={"lag": lag})
    settled = float(step_response(R).response[-1])
    force = shift * std / settled
    rates, vectors, root = generator(*case[:3], force)
    # mean of x at time T from the unforced density, under the forced operator
    overlap = vectors.T @ np.divide(density, root, out=np.zeros_like(root), where=root > 1e-150)
    mean = np.exp(-rates * lag[-1]) * (vectors.T @ (root * x)) @ overlap
    true = mean - density @ x
    return abs(force * settled / true - 1), abs(true) / std


@pytest.mark.parametrize(
    ("case", "shift", "error"),
    [
        (DOUBLE_WELL, 0.2, 0.010),
        (DOUBLE_WELL, 0.5, 0.058),
        (DOUBLE_WELL, 1.0, 0.220),
        (CLIMATE, 0.1, 0.048),
        (CLIMATE, 0.2, 0.093),
        (CLIMATE, -0.2, 0.106),
        (CLIMATE, -0.5, 0.282),
        (CLIMATE, 0.8, 0.311),
    ],
)
def test_the_published_table(case, shift, error):
    assert linear_error(case, shift)[0] == pytest.approx(error, abs=0.001)


def test_at_the_threshold_linear_response_errs_by_ten_per_cent_at_worst():
    worst = max(linear_error(case, sign * LINEAR_SHIFT)[0] for case in (DOUBLE_WELL, CLIMATE) for sign in (1, -1))
    assert 0.08 < worst < 0.12


def test_predictions_from_an_estimated_response_hold_the_truth():
    trajectory = gfdt.load_trajectory(sample(24, 2000, 0.25, seed=11), dims=("member", "time", "component"), dt=0.25)
    score = gfdt.GaussianScore().fit(trajectory)
    R = gfdt.response(trajectory, score, max_lag=6.0)
    force = np.array([0.02, 0.0, 0.01, 0.0])
    got = predict(R, lambda t: np.outer(np.sin(t), force))
    # x' = B x + f sin t from rest, in closed form through (B^2 + 1)^-1
    t = got.time.values
    resolvent = np.linalg.inv(DRIFT @ DRIFT + np.eye(4))
    growth = np.stack([expm(DRIFT * s) for s in t])
    exact = (
        growth @ resolvent @ force
        - np.outer(np.sin(t), DRIFT @ resolvent @ force)
        - np.outer(np.cos(t), resolvent @ force)
    )
    # four standard errors, and the spline between lags 0.25 apart: 1e-3 of the signal
    bound = 4 * got.stderr.values + 1e-3 * np.abs(exact).max()
    assert (np.abs(got.prediction.values - exact) < bound).all()
    assert got.stderr.values.max() < 0.15 * np.abs(exact).max()  # the bound says something
    S = step_response(R)
    fine = cumulative_simpson(R.response.values, x=R.lag.values, axis=0, initial=0.0)
    np.testing.assert_allclose(S.response.values, fine, atol=0.02 * np.abs(fine).max())
