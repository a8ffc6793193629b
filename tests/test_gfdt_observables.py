"""Whatever is observed: labels and exact identities, then exact answers of nonlinear systems, then error bars."""

import numpy as np
import pytest
import xarray as xr
from reference import linear_sde

import gfdt
import simulators
from gfdt import Density, Drift, Exceedance, NoiseAmplitude, Spectrum, response
from gfdt.errors import InputError

DIMS = ("member", "time", "component")
DRIFT = np.array([[-0.5, 0.4], [-0.2, -0.8]])
NOISE = np.diag([1.0, 0.6])
INVERSE = np.linalg.inv(linear_sde.stationary_covariance(DRIFT, NOISE))
MEAN = np.array([0.5, -0.3])
SCORE = gfdt.AnalyticScore(lambda x: -(x - MEAN) @ INVERSE - 0.02 * (x - MEAN) ** 2)


def record(n_members=3, n_times=400, seed=0):
    values = MEAN + linear_sde.sample(n_members, n_times, 0.5, seed, DRIFT, NOISE)
    labels = {"time": 0.5 * np.arange(n_times), "component": ["a", "b"]}
    return xr.DataArray(values, dims=DIMS, coords=labels, name="x")


def squared(run, n_members=20):
    """A field that is not Gaussian, its sites alike: (member, time, y, x)."""
    rng = np.random.default_rng(run)
    x = np.zeros((n_members, 80, 3, 4))
    for t in range(1, 80):
        x[:, t] = 0.6 * np.roll(x[:, t - 1], 1, -1) + 0.8 * rng.standard_normal((n_members, 3, 4))
    return xr.DataArray(x + 0.1 * x**2, dims=("member", "time", "y", "x"), coords={"time": np.arange(80.0)})


quiet = pytest.mark.filterwarnings(
    "ignore::gfdt.errors.UnreliableScoreWarning", "ignore::gfdt.errors.ReliabilityWarning"
)


# --- what each one is ------------------------------------------------------------------------------------------------


def kernel(v, h, x):
    return np.exp(-0.5 * ((v - x) / h) ** 2) / (h * np.sqrt(2 * np.pi))


def twins(values):
    """Each observable, and its series by its formula, for states (member, time, component)."""
    m = values.mean((0, 1))
    c = values - m
    v = np.array([-1.0, 0.0, 2.0])
    return {
        "mean": values,
        "second_moment": values**2,
        "variance": c**2,
        "moment3": c**3,
        "moment4": c**4,
        "covariance": c[..., :, None] * c[..., None, :],
        Exceedance(0.4): (values > 0.4) * 1.0,
        Exceedance(0.4, above=False): (values < 0.4) * 1.0,
        Density(v, bandwidth=0.3): kernel(v, 0.3, values[..., None]),
    }


@pytest.mark.parametrize("index", range(9))
def test_every_observable_is_its_formula(index):
    """R = <A(t) B(0)> by a loop over lags; mean and spread of A in the record."""
    run = record()
    observable, series = list(twins(run.values).items())[index]
    got = response(run, SCORE, max_lag=2.0, correction="none", observable=observable)
    b = -SCORE(run.values)
    b = b - b.mean((0, 1))
    a = series - series.mean((0, 1))
    for lag in range(5):
        expected = np.einsum("mt...,mtj->...j", a[:, lag:], b[:, : 400 - lag]) / (3 * (400 - lag))
        np.testing.assert_allclose(got["response"][lag], expected, atol=1e-11)
    np.testing.assert_allclose(got["observable_std"], series.std((0, 1)), atol=1e-11)
    np.testing.assert_allclose(got["observable_mean"], series.mean((0, 1)), atol=1e-11)
    assert got["observable_mean"].dims == got["response"].dims[1:-1]
    error, n = got["influence"].values, got.sizes["unit"]
    np.testing.assert_allclose(got["stderr"], np.sqrt(n / (n - 1) * (error**2).sum(axis=0)), rtol=1e-12)
    np.testing.assert_allclose(error.sum(axis=0), 0, atol=1e-9)


