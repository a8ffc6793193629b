"""Double well and scalar climate: quadrature, Fokker-Planck and the order of the stepper."""

import numpy as np
import pytest
from reference.simulators_heun import heun_chain
from scipy.integrate import quad

from simulators import DoubleWell, ParameterError, ScalarClimate
from simulators.kernels import scalar

SYSTEMS = [DoubleWell(), DoubleWell(noise=1.0), ScalarClimate()]
systems = pytest.mark.parametrize("system", SYSTEMS, ids=["well", "noisy-well", "climate"])


def test_refuses_drifts_that_do_not_confine():
    with pytest.raises(ParameterError, match=r"cubic = -0\.1"):
        ScalarClimate(cubic=-0.1)
    with pytest.raises(ParameterError, match="noise = 0"):
        DoubleWell(noise=0)
    with pytest.raises(ParameterError, match=r"expected 1, the density is too narrow"):
        DoubleWell(noise=1e-3).exact_response([0.0])


@pytest.mark.parametrize(
    ("kind", "parameters", "message"),
    [
        (DoubleWell, {"noise": 1e-200}, "noise = 1e-200: expected a magnitude"),
        (DoubleWell, {"noise": 1e200}, "noise = 1e.200: expected a magnitude"),
        (DoubleWell, {"noise": 1e-5}, "noise 1e-05 cannot be resolved"),
        (ScalarClimate, {"cubic": 1e-300}, "cubic = 1e-300: expected a magnitude"),
        (ScalarClimate, {"linear": 1e300}, "linear = 1e.300: expected a magnitude"),
        (ScalarClimate, {"linear": 1e60}, "cannot be resolved"),
        (ScalarClimate, {"cubic": 1e-50}, "cannot be resolved"),
        (ScalarClimate, {"forcing": True}, "forcing = True"),
    ],
)
def test_refuses_magnitudes_whose_density_it_cannot_compute(kind, parameters, message):
    with pytest.raises(ParameterError, match=message):
        kind(**parameters)


def test_any_scale_of_the_noise_that_is_resolved_is_kept():
    # at large noise only the quartic matters: x ~ s^(1/2), so the variance over s tends to a constant
    variances = [DoubleWell(noise=s).law.variance / s for s in (1e10, 1e30, 1e60)]
    np.testing.assert_allclose(variances, variances[0], rtol=1e-8)


def test_signs_of_the_climate_model():
    # dx = F + a x + b x^2 - c x^3 at x = 2
    expected = 0.6 - 0.0222 * 2 - 0.2 * 4 - 0.0494 * 8
    assert ScalarClimate().drift(np.array([2.0]))[0] == pytest.approx(expected)


