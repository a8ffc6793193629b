"""Bent double well, triad, Charney-DeVore and Lorenz-96: conservation laws, exact answers and statistics."""

import numpy as np
import pytest
import scipy.linalg
from reference import simulators_zoo
from scipy.integrate import dblquad

from simulators import CharneyDeVore, Lorenz96, NoScoreError, ParameterError, Potential2D, Triad
from simulators.kernels import polynomial
from simulators.polynomial import PolynomialDrift

ALL = [Potential2D(), Triad(), CharneyDeVore(), Lorenz96(n=5)]
every = pytest.mark.parametrize("system", ALL, ids=lambda system: system.name)
wells = pytest.mark.parametrize(
    "system",
    [Potential2D(), Potential2D(barrier=0.4, tilt=-0.2, stiffness=1.5, bend=-0.4, rotation=-0.7, diffusivity=0.3)],
    ids=["default", "other"],
)


def divergence(function, x, h=1e-5):
    """Divergence at points x (..., d) by central differences, error O(h^2) and rounding / h."""
    steps = h * np.eye(x.shape[-1])
    return sum((function(x + e)[..., i] - function(x - e)[..., i]) / (2 * h) for i, e in enumerate(steps))


def z_scores(per_member, exact):
    """Deviation in standard errors of a mean over independent members, axis 0."""
    return np.abs(per_member.mean(axis=0) - exact) / (per_member.std(axis=0, ddof=1) / np.sqrt(len(per_member)))


def lagged_products(x, y, lag):
    """<x(t + lag) y(t)^T> of each member, (member, i, j)."""
    n_times = x.shape[1] - lag
    return np.einsum("mti,mtj->mij", x[:, lag:], y[:, :n_times]) / n_times


# ---- parameters and labels


@pytest.mark.parametrize(
    ("kind", "parameters", "message"),
    [
        (Potential2D, {"barrier": 0}, "barrier = 0: expected a finite number > 0"),
        (Potential2D, {"stiffness": -1}, "stiffness = -1"),
        (Potential2D, {"tilt": 0.0, "diffusivity": 1e-10}, "cannot be resolved"),
        (Potential2D, {"rotation": np.nan}, "rotation = nan"),
        (Triad, {"burst_damping": 0.0}, "burst_damping = 0"),
        (Triad, {"modulation": "1"}, "modulation = '1'"),
        (CharneyDeVore, {"damping": -0.1}, r"damping = -0\.1"),
        (CharneyDeVore, {"noise": 0}, "noise = 0"),
        (Lorenz96, {"n": 3}, "n = 3: expected an integer >= 4"),
        (Lorenz96, {"n": 8.0}, r"n = 8\.0"),
        (Lorenz96, {"noise": True}, "noise = True"),
    ],
)
def test_refuses_parameters_outside_the_model(kind, parameters, message):
    with pytest.raises(ParameterError, match=message):
        kind(**parameters)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: Lorenz96().exact_covariance(), "stationary covariance for forcing = 8"),
        (lambda: Triad().exact_covariance(), "stationary covariance for modulation = 1"),
        (lambda: Potential2D(rotation=60.0).exact_response([1.0]), "changes by .* with the largest polynomial basis"),
        (lambda: Potential2D().exact_response([-1.0]), "lags"),
    ],
)
def test_says_where_there_is_no_exact_answer(ask, message):
    with pytest.raises(ParameterError, match=message):
        ask()


@pytest.mark.parametrize(
    ("system", "message"),
    [
        (Lorenz96(), "score for forcing = 8: expected forcing = 0"),
        (Triad(), "score for modulation = 1: expected modulation = 0"),
        (CharneyDeVore(), "score"),
    ],
)
def test_says_where_there_is_no_exact_score(system, message):
    with pytest.raises(NoScoreError, match=message):
        system.score(np.zeros(system.layout().shape))


def test_polynomials_refuse_terms_that_do_not_exist():
    for term in [(1.0, 0, 0, 0, 0), (1.0, 1), (1.0, -1)]:
        with pytest.raises(ValueError, match="found the factors"):
            PolynomialDrift([[term]])


