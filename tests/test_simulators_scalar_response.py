"""Exact responses of the scalar systems to any perturbation, of any observable."""

import numpy as np
import pytest
from scipy.integrate import simpson
from scipy.linalg import expm

from simulators import DoubleWell, ParameterError, ScalarClimate
from simulators.moments import MOMENTS
from simulators.scalar_law import CubicLaw

SYSTEMS = [DoubleWell(), ScalarClimate()]
systems = pytest.mark.parametrize("system", SYSTEMS, ids=["well", "climate"])
VALUES = np.linspace(-1.5, 1.5, 13)
WIDTH = 0.1


def kernel_density(x):
    return np.exp(-((x[:, None] - VALUES) ** 2) / (2 * WIDTH**2)) / (WIDTH * np.sqrt(2 * np.pi))


def kernel_slope(x):
    return -(x[:, None] - VALUES) / WIDTH**2 * kernel_density(x)


def moment(law, name, mean):
    power, centred = MOMENTS[name].power, MOMENTS[name].centred
    return law.mean((law.nodes - (mean if centred else 0)) ** power)


@systems
def test_defaults_are_the_response_of_the_mean_to_a_drift(system):
    lags = np.linspace(0, 10, 21)
    default = system.exact_response(lags)
    assert default.dims == ("lag", "component", "component_src")
    np.testing.assert_array_equal(default, system.exact_response(lags, "mean", "drift"))
    # the same by the general way, as a function of the state and a constant w
    general = system.exact_response(lags, lambda x: x, np.ones_like)
    assert general.dims == ("lag",)
    np.testing.assert_allclose(general, default[:, 0, 0], atol=2e-6)  # 1200 and 2400 volumes


@systems
@pytest.mark.parametrize(
    ("observable", "slope"),
    [
        ("second_moment", lambda x, m: 2 * x),
        ("variance", lambda x, m: 2 * (x - m)),
        ("moment3", lambda x, m: 3 * (x - m) ** 2),
        ("moment4", lambda x, m: 4 * (x - m) ** 3),
        (kernel_density, lambda x, m: kernel_slope(x)),
    ],
)
def test_response_starts_at_the_mean_slope_of_the_observable(system, observable, slope):
    # R_A(0) = <w A'>, by an independent quadrature; w = -s score is the noise
    law, x = system.law, system.law.nodes
    slopes = slope(x, law.mean(x))
    for perturbation, w in (
        ("drift", np.ones_like(x)),
        (lambda x: np.sin(x) - 0.3 * x**2, np.sin(x) - 0.3 * x**2),
        ("noise", -system.noise * law.score(x)),
    ):
        start = system.exact_response(0.0, observable, perturbation).values.ravel()
        products = slopes.T * w
        exact = np.atleast_2d(products) @ law._quadrature[1]
        np.testing.assert_allclose(start, exact, atol=2e-5 * np.abs(products).max())


def test_labels_follow_observable_and_perturbation():
    system = SYSTEMS[0]
    for observable, observed in (("variance", ("component",)), (np.tanh, ()), (kernel_density, ("output",))):
        for perturbation, perturbed in (("drift", ("component_src",)), (np.tanh, ()), ("noise", ())):
            response = system.exact_response([0.0, 1.0], observable, perturbation)
            assert response.dims == ("lag", *observed, *perturbed)
            assert np.isfinite(response).all()
    assert response.name == "response"


@systems
@pytest.mark.parametrize("name", MOMENTS)
def test_step_response_to_noise_is_the_change_of_the_stationary_moment(system, name):
    # int_0^inf R dt = d<A> / ds, from the densities at s +- e; the error of the difference is O(e^2) = 1e-6
    e, mean = 1e-3, system.law.mean(system.law.nodes)
    high, low = (CubicLaw(system.law.coefficients, system.noise + sign * e) for sign in (1, -1))
    change = (moment(high, name, mean) - moment(low, name, mean)) / (2 * e)
    total = 0.0
    for lags in (np.linspace(0, 5, 2001), np.linspace(5, 160, 3101)):  # fast relaxation at first, slow decay later
        total += simpson(system.exact_response(lags, name, "noise").values[:, 0], x=lags)
    assert total == pytest.approx(change, rel=1e-4, abs=1e-9)


def test_step_response_to_a_drift_is_the_change_of_the_stationary_density():
    # w = -x and a kernel density: the drift of the well with the coefficient 1 - e of x, all values at once
    e, lags = 1e-4, np.concatenate([np.linspace(0, 2, 1001), np.linspace(2, 80, 1561)[1:]])
    system = DoubleWell()
    response = system.exact_response(lags, kernel_density, lambda x: -x).values
    total = simpson(response[:1001], x=lags[:1001], axis=0) + simpson(response[1000:], x=lags[1000:], axis=0)
    change = 0.0
    for sign in (1, -1):
        law = CubicLaw((0.0, 1.0 - sign * e, 0.0, -1.0), system.noise)
        change += sign * law._quadrature[1] @ kernel_density(law.nodes) / (2 * e)
    np.testing.assert_allclose(total, change, atol=1e-3 * np.abs(change).max())


