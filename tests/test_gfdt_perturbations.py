"""Whatever is pushed: patterns, drifts and the noise, by exact identities, then against exact answers."""

import warnings

import numpy as np
import pytest
import scipy.integrate
import xarray as xr
from reference import linear_sde

import gfdt
import simulators
from gfdt import Drift, NoiseAmplitude, response
from gfdt.errors import InputError
from gfdt.responses.divergence import divergence_of

DIMS = ("member", "time", "component")
INVERSE = np.linalg.inv(linear_sde.stationary_covariance())
EXACT_SCORE = gfdt.AnalyticScore(lambda x: -x @ INVERSE)
PATTERN = np.array([0.3, -1.0, 0.5, 2.0])


def linear(n_members=4, n_times=400, dt=0.25, seed=0):
    return xr.DataArray(
        linear_sde.sample(n_members, n_times, dt, seed), dims=DIMS, coords={"time": dt * np.arange(n_times)}, name="x"
    )


def constant(w):
    return Drift(lambda x: np.broadcast_to(w, x.shape))


def largest(a, b):
    return float(np.abs(a - b).max())


# --- exact identities ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fitted", [False, True])
@pytest.mark.parametrize("correction", ["auto", "stein", "none"])
def test_a_pattern_is_the_contraction_of_the_full_matrix_with_its_error(correction, fitted):
    """The errors too: e_u' = sum_j e_u,ij p_j, and stderr^2 = n/(n-1) sum e_u'^2."""
    # "auto" with fewer than 20 units: with more its control belongs to the pattern as a whole, see below.
    x = linear(3, 400 if correction == "auto" else 1500)
    score = gfdt.GaussianScore().fit(x) if fitted else EXACT_SCORE
    full = response(x, score, max_lag=3.0, correction=correction)
    one = response(x, score, max_lag=3.0, correction=correction, perturbation=PATTERN)
    assert one["response"].dims == ("lag", "component")
    np.testing.assert_allclose(one["response"], full["response"].values @ PATTERN, atol=1e-12)
    error = full["influence"].values @ PATTERN
    np.testing.assert_allclose(one["influence"], error, atol=1e-13)
    n = len(error)
    np.testing.assert_allclose(one["stderr"], np.sqrt(n / (n - 1) * (error**2).sum(axis=0)), atol=1e-13)


def test_with_many_members_the_control_of_a_pattern_is_its_own_and_differs_by_less_than_the_error():
    """From 20 members on c(t) is found by regression, for the pattern as a whole: no longer linear in it."""
    x = linear(24)
    full = response(x, EXACT_SCORE, max_lag=3.0)
    one = response(x, EXACT_SCORE, max_lag=3.0, perturbation=PATTERN).isel(lag=slice(1, None))
    contracted = full["response"].values[1:] @ PATTERN
    assert np.abs((one["response"] - contracted) / one["stderr"]).max() < 1.0
    stein = {"max_lag": 3.0, "correction": "stein"}
    full, one = response(x, EXACT_SCORE, **stein), response(x, EXACT_SCORE, perturbation=PATTERN, **stein)
    np.testing.assert_allclose(one["response"], full["response"].values @ PATTERN, atol=1e-12)


@pytest.mark.parametrize("correction", ["auto", "stein", "none"])
@pytest.mark.parametrize("n_members", [3, 24])
def test_a_constant_drift_is_the_pattern_and_a_dict_is_each_alone(correction, n_members):
    x = linear(n_members, 1500 if n_members == 3 else 300)
    options = {"max_lag": 2.0, "correction": correction, "observable": "second_moment"}
    each = {
        "pattern": PATTERN,
        "drift of a pattern": Drift(PATTERN),
        "constant": constant(PATTERN),
        "damping": Drift(lambda u: -u),
        "noise": NoiseAmplitude(np.array([1.0, 0.5, 2.0, 1.5])),
    }
    together = response(x, EXACT_SCORE, perturbation=each, **options)
    assert together["response"].dims == ("lag", "component", "perturbation")
    assert together["perturbation"].values.tolist() == list(each)
    for name, perturbation in each.items():
        alone = response(x, EXACT_SCORE, perturbation=perturbation, **options)
        for variable in ("response", "stderr", "influence"):
            np.testing.assert_allclose(together[variable].sel(perturbation=name), alone[variable], atol=1e-11)
    for name in ("drift of a pattern", "constant"):
        np.testing.assert_allclose(
            together["response"].sel(perturbation=name), together["response"].sel(perturbation="pattern"), atol=1e-12
        )