@every
def test_trajectories_have_one_label_per_component(system):
    run = system.simulate(2, 3.0, 1.0, spinup=1.0, dt=0.02)
    (d,) = system.layout().shape
    assert run["x"].dims == ("member", "time", "component")
    assert run["x"].shape == (2, 3, d)
    assert system.drift(run["x"]).dims == run["x"].dims


# ---- equations and conservation laws


@pytest.mark.parametrize(
    ("system", "equations"),
    [
        (CharneyDeVore(), simulators_zoo.charney_devore),
        (
            CharneyDeVore(x1_star=2.0, x4_star=0.3, damping=0.2, beta=0.7, gamma=0.5, b=1.3),
            simulators_zoo.charney_devore,
        ),
        (Lorenz96(n=4, forcing=3.0), simulators_zoo.lorenz96),
        (Lorenz96(), simulators_zoo.lorenz96),
    ],
)
def test_drift_is_the_written_equation(system, equations):
    x = np.random.default_rng(0).standard_normal((7, *system.layout().shape))
    np.testing.assert_allclose(system.drift(x), [equations(row, system) for row in x], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("system", [s for s in ALL if not isinstance(s, Triad)], ids=lambda system: system.name)
def test_the_table_that_is_stepped_is_the_drift(system):
    x = np.random.default_rng(1).standard_normal((4, 3, *system.layout().shape))
    np.testing.assert_allclose(system._polynomial(x), system.drift(x), rtol=1e-12, atol=1e-12)


@wells
def test_potential_gives_score_density_and_drift(system):
    x = np.random.default_rng(2).standard_normal((20, 2))
    h, u = 1e-5, simulators_zoo.potential
    gradient = [
        (u(x[:, 0] + a, x[:, 1] + b, system) - u(x[:, 0] - a, x[:, 1] - b, system)) / (2 * h)
        for a, b in ((h, 0), (0, h))
    ]
    gradient = np.stack(gradient, axis=-1)
    np.testing.assert_allclose(system.score(x), -gradient / system.diffusivity, rtol=1e-6, atol=1e-6)
    turned = np.stack([-gradient[:, 1], gradient[:, 0]], axis=-1)
    np.testing.assert_allclose(system.drift(x), -gradient + system.rotation * turned, rtol=1e-6, atol=1e-6)
    ratio = np.log(system.density(*x[0]) / system.density(*x[1]))
    assert ratio == pytest.approx((u(*x[1], system) - u(*x[0], system)) / system.diffusivity, rel=1e-10)


@wells
def test_density_is_invariant_under_the_drift_with_rotation(system):
    # div(f rho) = D Lap rho, divided by rho: div f + f.s = D (div s + |s|^2)
    x = np.random.default_rng(3).standard_normal((20, 2))
    drift, score = system.drift(x), system.score(x)
    left = divergence(system.drift, x) + (drift * score).sum(axis=-1)
    right = system.diffusivity * (divergence(system.score, x) + (score**2).sum(axis=-1))
    np.testing.assert_allclose(left, right, rtol=1e-7, atol=1e-6)
    rotation = drift - system.diffusivity * score
    np.testing.assert_allclose((rotation * score).sum(axis=-1), 0, atol=1e-11 * np.abs(score).max() ** 2)


def test_lorenz96_advection_conserves_energy_and_volume():
    system = Lorenz96(n=7, forcing=0.0)
    x = np.random.default_rng(4).standard_normal((6, 7))
    advection = system.drift(x) + x
    np.testing.assert_allclose((x * advection).sum(axis=-1), 0, atol=1e-13)
    np.testing.assert_allclose(divergence(system.drift, x), -7, rtol=1e-9)
    # and the law is the same at every site
    np.testing.assert_array_equal(system.drift(np.roll(x, 2, axis=-1)), np.roll(system.drift(x), 2, axis=-1))


def charney_devore_weights(system):
    """k^2 of the six modes."""
    k1, k2 = system.b**2 + 1, system.b**2 + 4
    return np.array([1, k1, k1, 4, k2, k2])


def test_charney_devore_conserves_energy_enstrophy_and_volume():
    system = CharneyDeVore()
    x = np.random.default_rng(5).standard_normal((6, 6))
    k2 = charney_devore_weights(system)
    forced = system.damping * (np.array([system.x1_star, 0, 0, system.x4_star, 0, 0]) - x)
    free = system.drift(x) - forced
    np.testing.assert_allclose((k2 * x * free).sum(axis=-1), 0, atol=1e-13)
    quadratic = (system.drift(x) + system.drift(-x)) / 2 - system.drift(np.zeros(6))
    np.testing.assert_allclose((k2**2 * x * quadratic).sum(axis=-1), 0, atol=1e-12)
    np.testing.assert_allclose(divergence(system.drift, x), -6 * system.damping, rtol=1e-8)


# ---- exact answers


@wells
def test_quadrature_of_the_density_gives_norm_covariance_and_stein_identity(system):
    x = np.linspace(*system.law.along.support, 601)[:, None]
    reach = np.abs(system.bend) * x.max() ** 2 + 9 * system.law.width
    y = np.linspace(-reach, reach, 801)[None]
    weight = system.density(x, y) * (x[1, 0] - x[0, 0]) * (y[0, 1] - y[0, 0])
    assert weight.sum() == pytest.approx(1, abs=1e-9)
    state = np.stack(np.broadcast_arrays(x, y), axis=-1)
    mean = np.einsum("xy,xyi->i", weight, state)
    np.testing.assert_allclose(mean, system.law.mean(), atol=1e-9)
    covariance = np.einsum("xy,xyi,xyj->ij", weight, state - mean, state - mean)
    np.testing.assert_allclose(system.exact_covariance(), covariance, atol=1e-9)
    stein = np.einsum("xy,xyi,xyj->ij", weight, state, system.score(state))
    np.testing.assert_allclose(stein, -np.eye(2), atol=1e-8)


def test_density_is_normalised_for_an_independent_integrator():
    system = Potential2D()
    total, _ = dblquad(lambda y, x: system.density(x, y), -2.8, 2.8, -3, 6, epsabs=1e-7)
    assert total == pytest.approx(1, abs=1e-6)


@wells
def test_response_starts_at_the_identity_with_the_slope_of_the_mean_jacobian(system):
    h = 1e-4
    r = system.exact_response([0.0, h, 2 * h]).values
    np.testing.assert_allclose(r[0], np.eye(2), atol=1e-12)
    # R'(0) = <grad f>, with the moments of x; f_x = 4 B (x - x^3) + T + 2 k q x (y - q x^2) - w k (y - q x^2), ...
    b, k, q, w = system.barrier, system.stiffness, system.bend, system.rotation
    law = system.law.along
    m1, m2 = law.mean(law.nodes), law.mean(law.nodes**2)
    hessian = np.array([[4 * b * (3 * m2 - 1) + 4 * k * q**2 * m2, -2 * k * q * m1], [-2 * k * q * m1, k]])
    expected = (-np.eye(2) + w * np.array([[0, -1], [1, 0]])) @ hessian
    # second-order one-sided difference: error h^2 R'''(0) / 3
    np.testing.assert_allclose((-3 * r[0] + 4 * r[1] - r[2]) / (2 * h), expected, atol=1e-5)


@wells
def test_response_agrees_with_a_grid(system):
    support = ((-2.8, 2.8), sorted(np.sign(system.bend) * np.array([-2.5, 4.5])))
    coarse = simulators_zoo.grid_response(system, 0.05, 40, support, 41)
    fine = simulators_zoo.grid_response(system, 0.025, 80, support, 81)[::2]
    exact = system.exact_response(0.05 * np.arange(41)).values
    assert 1.8 < np.log2(np.abs(coarse - exact).max() / np.abs(fine - exact).max()) < 2.6
    # half of what the fine grid alone leaves: its error is that of the grid, not of the answer
    assert np.abs((4 * fine - coarse) / 3 - exact).max() < 0.5 * np.abs(fine - exact).max() < 2.5e-4


def test_response_is_symmetric_only_in_detailed_balance():
    # without rotation R = -(1/D) dC/dt and C(t) is symmetric (Onsager)
    lags = [0.5, 1.0, 3.0]
    still, stirred = Potential2D(rotation=0.0).exact_response(lags), Potential2D().exact_response(lags)
    np.testing.assert_allclose(still, still.transpose("lag", "component_src", "component").values, atol=1e-9)
    assert np.abs(stirred[:, 0, 1] - stirred[:, 1, 0]).min() > 0.2


def test_wells_without_bend_or_rotation_are_the_scalar_answer():
    system = Potential2D(bend=0.0, rotation=0.0, stiffness=1.5)
    lags = np.linspace(0, 10, 21)
    r = system.exact_response(lags).values
    np.testing.assert_allclose(r[:, 0, 0], system.law.along.response(lags), atol=3e-6)  # finite volumes: 2e-6
    np.testing.assert_allclose(r[:, 1, 1], np.exp(-1.5 * lags), atol=1e-9)
    np.testing.assert_allclose(r[:, [0, 1], [1, 0]], 0, atol=1e-9)


def test_lorenz96_without_forcing_is_gaussian():
    system = Lorenz96(n=6, forcing=0.0, noise=0.8)
    covariance = system.exact_covariance().values
    np.testing.assert_allclose(covariance, 0.32 * np.eye(6))
    x = np.random.default_rng(6).standard_normal((5, 6))
    np.testing.assert_allclose(covariance @ system.score(x).T, -x.T, rtol=1e-12)
    # stationarity: div f + f.s = (s^2 / 2) (div s + |s|^2)
    drift, score = system.drift(x), system.score(x)
    left = divergence(system.drift, x) + (drift * score).sum(axis=-1)
    np.testing.assert_allclose(left, 0.32 * (-6 / 0.32 + (score**2).sum(axis=-1)), rtol=1e-7)


def test_triad_without_modulation_is_gaussian():
    system = Triad(modulation=0.0)
    c, b = system.exact_covariance().values, system.drift(np.eye(3)).T
    np.testing.assert_allclose(b @ c + c @ b.T, -np.diag([0.3**2, 0.3**2, 1.5**2]), atol=1e-12)
    np.testing.assert_allclose(c @ system.score(np.eye(3)), -np.eye(3), atol=1e-12)


def test_triad_mean_response_does_not_depend_on_the_modulation():
    lags = [0.0, 1.0, 7.0]
    b = Triad().drift(np.eye(3)).T
    for modulation in (0.0, 1.0):
        exact = Triad(modulation=modulation).exact_response(lags)
        np.testing.assert_allclose(exact, [scipy.linalg.expm(b * t) for t in lags], atol=1e-14)


# ---- the steppers


@pytest.mark.parametrize("system", [s for s in ALL if not isinstance(s, Triad)], ids=lambda system: system.name)
def test_noise_free_steps_have_order_two(system):
    (d,) = system.layout().shape
    arrays = system._polynomial.arrays()
    ends = []
    for n_steps in (50, 100, 800):
        x = 0.5 + 0.3 * np.arange(d) / d
        polynomial.advance(x, np.random.default_rng(0), *arrays, 0.0, 1 / n_steps, n_steps, np.empty((1, d)))
        ends.append(x)
    errors = [np.abs(x - ends[-1]).max() for x in ends[:2]]
    assert np.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.15)


