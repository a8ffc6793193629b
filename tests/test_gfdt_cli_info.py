"""``gfdt info`` of several files: the parts of one run as one, strangers one after the other."""

import json

import numpy as np
import pytest
import xarray as xr

from simulators import DoubleWell


@pytest.fixture
def parts(tmp_path):
    """Members 0 to 3, 4 to 7 and 10 of a run, and members 2 to 5 of the same; written once for each test."""

    def write(name, members, **options):
        path = tmp_path / name
        DoubleWell().simulate(members, 20.0, seed=1, out=path, **options).close()
        return path

    names = {"a.nc": range(4), "b.nc": range(4, 8), "d.nc": range(10, 11), "across.nc": range(2, 6)}
    return {name.removesuffix(".nc"): write(name, members) for name, members in names.items()} | {
        "other": write("other.nc", range(4, 8), dt=0.005)
    }


def test_parts_of_a_run_are_described_as_one(run, parts):
    code, out, _ = run("info", parts["b"], parts["a"])
    assert code == 0
    lines = out.splitlines()
    assert lines[0].startswith("2 files of one run: trajectory, ")
    assert lines[1:3] == [f"  {parts['a']}: members 0 to 3", f"  {parts['b']}: members 4 to 7"]
    assert "  x            (member 8, time 20, component 1) float64" in lines
    (config,) = (line for line in lines if line.startswith("  config_json: "))
    assert '"n_members": 8' in config
    assert "first_member" not in config
    assert "missing" not in out
    assert "  time         20 from 0.0 ... 19.0 1" in lines


def test_missing_members_are_named(run, parts):
    _, out, _ = run("info", parts["b"], parts["d"])
    assert "  missing: members 0 to 3, 8 to 9" in out.splitlines()
    assert f"  {parts['d']}: member 10" in out.splitlines()


def test_parts_that_share_members_are_refused(run, parts):
    code, out, err = run("info", parts["a"], parts["b"], parts["across"])
    assert (code, out) == (2, "")
    assert f"{parts['a']} and {parts['across']} both hold members 2 to 3 of one run: leave one of the files out" in err
    assert run("info", parts["a"], parts["a"])[0] == 2


def test_files_that_do_not_belong_together_come_one_after_the_other(run, parts, tmp_path):
    with xr.open_dataset(parts["b"]) as dataset:  # the same run, but not all of it
        dataset.isel(time=slice(0, 10)).to_netcdf(tmp_path / "shorter.nc")
    xr.Dataset({"v": ("q", np.arange(3.0))}).to_netcdf(tmp_path / "stranger.nc")
    strangers = [tmp_path / "shorter.nc", parts["other"], tmp_path / "stranger.nc"]
    _, out, _ = run("info", parts["a"], *strangers, parts["b"])
    alone = [run("info", file)[1] for file in strangers]
    assert out == run("info", parts["a"], parts["b"])[1] + "".join(alone)
    assert out.count("of one run") == 1


def test_one_file_is_described_as_it_is(run, parts):
    _, out, _ = run("info", parts["b"])
    assert out.startswith(f"{parts['b']}: trajectory, ")
    assert "  member       4 from 4 ... 7 1" in out.splitlines()
    with xr.open_dataset(parts["b"]) as dataset:
        assert json.loads(dataset.attrs["config_json"])["simulate"]["first_member"] == 4


def test_every_file_is_looked_for_before_any_is_described(run, parts, tmp_path):
    code, out, err = run("info", parts["a"], tmp_path / "none.nc")
    assert (code, out) == (2, "")
    assert "there is no file" in err


def test_records_without_a_usable_configuration_stay_apart(run, parts, tmp_path):
    with xr.open_dataset(parts["a"]) as dataset:
        for name, text in {"one.nc": "[1]", "two.nc": "not JSON", "three.nc": '{"simulate": 3}'}.items():
            dataset.assign_attrs(config_json=text).to_netcdf(tmp_path / name)
    code, out, _ = run("info", *(tmp_path / name for name in ("one.nc", "two.nc", "three.nc")))
    assert code == 0
    assert out.count(": trajectory, ") == 3
    assert "of one run" not in out
