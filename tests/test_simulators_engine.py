"""The engine in memory: request, labels, blocks, blow-up."""

import io
import json
import sys

import numpy as np
import pytest
import xarray as xr
from reference.simulators_toys import Exploding, RandomWalk, RecordedWalk

import simulators
from simulators import BlowUpError, DoubleWell, NoScoreError, OrnsteinUhlenbeck, ParameterError, engine


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_members": 0}, "n_members = 0: expected an integer >= 1"),
        ({"n_members": 2.0}, "n_members = 2.0"),
        ({"duration": -1}, "duration = -1: expected a finite number > 0"),
        ({"save_every": 0}, "save_every = 0"),
        ({"save_every": float("inf")}, "save_every = inf"),
        ({"duration": 0.5, "save_every": 1}, "at least one snapshot"),
        ({"spinup": -3}, "spinup = -3"),
        ({"dt": 0}, "dt = 0"),
        ({"dtype": "int32"}, "dtype = 'int32': expected one of float64, float32"),
        ({"workers": 0}, "workers = 0"),
        ({"seed": -1}, "seed = -1"),
        ({"overwrite": True}, "need a file"),
        ({"out": "run.nc", "overwrite": "no"}, "overwrite = 'no': expected true or false"),
        ({"out": "run.nc", "resume": 1}, "resume = 1: expected true or false"),
        ({"progress": "yes"}, "progress = 'yes'"),
        ({"n_members": True}, "n_members = True"),
        ({"duration": np.True_}, "duration = True"),
        ({"spinup": False}, "spinup = False"),
        ({"duration": 10**400}, "duration = 1000.*expected a finite number"),
        ({"n_members": -(10**5000)}, "n_members = a int too large to print"),
        ({"duration": 1e300, "save_every": 1e-300}, r"save_every = 1e-300: expected a magnitude"),
        ({"duration": 1e50, "save_every": 1e-50}, "1e.100 times save_every.*at most 1e.15"),
        ({"dt": 1e-300}, "dt = 1e-300: expected a magnitude"),
        ({"dt": 1e-20}, "save_every = 1 is 1e.20 times dt"),
        ({"spinup": 1e20}, "spinup = 1e.20"),
        ({"seed": 2**128}, "seed = 3402.*expected"),
        ({"workers": 10**6}, "workers = 1000000"),
    ],
)
def test_refuses_requests_it_cannot_keep(arguments, message):
    with pytest.raises(ParameterError, match=message):
        DoubleWell().simulate(**arguments)


def test_duration_is_counted_in_whole_save_intervals():
    system = DoubleWell()
    assert system.plan(duration=0.3, save_every=0.1).n_snapshots == 3  # 0.3 / 0.1 is just below 3
    assert system.plan(duration=1.0, save_every=0.3).n_snapshots == 3  # rounded down
    assert system.plan(save_every=1.0, spinup=2.5).n_spinup == 3  # rounded up


@pytest.mark.parametrize(("dt", "n_steps"), [(0.1, 10), (0.3, 4), (5.0, 1), (1 / 3, 3)])
def test_step_is_the_largest_divisor_of_the_save_interval(dt, n_steps):
    plan = DoubleWell().plan(save_every=1.0, dt=dt)
    assert plan.n_steps == n_steps
    assert plan.dt == pytest.approx(1 / n_steps)


@pytest.mark.parametrize(
    ("system", "dims"),
    [
        (OrnsteinUhlenbeck(n=4), ("member", "time", "y", "x")),
        (DoubleWell(), ("member", "time", "component")),
    ],
)
def test_dataset_follows_the_trajectory_contract(system, dims, tmp_path):
    dataset = system.simulate(3, 2.0, 0.5, seed=6, dtype="float32")
    (name,) = dataset.data_vars
    variable = dataset[name]
    assert variable.dims == dims
    assert variable.dtype == np.float32
    assert all(dataset[dim].ndim == 1 and dataset[dim].attrs["units"] == "1" for dim in dims)
    np.testing.assert_array_equal(dataset["time"], [0, 0.5, 1.0, 1.5])
    assert {"long_name", "units"} <= variable.attrs.keys()
    keys = {"Conventions", "title", "source", "history", "references", "config_json", "seed_entropy"}
    assert keys | {"package_versions", "dtype", "created"} <= dataset.attrs.keys()
    assert all(isinstance(value, str) for value in dataset.attrs.values())
    if "x" in dims:
        np.testing.assert_allclose(dataset["x"], 2 * np.pi * np.arange(4) / 4)
    path = tmp_path / "run.nc"
    dataset.to_netcdf(path)
    with xr.open_dataset(path) as back:
        xr.testing.assert_identical(back.load(), dataset)
        assert back["time"].dtype == np.float64
        assert "_FillValue" not in back[name].encoding


def test_config_repeats_the_run():
    first = OrnsteinUhlenbeck(n=4, lam=0.3).simulate(2, 4.0, 0.5, seed=9, dt=0.2)
    config = json.loads(first.attrs["config_json"])
    again = simulators.run(config["system"], config["parameters"], config["simulate"])
    np.testing.assert_array_equal(first["u"], again["u"])