def test_heun_steps_of_the_bent_wells_have_weak_order_two():
    # the same Brownian paths at every dt, so that what differs is the bias and not the sample
    system, n_members, finest, n_fine = Potential2D(), 20_000, 0.0125, 160
    rng = np.random.default_rng(7)
    start = np.array([system.law.draw(rng) for _ in range(n_members)])
    increments = np.sqrt(2 * system.diffusivity * finest) * rng.standard_normal((n_fine, n_members, 2))
    squares = []
    for coarsening in (16, 8, 1):
        x, dt = start, finest * coarsening
        for increment in increments.reshape(-1, coarsening, n_members, 2).sum(axis=1):
            slope = system.drift(x)
            x = x + (slope + system.drift(x + slope * dt + increment)) * dt / 2 + increment
        squares.append(x[:, 0] ** 2)
    coarse, fine = (square - squares[-1] for square in squares[:2])
    assert z_scores(fine, 0) > 10  # the bias is resolved, so its order can be told
    assert 1.7 < np.log2(coarse.mean() / fine.mean()) < 2.6


@every
def test_snapshots_do_not_depend_on_how_a_record_is_divided(system):
    stepper = system.make_stepper(0.02, 3)
    records = []
    for cuts in ([6], [1, 3, 2]):
        rng = np.random.default_rng(8)
        state = stepper.start(rng)
        parts = [np.empty((length, *system.layout().shape)) for length in cuts]
        for part in parts:
            stepper.advance(state, rng, part)
        records.append(np.concatenate(parts))
    np.testing.assert_array_equal(*records)


