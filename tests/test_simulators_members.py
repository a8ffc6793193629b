"""Ranges of members: parts of an ensemble that are simulated apart are together the whole run, bit for bit."""

import json

import numpy as np
import pytest
import xarray as xr
from reference.simulators_toys import Exploding

import simulators
from simulators import (
    AllenCahn,
    BlowUpError,
    DoubleWell,
    Lorenz96,
    NavierStokes,
    OrnsteinUhlenbeck,
    OutputError,
    ParameterError,
    ResumeError,
    Triad,
    engine,
)
from simulators.__main__ import main
from simulators.checkpoint import load_checkpoint
from simulators.config import read_config
from simulators.members import members_from_text, with_members

SYSTEMS = {
    "field, two rows to a complex one": (OrnsteinUhlenbeck(n=16), {}),
    "field of any size": (OrnsteinUhlenbeck(n=6), {}),
    "nonlinear field": (AllenCahn(n=16), {"spinup": 2.0}),
    "field with hidden forcing": (NavierStokes(n=16), {"spinup": 1.0, "save_every": 0.5}),
    "vector": (Lorenz96(), {"spinup": 1.0, "save_every": 0.5}),
    "vector with state-dependent noise": (Triad(), {"spinup": 1.0, "save_every": 0.5}),
    "vector with its noise": (DoubleWell(), {"save_noise": True}),
}


@pytest.mark.parametrize("case", SYSTEMS)
def test_ranges_side_by_side_are_the_whole_run(case):
    system, options = SYSTEMS[case]
    arguments = {"duration": 4.0, "seed": 5, "workers": 2} | options
    whole = system.simulate(8, **arguments)
    parts = [system.simulate(members, **arguments) for members in (range(3), range(3, 8))]
    assert parts[1]["member"].values.tolist() == [3, 4, 5, 6, 7]
    joined = xr.concat(parts, "member", data_vars="minimal")
    xr.testing.assert_identical(joined.drop_attrs(), whole.drop_attrs())
    variable = joined[system.layout().variable]
    assert not np.array_equal(variable[0], variable[3])  # the second part does not begin anew


def test_the_record_names_the_first_member_only_where_it_is_not_0():
    system = DoubleWell()
    request = json.loads(system.simulate(range(2, 5), 3.0).attrs["config_json"])["simulate"]
    assert (request["n_members"], request["first_member"]) == (3, 2)
    assert system.simulate(range(4), 3.0).attrs["config_json"] == system.simulate(4, 3.0).attrs["config_json"]
    assert "first_member" not in system.simulate(4, 3.0).attrs["config_json"]


def test_the_record_of_a_part_repeats_it():
    part = OrnsteinUhlenbeck(n=4).simulate(range(6, 9), 3.0, seed=1)
    config = json.loads(part.attrs["config_json"])
    again = simulators.run(config["system"], config["parameters"], config["simulate"])
    xr.testing.assert_identical(part.drop_attrs(), again.drop_attrs())


@pytest.mark.parametrize(
    "members", [range(4, 4), range(8, 3), range(0, 8, 2), range(7, 3, -1), range(-2, 4), range(10**15, 10**15 + 1)]
)
def test_a_range_without_members_or_with_gaps_is_refused(members):
    with pytest.raises(ParameterError, match=r"one after the other.*n_members=range\(64, 128\)"):
        DoubleWell().simulate(members, 3.0)


def test_what_would_keep_parts_from_belonging_together_is_refused_with_the_way_out():
    with pytest.raises(ParameterError, match=r"seed = None with a range of members.*seed=0"):
        DoubleWell().simulate(range(2), 3.0, seed=None)
    with pytest.raises(ParameterError, match=r"spinup=float\(ds.attrs\['spinup_time'\]\)"):
        AllenCahn(n=8).simulate(range(2), 3.0, spinup="auto")
    # a system that starts in its stationary state has nothing to find
    drawn = OrnsteinUhlenbeck(n=4).simulate(range(2, 4), 3.0, spinup="auto")
    np.testing.assert_array_equal(drawn["u"], OrnsteinUhlenbeck(n=4).simulate(4, 3.0)["u"][2:])


