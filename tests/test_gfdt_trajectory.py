"""The input gate: everything good becomes (member, time, *state); everything bad is one helpful sentence."""

import numpy as np
import pytest
import xarray as xr

import gfdt
from gfdt.errors import InputError, MissingFileError
from gfdt.trajectory import state_dims, time_step, time_unit


def series(n_members=2, n_times=12, n=3, seed=0):
    values = np.random.default_rng(seed).standard_normal((n_members, n_times, n))
    return xr.DataArray(values, dims=("member", "time", "component"), coords={"time": 0.5 * np.arange(n_times)})


def test_dataarray_keeps_its_values_and_gets_coordinates():
    got = gfdt.load_trajectory(series())
    assert got.dims == ("member", "time", "component")
    assert time_step(got) == pytest.approx(0.5)
    assert state_dims(got) == ("component",)
    assert set(got.coords) == {"member", "time", "component"}
    np.testing.assert_array_equal(got.values, series().values)


def test_any_order_of_dims_and_a_missing_member_are_put_right():
    assert gfdt.load_trajectory(series().transpose("component", "time", "member")).dims[0] == "member"
    one = gfdt.load_trajectory(series().isel(member=1))
    assert one.sizes["member"] == 1
    np.testing.assert_array_equal(one.values[0], series().values[1])


def test_scalar_series_has_no_state_dims():
    assert state_dims(gfdt.load_trajectory(series().isel(component=0))) == ()


def test_ndarray_dataset_and_file_agree_with_dataarray(tmp_path):
    array = series()
    dataset = xr.Dataset({"x": array, "note": ("component", np.arange(3.0))})
    dataset.to_netcdf(tmp_path / "x.nc")
    plain = gfdt.load_trajectory(array.values, dims=("member", "time", "component"), dt=0.5)
    for got in (plain, gfdt.load_trajectory(dataset), gfdt.load_trajectory(str(tmp_path / "x.nc"))):
        np.testing.assert_array_equal(got.values, array.values)
        assert time_step(got) == pytest.approx(0.5)


def test_float32_stays_and_integers_become_float64():
    assert gfdt.load_trajectory(series().astype("float32")).dtype == np.float32
    counts = xr.DataArray(np.arange(24).reshape(2, 12) ** 2, dims=("member", "time"))
    assert gfdt.load_trajectory(counts, dt=1.0).dtype == np.float64


def test_dates_become_days_from_the_first():
    array = series().assign_coords(time=np.datetime64("2000-01-01", "ns") + np.arange(12) * np.timedelta64(6, "h"))
    got = gfdt.load_trajectory(array)
    assert time_step(got) == pytest.approx(0.25)
    assert got["time"].attrs["units"] == "days"


def test_cf_times_in_a_file_stay_numbers_with_their_unit(tmp_path):
    array = series().rename("x")
    array["time"].attrs["units"] = "hours since 2000-01-01"
    array.to_netcdf(tmp_path / "cf.nc")
    got = gfdt.load_trajectory(tmp_path / "cf.nc")
    assert time_step(got) == pytest.approx(0.5)
    assert got["time"].attrs["units"].startswith("hours")


def test_lags_have_the_unit_of_the_file_however_it_is_opened(tmp_path):
    array = series().rename("x").assign_coords(time=np.arange(12) * 6.0)
    array["time"].attrs["units"] = "hours since 1900-01-01"
    array.to_netcdf(tmp_path / "cf.nc")
    by_path = gfdt.load_trajectory(tmp_path / "cf.nc")
    with xr.open_dataset(tmp_path / "cf.nc") as dataset:
        opened = gfdt.load_trajectory(dataset)
    assert (time_step(by_path), time_unit(by_path)) == (time_step(opened), time_unit(opened)) == (6.0, "hours")


def test_model_calendars_and_bounds(tmp_path):
    dataset = series().rename("x").assign_coords(time=np.arange(12) * 30.0).to_dataset()
    dataset["time"].attrs |= {"units": "days since 0001-01-01", "calendar": "360_day", "bounds": "time_bnds"}
    dataset["time_bnds"] = (("time", "bnds"), np.zeros((12, 2)))
    dataset.to_netcdf(tmp_path / "model.nc")
    with xr.open_dataset(tmp_path / "model.nc", decode_times=xr.coders.CFDatetimeCoder(use_cftime=True)) as opened:
        got = gfdt.load_trajectory(opened)
    assert (time_step(got), time_unit(got)) == (30.0, "days")