@every
def test_kicks_reach_the_state(system):
    stepper = system.make_stepper(1e-3, 1)
    ends = []
    for size in (0.0, 1e-3):
        rng = np.random.default_rng(8)
        state = stepper.start(rng)
        kick = np.zeros(system.layout().shape)
        kick[1] = size
        stepper.displace(state, kick)
        out = np.empty((2, *system.layout().shape))
        stepper.advance(state, rng, out)
        ends.append(out)
    np.testing.assert_allclose(ends[1][0] - ends[0][0], kick, atol=1e-12)
    # a step later the same noise, and the kick moved by no more than its own size times the rates (below 20) and dt
    assert np.abs(ends[1][1] - ends[0][1] - kick).max() < 20 * 1e-3 * 1e-3


@pytest.mark.parametrize("dt", [1e-3, 0.3, 2.0])
def test_triad_steps_are_exact_in_law_without_modulation(dt):
    system = Triad(modulation=0.0)
    run = system.simulate(1500, 2 * dt, dt, dt=dt, spinup=0, seed=8)["x"].values
    c = system.exact_covariance().values
    expected = scipy.linalg.expm(system.drift(np.eye(3)).T * dt) @ c
    for lag, exact in ((0, c), (1, expected)):
        assert z_scores(np.einsum("mi,mj->mij", run[:, lag], run[:, 0]), exact).max() < 4.5


