"""The Ornstein-Uhlenbeck field: exact identities first, then the sampler against them."""

import numpy as np
import pytest
import scipy.linalg
import xarray as xr
from reference import simulators_ou

from simulators import LinearSDE, OrnsteinUhlenbeck, ParameterError

# Faster and smaller than the default, so that a short record holds many independent states.
FAST = {"lam": 0.5, "kappa": 0.05, "advection": 0.4, "noise": 0.3}


def test_refuses_parameters_without_a_stationary_state():
    for bad in ({"n": 1}, {"n": 8.0}, {"lam": 0.0}, {"kappa": -1.0}, {"noise": 0.0}, {"advection": float("nan")}):
        with pytest.raises(ParameterError, match=f"{next(iter(bad))} = .*expected"):
            OrnsteinUhlenbeck(**bad)


@pytest.mark.parametrize("n", [4, 5, 6])
def test_response_starts_as_one_kick_and_its_displacements_are_centred(n):
    response = OrnsteinUhlenbeck(n=n, **FAST).exact_response([0.0, 2.0])
    assert response.dims == ("lag", "dy", "dx")
    assert response.name == "response"
    expected = np.arange(-(n // 2), n - n // 2)
    np.testing.assert_array_equal(response["dx"], expected)
    np.testing.assert_array_equal(response["dy"], expected)
    delta = xr.zeros_like(response[0])
    delta.loc[{"dy": 0, "dx": 0}] = 1
    np.testing.assert_allclose(response[0], delta, atol=1e-15)


@pytest.mark.parametrize("n", [4, 5])
def test_everything_exact_agrees_with_explicit_matrices(n):
    system = OrnsteinUhlenbeck(n=n, **FAST)
    drift = simulators_ou.generator(n, FAST["lam"], FAST["kappa"], FAST["advection"])
    noise = simulators_ou.noise_covariance(n, FAST["noise"])
    lags = np.array([0.0, 0.3, 1.0, 7.0])
    # the kick at grid point (0, 0) is column 0; rolling puts displacement 0 at index n // 2
    roll = (n // 2, n // 2)
    for lag, response in zip(lags, system.exact_response(lags), strict=True):
        column = scipy.linalg.expm(drift * lag)[:, 0].reshape(n, n)
        np.testing.assert_allclose(response, np.roll(column, roll, (0, 1)), atol=1e-13)
    twin = LinearSDE(drift, noise)
    covariance = twin.exact_covariance().values[:, 0].reshape(n, n)
    np.testing.assert_allclose(system.exact_covariance(), np.roll(covariance, roll, (0, 1)), rtol=1e-10)
    u = np.random.default_rng(0).standard_normal((3, n, n))
    np.testing.assert_allclose(system.drift(u).reshape(3, -1), u.reshape(3, -1) @ drift.T, atol=1e-12)
    np.testing.assert_allclose(system.score(u).reshape(3, -1), twin.score(u.reshape(3, -1)), rtol=1e-8)


@pytest.mark.parametrize("n", [2, 7, 16])
def test_score_is_minus_inverse_covariance(n):
    system = OrnsteinUhlenbeck(n=n)
    u = np.random.default_rng(1).standard_normal((n, n))
    covariance_hat = np.fft.fft2(np.fft.ifftshift(system.exact_covariance().values)).real
    expected = -np.fft.ifft2(np.fft.fft2(u) / covariance_hat).real
    np.testing.assert_allclose(system.score(u), expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())


def test_prl_default_matches_the_published_score_and_variance():
    system = OrnsteinUhlenbeck()
    u = np.random.default_rng(2).standard_normal((32, 32))
    k2 = (32 * np.fft.fftfreq(32))[:, None] ** 2 + (32 * np.fft.rfftfreq(32)) ** 2

    def lap(v):
        return np.fft.irfft2(-k2 * np.fft.rfft2(v))

    expected = 2 / (0.004 * 1024) * (-0.04 * u + 2.5e-4 * lap(u) - 2.5e-4 * lap(lap(u)))
    np.testing.assert_allclose(system.score(u), expected, rtol=1e-9, atol=1e-9)
    assert system.advection == -0.02


@pytest.mark.parametrize("n", [6, 7])
def test_response_is_a_semigroup(n):
    system = OrnsteinUhlenbeck(n=n, **FAST)
    first, second, both = np.fft.fft2(np.fft.ifftshift(system.exact_response([0.7, 1.6, 2.3]).values, axes=(1, 2)))
    np.testing.assert_allclose(first * second, both, atol=1e-14)


def test_score_keeps_labels_and_dtype():
    system = OrnsteinUhlenbeck(n=4)
    u = np.random.default_rng(3).standard_normal((2, 3, 4, 4)).astype(np.float32)
    labelled = xr.DataArray(u, dims=("member", "time", "y", "x")).transpose("x", "member", "y", "time")
    score = system.score(labelled)
    assert score.dims == labelled.dims
    assert score.dtype == np.float32
    np.testing.assert_array_equal(score.transpose("member", "time", "y", "x"), system.score(u))
    with pytest.raises(ParameterError, match=r"found an array of shape \(3, 3\).*expected"):
        system.score(np.zeros((3, 3)))
    with pytest.raises(ParameterError, match=r"found a Dataset.*pass dataset\['u'\]"):
        system.score(labelled.to_dataset(name="u"))
    with pytest.raises(ParameterError, match="expected the state dims"):
        system.score(xr.DataArray(np.zeros((4, 4)), dims=("a", "b")))


def member_z(values, exact):
    """Largest |z| of member means against an exact value; members are independent."""
    standard_error = values.std(axis=0, ddof=1) / np.sqrt(len(values))
    return np.abs((values.mean(axis=0) - exact) / standard_error).max()


@pytest.fixture(
    scope="module",
    params=[(8, 3.0, None), (7, 1.0, 0.3), (16, 1.0, 0.4)],
    ids=["even-one-step", "odd-substeps", "lanes"],
)
def record(request):
    n, save_every, dt = request.param
    system = OrnsteinUhlenbeck(n=n, **FAST)
    return system, save_every, system.simulate(128, 150 * save_every, save_every, dt=dt, seed=11)["u"].values


def test_sampled_spectrum_is_the_exact_covariance(record):
    system, _, u = record
    power = (np.abs(np.fft.rfft2(u)) ** 2).mean(axis=1) / system.n**2
    # at most 144 modes, 127 degrees of freedom: P(|z| > 4.8) < 5e-6 each
    assert member_z(power, system.spectrum()) < 4.8


def test_sampled_lag_covariance_is_response_times_covariance(record):
    system, save_every, u = record
    u_hat = np.fft.rfft2(u)
    for lag in (1, 2):
        product = (u_hat[:, lag:] * u_hat[:, :-lag].conj()).mean(axis=1) / system.n**2
        exact = system.spectrum() * system.propagator(lag * save_every)
        assert member_z(product.real, exact.real) < 4.5
        moving = np.abs(product.imag).max(axis=0) > 1e-10  # kx = 0 and Nyquist have no imaginary part on average only
        assert member_z(product.imag[:, moving], exact.imag[moving]) < 4.5


def test_waves_move_towards_plus_x_for_positive_advection(record):
    system, _, u = record
    ahead = (np.roll(u[:, 1:], -1, axis=-1) * u[:, :-1]).mean(axis=(1, 2, 3))
    behind = (np.roll(u[:, 1:], 1, axis=-1) * u[:, :-1]).mean(axis=(1, 2, 3))
    difference = ahead - behind
    assert difference.mean() > 5 * difference.std(ddof=1) / np.sqrt(len(difference))
    response = system.exact_response([1.0])[0]
    assert response.sel(dy=0, dx=1) > response.sel(dy=0, dx=-1)


@pytest.mark.parametrize("dt", [0.01, 1.0, 50.0])
def test_transition_keeps_the_stationary_covariance(dt):
    # C = |R|^2 C + amplitude^2: the identity that makes the sampler exact for every save_every
    system = OrnsteinUhlenbeck(n=6, **FAST)
    amplitude_squared = -system.spectrum() * np.expm1(-2 * system.rate() * dt)
    np.testing.assert_allclose(
        np.abs(system.propagator(dt)) ** 2 * system.spectrum() + amplitude_squared, system.spectrum(), rtol=1e-12
    )


def test_small_steps_have_the_stated_volume_factor():
    # noise increment over dt: variance per mode dt eps^2 n^2 Sigma_k
    system, dt = OrnsteinUhlenbeck(n=6, **FAST), 1e-7
    amplitude_squared = -system.spectrum() * np.expm1(-2 * system.rate() * dt)
    k2 = (6 * np.fft.fftfreq(6))[:, None] ** 2 + (6 * np.fft.rfftfreq(6)) ** 2
    np.testing.assert_allclose(amplitude_squared, dt * system.noise**2 * 36 / (1 + k2), rtol=1e-6)