def test_the_conjugate_variable_of_a_drift_is_minus_div_w_minus_w_dot_s():
    """R = <A(t) B(0)> by a loop over pairs, for w = -x^3 of a score that is not exact."""
    x = linear(2, 60)
    score = gfdt.AnalyticScore(lambda u: -u @ INVERSE - 0.01 * u)
    got = response(x, score, max_lag=1.0, correction="none", perturbation=Drift(lambda u: -(u**3)), confidence=None)
    a, states = x.values - x.values.mean((0, 1)), x.values
    b = 3 * (states**2).sum(-1) + (states**3 * (-states @ INVERSE - 0.01 * states)).sum(-1)
    b -= b.mean()
    for lag in range(5):
        pairs = [np.mean(a[:, lag:, i] * b[:, : 60 - lag]) for i in range(4)]
        np.testing.assert_allclose(got["response"][lag], pairs, rtol=1e-6, atol=1e-7)


def test_the_conjugate_variable_of_the_noise_is_half_of_m_grad_s_and_s_m_s():
    """M = 2 g l for each component; R = <A(t) B(0)> by a loop."""
    x = linear(2, 60)
    noise, change = np.array([1.0, 0.5, 2.0, 1.5]), np.array([0.2, 1.0, 0.0, -1.0])
    perturbation = NoiseAmplitude(noise, change=change)
    options = {"max_lag": 1.0, "correction": "none", "confidence": None}
    got = response(x, EXACT_SCORE, perturbation=perturbation, observable="second_moment", **options)
    score = -x.values @ INVERSE
    b = (noise * change * (score**2 - np.diag(INVERSE))).sum(-1)
    b -= b.mean()
    a = x.values**2
    a -= a.mean((0, 1))
    for lag in range(5):
        pairs = [np.mean(a[:, lag:, i] * b[:, : 60 - lag]) for i in range(4)]
        np.testing.assert_allclose(got["response"][lag], pairs, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_divergence_given_by_autodiff_and_by_differences_is_the_same(shape):
    rng = np.random.default_rng(0)
    states = 2.0 + rng.standard_normal((50, *shape)) * 3.0

    def w(u):
        return -(u**3) + 0.5 * u * u.reshape(len(u), -1).sum(1).reshape(-1, *[1] * len(shape))

    d = int(np.prod(shape))
    total = states.reshape(50, -1).sum(1)
    exact = (-3 * states**2).reshape(50, -1).sum(1) + 0.5 * (d + 1) * total
    given = divergence_of(w, lambda u: exact, states)
    np.testing.assert_array_equal(given, exact)
    np.testing.assert_allclose(divergence_of(w, "autodiff", states), exact, rtol=1e-12)
    # Central differences of a cubic err by h^2, h = 1e-4 of the spread.
    np.testing.assert_allclose(divergence_of(w, None, states), exact, atol=d * 1e-6)


@pytest.mark.parametrize("divergence", ["autodiff", None])
def test_divergence_of_many_components_is_unbiased(divergence):
    """Random signs z: E z.(dw/dx) z = div w; 16 for each state, here 80 components."""
    rng = np.random.default_rng(1)
    matrix = rng.standard_normal((80, 80))
    states = rng.standard_normal((500, 80))

    def w(u):
        import torch

        m = torch.from_numpy(matrix) if isinstance(u, torch.Tensor) else matrix
        return u @ m.T

    got = divergence_of(w, divergence, states)
    symmetric = matrix + matrix.T
    spread = np.sqrt((symmetric**2).sum() / 2 - (np.diag(symmetric) ** 2).sum() / 2) / 4
    assert abs(got.mean() - np.trace(matrix)) < 4 * spread / np.sqrt(500)
    assert got.std() == pytest.approx(spread, rel=0.15)  # 500 draws know it to 3 %
    np.testing.assert_array_equal(got, divergence_of(w, divergence, states))


def test_a_function_may_change_its_argument_or_reuse_its_memory():
    x = linear(3)
    values = x.values.copy()
    reused = {}

    def in_place(u):
        u *= -1.0
        return u

    def same_memory(u):
        out = reused.setdefault(u.shape, np.empty(u.shape))
        np.negative(u, out=out)
        return out

    options = {"max_lag": 1.0, "observable": "second_moment"}
    expected = response(x, EXACT_SCORE, perturbation=Drift(lambda u: -u), **options)
    for drift in (Drift(in_place), Drift(same_memory), Drift(in_place, "autodiff"), Drift(in_place, lambda u: -4.0)):
        got = response(x, EXACT_SCORE, perturbation=drift, **options)
        np.testing.assert_allclose(got["response"], expected["response"], atol=1e-9)
    np.testing.assert_array_equal(x.values, values)


def test_a_labelled_pattern_is_put_in_the_order_of_the_state():
    rng = np.random.default_rng(0)
    x = xr.DataArray(
        rng.standard_normal((3, 60, 2, 3)),
        dims=("member", "time", "y", "x"),
        coords={"time": np.arange(60.0), "y": [10.0, 20.0], "x": [1.0, 2.0, 3.0]},
    )
    score = gfdt.AnalyticScore(lambda u: -u)
    pattern = xr.DataArray(
        rng.standard_normal((2, 3)), dims=("y", "x"), coords={"y": x["y"].values, "x": x["x"].values}
    )
    options = {"max_lag": 2.0, "confidence": None}
    plain = response(x, score, perturbation=pattern.values, **options)["response"]
    for other in (pattern.transpose("x", "y"), pattern.isel(x=[2, 0, 1], y=[1, 0]), Drift(pattern.T)):
        xr.testing.assert_allclose(response(x, score, perturbation=other, **options)["response"], plain)
    along = pattern.isel(y=0, drop=True)
    broadcast = response(x, score, perturbation=along, **options)["response"]
    same = response(x, score, perturbation=np.stack([along.values] * 2), **options)["response"]
    xr.testing.assert_allclose(broadcast, same)


@pytest.mark.parametrize(
    ("perturbation", "message"),
    [
        (lambda u: u, r"bare function.*gfdt\.Drift"),
        (np.zeros(4), "zero everywhere"),
        ([np.nan, 1.0, 1.0, 1.0], "NaN or inf"),
        (np.ones(3), r"shape \(3,\).*\(4,\)"),
        (np.eye(4), r"shape \(4, 4\)"),
        (np.array([1j, 0, 0, 0]), "is not known"),
        ("drift", "'drift' is not known"),
        ({}, "names nothing"),
        ({1: np.ones(4)}, "names nothing"),
        ([], "empty list"),
        (xr.DataArray(np.ones(4), dims="z"), r"dims \('z',\)"),
        (xr.DataArray(np.ones(3), dims="component"), "3 entries along 'component'"),
        (xr.DataArray(np.ones(4), dims="component", coords={"component": [1, 2, 3, 4]}), "other labels"),
        (Drift(lambda u: u[:, :1]), r"returned shape \(\d+, 1\)"),
        (Drift(lambda u: u * np.nan), "w returned NaN"),
        (Drift(lambda u: u * 1j), "complex128"),
        (Drift(lambda u: u.astype(str)), "real numbers"),
        (Drift(lambda u: np.where(np.isin(u, _SAMPLES), u, np.nan)), "next to the states.*NaN"),
        (Drift(lambda u: u, lambda u: u), r"divergence function returned shape \(\d+, 4\)"),
        (Drift(lambda u: u, lambda u: np.nan), "divergence function returned NaN"),
        (Drift(lambda u: u, lambda u: "four"), "divergence function returned <U4"),
        (Drift(lambda u: u.tolist() if isinstance(u, np.ndarray) else 3.0, "autodiff"), "float for a torch tensor"),
        (NoiseAmplitude("strong"), "noise='strong' is not an amplitude"),
        (NoiseAmplitude(1.0, change=None), None),
        (NoiseAmplitude(0.0), "zero or not finite"),
        (NoiseAmplitude(np.ones(3)), r"noise has shape \(3,\)"),
        (NoiseAmplitude(1.0, change=[1.0, 2.0]), r"change has shape \(2,\)"),
        (NoiseAmplitude(1.0, basis="wavenumber"), "needs a field that looks the same everywhere"),
    ],
)
def test_what_cannot_be_pushed_is_refused_in_one_sentence(perturbation, message):
    x = linear(3)
    if message is None:
        assert np.isfinite(response(x, EXACT_SCORE, max_lag=1.0, perturbation=perturbation)["response"]).all()
        return
    with pytest.raises(InputError, match=message) as caught:
        response(x, EXACT_SCORE, max_lag=1.0, perturbation=perturbation)
    assert "\n" not in str(caught.value)


_SAMPLES = linear(3).values


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Drift("x"), "not a drift"),
        (lambda: Drift(None), "not a drift"),
        (lambda: Drift(lambda u: u, "exact"), "'exact' is not known"),
        (lambda: Drift(np.ones(4), lambda u: 0.0), "constant pattern is zero: leave it out"),
        (lambda: NoiseAmplitude(1.0, basis="fourier"), "choose 'component' or 'wavenumber'"),
        (lambda: NoiseAmplitude(1.0, n_probes=0), "n_probes=0"),
        (lambda: NoiseAmplitude(1.0, seed=-1), "seed=-1"),
    ],
)
def test_bad_settings_are_refused_at_once(make, message):
    with pytest.raises(InputError, match=message):
        make()


