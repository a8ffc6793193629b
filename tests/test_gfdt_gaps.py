"""Records with missing samples: every estimate is what it is over the samples and pairs that are there."""

import numpy as np
import pytest
import xarray as xr
from reference import linear_sde

import gfdt
from gfdt import Drift, NoiseAmplitude, response
from gfdt.errors import InputError
from gfdt.trajectory import time_step

DIMS = ("member", "time", "component")
DRIFT = np.array([[-0.5, 0.4], [-0.2, -0.8]])
NOISE = np.diag([1.0, 0.6])
INVERSE = np.linalg.inv(linear_sde.stationary_covariance(DRIFT, NOISE))
SCORE = gfdt.AnalyticScore(lambda x: -x @ INVERSE - 0.02 * x)


def record(n_members=3, n_times=200, seed=0):
    values = linear_sde.sample(n_members, n_times, 0.5, seed, DRIFT, NOISE)
    return xr.DataArray(values, dims=DIMS, coords={"time": 0.5 * np.arange(n_times)}, name="x")


def with_gaps(run, share=0.2, seed=1):
    """Single samples and a long stretch are missing, other ones in each member; ends included."""
    rng = np.random.default_rng(seed)
    missing = rng.random(run.shape[:2]) < share
    missing[0, :7] = True
    missing[-1, -30:] = True
    return run.where(~xr.DataArray(missing, dims=("member", "time")))


def slow_response(run, score, n_lags, w=None):
    """<x'(t + l) B(t)> over the pairs of which both are there; means over all samples that are there."""
    x = run.values
    there = ~np.isnan(x[..., 0])
    a = x - x[there].mean(0)
    if w is None:
        b = np.full_like(x, np.nan)
        b[there] = -score(x[there])
    else:
        b = np.full((*there.shape, 1), np.nan)
        b[there] = -(w.divergence(x[there]) + (w.w(x[there]) * score(x[there])).sum(-1))[:, None]
    b = b - b[there].mean(0)
    out = []
    for lag in range(n_lags):
        total, count = 0.0, 0
        for member in range(len(x)):
            for t in range(x.shape[1] - lag):
                if there[member, t] and there[member, t + lag]:
                    total, count = total + np.outer(a[member, t + lag], b[member, t]), count + 1
        out.append(total / count)
    return np.array(out)


quiet = pytest.mark.filterwarnings(
    "ignore::gfdt.errors.ReliabilityWarning", "ignore::gfdt.errors.UnreliableScoreWarning"
)


@quiet
@pytest.mark.parametrize("n_members", [3, 21])
def test_the_response_is_that_of_the_pairs_that_are_there(n_members):
    run = with_gaps(record(n_members, 120))
    options = {"max_lag": 3.0, "correction": "none"}
    got = response(run, SCORE, **options)
    np.testing.assert_allclose(got["response"], slow_response(run, SCORE, 7), atol=1e-12)
    assert got.attrs["n_samples"] == int((~np.isnan(run.values[..., 0])).sum())
    drift = Drift(lambda x: -(x**3), lambda x: -3 * (x**2).sum(-1))
    one = response(run, SCORE, perturbation=drift, **options)
    np.testing.assert_allclose(one["response"], slow_response(run, SCORE, 7, drift)[..., 0], atol=1e-11)
    for result in (got, one):
        error, n = result["influence"].values, result.sizes["unit"]
        np.testing.assert_allclose(error.sum(axis=0), 0, atol=1e-10)
        np.testing.assert_allclose(result["stderr"], np.sqrt(n / (n - 1) * (error**2).sum(axis=0)), rtol=1e-12)


@quiet
def test_a_kick_is_contracted_to_a_pattern_with_gaps_as_well():
    run = with_gaps(record())
    pattern = np.array([0.7, -1.2])
    for correction in ("stein", "none"):  # "auto" regresses a control for the pattern as a whole
        full = response(run, SCORE, max_lag=3.0, correction=correction)
        one = response(run, SCORE, max_lag=3.0, correction=correction, perturbation=pattern)
        np.testing.assert_allclose(one["response"], full["response"].values @ pattern, atol=1e-12)
        np.testing.assert_allclose(one["influence"], full["influence"].values @ pattern, atol=1e-12)