@systems
def test_density_is_normalised_and_the_score_is_its_logarithmic_derivative(system):
    lo, hi = system.law.support
    assert quad(system.density, lo, hi, limit=200)[0] == pytest.approx(1, abs=1e-8)
    x, h = np.linspace(-2, 2, 9)[:, None], 1e-5
    numerical = (np.log(system.density(x + h)) - np.log(system.density(x - h))) / (2 * h)
    np.testing.assert_allclose(system.score(x), numerical, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(system.score(x), 2 * system.drift(x) / system.noise**2)


@systems
def test_stein_identities_hold(system):
    law, x = system.law, system.law.nodes
    score = law.score(x)
    assert law.mean(score) == pytest.approx(0, abs=1e-10)
    assert law.mean(x * score) == pytest.approx(-1, abs=1e-10)
    assert law.mean(x**2 * score) == pytest.approx(-2 * law.mean(x), abs=1e-9)
    mean = quad(lambda v: v * system.density(v), *law.support, limit=200)[0]
    variance = quad(lambda v: (v - mean) ** 2 * system.density(v), *law.support, limit=200)[0]
    covariance = system.exact_covariance()
    assert covariance.dims == ("component", "component_src")
    assert covariance.item() == pytest.approx(variance, rel=1e-8)


@systems
def test_response_starts_at_one_with_the_slope_of_the_mean_drift_gradient(system):
    h = 1e-3
    r = system.exact_response([0.0, h, 2 * h]).values[:, 0, 0]
    assert r[0] == pytest.approx(1, abs=1e-14)
    law = system.law
    slope = law.mean(np.gradient(law.drift(law.nodes), law.nodes))
    # second-order one-sided difference: error h^2 R'''(0) / 3, here below 1e-4
    assert (-3 * r[0] + 4 * r[1] - r[2]) / (2 * h) == pytest.approx(slope, abs=1e-4)


@systems
def test_response_converges_at_second_order_in_the_grid(system):
    lags = np.linspace(0, 20, 41)
    fine = system.law.response(lags, n_volumes=2400)
    coarse_error = np.abs(system.law.response(lags, n_volumes=300) - fine).max()
    error = np.abs(system.law.response(lags, n_volumes=600) - fine).max()
    assert 3 < coarse_error / error < 5.5  # 4, a little more because the reference is not exact
    assert np.abs(system.exact_response(lags).values[:, 0, 0] - fine).max() < 2e-6


@systems
def test_integrated_response_is_the_variance(system):
    # R = -(1/D) dC/dt, so D int R dt = C(0)
    lags = np.linspace(0, 150, 15001)
    r = system.exact_response(lags).values[:, 0, 0]
    assert system.law.diffusivity * np.trapezoid(r, lags) == pytest.approx(system.law.variance, rel=1e-4)


def test_linear_heun_chain_has_its_closed_form_variance():
    # x' = x (1 - h + h^2/2) + s sqrt(h) (1 - h/2) w: checks the reference that measures the weak order
    h, s = 0.2, 0.5
    x, stationary, _ = heun_chain((0.0, -1.0, 0.0, 0.0), s, h, (-3.5, 3.5))
    exact = s**2 * h * (1 - h / 2) ** 2 / (1 - (1 - h + h**2 / 2) ** 2)
    assert stationary @ x**2 == pytest.approx(exact, rel=1e-5)


@systems
def test_stepper_has_weak_order_two(system):
    law = system.law
    lo, hi = law.support
    middle = (lo + hi) / 2
    support = (middle + 0.9 * (lo - middle), middle + 0.9 * (hi - middle))
    errors = []
    for dt in (0.1, 0.05):
        x, stationary, _ = heun_chain(law.coefficients, law.noise, dt, support)
        mean = stationary @ x
        errors.append(stationary @ (x - mean) ** 2 - law.variance)
    assert 1.8 < np.log2(errors[0] / errors[1]) < 2.4


def test_noise_free_steps_have_order_two():
    coefficients = np.array([0.0, 1.0, 0.0, -1.0])
    exact = 0.5 * np.e / np.sqrt(1 + 0.25 * (np.e**2 - 1))  # x(1) of dx = x - x^3 from 1/2
    errors = []
    for n_steps in (20, 40):
        x = np.array([0.5])
        scalar.advance(x, np.random.default_rng(0), coefficients, 0.0, 1 / n_steps, n_steps, np.empty((1, 1)))
        errors.append(abs(x[0] - exact))
    assert np.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.1)


@systems
def test_samples_have_the_moments_and_the_response_of_the_theory(system):
    x = system.simulate(256, 100, 1.0, seed=8, dt=0.02)["x"]
    law = system.law

    def z(values, exact):  # members are independent, times are not
        return abs(values.mean() - exact) / (values.std(ddof=1) / np.sqrt(len(values)))

    record = x.values[..., 0]
    for power in (1, 2, 4):
        assert z((record**power).mean(axis=1), law.mean(law.nodes**power)) < 4
    score = system.score(x).values[..., 0]
    for lag in (0, 1, 3):
        estimate = -(record[:, lag:] * score[:, : 100 - lag]).mean(axis=1)
        assert z(estimate, system.exact_response([lag]).item()) < 4


def test_initial_state_is_stationary():
    # the first snapshot alone, 4000 members, against the quadrature distribution
    system = DoubleWell()
    first = np.sort(system.simulate(4000, 0.01, 0.01, seed=2)["x"].values.ravel())
    probability = np.interp(first, system.law.nodes, np.cumsum(system.law._quadrature[1]))
    distance = np.abs(probability - (np.arange(4000) + 0.5) / 4000).max()
    assert distance < 2.0 / np.sqrt(4000)  # Kolmogorov-Smirnov: P(> 2 / sqrt(n)) = 7e-4