@pytest.mark.parametrize("state", ["scalar", "one component", "one site", "line"])
def test_small_and_odd_states(state):
    rng = np.random.default_rng(0)
    shape, dims = {
        "scalar": ((), ()),
        "one component": ((1,), ("component",)),
        "one site": ((1, 1), ("y", "x")),
        "line": ((5,), ("x",)),
    }[state]
    x = np.zeros((20, 100, *shape))
    for t in range(1, 100):
        x[:, t] = 0.5 * x[:, t - 1] + np.sqrt(0.75) * rng.standard_normal((20, *shape))
    run = xr.DataArray(x[:, 20:], dims=("member", "time", *dims), coords={"time": np.arange(80.0)})
    score = gfdt.AnalyticScore(lambda u: -u)
    for homogeneous in (None, dims) if dims else (None,):
        for perturbation in (None, np.ones(shape), Drift(lambda u: -u), NoiseAmplitude(0.5)):
            for options in ({"max_lag": 0}, {"max_lag": 4.0, "lag_stride": 3}):
                got = response(run, score, perturbation=perturbation, homogeneous=homogeneous, **options)
                assert got["lag"].values.tolist() == ([0.0] if options["max_lag"] == 0 else [0.0, 3.0])
                assert np.isfinite(got["response"]).all()
                assert np.isfinite(got["stderr"]).all()
                if not isinstance(perturbation, Drift | NoiseAmplitude):
                    # R(0) = I, which for a pattern of ones is one at every site.
                    at = {f"d{dim}": 0 for dim in dims} if homogeneous and perturbation is None else {}
                    start = got["response"].sel(lag=0, **at).values
                    eye = np.eye(int(np.prod(shape))).reshape((*shape, *shape))
                    np.testing.assert_allclose(start, eye if perturbation is None and not at else 1.0, atol=1e-9)


