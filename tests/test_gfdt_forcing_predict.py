"""Step responses and predictions against closed forms, and their errors against brute force."""

import numpy as np
import pytest
import scipy.linalg
import xarray as xr
from scipy import stats

import simulators
from gfdt.errors import InputError, ReliabilityWarning
from gfdt.forcing.predict import predict
from gfdt.forcing.reading import read_response
from gfdt.forcing.step import step_response
from tests.reference.linear_sde import DRIFT, exact_response

LAG = np.linspace(0.0, 16.0, 161)


def scalar(rate=1.0, lag=LAG):
    return xr.DataArray(np.exp(-rate * lag), dims="lag", coords={"lag": lag})


def matrix(lag=LAG):
    labels = {"component": list("abcd"), "component_src": list("abcd")}
    return xr.DataArray(exact_response(lag), dims=("lag", *labels), coords={"lag": lag, **labels}, name="response")


def with_influence(response, n_units=9, seed=0, std=None):
    """A Dataset as gfdt.response makes it, with random errors of the units."""
    rng = np.random.default_rng(seed)
    errors = rng.standard_normal((n_units, *response.shape)) * 1e-3
    errors -= errors.mean(axis=0)
    stderr = np.sqrt(n_units / (n_units - 1) * (errors**2).sum(axis=0))
    half = stats.t.ppf(0.975, n_units - 1) * stderr
    out = response.to_dataset(name="response")
    for name, values in (("stderr", stderr), ("lower", response.values - half), ("upper", response.values + half)):
        out[name] = (response.dims, values)
    out["influence"] = (("unit", *response.dims), errors)
    if std is not None:
        out["observable_std"] = std
    return out.assign_attrs(confidence=0.95)


# ---- step response


@pytest.mark.parametrize("dims", [(), ("component", "component_src")])
def test_step_response_is_the_integral(dims):
    R = matrix() if dims else scalar()
    S = step_response(R)
    generator = DRIFT if dims else np.array([[-1.0]])
    exact = [np.linalg.solve(generator, scipy.linalg.expm(generator * t) - np.eye(len(generator))) for t in LAG]
    assert S.response.dims == ("lag", *dims)
    assert S.attrs["kind"] == "step"
    np.testing.assert_allclose(S.response.values, np.squeeze(exact), atol=3e-6)  # O(h^4) at h = 0.1


def test_step_response_is_of_fourth_order():
    errors = []
    for n in (21, 41, 81):
        lag = np.linspace(0, 10, n)
        errors.append(np.abs(step_response(scalar(lag=lag)).response.values - (1 - np.exp(-lag))).max())
    orders = np.log2(np.divide(errors[:-1], errors[1:]))
    assert (orders > 3.8).all(), orders


def test_lags_need_not_be_uniform():
    lag = np.concatenate([np.linspace(0, 1, 21), np.geomspace(1.1, 16, 40)])
    S = step_response(scalar(lag=lag))
    np.testing.assert_allclose(S.response.values, 1 - np.exp(-lag), atol=1e-4)


def test_coarse_lags_are_warned_of():
    coarse = scalar(rate=3.0, lag=np.arange(0.0, 16.0, 1.0))
    with pytest.warns(ReliabilityWarning, match="lags are 1 apart, too far"):
        step = step_response(coarse)
    with pytest.warns(ReliabilityWarning, match="lags are 1 apart, too far"):
        predict(coarse, lambda t: np.ones_like(t))
    # Exact: (1 - exp(-3 t))/3. The estimate is the right size.
    exact = -np.expm1(-3.0 * step["lag"].values) / 3
    true = np.sqrt(((step["response"].values - exact) ** 2).mean() / (exact**2).mean())
    assert 0.2 < step.attrs["quadrature_error"] / true < 5


def test_lags_that_cost_less_than_the_noise_are_not_warned_of():
    noisy = scalar(rate=1.0, lag=np.arange(0.0, 16.0, 1.0)).to_dataset(name="response")
    noisy["stderr"] = 0.1 + 0 * noisy["response"]
    assert step_response(noisy).attrs["quadrature_error"] > 0.01