# ---- statistics


def test_bent_wells_have_the_moments_and_the_response_of_the_theory():
    system = Potential2D()
    run = system.simulate(256, 100, 0.5, seed=9, dt=0.02)["x"]
    x, score = run.values, system.score(run).values
    assert z_scores(x.mean(axis=1), system.law.mean()).max() < 4
    centred = x - system.law.mean()
    assert z_scores(lagged_products(centred, centred, 0), system.exact_covariance().values).max() < 4
    lags = [0, 1, 2, 6, 12]  # 0 is the Stein identity
    for lag, exact in zip(lags, system.exact_response(0.5 * np.array(lags)).values, strict=True):
        assert z_scores(-lagged_products(centred, score, lag), exact).max() < 4, lag


def test_bent_wells_start_in_their_stationary_law():
    system = Potential2D()
    first = system.simulate(4000, 0.01, 0.01, seed=10)["x"].values[:, 0]
    square = np.einsum("mi,mj->mij", *[first - system.law.mean()] * 2)
    assert z_scores(square, system.exact_covariance().values).max() < 4
    assert z_scores(system.score(first)[:, :, None] * first[:, None, :], -np.eye(2)).max() < 4


def test_lorenz96_without_forcing_has_the_stein_identity():
    system = Lorenz96(n=6, forcing=0.0)
    run = system.simulate(200, 100, 1.0, seed=11, dt=0.02, spinup=0)["x"]
    x = run.values
    assert z_scores(lagged_products(x, x, 0), system.exact_covariance().values).max() < 4.5  # 21 numbers
    assert z_scores(-lagged_products(x, system.score(run).values, 0), np.eye(6)).max() < 4.5


