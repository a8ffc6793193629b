"""A record larger than memory, gone through in blocks: the same response as in memory, to rounding."""

import json

import numpy as np
import pytest
import xarray as xr

import gfdt
from gfdt.lazy import open_lazily
from gfdt.responses import blocks, stream
from simulators import DoubleWell

# The scores here are bad on purpose, and the records short.
pytestmark = pytest.mark.filterwarnings("ignore::gfdt.ReliabilityWarning")

RTOL = 1e-10  # of the largest value: rounding of sums that are made in another order


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks so small that a short record has many, none of which fits the units or the chunks."""
    monkeypatch.setattr("gfdt.record.BLOCK_VALUES", 2**9)
    monkeypatch.setattr(blocks, "BLOCK_VALUES", 2**9)
    monkeypatch.setattr(stream, "BLOCK_VALUES", 2**9)
    monkeypatch.setattr("gfdt.responses.in_blocks.memory_limit", lambda: 0)


def field(rng, members, times, n=6, variables=0):
    """A field that is the same everywhere, remembers, and is skewed: smoothed noise, AR(1) in time."""
    shape = (members, times, *([variables] if variables else []), n, n)
    x = rng.standard_normal(shape)
    for t in range(1, times):
        x[:, t] = 0.8 * x[:, t - 1] + 0.6 * x[:, t]
    x = x + 0.5 * np.roll(x, 1, axis=-1) + 0.2 * x**2 + 0.7
    if variables:
        x[:, :, 1] += 0.3 * x[:, :, 0]
    dims = ("member", "time", *(["variable"] if variables else []), "y", "x")
    return xr.DataArray(x, dims=dims, coords={"time": 0.5 * np.arange(times)}, name="u")


def vector(rng, members, times, d=3):
    x = rng.standard_normal((members, times, d))
    for t in range(1, times):
        x[:, t] = 0.7 * x[:, t - 1] + 0.5 * x[:, t]
    x[..., 1] += 0.4 * x[..., 0]
    return xr.DataArray(
        x + 2.0, dims=("member", "time", "component"), coords={"time": np.arange(float(times))}, name="x"
    )


def cubic(x):
    """A score that is neither exact nor linear, so that every correction has work to do."""
    return -1.1 * x + 0.05 * x**2 - 0.01 * x**3 + 1.0


def assert_same(streamed, loaded):
    assert set(streamed.data_vars) == set(loaded.data_vars)
    for name in loaded.data_vars:
        scale = float(np.abs(loaded[name]).max())
        np.testing.assert_allclose(streamed[name], loaded[name], rtol=0, atol=RTOL * scale, err_msg=str(name))
    for name in ("n_samples", "n_units", "resampling", "correction", "score_verdict", "certificate_verdict"):
        assert streamed.attrs[name] == loaded.attrs[name], name
    for name in ("stein_departure", "correction_condition", "stein_worst"):
        assert streamed.attrs[name] == pytest.approx(loaded.attrs[name], rel=1e-8), name


def both(array, tmp_path, monkeypatch, score, **options):
    """The response of a record in memory and of its file."""
    path = tmp_path / "record.nc"
    array.to_netcdf(path)
    calls = []
    original = stream.sum_block
    monkeypatch.setattr(stream, "sum_block", lambda *args: calls.append(args) or original(*args))
    streamed = gfdt.response(path, score, **options)
    loaded = gfdt.response(array.load(), score, **options)
    assert len(calls) > 4
    return streamed, loaded


@pytest.mark.parametrize("correction", ["auto", "stein", "none"])
@pytest.mark.parametrize("members", [24, 3])
def test_field_in_blocks_has_the_response_of_the_field_in_memory(
    tmp_path, monkeypatch, small_blocks, correction, members
):
    array = field(np.random.default_rng(1), members, 400 if members == 3 else 60)
    options = {"max_lag": 3.0, "homogeneous": True, "correction": correction}
    assert_same(*both(array, tmp_path, monkeypatch, cubic, **options))


@pytest.mark.parametrize("members", [24, 3])
def test_vector_in_blocks_has_the_response_of_the_vector_in_memory(tmp_path, monkeypatch, small_blocks, members):
    array = vector(np.random.default_rng(2), members, 1500 if members == 3 else 300)
    assert_same(*both(array, tmp_path, monkeypatch, cubic, max_lag=8.0))


def test_field_of_two_variables_in_blocks(tmp_path, monkeypatch, small_blocks):
    array = field(np.random.default_rng(3), 22, 50, n=4, variables=2)
    assert_same(*both(array, tmp_path, monkeypatch, cubic, max_lag=2.0, homogeneous=("y", "x")))


def test_single_precision_in_blocks_is_that_of_memory(tmp_path, monkeypatch, small_blocks):
    array = field(np.random.default_rng(4), 21, 60).astype(np.float32)
    assert_same(*both(array, tmp_path, monkeypatch, cubic, max_lag=2.0, homogeneous=True))


@pytest.mark.parametrize("members", [22, 2])
def test_missing_samples_in_blocks_are_those_of_memory(tmp_path, monkeypatch, small_blocks, members):
    rng = np.random.default_rng(5)
    array = vector(rng, members, 1200 if members == 2 else 250)
    array = array.where(xr.DataArray(rng.random(array.shape[:2]) > 0.1, dims=("member", "time")))
    array[1, -60:] = np.nan
    assert_same(*both(array, tmp_path, monkeypatch, cubic, max_lag=6.0))


def test_gaussian_score_fitted_on_the_record_is_recognised(tmp_path, monkeypatch, small_blocks):
    array = vector(np.random.default_rng(6), 23, 200)
    score = gfdt.GaussianScore(shrinkage=0.2).fit(array)
    streamed, loaded = both(array, tmp_path, monkeypatch, score, max_lag=5.0)
    assert_same(streamed, loaded)
    # The error of C(t) C(0)^-1 at lag 0 is that of a ratio; of a score that is not from here it is that of C(0).
    foreign = gfdt.response(array * (1 + 1e-12), score, max_lag=5.0)
    assert float((streamed["stderr"] / foreign["stderr"]).sel(lag=0).max()) < 0.5


def test_certificate_of_the_record_is_recognised(tmp_path, monkeypatch, small_blocks):
    array = vector(np.random.default_rng(19), 22, 300)
    score = gfdt.GaussianScore().fit(array.isel(member=slice(0, 2)))
    gfdt.certify(array, score, n_samples=200, progress=False)
    streamed, loaded = both(array, tmp_path, monkeypatch, score, max_lag=5.0)
    assert_same(streamed, loaded)
    assert streamed.attrs["certificate_record"] == loaded.attrs["certificate_record"] == "same"


def test_record_without_member_and_with_times_left_out_in_blocks(tmp_path, monkeypatch, small_blocks):
    array = vector(np.random.default_rng(7), 1, 900).isel(member=0)
    array = array.isel(time=np.delete(np.arange(900), slice(300, 320)))
    assert_same(*both(array, tmp_path, monkeypatch, cubic, max_lag=4.0))


def test_mode_whose_error_is_added_is_corrected_alike(tmp_path, monkeypatch, small_blocks):
    array = field(np.random.default_rng(8), 22, 80)

    def wrong_mean(x):
        return cubic(x) + 2.0 * (x - 0.9).mean(axis=(-2, -1), keepdims=True)

    streamed, loaded = both(array, tmp_path, monkeypatch, wrong_mean, max_lag=2.0, homogeneous=True)
    assert_same(streamed, loaded)
    assert streamed.attrs["score_verdict"] == "red"


def test_parts_of_one_run_are_one_record(tmp_path, monkeypatch, small_blocks):
    array = field(np.random.default_rng(9), 24, 50)
    for first in (0, 8, 16):
        array.isel(member=slice(first, first + 8)).to_netcdf(tmp_path / f"run_{first:02d}.nc")
    options = {"max_lag": 2.0, "homogeneous": True}
    loaded = gfdt.response(array, cubic, **options)
    assert_same(gfdt.response(tmp_path / "run_*.nc", cubic, **options), loaded)
    assert_same(gfdt.response(sorted(tmp_path.glob("run_*.nc")), cubic, **options), loaded)
    with pytest.raises(gfdt.MissingFileError, match="no file matches"):
        gfdt.response(tmp_path / "ruN_*.nc", cubic, **options)


def test_zarr_store_and_array_of_dask_in_chunks_of_their_own(tmp_path, monkeypatch, small_blocks):
    array = field(np.random.default_rng(10), 20, 60)
    chunked = array.chunk(member=5, time=17, y=4, x=6)
    chunked.to_dataset().to_zarr(tmp_path / "run.zarr", zarr_format=2)
    options = {"max_lag": 2.0, "homogeneous": True}
    loaded = gfdt.response(array, cubic, **options)
    assert_same(gfdt.response(tmp_path / "run.zarr", cubic, **options), loaded)
    assert_same(gfdt.response(chunked, cubic, **options), loaded)


def test_every_state_is_scored_once(small_blocks):
    array = field(np.random.default_rng(11), 20, 61).chunk(member=1, time=10)
    seen = []

    def counting(x):
        seen.append(len(x))
        return cubic(x)

    gfdt.response(array, counting, max_lag=3.0, homogeneous=True)
    assert sum(seen) == 20 * 61


def test_bad_values_are_found_wherever_they_are(small_blocks):
    array = vector(np.random.default_rng(12), 20, 200)
    array[13, 150, 2] = np.inf
    with pytest.raises(gfdt.InputError, match="member=13, time=150, component=2"):
        gfdt.response(array.chunk(time=40), cubic, max_lag=5.0)
    array[13, 150, 2] = 0.0
    array[7] = np.nan
    with pytest.raises(gfdt.InputError, match="member 7 holds no sample"):
        gfdt.response(array.chunk(time=40), cubic, max_lag=5.0)
    array[:] = np.random.default_rng(1).standard_normal(array.shape)
    array[..., 1] = 3.0
    with pytest.raises(gfdt.InputError, match="constant"):
        gfdt.response(array.chunk(time=40), cubic, max_lag=5.0)


def test_chunks_that_need_too_much_at_a_time_are_refused(monkeypatch, small_blocks):
    array = field(np.random.default_rng(13), 20, 64).chunk(member=20, time=64)
    monkeypatch.setattr(stream, "_MOST_VALUES", 2**13)
    with pytest.raises(gfdt.InputError, match=r"rechunk it, e\.g\. da\.chunk\(member=1, time="):
        gfdt.response(array, cubic, max_lag=2.0, homogeneous=True)


def test_members_of_a_large_chunk_are_taken_a_few_at_a_time(monkeypatch, small_blocks):
    array = vector(np.random.default_rng(20), 40, 700)
    score = gfdt.GaussianScore(shrinkage=0.2).fit(array)  # the error bars tell whether it is recognised
    loaded = gfdt.response(array, score, max_lag=5.0)
    monkeypatch.setattr(stream, "_MOST_VALUES", 2**12)
    sizes = []
    original = stream.sum_block
    monkeypatch.setattr(stream, "sum_block", lambda *args: sizes.append(args[0].shape) or original(*args))
    assert_same(gfdt.response(array.chunk(member=20, time=100), score, max_lag=5.0), loaded)
    assert 1 < max(size[0] for size in sizes) < 20


def test_members_are_grouped_into_twenty_or_more(monkeypatch, small_blocks):
    monkeypatch.setattr(stream, "_GROUPED", 1)
    for members, units in {21: 21, 39: 39, 41: 21, 100: 20}.items():
        array = vector(np.random.default_rng(21), members, 60).chunk(member=1)
        found = gfdt.response(array, cubic, max_lag=3.0)
        assert found.attrs["n_units"] == units
        loaded = gfdt.response(array.load(), cubic, max_lag=3.0)
        np.testing.assert_allclose(found["response"], loaded["response"], atol=0.02)


def test_two_variables_of_a_file_are_not_read_at_once(tmp_path, monkeypatch, small_blocks):
    one = vector(np.random.default_rng(22), 22, 200)
    pair = xr.Dataset({"u": one, "w": (one**2).rename("w")})
    pair.to_netcdf(tmp_path / "run.nc")
    loaded = gfdt.response(pair, cubic, max_lag=3.0, var=["u", "w"])
    calls = []
    original = stream.sum_block
    monkeypatch.setattr(stream, "sum_block", lambda *args: calls.append(args) or original(*args))
    assert_same(gfdt.response(tmp_path / "run.nc", cubic, max_lag=3.0, var=["u", "w"]), loaded)
    assert len(calls) > 4


@pytest.mark.parametrize("var", [["u", "nothing"], ["u", "u"], []])
def test_variables_that_a_file_does_not_hold_are_named_before_it_is_read(tmp_path, var):
    one = vector(np.random.default_rng(24), 2, 40)
    xr.Dataset({"u": one, "w": one}).to_netcdf(tmp_path / "run.nc")
    with pytest.raises(gfdt.InputError, match="does not name distinct variables of the Dataset: choose among u, w"):
        gfdt.response(tmp_path / "run.nc", cubic, max_lag=3.0, var=var)


def test_parts_of_several_types_are_joined_as_in_memory(tmp_path, small_blocks):
    array = vector(np.random.default_rng(23), 22, 200).round(2)
    array.isel(member=slice(0, 11)).astype(np.float32).to_netcdf(tmp_path / "a.nc")
    (100 * array.isel(member=slice(11, 22))).round().astype(np.int16).to_netcdf(tmp_path / "b.nc")
    parts = [tmp_path / "a.nc", tmp_path / "b.nc"]
    loaded = gfdt.response(gfdt.load_trajectory(parts), cubic, max_lag=3.0)
    assert_same(gfdt.response(parts, cubic, max_lag=3.0), loaded)


def test_sums_that_do_not_fit_are_refused(monkeypatch, small_blocks):
    array = vector(np.random.default_rng(14), 20, 64).chunk(member=1)
    monkeypatch.setattr(stream, "_MOST_SUMS", 2**10)
    with pytest.raises(gfdt.InputError, match="lag_stride"):
        gfdt.response(array, cubic, max_lag=9.0)


def test_chunks_of_unknown_size_are_refused(small_blocks):
    array = vector(np.random.default_rng(15), 20, 64).chunk(member=1)
    unknown = array.copy(data=array.data)
    unknown.variable._data = array.data[array.data[:, 0, 0] > -100]
    with pytest.raises(gfdt.InputError, match="compute_chunk_sizes"):
        open_lazily(unknown)


def test_same_members_twice_are_refused(tmp_path):
    array = vector(np.random.default_rng(16), 4, 64).assign_coords(member=np.arange(4))
    attrs = {"seed_entropy": "7", "config_json": json.dumps({"system": "ou", "parameters": {}, "simulate": {}})}
    for name, part in {"a": slice(0, 3), "b": slice(2, 4)}.items():
        array.isel(member=part).to_dataset().assign_attrs(attrs).to_netcdf(tmp_path / f"{name}.nc")
    with pytest.raises(gfdt.InputError, match="both hold member 2 of the run with seed 7"):
        gfdt.load_trajectory([tmp_path / "a.nc", tmp_path / "b.nc"])


def test_parts_that_do_not_belong_together_are_named(tmp_path):
    array = vector(np.random.default_rng(16), 4, 64)
    array.to_netcdf(tmp_path / "run_0.nc")
    array.assign_coords(time=2 * array["time"]).to_netcdf(tmp_path / "run_1.nc")
    array.isel(component=[0]).to_netcdf(tmp_path / "run_2.nc")
    for load in (gfdt.load_trajectory, open_lazily):
        with pytest.raises(gfdt.InputError, match=r"run_1\.nc has the time step .*run_0\.nc"):
            load(tmp_path / "run_[01].nc")
        with pytest.raises(gfdt.InputError, match=r"run_2\.nc has dims .*run_0\.nc \{"):
            load(tmp_path / "run_[02].nc")


def test_command_line_says_which_members_of_a_run_are_not_there(tmp_path, run):
    for first in (0, 20):
        DoubleWell().simulate(range(first, first + 10), 50.0, out=tmp_path / f"run_{first:02d}.nc").close()
    code, _, err = run("respond", tmp_path / "run_*.nc", "gaussian", "--max-lag", 5)
    assert code == 0, err
    assert "reading 2 files" in err
    assert "members 10 to 19 are in no file" in err


def test_command_line_takes_the_parts_of_a_run(tmp_path, run):
    array = vector(np.random.default_rng(17), 24, 200)
    for first in (0, 12):
        array.isel(member=slice(first, first + 12)).to_netcdf(tmp_path / f"run_{first:02d}.nc")
    code, out, err = run("respond", tmp_path / "run_*.nc", "gaussian", "--max-lag", 5)
    assert (code, out.strip()) == (0, str(tmp_path / "run-response-gaussian.nc")), err
    expected = gfdt.response(array, gfdt.GaussianScore().fit(array), max_lag=5.0)
    with xr.open_dataset(tmp_path / "run-response-gaussian.nc") as found:
        assert_same(found.load(), expected)
    code, _, err = run("respond", tmp_path / "gone_*.nc", "gaussian", "--max-lag", 5)
    assert code == 2
    assert "no file matches" in err
    code, _, err = run("respond", *sorted(tmp_path.glob("run_??.nc")), "gaussian", "--max-lag", 5)
    assert code == 2
    assert 'in quotes: "run_*.nc"; see ' in err


def test_command_line_names_a_scheduler_that_does_not_answer(tmp_path, run, monkeypatch):
    monkeypatch.setattr("gfdt.cluster._ANSWER", 0.5)
    vector(np.random.default_rng(18), 20, 100).to_netcdf(tmp_path / "run.nc")
    code, out, err = run("respond", tmp_path / "run.nc", "gaussian", "--max-lag", 5, "--client", "tcp://127.0.0.1:9")
    assert (code, out) == (2, "")
    assert "no scheduler answers at tcp://127.0.0.1:9" in err
    assert list(tmp_path.iterdir()) == [tmp_path / "run.nc"]