@quiet
@pytest.mark.parametrize("observable", ["variance", "covariance", "pdf", gfdt.Exceedance(0.3), lambda d: d**2])
@pytest.mark.parametrize("perturbation", [None, Drift(lambda x: -x), NoiseAmplitude(0.8)])
def test_what_stands_where_samples_are_missing_does_not_matter(observable, perturbation):
    """Members that end early are the same members in a list, whatever the padding; all observables."""
    run = record(22, 100)
    lengths = np.linspace(60, 100, 22).astype(int)
    parts = [run.isel(member=[m], time=slice(0, n)) for m, n in enumerate(lengths)]
    padded = run.where(xr.DataArray(np.arange(100)[None] < lengths[:, None], dims=("member", "time")))
    options = {"max_lag": 3.0, "observable": observable, "perturbation": perturbation}
    got, same = response(parts, SCORE, **options), response(padded, SCORE, **options)
    for name in ("response", "stderr", "observable_mean", "observable_std"):
        np.testing.assert_allclose(got[name], same[name], atol=1e-11)
        assert np.isfinite(got[name]).all()
    values = np.concatenate([part.values[0] for part in parts])
    if observable == "variance":
        np.testing.assert_allclose(got["observable_mean"], values.var(0), rtol=1e-12)
        np.testing.assert_allclose(got["observable_std"], ((values - values.mean(0)) ** 2).std(0), rtol=1e-12)


@quiet
def test_members_far_shorter_than_the_others_leave_blocks_without_samples():
    """One member in blocks of time, the others over after a tenth: units without a sample count for nothing."""
    run = record(3, 600)
    parts = [run.isel(member=0), run.isel(member=1, time=slice(0, 60)), run.isel(member=2, time=slice(0, 60))]
    padded = run.where((run.member == 0) | (run.time < 30.0))
    for perturbation in (None, Drift(lambda x: -x / np.abs(x).max()), NoiseAmplitude(0.8)):
        for observable in ("second_moment", "variance", lambda d: d**2):
            options = {"max_lag": 3.0, "observable": observable, "perturbation": perturbation}
            got = response(parts, SCORE, **options)
            assert np.isfinite(got["stderr"]).all()
            np.testing.assert_allclose(got["influence"].sum("unit"), 0, atol=1e-9)
            if not isinstance(perturbation, Drift):
                np.testing.assert_allclose(got["response"], response(padded, SCORE, **options)["response"], atol=1e-11)


@quiet
def test_times_left_out_are_put_in_as_missing():
    run = record()
    kept = np.ones(200, dtype=bool)
    kept[[5, 6, 50, 51, 52, 120]] = False
    left_out = run.isel(time=kept)
    as_nan = run.where(xr.DataArray(kept, dims="time"))
    got, same = response(left_out, SCORE, max_lag=3.0), response(as_nan, SCORE, max_lag=3.0)
    xr.testing.assert_allclose(got, same)
    loaded = gfdt.load_trajectory(left_out, gaps=True)
    assert loaded.sizes["time"] == 200
    assert time_step(loaded) == 0.5
    with pytest.raises(InputError, match="not uniform"):
        gfdt.load_trajectory(left_out)
    dates = np.datetime64("2001-01-01", "ns") + (np.arange(200) * 12 * 3600 * 10**9).astype("timedelta64[ns]")
    dated = response(run.assign_coords(time=dates).isel(time=kept), SCORE, max_lag=3.0)
    np.testing.assert_allclose(dated["response"], got["response"], atol=1e-12)
    assert dated["lag"].attrs["units"] == "days"


@quiet
def test_a_file_with_fill_values_is_a_record_with_gaps(tmp_path):
    run = with_gaps(record())
    run.to_netcdf(tmp_path / "gaps.nc", encoding={"x": {"_FillValue": -999.0}})
    in_memory = response(run, SCORE, max_lag=3.0)
    xr.testing.assert_allclose(response(tmp_path / "gaps.nc", SCORE, max_lag=3.0), in_memory)
    shorter = record(2, 90, seed=4)
    shorter.to_netcdf(tmp_path / "short.nc")
    both = response([tmp_path / "gaps.nc", tmp_path / "short.nc"], SCORE, max_lag=3.0)
    xr.testing.assert_allclose(both, response([run, shorter], SCORE, max_lag=3.0))
    assert both.attrs["n_members"] == 5