def test_step_response_refuses_a_step_response_and_lags_that_do_not_start_at_zero():
    with pytest.raises(InputError, match="is a step response"):
        step_response(step_response(scalar()))
    with pytest.raises(InputError, match="start at 0"):
        step_response(scalar().isel(lag=slice(1, None)))


# ---- predictions


def forcing(values, time):
    return xr.DataArray(values, dims="time", coords={"time": time})


@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.parametrize(
    ("f", "exact"),
    [
        (lambda t: 0.1 * t, lambda t: 0.1 * (t - 1 + np.exp(-t))),
        (lambda t: 0.3 * np.ones_like(t), lambda t: 0.3 * (1 - np.exp(-t))),
        (lambda t: np.sin(2 * t), lambda t: (np.sin(2 * t) - 2 * np.cos(2 * t) + 2 * np.exp(-t)) / 5),
    ],
    ids=["ramp", "step", "sine"],
)
def test_prediction_of_a_relaxing_variable_is_exact(f, exact, sampled):
    # neither grid fits the other: times are irrational multiples of the lags
    time = np.linspace(0, 15.0, 1201)
    drive = forcing(f(time), time) if sampled else f
    wanted = np.sqrt(np.linspace(0.0, 225.0, 23))
    got = predict(scalar(), drive, wanted)
    # spline of R at h = 0.1: 2e-7; a sine linear between samples 1/80 apart errs by (w h)^2/8 = 8e-5 of its size
    np.testing.assert_allclose(got.prediction, exact(wanted), atol=4e-5 if sampled else 1e-6)


def test_a_pulse_decays_after_its_last_sample():
    got = predict(scalar(), forcing([1.0, 1.0], [2.0, 3.0]), [1.0, 2.5, 5.0])
    np.testing.assert_allclose(got.prediction, [0.0, 1 - np.exp(-0.5), np.exp(-2) - np.exp(-3)], atol=1e-6)


def test_a_constant_forcing_gives_the_step_response():
    R = matrix()
    pattern = xr.DataArray([0.5, -1.0, 0.0, 2.0], dims="component_src")
    drive = pattern * forcing(np.ones(2), [0.0, 16.0])
    got = predict(R, drive.transpose("time", ...), LAG)
    expected = (step_response(R).response * pattern).sum("component_src")
    assert got.prediction.dims == ("time", "component")
    assert got.component.values.tolist() == list("abcd")
    np.testing.assert_allclose(got.prediction.values, expected.values, atol=1e-12)
    shuffled = drive.assign_coords(component_src=list("abcd")).isel(component_src=[2, 0, 3, 1])
    np.testing.assert_allclose(predict(R, shuffled, LAG).prediction, got.prediction)
    as_function = predict(R, lambda t: np.outer(np.ones_like(t), pattern.values), LAG)
    np.testing.assert_allclose(as_function.prediction, got.prediction, atol=1e-12)


def test_named_perturbations_add_up():
    R = xr.DataArray(
        np.stack([np.exp(-LAG), LAG * np.exp(-LAG)], axis=-1),
        dims=("lag", "perturbation"),
        coords={"lag": LAG, "perturbation": ["heating", "wind"]},
    )
    heat, wind = (lambda t: np.sin(t)), forcing(np.ones(3), [1.0, 2.0, 4.0])
    both = predict(R, {"heating": heat, "wind": wind}, LAG).prediction
    one = predict(R.sel(perturbation="heating", drop=True), heat, LAG).prediction
    other = predict(R.sel(perturbation="wind", drop=True), wind, LAG).prediction
    np.testing.assert_allclose(both, one + other, atol=1e-8)
    alone = predict(R, {"wind": wind}, LAG).prediction
    np.testing.assert_allclose(alone, other, atol=1e-12)
    with pytest.raises(InputError, match="use these names"):
        predict(R, {"rain": heat})