@pytest.mark.parametrize("spinup", [0.0, 7.0])
def test_blocks_are_invisible(monkeypatch, spinup):
    system = RandomWalk()
    whole = system.simulate(3, 20.0, 1.0, seed=1, spinup=spinup)["x"]
    monkeypatch.setattr(engine, "BLOCK_BYTES", 3 * 2 * 8 * 4)  # four snapshots
    np.testing.assert_array_equal(whole, system.simulate(3, 20.0, 1.0, seed=1, spinup=spinup)["x"])


def test_spinup_is_thrown_away_and_time_starts_after_it():
    system = RandomWalk()
    with_spinup = system.simulate(1, 5.0, 1.0, spinup=4.0)["x"]
    without = system.simulate(1, 9.0, 1.0)["x"]
    np.testing.assert_array_equal(with_spinup, without[:, 4:])
    assert with_spinup["time"][0] == 0


def test_blow_up_names_member_time_and_dt(monkeypatch):
    with pytest.raises(BlowUpError, match=r"member 2 is no longer finite at time .*dt = 0\.1.*smaller dt") as caught:
        Exploding().simulate(4, 20.0, 1.0)
    assert (caught.value.member, caught.value.dt) == (2, 0.1)
    assert 1 <= caught.value.time <= 3  # dx/dt = x^2 from 1 diverges at time 1; Euler is a little late
    # blocks of one snapshot find the same member and time, also in the spin-up
    monkeypatch.setattr(engine, "BLOCK_BYTES", 1)
    with pytest.raises(BlowUpError) as again:
        Exploding().simulate(4, 20.0, 1.0, spinup=10.0)
    assert again.value.time == caught.value.time - 10


def test_large_finite_numbers_are_not_a_blow_up():
    # their sum overflows float32, they do not
    data = RandomWalk(start_at=3e38).simulate(2, 50.0, 1.0, dtype="float32")["x"]
    assert np.isfinite(data).all()


def test_a_second_variable_is_saved_beside_the_state():
    system = RecordedWalk()
    dataset = system.simulate(3, 20.0, 1.0, seed=2, spinup=4.0)
    assert list(dataset.data_vars) == ["x", "w"]
    assert dataset["x"].dims == dataset["w"].dims == ("member", "time", "component")
    assert dataset["w"].attrs == {"long_name": "increment that led here", "units": "1"}
    np.testing.assert_allclose(dataset["x"].diff("time"), dataset["w"][:, 1:], atol=1e-14)
    assert system.plan(3, 20.0, 1.0).n_bytes(system.layout()) == dataset["x"].nbytes + dataset["w"].nbytes


def test_blow_up_is_seen_in_any_variable():
    with pytest.raises(BlowUpError, match="member 0 is no longer finite at time 7 "):
        RecordedWalk(breaks_at=7).simulate(2, 20.0, 1.0)


def test_refuses_what_does_not_fit_in_memory():
    with pytest.raises(simulators.SimulatorError, match=r"GB of memory: pass out="):
        OrnsteinUhlenbeck(n=512).simulate(1000, 1e6, 1.0)


def test_refuses_more_members_than_fit_beside_a_file(tmp_path):
    with pytest.raises(simulators.SimulatorError, match=r"1000000000000 members.*use fewer members"):
        DoubleWell().simulate(10**12, 1.0, out=tmp_path / "run.nc")
    assert list(tmp_path.iterdir()) == []


def test_numpy_scalars_are_numbers():
    system = OrnsteinUhlenbeck(n=np.int64(4), lam=np.float32(0.5), kappa=np.array(0.25), noise=np.int32(1))
    assert system == OrnsteinUhlenbeck(n=4, lam=0.5, kappa=0.25, noise=1)
    plain = system.simulate(2, 4.0, 0.5, seed=3, spinup=1.0)
    scalars = {"seed": np.uint8(3), "spinup": np.float16(1), "workers": np.int8(1), "progress": np.False_}
    labelled = system.simulate(np.int16(2), np.float32(4), np.float64(0.5), **scalars, dtype=np.dtype("float64"))
    np.testing.assert_array_equal(plain["u"], labelled["u"])
    assert plain.attrs["config_json"] == labelled.attrs["config_json"]
    for lags in (np.float32(2), np.int64(2), [np.int64(2)], np.array([2], dtype="f4"), xr.DataArray([2])):
        np.testing.assert_array_equal(system.exact_response(lags), system.exact_response([2.0]))
    for lags in (True, [0.0, True], ["1"], "1", [10**400], [1e300], np.array([1], dtype="m8[s]")):
        with pytest.raises(ParameterError, match=r"lags = .*expected a 1-D"):
            system.exact_response(lags)


def test_a_score_without_closed_form_is_a_clear_refusal():
    with pytest.raises(NoScoreError, match=r"score of RandomWalk has no closed form: expected .*; learn it .*DSMScore"):
        RandomWalk().score(np.zeros(2))
    assert issubclass(NoScoreError, NotImplementedError)


def test_progress_is_silent_without_a_terminal(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    RandomWalk().simulate(1, 5.0, 1.0)
    assert stream.getvalue() == ""
    RandomWalk().simulate(1, 5.0, 1.0, progress=True)
    assert "5/5" in stream.getvalue()