@pytest.mark.parametrize(
    ("observable", "dims"),
    [
        (None, ("component",)),
        ("covariance", ("component", "component_2")),
        ("pdf", ("component", "value")),
        (Exceedance(0.0), ("component",)),
        (lambda d: d.sel(component="a"), ()),
        (lambda d: d.values[:, 0], ()),
        (lambda d: d.values, ("component",)),
        (lambda d: d.values[:, :, None] * np.ones(3), ("function_dim_1", "function_dim_2")),
        (lambda d: d ** xr.DataArray([1, 2, 3], dims="power", coords={"power": [1, 2, 3]}), ("component", "power")),
        (lambda d: d.transpose("component", "time"), ("component",)),
        (lambda d: d > 0, ("component",)),
        (lambda d: d.mean("component"), ()),
        (["mean", "variance"], ("observable", "component")),
        ({"a": lambda d: d**2, "b": "moment3"}, ("observable", "component")),
    ],
)
def test_dims_and_labels_of_observables(observable, dims):
    run = record(20, 60)
    for perturbation, source in ((None, ("component_src",)), (np.ones(2), ()), ({"p": np.ones(2)}, ("perturbation",))):
        got = response(run, SCORE, max_lag=1.0, observable=observable, perturbation=perturbation)
        assert got["response"].dims == ("lag", *dims, *source)
        assert got["influence"].dims == ("unit", "lag", *dims, *source)
        assert got.attrs["observable_dims"] == " ".join(dims)
        for name in ("observable_mean", "observable_std"):
            assert got[name].dims == dims
        if "component" in dims:
            assert got["component"].values.tolist() == ["a", "b"]
        if "power" in dims:
            assert got["power"].values.tolist() == [1, 2, 3]


def test_several_at_once_are_each_alone_and_keep_their_order():
    run = record(24, 100)
    each = {"third": "moment3", "own": lambda d: d**2 + 1, "up": Exceedance(0.0)}
    together = response(run, SCORE, max_lag=2.0, observable=each, perturbation=Drift(lambda x: -x))
    assert together["observable"].values.tolist() == list(each)
    for name, observable in each.items():
        alone = response(run, SCORE, max_lag=2.0, observable=observable, perturbation=Drift(lambda x: -x))
        for variable in ("response", "stderr", "influence", "observable_mean", "observable_std"):
            np.testing.assert_allclose(together[variable].sel(observable=name), alone[variable], atol=1e-13)


def test_a_function_of_the_users_own_equals_the_named_one():
    run = record(24, 100)
    for perturbation in (np.ones(2), Drift(lambda x: -x)):
        options = {"max_lag": 2.0, "perturbation": perturbation}
        named = response(run, SCORE, observable="second_moment", **options)
        own = response(run, SCORE, observable=lambda d: d**2, **options)
        # The target <w . grad A> of the function is a difference quotient.
        np.testing.assert_allclose(own["response"], named["response"], atol=1e-7)
        np.testing.assert_allclose(own["stderr"], named["stderr"], atol=1e-7)


def test_a_function_may_change_its_argument():
    run = record()
    values = run.values.copy()

    def in_place(d):
        d.values[:] = d.values**2
        return d

    got = response(run, SCORE, max_lag=1.0, observable=in_place, perturbation=np.ones(2))
    same = response(run, SCORE, max_lag=1.0, observable=lambda d: d**2, perturbation=np.ones(2))
    np.testing.assert_allclose(got["response"], same["response"], atol=1e-12)
    np.testing.assert_array_equal(run.values, values)


@quiet
def test_a_local_function_of_a_field_needs_the_sites_in_their_places():
    run = squared(0)
    score = gfdt.AnalyticScore(lambda u: -u)
    options = {"max_lag": 1.0, "homogeneous": True, "confidence": None}
    plain = response(run, score, observable=lambda d: d**3, **options)["response"]
    assert plain.dims == ("lag", "dy", "dx")
    xr.testing.assert_allclose(
        response(run, score, observable=lambda d: (d**3).transpose("x", "time", "y"), **options)["response"], plain
    )
    elsewhere = response(run, score, observable=lambda d: (d**3).isel(x=[3, 2, 1, 0]), **options)["response"]
    assert elsewhere.dims == ("lag", "y", "x")
    one_row = response(run, score, observable=lambda d: d.isel(y=0) ** 3, **options)["response"]
    assert one_row.dims == ("lag", "x")


@pytest.mark.parametrize(
    ("observable", "message"),
    [
        ("kurtosis", "'kurtosis' is not known.*moment4"),
        (3, "observable=3 is not known"),
        (float, "is not known"),
        (Exceedance, "is not known"),
        ([], "names nothing"),
        ({}, "names nothing"),
        ([["mean"]], "nested"),
        (["mean", "mean"], "two observables are called 'mean'"),
        ([lambda d: d, lambda d: d**2], "pass a dict"),
        (["mean", "covariance"], "other dims"),
        ("spectrum", "needs a periodic field"),
        (Spectrum(), "needs a periodic field"),
        (lambda d: 1.0, r"returned shape \(\)"),
        (lambda d: d.mean("time"), "keep the dim 'time'"),
        (lambda d: d - d.mean("time"), "each state alone"),
        (lambda d: d.values / d.values.std(0), "each state alone"),
        (lambda d: d * 1j, "complex128"),
        (lambda d: d.astype(str), "real numbers"),
        (lambda d: d * np.nan, "NaN or inf"),
        (lambda d: d.where(d < d.mean() + 1e9).where(np.abs(d) < 2.5), "NaN or inf"),
        (lambda d: d.to_dataset(name="a"), "a Dataset"),
        (lambda d: d.rename(component="lag"), "'lag' of the observable"),
        (lambda d: d.rename(component="unit"), "'unit' of the observable"),
        (lambda d: d.rename(component="stderr"), "'stderr' of the observable"),
        (lambda d: d.rename(component="component_src"), "'component_src' of the observable"),
    ],
)
def test_what_cannot_be_observed_is_refused_in_one_sentence(observable, message):
    with pytest.raises(InputError, match=message) as caught:
        response(record(), SCORE, max_lag=1.0, observable=observable)
    assert "\n" not in str(caught.value)