@quiet
def test_a_score_is_fitted_to_what_is_there():
    run = with_gaps(record())
    there = ~np.isnan(run.values[..., 0])
    flat = run.values[there][None]
    for make in (gfdt.GaussianScore, gfdt.KDEScore):
        gaps, plain = make().fit(run), make().fit(flat, dims=DIMS)
        states = record(1, 20, seed=7).values[0]
        np.testing.assert_allclose(gaps(states), plain(states), rtol=1e-10)
    fitted = gfdt.GaussianScore().fit(run)
    got = response(run, fitted, max_lag=3.0)
    np.testing.assert_allclose(got["response"].sel(lag=0), np.eye(2), atol=1e-10)
    x = flat[0] - flat[0].mean(0)
    np.testing.assert_allclose(-(x.T @ fitted(flat[0])) / len(x), np.eye(2), atol=1e-10)
    # The score is known to come from this very record, whose errors are then those of the ratio C(t) C(0)^-1.
    np.testing.assert_allclose(got["stderr"].sel(lag=0), 0, atol=1e-10)


@quiet
def test_homogeneous_fields_with_gaps():
    rng = np.random.default_rng(0)
    x = np.zeros((3, 120, 2, 3, 4))
    for t in range(1, 120):
        x[:, t] = 0.6 * np.roll(x[:, t - 1], 1, -1) + rng.standard_normal(x[:, t].shape)
    run = with_gaps(xr.DataArray(x, dims=("member", "time", "variable", "y", "x"), coords={"time": np.arange(120.0)}))
    there = ~np.isnan(run.values[..., 0, 0, 0])
    options = {"max_lag": 3.0, "correction": "none", "homogeneous": ("y", "x")}
    score = gfdt.AnalyticScore(lambda u: -0.6 * u - 0.2 * u[..., ::-1, :, :])
    got = response(run, score, **options)
    a = run.values - run.values[there].mean((0, 2, 3))[:, None, None]
    b = 0.6 * run.values + 0.2 * run.values[..., ::-1, :, :]
    b = b - b[there].mean((0, 2, 3))[:, None, None]
    for lag in range(4):
        both = there[:, lag:] & there[:, : 120 - lag]
        later, now = a[:, lag:][both], b[:, : 120 - lag][both]
        for i, dy in enumerate(range(-1, 2)):
            for j, dx in enumerate(range(-2, 2)):
                moved = np.roll(now, (dy, dx), (-2, -1))
                expected = np.einsum("nvyx,nwyx->vw", later, moved) / (both.sum() * 12)
                np.testing.assert_allclose(got["response"].values[lag, :, i, j], expected, atol=1e-12)
    amplitude = response(run, score, perturbation=Drift(lambda u: -u), observable="variance", **options)
    assert np.isfinite(amplitude["stderr"]).all()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda v: v.__setitem__((1, 5, 0), np.nan), r"1 NaN or inf.*member=1, time=5, component=0.*all NaN counts"),
        (lambda v: v.__setitem__((1, 5), np.inf), "2 NaN or inf"),
        (lambda v: v.__setitem__(2, np.nan), "member 2 holds no sample"),
    ],
)
def test_a_sample_is_there_or_missing_as_a_whole(spoil, message):
    run = record()
    spoil(run.values)
    for call in (lambda: response(run, SCORE, max_lag=3.0), lambda: gfdt.GaussianScore().fit(run)):
        with pytest.raises(InputError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_without_gaps_asked_for_missing_samples_are_refused():
    with pytest.raises(InputError, match=r"NaN or inf.*interpolate"):
        gfdt.load_trajectory(with_gaps(record()))


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (lambda run: [], "empty"),
        (lambda run: [run, [run]], "flat list"),
        (lambda run: [run, run.isel(component=0)], r"trajectory 1 of the list has dims .*, the first \{"),
        (lambda run: [run, run.assign_coords(time=0.3 * np.arange(200))], "time step 0.3, the first 0.5"),
        (lambda run: [1.0, 2.0], "list of numbers"),
    ],
)
def test_lists_that_are_no_record_are_refused(parts, message):
    with pytest.raises(InputError, match=message):
        gfdt.load_trajectory(parts(record()))


def test_a_list_of_arrays_and_of_datasets():
    run = record(3)
    values = [run.values[0, :150], run.values[1:]]
    with pytest.raises(InputError, match="does not name"):
        gfdt.load_trajectory(values, dims=DIMS, dt=0.5)
    arrays = [run.values[:1, :150], run.values[1:]]
    sets = [xr.Dataset({"x": run.isel(member=[0], time=slice(0, 150))}), xr.Dataset({"x": run.isel(member=[1, 2])})]
    a = gfdt.load_trajectory(arrays, dims=DIMS, dt=0.5, gaps=True)
    b = gfdt.load_trajectory(sets, gaps=True)
    np.testing.assert_array_equal(a.values, b.values)
    assert a.shape == (3, 200, 2)
    assert np.isnan(a.values[0, 150:]).all()