@pytest.mark.parametrize("forcing", [2.0, 8.0])
def test_lorenz96_energy_balance_closes(forcing):
    system = Lorenz96(n=8, forcing=forcing, noise=1.0)
    x = system.simulate(64, 200, 0.5, seed=12)["x"].values
    balance = (forcing * x - x**2).mean(axis=(1, 2)) + system.noise**2 / 2
    assert z_scores(balance, 0) < 4
    # the check can fail: the same balance with the noise left out
    assert z_scores(balance - system.noise**2 / 2, 0) > 8


def test_lorenz96_is_the_same_at_every_site():
    x = Lorenz96(n=8).simulate(64, 100, 0.5, seed=13, dt=0.01)["x"].values
    sites = x.mean(axis=1)
    assert z_scores(sites - sites.mean(axis=1, keepdims=True), 0).max() < 4


def test_charney_devore_energy_budget_closes():
    system = CharneyDeVore()
    x = system.simulate(64, 2000, 2.0, seed=14, dt=0.1)["x"].values
    k2 = charney_devore_weights(system)
    x_star = np.array([system.x1_star, 0, 0, system.x4_star, 0, 0])
    injection = system.damping * ((k2 * x * (x_star - x)).sum(axis=-1)).mean(axis=1)
    # d<E>/dt over the record is not quite zero: it is the difference of the ends, and known
    energy = (k2 * x**2).sum(axis=-1) / 2
    change = (energy[:, -1] - energy[:, 0]) / 2000
    noise = system.noise**2 * k2.sum() / 2
    assert z_scores(injection + noise - change, 0) < 4
    assert z_scores(injection - change, 0) > 8


def test_triad_without_modulation_has_the_stein_identity():
    system = Triad(modulation=0.0)
    run = system.simulate(200, 300, 1.0, seed=15, spinup=0)["x"]
    x = run.values
    assert z_scores(lagged_products(x, x, 0), system.exact_covariance().values).max() < 4
    assert z_scores(-lagged_products(x, system.score(run).values, 0), np.eye(3)).max() < 4


def test_triad_covariance_and_regression_obey_the_linear_drift_though_it_is_skewed():
    system = Triad()
    x = system.simulate(400, 400, 1.0, seed=16, dt=0.05)["x"].values
    drift = system.drift(np.eye(3)).T
    c = lagged_products(x, x, 0)
    burst = system.burst_noise**2 * ((1 + np.tanh(x[..., 0])) ** 2).mean(axis=1)
    source = np.zeros_like(c)
    source[:, range(3), range(3)] = np.stack([np.full_like(burst, 0.09), np.full_like(burst, 0.09), burst], axis=-1)
    assert z_scores(drift @ c + c @ drift.T + source, 0).max() < 4
    for lag in (1, 3, 8):
        mismatch = lagged_products(x, x, lag) - scipy.linalg.expm(drift * lag) @ c
        assert z_scores(mismatch, 0).max() < 4
    assert z_scores((x[..., 0] ** 3).mean(axis=1), 0) > 20


@pytest.mark.parametrize("system", [Triad(), CharneyDeVore(), Lorenz96(n=8)], ids=lambda system: system.name)
def test_default_spinup_reaches_the_stationary_state(system):
    dt = min(0.1, 2 * system.default_dt)
    default = system.simulate(200, 10.0, 10.0, seed=17, dt=dt)["x"].values[:, 0]
    longer = system.simulate(200, 10.0, 10.0, seed=18, dt=dt, spinup=3 * system.default_spinup)["x"].values[:, 0]
    assert z_scores(default - longer, 0).max() < 4
    assert z_scores(default**2 - longer**2, 0).max() < 4