# --- the noise -------------------------------------------------------------------------------------------------------


A, B = 0.5, 1.2
SCALAR = simulators.LinearSDE([[-A]], [[B**2]])


def scalar_run(n_members, n_times, seed, dt=0.5):
    return SCALAR.simulate(n_members=n_members, duration=dt * n_times, save_every=dt, seed=seed)


def test_raising_the_noise_widens_the_density_as_the_exact_response_says():
    """dx = -a x dt + b dW: <x^2> = b^2/(2a), so d<x^2>(t) for a pulse of db is 2 b exp(-2 a t), of -x it is -<x^2>."""
    run = scalar_run(25, 2000, 3)
    score = gfdt.AnalyticScore(SCALAR.score)
    both = {"noise": NoiseAmplitude(B), "damping": Drift(lambda x: -x), "relative": NoiseAmplitude(B, change=B)}
    for correction in ("auto", "stein", "none"):
        got = response(run, score, max_lag=8.0, perturbation=both, observable="second_moment", correction=correction)
        lag = got["lag"].values
        decay = np.exp(-2 * A * lag)
        factors = {"noise": 2 * B, "damping": -(B**2) / A, "relative": 2 * B**2}
        exact = np.stack([factors[name] * decay for name in both], axis=-1)
        z = (got["response"].values[1:, 0] - exact[1:]) / got["stderr"].values[1:, 0]
        # 16 lags of 3 functions that are one another's multiples, correlated over 2 lags: 3.6 happens in one of 100.
        assert np.abs(z).max() < 3.6
        assert float(got["response"].sel(lag=0, perturbation="noise").squeeze()) > 2 * B * 0.9
        np.testing.assert_allclose(
            got["response"].sel(perturbation="relative"), B * got["response"].sel(perturbation="noise"), atol=1e-9
        )
        np.testing.assert_allclose(  # a = lambda: s = -x/C, div s and s^2 are those of the damping
            got["response"].sel(perturbation="noise") * B / 2,
            -got["response"].sel(perturbation="damping") * A,
            atol=0.05 * B**2,
        )


