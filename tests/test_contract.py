"""The two packages meet only in data: what the simulators write, gfdt reads; what both label, they label alike."""

import json

import numpy as np
import pytest

import gfdt
import simulators
from gfdt.trajectory import time_step

SYSTEMS = {
    "ou": simulators.OrnsteinUhlenbeck(n=6),
    "ou odd": simulators.OrnsteinUhlenbeck(n=5),
    "double-well": simulators.DoubleWell(),
    "scalar-climate": simulators.ScalarClimate(),
    "linear": simulators.LinearSDE([[-1.0, 0.5], [0.0, -0.5]], np.eye(2)),
    "potential-2d": simulators.Potential2D(),
    "triad": simulators.Triad(modulation=0.0),
}


def homogeneous(system):
    return ("y", "x") if isinstance(system, simulators.OrnsteinUhlenbeck) else None


@pytest.fixture(params=SYSTEMS, scope="module")
def case(request):
    system = SYSTEMS[request.param]
    return system, system.simulate(n_members=3, duration=20.0, save_every=0.5, seed=1)


def test_trajectories_pass_the_gate_unchanged(case):
    _, run = case
    (name,) = run.data_vars
    got = gfdt.load_trajectory(run)
    assert got.dims == run[name].dims
    assert got.dims[:2] == ("member", "time")
    np.testing.assert_array_equal(got.values, run[name].values)
    assert time_step(got) == pytest.approx(0.5)


def test_files_are_the_same_trajectory(case, tmp_path):
    system, run = case
    system.simulate(n_members=3, duration=20.0, save_every=0.5, seed=1, out=tmp_path / "run.nc").close()
    np.testing.assert_array_equal(gfdt.load_trajectory(tmp_path / "run.nc").values, gfdt.load_trajectory(run).values)


def test_provenance_is_in_the_attributes(case):
    _, run = case
    for name in ("Conventions", "title", "source", "history", "references", "seed_entropy", "dtype", "created"):
        assert isinstance(run.attrs[name], str), name
    assert json.loads(run.attrs["config_json"])
    for coordinate in ("time", *run.data_vars):
        assert {"long_name", "units"} <= set(run[coordinate].attrs)


@pytest.mark.filterwarnings("ignore::gfdt.errors.ReliabilityWarning")  # twenty time units are not meant to be enough
def test_exact_and_estimated_responses_have_the_same_labels(case):
    system, run = case
    score = gfdt.AnalyticScore(system.score)
    got = gfdt.response(run, score, max_lag=4.0, homogeneous=homogeneous(system))["response"]
    exact = system.exact_response(got["lag"].values)
    assert exact.dims == got.dims
    for dim in got.dims:
        np.testing.assert_allclose(exact[dim].values, got[dim].values)
    assert gfdt.compare(exact, {"a": got})["rms"].sizes["lag"] == got.sizes["lag"]


def test_exact_score_maps_states_to_states_in_any_container(case):
    system, run = case
    (name,) = run.data_vars
    labelled = system.score(run[name])
    assert labelled.dims == run[name].dims
    np.testing.assert_allclose(system.score(run[name].values), labelled.values)


def test_exact_covariance_is_labelled_like_a_response_without_lag(case):
    system, _ = case
    expected = ("dy", "dx") if homogeneous(system) else ("component", "component_src")
    assert system.exact_covariance().dims == expected