def test_calendar_months_count_as_equal_steps_when_asked():
    months = np.array(["2001-01", "2001-02", "2001-03", "2001-04", "2001-05", "2001-06", "2001-07", "2001-08"])
    array = series(n_times=8).assign_coords(time=months.astype("datetime64[ns]"))
    with pytest.raises(InputError, match=r"not uniform.*pass dt=30\.\d+ to count calendar months"):
        gfdt.load_trajectory(array)
    assert time_step(gfdt.load_trajectory(array, dt=30.4)) == pytest.approx(30.4)


def test_step_is_not_spoiled_by_an_offset_of_time():
    array = series(n_times=40).assign_coords(time=1e9 + 0.1 * np.arange(40))
    assert time_step(gfdt.load_trajectory(array)) == 0.1


def test_float32_time_coordinate_counts_as_uniform():
    array = series(n_times=40000).assign_coords(time=(0.1 * np.arange(40000)).astype(np.float32))
    assert time_step(gfdt.load_trajectory(array)) == pytest.approx(0.1, rel=1e-5)


def bad_inputs():
    good = series()
    times = good["time"].values
    gap = times.copy()
    gap[5:] += 3.0
    backwards = times[::-1]
    yield "NaN", good.where(good != good.values[1, 3, 2]), "1 NaN or inf.*member=1, time=3, component=2.*interpolate"
    yield "inf", good.where(good != good.values[0, 0, 0], np.inf), "NaN or inf"
    yield "gap", good.assign_coords(time=gap), "not uniform.*after index 4.*split"
    yield "backwards", good.assign_coords(time=backwards), "does not increase.*sortby"
    yield "no time dim", good.rename(time="t"), "no 'time' dim.*rename"
    yield "no time coordinate", good.drop_vars("time"), "no time coordinate.*dt="
    yield "constant", xr.full_like(good, 3.0), "3 of 3 state components are constant"
    yield "one constant", good.where(good.component != 1, 7.0), "1 of 3 .*component=1"
    yield "empty", good.isel(time=slice(0, 0)), "empty.*size 0 along time"
    yield "no members", good.isel(member=slice(0, 0)), "empty.*along member"
    yield "short", good.isel(time=slice(0, 4)), "4 times, at least 8"
    yield "text", good.astype(str), "values, real numbers"
    yield "complex", good.astype(complex), "complex128 values, real numbers"
    yield "boolean", good > 0, "bool values"
    yield "not a trajectory", [1.0, 2.0], "cannot be a list.*xarray"
    yield "dataset without series", xr.Dataset({"a": ("x", [1.0])}), r"no variable has a 'time' dim.*a\('x',\)"
    yield "two series", xr.Dataset({"a": good, "b": good}), "2 time series, a, b.*var="
    yield "no dims", good.values, "no named dims.*dims="


@pytest.mark.parametrize(("source", "message"), [pytest.param(s, m, id=i) for i, s, m in bad_inputs()])
def test_bad_input_is_refused_in_one_sentence(source, message):
    with pytest.raises(InputError, match=message) as caught:
        gfdt.load_trajectory(source)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dims": ("member", "time")}, "does not name the 3 axes"),
        ({"dims": ("member", "time", "time")}, "does not name the 3 axes"),
        ({"dims": ("member", "time", "component"), "dt": -1.0}, "dt=-1.0 is not a time step"),
        ({"dims": ("member", "time", "component")}, "pass dt="),
        ({"dims": ("member", "time", "component"), "dt": "1"}, "dt='1' is not a time step"),
        ({"dims": ("member", "time", None)}, "are not names"),
        ({"dims": 3}, "are not names"),
    ],
)
def test_bad_ndarray_arguments(arguments, message):
    with pytest.raises(InputError, match=message):
        gfdt.load_trajectory(series().values, **arguments)


def test_contradicting_dt_and_unknown_variable():
    with pytest.raises(InputError, match="contradicts"):
        gfdt.load_trajectory(series(), dt=2.0)
    with pytest.raises(InputError, match=r"no variable 'z'.*x"):
        gfdt.load_trajectory(xr.Dataset({"x": series()}), var="z")


def test_missing_and_truncated_files(tmp_path):
    with pytest.raises(MissingFileError, match=r"no file .*nothing\.nc"):
        gfdt.load_trajectory(tmp_path / "nothing.nc")
    series(n_times=2000).rename("x").to_netcdf(tmp_path / "whole.nc")
    whole = (tmp_path / "whole.nc").read_bytes()
    for cut in (100, len(whole) // 2):
        (tmp_path / "cut.nc").write_bytes(whole[:cut])
        with pytest.raises(InputError, match="cannot be read"):
            gfdt.load_trajectory(tmp_path / "cut.nc")
    (tmp_path / "text.nc").write_text("not netCDF at all")
    with pytest.raises(InputError, match="cannot be read as netcdf4"):
        gfdt.load_trajectory(tmp_path / "text.nc")