def test_step_responses_of_the_variance_are_those_of_b2_over_2a_within_three_per_cent():
    """d<x^2>/db = b/a and d<x^2>/da = -b^2/(2 a^2), from one record of two million samples."""
    run = scalar_run(25, 80_000, 0)
    score = gfdt.AnalyticScore(SCALAR.score, divergence=lambda x: np.full(len(x), -2 * A / B**2))
    options = {"max_lag": 10.0, "observable": "second_moment", "correction": "stein", "confidence": None}
    both = {"noise": NoiseAmplitude(B), "damping": Drift(lambda x: -x, lambda x: -1.0)}
    got = response(run, score, perturbation=both, **options)["response"]
    step = scipy.integrate.simpson(got.values[:, 0], x=got["lag"].values, axis=0)
    np.testing.assert_allclose(step, [B / A, -(B**2) / (2 * A**2)], rtol=0.03)


def test_the_noise_of_each_component_moves_what_the_lyapunov_equation_says():
    """C' = B C + C B^T + dQ: the step response of <x_i^2> to a change of g_j, for a non-normal drift."""
    system = simulators.LinearSDE([[-1.0, 1.5], [0.0, -0.7]], np.diag([0.8**2, 1.3**2]))
    run = system.simulate(n_members=24, duration=1000.0, save_every=0.2, seed=1)
    noise = np.array([0.8, 1.3])
    each = {f"{j}": NoiseAmplitude(noise, change=np.eye(2)[j]) for j in range(2)}
    got = response(run, gfdt.AnalyticScore(system.score), max_lag=12.0, perturbation=each, observable="second_moment")
    lag = got["lag"].values
    weights = scipy.integrate.simpson(np.eye(lag.size), x=lag, axis=1)
    step = np.tensordot(weights, got["response"].values, axes=1)
    error = np.tensordot(weights, got["influence"].values, axes=(0, 1))
    error = np.sqrt(24 / 23 * (error**2).sum(axis=0))
    exact = np.stack(
        [
            np.diag(
                linear_sde.stationary_covariance(np.asarray(system.drift_matrix), np.diag(2 * noise * np.eye(2)[j]))
            )
            for j in range(2)
        ],
        axis=-1,
    )
    assert np.abs((step - exact) / error).max() < 3.3  # t with 23 degrees of freedom, four entries: 1.2 %
    assert np.all(error < 0.2 * exact.max())
    assert exact[1, 0] == 0.0  # what pushes x does not reach y


def test_probes_of_the_noise_are_unbiased_and_belong_to_the_seed():
    x = linear(24, 200)
    options = {"max_lag": 1.0, "observable": "second_moment", "correction": "none"}
    score = gfdt.AnalyticScore(lambda u: -u @ INVERSE - 0.002 * u**3)
    exact = response(x, score, perturbation=NoiseAmplitude(1.0), **options)["response"]
    draws = [
        response(x, score, perturbation=NoiseAmplitude(1.0, n_probes=1, seed=seed), **options)["response"].values
        for seed in range(16)
    ]
    spread = np.std(draws, axis=0, ddof=1) / np.sqrt(16)
    assert np.abs((np.mean(draws, axis=0) - exact) / spread).max() < 5.0  # t_15, 20 entries: 0.3 %
    again = response(x, score, perturbation=NoiseAmplitude(1.0, n_probes=1, seed=3), **options)
    np.testing.assert_array_equal(again["response"], draws[3])


# --- nonlinear systems, against twins --------------------------------------------------------------------------------


def shear(u):
    out = np.zeros_like(u)
    out[..., 0] = u[..., 1]
    return out


@pytest.mark.parametrize("w", [shear, np.tanh], ids=["shear", "divergent"])
def test_drifts_of_a_potential_with_rotation_agree_with_twins(w):
    """Score known, detailed balance broken; both sides have errors, their difference is judged."""
    system = simulators.Potential2D()
    run = system.simulate(n_members=24, duration=600.0, save_every=0.25, seed=5)
    got = response(run, gfdt.AnalyticScore(system.score), max_lag=4.0, lag_stride=2, perturbation=Drift(w))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", simulators.LinearRangeWarning)
        twins = system.direct_response(
            4.0, 0.5, n_members=1000, perturbation=w, check_amplitude=False, seed=6, workers=1
        )
    np.testing.assert_allclose(got["lag"], twins["lag"])
    error = np.sqrt(got["stderr"].values ** 2 + twins["stderr"].values ** 2)
    z = (got["response"].values - twins["response"].values) / np.where(error > 0, error, np.inf)
    # 18 cells, strongly correlated along lag: Bonferroni would allow 3.0 in 5 % of records.
    assert np.abs(z).max() < 3.0
    assert np.abs(twins["response"]).max() > 10 * np.median(error)
