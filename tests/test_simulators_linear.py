"""The linear stochastic equation against Lyapunov, expm and its own samples."""

import numpy as np
import pytest
import scipy.linalg

from simulators import LinearSDE, ParameterError

# Non-normal: transient growth of component 0 through the chain 3 -> 2 -> 1 -> 0; the last two rotate.
DRIFT = np.array([[-1.0, 4.0, 0.0, 0.5], [0.0, -1.5, 3.0, 0.0], [0.0, 0.0, -0.8, 1.2], [0.0, 0.2, -1.2, -0.6]])
NOISE = np.diag([0.2, 0.5, 1.0, 0.3]) + 0.1


@pytest.fixture(scope="module")
def system():
    return LinearSDE(DRIFT, NOISE)


@pytest.mark.parametrize(
    ("drift", "noise", "message"),
    [
        ([[0.5]], [[1.0]], "eigenvalue 0.5"),
        ([[0.0, 1.0], [-1.0, 0.0]], np.eye(2), "negative real parts"),
        ([[-1.0, 0.0]], [[1.0]], "square"),
        ([[-1.0]], np.eye(2), "expected that of drift_matrix"),
        (-np.eye(2), [[1.0, 0.5], [0.0, 1.0]], "transpose by 0.5"),
        (-np.eye(2), [[1.0, 2.0], [2.0, 1.0]], "smallest eigenvalue -1"),
        ([[-1.0]], [[0.0]], "not zero"),
        ([[np.nan]], [[1.0]], "finite"),
        ("no", [[1.0]], "square matrix of numbers"),
        ([["-1"]], [[1.0]], "square matrix of numbers"),
        ([[-1.0]], [[True]], "square matrix of numbers"),
        (np.array([[True]]), [[1.0]], "square matrix of numbers"),
        ([[-1.0], [0.0, 1.0]], [[1.0]], "square matrix of numbers"),
        ([[-(10**400)]], [[1.0]], "square matrix of numbers"),
        ([[-1e308]], [[1.0]], "an entry of magnitude 1e.308"),
        ([[-1.0]], [[1e-300]], "not zero"),
        ([[-1e-300]], [[1.0]], "to be told from zero"),
        ([[-1.0, 1e30], [0.0, -1.0]], np.eye(2), "to be told from zero"),
    ],
)
def test_refuses_matrices_without_a_stationary_law(drift, noise, message):
    with pytest.raises(ParameterError, match=message):
        LinearSDE(drift, noise)


def test_matrices_are_private_read_only_copies():
    drift = -np.eye(2)
    system = LinearSDE(drift, np.eye(2))
    drift[0, 0] = 7
    assert system.drift_matrix[0, 0] == -1
    with pytest.raises(ValueError, match="read-only"):
        system.drift_matrix[0, 0] = 7


def test_covariance_solves_the_lyapunov_equation(system):
    c = system.exact_covariance().values
    np.testing.assert_allclose(DRIFT @ c + c @ DRIFT.T, -NOISE, atol=1e-12)


def test_response_is_the_matrix_exponential_and_grows_before_it_decays(system):
    response = system.exact_response([0.0, 0.5, 2.0])
    assert response.dims == ("lag", "component", "component_src")
    np.testing.assert_array_equal(response[0], np.eye(4))
    np.testing.assert_allclose(response[2], scipy.linalg.expm(2 * DRIFT), atol=1e-14)
    assert abs(response.sel(component=0, component_src=2, lag=2.0)) > 1  # non-normal amplification
    for lags in ([-1.0], [], ["soon"], [np.nan], [[0.0]]):
        with pytest.raises(ParameterError, match="lags"):
            system.exact_response(lags)


@pytest.mark.parametrize("dt", [1e-6, 0.01, 1.0, 200.0])
def test_transition_noise_is_exact_at_every_step(system, dt):
    c = system.exact_covariance().values
    propagator, noise = system.transition(dt)
    np.testing.assert_allclose(propagator, scipy.linalg.expm(DRIFT * dt), atol=1e-12)
    np.testing.assert_allclose(noise, c - propagator @ c @ propagator.T, atol=1e-12)
    if dt < 1e-3:  # here the line above has lost its digits, and the noise is Q dt
        np.testing.assert_allclose(noise, NOISE * dt, rtol=1e-4)


def test_score_is_linear_and_obeys_the_stein_identity(system):
    x = np.random.default_rng(0).standard_normal((5, 3, 4))
    c = system.exact_covariance().values
    np.testing.assert_allclose(system.score(x), -x @ np.linalg.inv(c), rtol=1e-9)
    np.testing.assert_allclose(c @ system.score(np.eye(4)), -np.eye(4), atol=1e-10)


def test_score_refuses_a_direction_without_noise():
    with pytest.raises(ParameterError, match="noise must reach every direction"):
        LinearSDE(-np.eye(2), np.diag([1.0, 0.0])).score(np.zeros(2))


def test_samples_have_the_exact_covariance_and_lag_covariance(system):
    x = system.simulate(256, 200, 1.0, seed=5)["x"].values
    c = system.exact_covariance().values
    for lag in (0, 1, 3):
        products = np.einsum("mti,mtj->mij", x[:, lag:], x[:, : x.shape[1] - lag]) / (x.shape[1] - lag)
        standard_error = products.std(axis=0, ddof=1) / np.sqrt(len(products))
        z = (products.mean(axis=0) - scipy.linalg.expm(DRIFT * lag) @ c) / standard_error
        assert np.abs(z).max() < 4.5, f"lag {lag}"  # 48 numbers, 255 degrees of freedom