def test_bad_settings_and_names_are_refused():
    for make, message in (
        (lambda: Exceedance("high"), "threshold='high'"),
        (lambda: Density([[1.0]]), r"shape \(1, 1\)"),
        (lambda: Density(["a"]), "type <U1"),
        (lambda: Density(bandwidth=0), "bandwidth=0"),
        (lambda: Density(n_values=1), "n_values=1"),
    ):
        with pytest.raises(InputError, match=message):
            make()
    run = record(20, 60)
    for name in ("lag", "unit", "perturbation", "observable", "response", "observable_mean"):
        with pytest.raises(InputError, match=f"state dim '{name}' clashes"):
            response(run.rename(component=name), SCORE, max_lag=1.0)
    with pytest.raises(InputError, match="state dim 'value' clashes"):
        response(run.rename(component="value"), SCORE, max_lag=1.0, observable="pdf")
    with pytest.raises(InputError, match="state dim 'x_2' clashes"):
        response(squared(0).rename(y="x_2"), lambda u: -u, max_lag=1.0, observable="covariance")


# --- exact answers ---------------------------------------------------------------------------------------------------


def distance(got, exact):
    return float(np.linalg.norm(np.ravel(got) - np.ravel(exact)))


@pytest.mark.parametrize(
    ("system", "duration", "step", "lags", "points"),
    [
        (simulators.ScalarClimate(), 100_000.0, 1.0, 18.0, np.array([-0.5, 0.8, 2.2])),
        (simulators.DoubleWell(noise=0.7), 40_000.0, 1.0, 50.0, np.array([-1.2, 0.0, 0.9])),
    ],
    ids=["climate", "double well"],
)
def test_moments_and_density_answer_as_the_fokker_planck_equation_says(system, duration, step, lags, points):
    """Within 5 % relative L2 over ten decorrelation times (1.8 and 5.0), analytic score.

    The second moment of the double well does not answer a push at all, by symmetry (x -> -x): its error has to be small
    beside what it answers where there is no symmetry, 2 sd times the response of the mean.
    """
    run = system.simulate(n_members=25, duration=duration, save_every=step, dt=0.05, seed=2)
    options = {"max_lag": lags, "confidence": None}
    score = gfdt.AnalyticScore(system.score)
    width = 0.25

    def density(x):
        return kernel(points, width, x[:, None])

    names = ["mean", "second_moment", "moment3"]
    got = response(run, score, observable=names, **options)
    lag = got["lag"].values
    exact = {name: system.exact_response(lag, observable=name).values for name in names}
    scale = {name: np.linalg.norm(value) for name, value in exact.items()}
    if isinstance(system, simulators.DoubleWell):
        assert scale["second_moment"] < 1e-9
        scale["second_moment"] = 2 * float(run["x"].std()) * scale["mean"]
    for name in names:
        assert distance(got["response"].sel(observable=name), exact[name]) < 0.05 * scale[name]
    pdf = response(run, score, observable=Density(points, bandwidth=width), **options)["response"]
    exact_pdf = system.exact_response(lag, observable=density).values
    assert distance(pdf, exact_pdf) < 0.05 * np.linalg.norm(exact_pdf)


def test_the_probability_to_exceed_answers_as_the_fokker_planck_equation_says():
    """A = 1 above 1: within three standard errors, where the analytic score is exact."""
    system = simulators.ScalarClimate()
    run = system.simulate(n_members=40, duration=2000.0, save_every=0.5, seed=4)
    got = response(run, gfdt.AnalyticScore(system.score), max_lag=8.0, lag_stride=2, observable=Exceedance(1.0))
    # The grid of the equation has cells of 0.002: the step is blurred by that.
    exact = system.exact_response(got["lag"].values, observable=lambda x: (x > 1.0) * 1.0).values.ravel()
    z = (got["response"].values.ravel() - exact) / got["stderr"].values.ravel()
    assert np.abs(z).max() < 3.3  # nine correlated lags, t with 39 degrees of freedom: below 2 %
    below = response(
        run, gfdt.AnalyticScore(system.score), max_lag=8.0, lag_stride=2, observable=Exceedance(1.0, above=False)
    )
    np.testing.assert_allclose(below["response"], -got["response"], atol=1e-9)
    np.testing.assert_allclose(got["observable_mean"], (run["x"] > 1.0).mean(), rtol=1e-12)