def test_an_interrupted_range_resumes_bit_for_bit_and_as_itself_only(tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "BLOCK_BYTES", 1)  # one snapshot
    system, out, members = OrnsteinUhlenbeck(n=4), tmp_path / "part.nc", range(5, 8)
    blocks = iter(range(100))

    def stop_in_the_fourth():
        if next(blocks) == 3:
            raise OutputError("stopped")

    with pytest.raises(OutputError, match="stopped"):
        system.carry_out(system.plan(members, 9.0, seed=2), out=out, after_block=stop_in_the_fourth)
    assert load_checkpoint(out).done == 4
    with pytest.raises(ResumeError, match=r"simulate.first_member = 4 \(the file has 5\)"):
        system.simulate(range(4, 7), 9.0, seed=2, out=out, resume=True)
    with pytest.raises(ResumeError, match=r"simulate.first_member = None \(the file has 5\)"):
        system.simulate(3, 9.0, seed=2, out=out, resume=True)
    with system.simulate(members, 9.0, seed=2, out=out, resume=True) as resumed:
        np.testing.assert_array_equal(resumed["u"], system.simulate(8, 9.0, seed=2)["u"][5:])
        assert resumed["member"].values.tolist() == [5, 6, 7]


def test_a_member_that_blows_up_has_its_own_number():
    with pytest.raises(BlowUpError, match="member 6 is no longer finite") as caught:
        Exploding(culprit=6).simulate(range(5, 8), 20.0)
    assert caught.value.member == 6


def test_the_shell_writes_a_range_as_python_slices(tmp_path, capsys):
    out = tmp_path / "part.nc"
    assert main(["ou", "--n", "4", "--members", "3:8", "--duration", "3", "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    with xr.open_dataset(out) as part:
        np.testing.assert_array_equal(part["u"], OrnsteinUhlenbeck(n=4).simulate(8, 3.0)["u"][3:])
    assert main(["ou", "--members", "3:8", "--duration", "3", "--dry-run"]) == 0
    assert "u(member=5, time=3, y=32, x=32)" in capsys.readouterr().err
    assert main(["ou", "--members", "8:3", "--out", str(tmp_path / "none.nc")]) == 2
    assert "range(8, 3): expected members one after the other" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["ou", "--members", "3:"])
    assert "expected a number, or a range as 64:128" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["members = '3:8'", "n_members = '3:8'", "n_members = 5\nfirst_member = 3"])
def test_a_config_names_a_range(tmp_path, text):
    (tmp_path / "run.toml").write_text(f"[simulate]\nduration = 3.0\n{text}\n")
    config, out = str(tmp_path / "run.toml"), str(tmp_path / "part.nc")
    part = simulators.run("ou", *read_config(config, "ou"))
    assert part["member"].values.tolist() == [3, 4, 5, 6, 7]
    assert main(["ou", "--config", config, "--out", out, "--members", "2"]) == 0
    with xr.open_dataset(out) as fewer:
        assert fewer["member"].values.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"members": 4, "n_members": 4}, "found members and n_members: expected one of them"),
        ({"members": "4-8"}, "members = '4-8': expected a number, or a range as 64:128"),
        ({"n_members": 4, "first_member": -1}, "first_member = -1: expected an integer >= 0"),
        ({"n_members": range(2), "first_member": 1}, r"n_members = range\(0, 2\): expected an integer >= 1"),
    ],
)
def test_contradictions_about_members_are_named(arguments, message):
    with pytest.raises(ParameterError, match=message):
        with_members(arguments)


def test_text_about_members():
    assert members_from_text(" 64 ") == 64
    assert members_from_text("64:128") == range(64, 128)
    assert with_members({"members": 7, "seed": 1}) == {"n_members": 7, "seed": 1}
    assert with_members({"seed": 1}) == {"seed": 1}


@pytest.mark.parametrize("measure", ["direct_response", "forced_response"])
def test_responses_take_a_number_of_members(measure):
    arguments = {"direct_response": (2.0,), "forced_response": (1.0, 2.0)}[measure]
    with pytest.raises(ParameterError, match=r"n_members = range\(0, 4\): expected an integer >= 2"):
        getattr(DoubleWell(), measure)(*arguments, n_members=range(4))