def test_several_variables_of_a_dataset_are_one_state(tmp_path):
    rng = np.random.default_rng(0)
    shape = (3, 60, 4)
    data = xr.Dataset(
        {name: (("member", "time", "x"), rng.standard_normal(shape)) for name in ("a", "b", "other")},
        coords={"time": np.arange(60.0)},
    )
    got = gfdt.load_trajectory(data, var=["b", "a"])
    assert got.dims == ("member", "time", "variable", "x")
    assert got["variable"].values.tolist() == ["b", "a"]
    np.testing.assert_array_equal(got.sel(variable="a"), data["a"])
    data.to_netcdf(tmp_path / "two.nc")
    options = {"max_lag": 3.0, "homogeneous": "x", "confidence": None}
    from_file = response(tmp_path / "two.nc", lambda u: -u, var=["b", "a"], **options)
    xr.testing.assert_identical(from_file["response"], response(got, lambda u: -u, **options)["response"])
    assert from_file["variable_src"].values.tolist() == ["b", "a"]
    for var, message in ((["a", "z"], "distinct variables"), (["a", "a"], "distinct variables"), ([], "distinct")):
        with pytest.raises(InputError, match=message):
            gfdt.load_trajectory(data, var=var)
    with pytest.raises(InputError, match=r"3 time series.*var=\['a', 'b'\]"):
        gfdt.load_trajectory(data)
    with pytest.raises(InputError, match="only variables on one grid"):
        gfdt.load_trajectory(data.assign(b=data["b"].isel(x=0)), var=["a", "b"])


@quiet
def test_lazy_and_single_precision_records():
    pytest.importorskip("dask")
    run = with_gaps(record()).astype("float32")
    lazy = run.chunk({"time": 37})
    got = response(lazy, SCORE, max_lag=3.0)
    assert gfdt.load_trajectory(lazy, gaps=True).dtype == np.float32
    xr.testing.assert_allclose(got, response(run, SCORE, max_lag=3.0))


@quiet
def test_single_precision_is_summed_in_double():
    run = with_gaps(record()).astype("float32")
    double = run.astype("float64")
    for perturbation in (None, Drift(lambda x: -x), NoiseAmplitude(0.8)):
        options = {"max_lag": 3.0, "observable": "variance", "perturbation": perturbation}
        got, same = response(run, SCORE, **options), response(double, SCORE, **options)
        # The score of a float32 state is kept in float32: 1e-7 of B for each sample.
        for name in ("response", "stderr", "observable_mean"):
            np.testing.assert_allclose(got[name], same[name], atol=2e-7 * float(abs(same["response"]).max()) + 1e-9)


@quiet
@pytest.mark.parametrize("observable", [None, "variance", "moment3", "covariance", gfdt.Exceedance(0.0)])
def test_a_mean_of_a_million_spreads_costs_nothing(observable):
    """Temperatures in Pa, pressures in Pa: x' is what is correlated, in double precision."""
    run = record(24)
    offset = np.array([1e6, -2e6])
    moved = gfdt.AnalyticScore(lambda x: SCORE(x - offset))
    if isinstance(observable, gfdt.Exceedance):
        run, shifted = run.isel(component=[0, 1]), gfdt.Exceedance(1e6)
    for perturbation in (None, Drift(lambda x: np.ones_like(x)), NoiseAmplitude(0.8)):
        options = {"max_lag": 3.0, "perturbation": perturbation}
        got = response(run, SCORE, observable=observable, **options)["response"].isel(lag=slice(1, None))
        far = shifted if isinstance(observable, gfdt.Exceedance) else observable
        same = response(run + offset, moved, observable=far, **options)["response"].isel(lag=slice(1, None))
        same, got = (
            (item.isel(component=0) for item in (same, got)) if isinstance(observable, gfdt.Exceedance) else (same, got)
        )
        # x is known to 1e6 * 1e-16 = 1e-10, a difference quotient of s over 1e-3 to 1e-7.
        np.testing.assert_allclose(same, got, atol=3e-6)


@quiet
def test_integers_are_numbers():
    run = (10 * record()).round().astype(int)
    score = gfdt.AnalyticScore(lambda x: SCORE(x / 10) / 10)
    got = response(run, score, max_lag=3.0)
    xr.testing.assert_allclose(got, response(run.astype(float), score, max_lag=3.0))