@systems
def test_response_is_a_semigroup(system):
    # R_A(t + t') = R_(exp(L t') A)(t): A is carried on by the generator itself, exponentiated without eigenvectors
    generator = system.law.generator(300)
    n = len(generator.nodes)
    matrix = generator.vectors @ np.diag(-generator.rates) @ generator.vectors.T
    root = np.sqrt(generator.weights)
    observable = np.tanh(generator.nodes)
    carried = expm(matrix * 0.7) @ (root * observable) / root
    w = np.cos(generator.faces)
    kept = generator.weights > 1e-20  # the rest divides rounding by rounding
    carried = np.where(kept, carried, 0.0)
    later = generator.response(np.array([0.7, 1.7, 4.7]), observable, w)
    np.testing.assert_allclose(generator.response(np.array([0.0, 1.0, 4.0]), carried, w), later, atol=1e-8)
    # the eigenvectors are those of the generator of the module docstring, applied to x: L x = f up to the grid error
    applied = matrix @ (root * generator.nodes) / root
    middle = slice(n // 4, 3 * n // 4)
    np.testing.assert_allclose(applied[middle], system.law.drift(generator.nodes[middle]), atol=0.02)


@systems
def test_grid_converges_at_second_order_for_every_kind(system):
    lags = np.linspace(0, 5, 11)
    for observable, w in (
        (lambda x: x**4, lambda x: -system.noise * system.law.score(x)),
        (kernel_density, np.ones_like),
        (kernel_density, lambda x: -system.noise * system.law.score(x)),
    ):
        fine, *others = (
            g.response(lags, observable(g.nodes), w(g.faces)) for g in map(system.law.generator, (1200, 600, 300))
        )
        errors = [np.abs(other - fine).max() for other in others]
        assert 3 < errors[1] / errors[0] < 6  # 4, more because the reference has a sixteenth of the coarse error
        # 16 times less at the 2400 volumes of exact_response, below 1e-3 of the response
        assert errors[0] / 16 < 1e-4 * np.abs(fine).max()


def test_sampled_response_of_variance_and_density_agrees():
    # the same averages from a record, within their errors: members are independent
    system = ScalarClimate()
    x = system.simulate(400, 60.0, 0.5, seed=5, dt=0.05)["x"].values[..., 0]
    law = system.law
    centred = x - law.mean(law.nodes)
    score = law.score(x)
    slope = np.gradient(law.score(law.nodes), law.nodes)
    fluctuation = np.interp(x, law.nodes, slope) + score**2
    for observable, values in (("variance", centred**2), (lambda x: np.exp(-(x**2)), np.exp(-(x**2)))):
        for perturbation, conjugate in (("drift", -score), ("noise", system.noise * fluctuation)):
            for lag in (0, 2):
                estimates = (values[:, lag:] * conjugate[:, : 120 - lag]).mean(axis=1)
                exact = system.exact_response([0.5 * lag], observable, perturbation).item()
                assert abs(estimates.mean() - exact) < 4 * estimates.std(ddof=1) / np.sqrt(len(estimates))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"observable": "median"}, r"observable = 'median': expected 'mean', 'second_moment', .* or a function A\(x\)"),
        ({"observable": None}, "observable = None"),
        ({"observable": lambda x: x[:3]}, r"observable\(x\) has shape \(3,\) for x of shape .*one row for each x"),
        ({"observable": lambda x: np.zeros((len(x), 0))}, "has shape"),
        ({"observable": lambda x: 1.0}, r"has shape \(\)"),
        ({"observable": lambda x: "no"}, r"observable\(x\) = 'no': expected an array"),
        ({"observable": lambda x: np.log(x - x)}, "not finite somewhere between"),
        ({"perturbation": "volcano"}, "perturbation = 'volcano': expected 'drift', 'noise' or a drift"),
        ({"perturbation": 1.0}, "perturbation = 1.0"),
        ({"perturbation": lambda x: x[:, None]}, r"perturbation\(x\) has shape"),
        ({"perturbation": lambda x: x * np.nan}, "not finite"),
        ({"lags": [-1.0]}, "lags = "),
    ],
)
def test_refuses_what_has_no_response(arguments, message):
    with np.errstate(divide="ignore", invalid="ignore"), pytest.raises(ParameterError, match=message):
        DoubleWell().exact_response(**({"lags": [0.0]} | arguments))


def test_a_function_cannot_change_the_grid():
    system = DoubleWell()

    def greedy(x):
        x += 1
        return x

    first = system.exact_response([0.0, 1.0], greedy, greedy)
    np.testing.assert_array_equal(first, system.exact_response([0.0, 1.0], greedy, greedy))