@pytest.mark.filterwarnings("ignore:the lags are")  # a response of white noise is not resolved by any lags
@pytest.mark.parametrize("shape", [(6, 5), (4, 8)])
@pytest.mark.parametrize("errors", ["influence", "stderr"])
def test_homogeneous_field_is_a_convolution_in_space_and_time(shape, errors):
    rng = np.random.default_rng(3)
    lag = np.linspace(0, 3, 13)
    coords = {"lag": lag} | {f"d{s}": np.arange(n) - n // 2 for s, n in zip("yx", shape, strict=True)}
    R = xr.DataArray(
        rng.standard_normal((13, *shape)) * np.exp(-2 * lag)[:, None, None], dims=tuple(coords), coords=coords
    )
    R = with_influence(R)
    time = np.linspace(0, 2, 9)
    drive = xr.DataArray(rng.standard_normal((9, *shape)), dims=("time", "y", "x"), coords={"time": time})
    # the same as a full matrix over all pairs of sites
    sites = np.indices(shape).reshape(2, -1)
    steps = [(s[:, None] - s[None, :] + n // 2) % n for s, n in zip(sites, shape, strict=True)]
    full = R.isel(
        dy=xr.DataArray(steps[0], dims=("site", "site_src")), dx=xr.DataArray(steps[1], dims=("site", "site_src"))
    )
    flat = drive.stack(site_src=("y", "x")).drop_vars(("site_src", "y", "x"), errors="ignore")
    if errors == "stderr":
        R, full = R.drop_vars("influence"), full.drop_vars("influence")
    got = predict(R, drive)
    expected = predict(full.drop_vars(("dy", "dx")), flat)
    assert got.prediction.dims == ("time", "y", "x")
    for name in ("prediction", "stderr", "lower", "upper"):
        np.testing.assert_allclose(got[name].values.reshape(9, -1), expected[name].values, atol=1e-12)
    # by a plain loop at one time, R between its lags by the spline
    from scipy.interpolate import CubicSpline

    tau = np.linspace(0, 2, 2001)
    at = CubicSpline(lag, R.response.values)(tau)
    f = drive.interp(time=2.0 - tau).values
    total = np.zeros((tau.size, *shape))
    for i in range(shape[0]):
        for j in range(shape[1]):
            rolled = np.roll(f, (i - shape[0] // 2, j - shape[1] // 2), axis=(1, 2))
            total += at[:, i, j][:, None, None] * rolled
    np.testing.assert_allclose(got.prediction.values[-1], np.trapezoid(total, tau, axis=0), atol=1e-4)


@pytest.mark.filterwarnings("ignore:the lags are")
def test_several_variables_on_a_field_keep_their_dims():
    rng = np.random.default_rng(4)
    lag = np.linspace(0, 3, 7)
    R = xr.Dataset(
        {"response": (("lag", "variable", "dx", "variable_src"), rng.standard_normal((7, 2, 5, 2)))},
        coords={"lag": lag, "dx": np.arange(5) - 2, "variable": ["u", "v"], "variable_src": ["u", "v"]},
        attrs={"observable_dims": "variable", "perturbation_dims": "variable_src", "displacement_dims": "dx"},
    )
    drive = xr.DataArray(
        rng.standard_normal((4, 5, 2)), dims=("time", "x", "variable_src"), coords={"time": [0, 1, 2, 3.0]}
    )
    got = predict(R, drive)
    assert got.prediction.dims == ("time", "variable", "x")
    one = R.sel(variable="u", variable_src="v", drop=True).assign_attrs(observable_dims="", perturbation_dims="")
    two = R.sel(variable="u", variable_src="u", drop=True).assign_attrs(observable_dims="", perturbation_dims="")
    parts = predict(one, drive.isel(variable_src=1)).prediction + predict(two, drive.isel(variable_src=0)).prediction
    np.testing.assert_allclose(got.prediction.sel(variable="u"), parts, atol=1e-12)


# ---- errors


def test_bands_are_those_of_the_perturbed_estimates():
    R = with_influence(matrix())
    drive = xr.DataArray(
        np.random.default_rng(1).standard_normal((30, 4)),
        dims=("time", "component_src"),
        coords={"time": np.linspace(0, 14, 30)},
    )
    got, plain = predict(R, drive), predict(R.response, drive)
    moved = [
        predict((R.response + R.influence.isel(unit=u)).rename("response"), drive).prediction - plain.prediction
        for u in range(9)
    ]
    stderr = np.sqrt(9 / 8 * sum(m.values**2 for m in moved))
    np.testing.assert_allclose(got.stderr, stderr, rtol=1e-9)
    half = stats.t.ppf(0.975, 8) * stderr
    np.testing.assert_allclose(got.upper - got.prediction, half, rtol=1e-6)
    np.testing.assert_allclose(got.prediction - got.lower, half, rtol=1e-6)
    S = step_response(R)
    brute = [
        step_response((R.response + R.influence.isel(unit=u)).rename("response")).response - S.response
        for u in range(9)
    ]
    np.testing.assert_allclose(S.stderr, np.sqrt(9 / 8 * sum(b.values**2 for b in brute)), atol=1e-12)
    assert S.influence.dims == ("unit", *S.response.dims)


def test_without_influences_the_band_is_wider_but_right():
    R = with_influence(matrix())
    bound, exact = (
        predict(R.drop_vars("influence"), lambda t: np.ones((t.size, 4))),
        predict(R, lambda t: np.ones((t.size, 4))),
    )
    inner = slice(1, None)  # both are zero at t = 0
    assert (bound.stderr.values[inner] > exact.stderr.values[inner]).all()
    # Errors of one sign, all from one cause: then the bound is what happens, but for the spline's few negative weights.
    signs = xr.DataArray([0.5, -0.5], dims="unit")
    shared = R.drop_vars(("influence", "lower", "upper")).assign(influence=R.stderr * signs)
    shared = shared.assign(stderr=np.sqrt(2 * (shared.influence**2).sum("unit")))
    one = predict(shared, lambda t: np.ones((t.size, 4))).stderr
    other = predict(shared.drop_vars("influence"), lambda t: np.ones((t.size, 4))).stderr
    assert (other.values >= one.values * (1 - 1e-9)).all()
    np.testing.assert_allclose(one[20:], other[20:], rtol=0.02)


def test_without_error_bars_there_is_no_band():
    assert set(predict(scalar(), lambda t: t).data_vars) == {"prediction"}
    assert set(step_response(scalar()).data_vars) == {"response"}


# ---- what must be said


def test_a_truncated_response_is_warned_of_with_the_size_of_what_is_missing():
    slow = scalar(rate=0.1)
    with pytest.warns(ReliabilityWarning, match="has not decayed"):
        got = predict(slow, lambda t: np.ones_like(t), [16.0, 40.0])
    missing = (np.exp(-1.6) - np.exp(-4)) / 0.1
    # one exponential and one late time: exact, up to rounding and the spline
    assert got.attrs["truncated_tail"] == pytest.approx(missing / float(got.prediction.max()), rel=1e-4)
    assert predict(slow, lambda t: np.ones_like(t), [16.0]).attrs["truncated_tail"] == 0.0
    assert predict(scalar(), lambda t: np.ones_like(t), [40.0]).attrs["truncated_tail"] < 1e-6


def test_a_pulse_longer_ago_than_the_lags_reach_is_warned_of():
    with pytest.warns(ReliabilityWarning, match="has not decayed"):
        got = predict(scalar(rate=0.1), forcing([1.0, 1.0], [0.0, 1.0]), [16.0, 30.0])
    assert float(got.prediction[1]) == 0.0  # all that is known; 30 is beyond lag 16
    assert got.attrs["truncated_tail"] > np.exp(-1.4)  # what is really missing, of the change at 16
    fast = predict(scalar(), forcing([1.0, 1.0], [0.0, 1.0]), [1.0, 16.0, 30.0])
    assert fast.attrs["truncated_tail"] < 1e-5


def test_noise_in_the_tail_is_not_taken_for_a_tail():
    rng = np.random.default_rng(5)
    members = np.exp(-LAG) + 0.3 * rng.standard_normal((40, LAG.size))
    R = members.mean(axis=0)
    data = {"response": ("lag", R), "influence": (("unit", "lag"), (members - R) / 40)}
    got = predict(xr.Dataset(data, coords={"lag": LAG}), lambda t: np.ones_like(t), [40.0])
    assert got.attrs["truncated_tail"] < 0.05


def test_a_rough_callable_is_warned_of_and_its_samples_are_not():
    def jumps(t):
        return ((t * 7.3) % 1.0 < 0.5).astype(float)

    with pytest.warns(ReliabilityWarning, match="too rough"):
        predict(scalar(), jumps, [10.0])
    time = np.linspace(0, 10, 5001)
    assert predict(scalar(), forcing(jumps(time), time), [10.0]).attrs["quadrature_error"] == 0.0


@pytest.mark.parametrize(
    ("size", "verdict"), [(0.05, "inside"), (0.35, "outside"), (0.2, "undetermined"), (None, "undetermined")]
)
def test_the_linear_range_is_judged_in_natural_standard_deviations(size, verdict):
    std = None if size is None else xr.DataArray(2.0)
    R = with_influence(scalar(), std=std)
    amplitude = 2.0 * (size or 0.0)  # S(inf) = 1, so that the shift is `size`
    if verdict == "outside":
        with pytest.warns(ReliabilityWarning, match=r"by 0\.35 of its natural standard deviations"):
            got = predict(R, lambda t: amplitude * np.ones_like(t))
    else:
        got = predict(R, lambda t: amplitude * np.ones_like(t))
    assert got.attrs["linear_range"] == verdict
    if size is not None:
        assert float(got["shift"].max()) == pytest.approx(size, abs=1e-5)


@pytest.mark.parametrize(
    ("drive", "message"),
    [
        (np.ones(3), "a numpy array needs its times"),
        (forcing(np.ones(3), [0.0, 1.0, 2.0]), "this response needs"),
        (lambda t: np.ones_like(t), r"returned shape"),
        (xr.DataArray(np.ones((2, 4)), dims=("time", "component_src")), "no numeric 'time'"),
        (xr.DataArray(np.ones((2, 3)), dims=("time", "component_src"), coords={"time": [0.0, 1.0]}), "3 points along"),
        (
            xr.DataArray(
                np.ones((2, 4)),
                dims=("time", "component_src"),
                coords={"time": [0.0, 1.0], "component_src": list("abcz")},
            ),
            "use the same labels",
        ),
        (
            xr.DataArray(np.full((2, 4), np.nan), dims=("time", "component_src"), coords={"time": [0.0, 1.0]}),
            "holds NaN",
        ),
    ],
)
def test_forcings_that_do_not_fit_are_refused(drive, message):
    with pytest.raises(InputError, match=message):
        predict(matrix(), drive)


def test_the_responses_of_the_simulators_are_read():
    field = simulators.OrnsteinUhlenbeck(n=4).exact_response(np.arange(4.0))
    R = read_response(field)
    assert (R.observed, R.displacement, R.perturbed) == ((), ("dy", "dx"), ())
    twins = simulators.LinearSDE([[-1.0, 0.5], [0.0, -0.5]], np.eye(2)).direct_response(
        max_lag=4.0, save_every=0.5, n_members=4, amplitude=0.1, perturbation="pixel", seed=1
    )
    R = read_response(twins)
    assert R.observed == ("component",)
    assert np.isfinite(R.quantile)
    assert R.quantile > 1.9  # its own band: t with few degrees of freedom


def test_a_selected_component_is_a_scalar_amplitude():
    """A selection drops the dim but keeps the attributes that name it."""
    R = matrix().to_dataset(name="response")
    R = R.assign_attrs(observable_dims="component", perturbation_dims="component_src", displacement_dims="")
    got = predict(R.sel(component_src="b"), np.sin)
    assert got.prediction.dims == ("time", "component")
    field = xr.Dataset(
        {"response": (("lag", "dy", "dx"), np.ones((3, 4, 4)))},
        coords={"lag": np.arange(3.0), "dy": np.arange(4) - 2, "dx": np.arange(4) - 2},
        attrs={"observable_dims": "", "perturbation_dims": "", "displacement_dims": "dy dx"},
    )
    with pytest.raises(InputError, match="lost its displacement dims dy"):
        predict(field.sel(dy=0), np.sin)


def test_results_go_through_netcdf(tmp_path):
    R = with_influence(matrix(), std=xr.DataArray(np.ones(4), dims="component"))
    drive = lambda t: 0.01 * np.ones((t.size, 4))  # noqa: E731
    for name, item in (("step", step_response(R)), ("prediction", predict(R, drive))):
        item.to_netcdf(tmp_path / f"{name}.nc")
        with xr.open_dataset(tmp_path / f"{name}.nc") as back:
            xr.testing.assert_allclose(back, item)