# --- error bars ------------------------------------------------------------------------------------------------------


def moved(u):
    """A shear and a damping that is not linear."""
    return np.stack([u[:, 1], -(u[:, 1] ** 3)], axis=1)


DENSE_CASES = {
    "state-dependent drift": {"perturbation": Drift(moved, lambda u: -3 * u[:, 1] ** 2)},
    "noise": {"perturbation": NoiseAmplitude(np.array([1.0, 0.8])), "observable": "second_moment"},
    "variance": {"observable": "variance", "perturbation": Drift(moved, lambda u: -3 * u[:, 1] ** 2)},
    "covariance": {"observable": "covariance"},
}
FIELD_CASES = {
    "pattern": {"perturbation": np.arange(12.0).reshape(3, 4) - 4},
    "spectrum": {"observable": "spectrum"},
    "covariance of a field": {"observable": "covariance"},
}


@quiet
@pytest.mark.parametrize("case", [*DENSE_CASES, *FIELD_CASES])
def test_error_bars_agree_with_a_brute_force_bootstrap(case):
    """Members drawn with replacement, the mean, the fit and the correction done again: the same standard errors."""
    if case in DENSE_CASES:
        run, options, homogeneous = record(30, 100, seed=5), DENSE_CASES[case], None
        run = run + 0.2 * run**2  # skewed, so that errors of the mean count
    else:
        run, options, homogeneous = squared(5, 30), FIELD_CASES[case], True
    max_lag = 4 * gfdt.trajectory.time_step(gfdt.load_trajectory(run))

    def estimate(sample):
        score = gfdt.GaussianScore(homogeneous).fit(sample)
        return response(sample, score, max_lag=max_lag, lag_stride=2, homogeneous=homogeneous, **options)

    rng = np.random.default_rng(7)
    draws = []
    for _ in range(60):
        chosen = run.isel(member=rng.integers(0, 30, 30)).assign_coords(member=np.arange(30))
        draws.append(estimate(chosen)["response"].values)
    got = estimate(run)["stderr"].values
    spread = np.std(draws, axis=0)
    known = spread > 0.05 * spread.max()  # what is fixed by R(0) = I has no error to compare
    ratio = got[known] / spread[known]
    # 60 draws know a standard deviation to 9 %, correlated entries together hardly better; second order terms are 1/30.
    assert np.median(ratio) == pytest.approx(1.0, abs=0.2)
    assert np.abs(np.log(ratio)).max() < np.log(1.45)


# --- several scores --------------------------------------------------------------------------------------------------


def test_several_scores_give_their_average_and_add_their_spread():
    run = record(24, 200)
    scores = [gfdt.AnalyticScore(lambda x, f=f: -f * (x - MEAN) @ INVERSE) for f in (0.95, 1.0, 1.1)]
    options = {"max_lag": 2.0, "correction": "none", "observable": "second_moment"}
    for perturbation in (None, Drift(lambda x: -x)):
        got = response(run, scores, perturbation=perturbation, **options)
        each = [response(run, score, perturbation=perturbation, **options) for score in scores]
        values = np.stack([item["response"].values for item in each])
        np.testing.assert_allclose(got["response"], values.mean(0), atol=1e-13)
        np.testing.assert_allclose(got["score_spread"], values.std(0, ddof=1), atol=1e-13)
        error = np.mean([item["influence"].values for item in each], axis=0)
        assert got.sizes["unit"] == 24 + 3
        total = 24 / 23 * (error**2).sum(0) + values.var(0, ddof=1) / 3
        # Units and scores together are the error, also of whatever is made of the response.
        np.testing.assert_allclose(27 / 26 * (got["influence"] ** 2).sum("unit"), total, rtol=1e-10)
        step = gfdt.step_response(got)["stderr"].isel(lag=-1)
        of_scores = np.stack([gfdt.step_response(item)["response"].values[-1] for item in each]).std(0, ddof=1)
        assert (step.values >= of_scores / np.sqrt(3) * (1 - 1e-9)).all()
        np.testing.assert_allclose(got["stderr"], np.sqrt(total), rtol=1e-10)
        np.testing.assert_allclose(got["upper"] - got["response"], got["response"] - got["lower"], atol=1e-12)
        assert got.attrs["n_scores"] == 3
    same = response(run, [scores[1]] * 2, **options)
    alone = response(run, scores[1], **options)
    np.testing.assert_allclose(same["stderr"], alone["stderr"], rtol=1e-12)
    assert float(same["score_spread"].max()) == 0.0
    assert response(run, scores, confidence=None, **options)["score_spread"].dims == alone["response"].dims
    with pytest.raises(InputError, match="empty list"):
        response(run, [], **options)
