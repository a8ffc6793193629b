"""The command line end to end, and what it says when something is wrong."""

import subprocess
import sys

import numpy as np
import pytest
import xarray as xr

import gfdt
import simulators


@pytest.fixture(scope="module")
def trajectory(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "linear.nc"
    system = simulators.LinearSDE([[-1.0, 0.5], [0.0, -0.5]], np.eye(2))
    system.simulate(n_members=20, duration=100.0, save_every=0.5, seed=0, out=path).close()
    return path


def test_the_whole_way(run, tmp_path):
    """simulate -> train -> respond -> compare -> plot -> info, each step's stdout being the path of its result."""
    data, score, learned = tmp_path / "ou.nc", tmp_path / "ou.safetensors", tmp_path / "learned.nc"
    options = ("--n", 8, "--members", 20, "--duration", 200, "--save-every", 2, "--seed", 1)
    assert run("simulate", "ou", *options, "--out", data)[:2] == (0, f"{data}\n")
    assert run("train", data, "--max-steps", 20, "--out", score)[:2] == (0, f"{score}\n")
    code, out, _ = run("respond", data, score, "--max-lag", 20, "--homogeneous", "y,x", "--out", learned)
    assert (code, out) == (0, f"{learned}\n")
    code, out, err = run("respond", data, "gaussian", "--max-lag", 20, "--homogeneous", "y,x")
    assert code == 0
    assert "20 members" in err
    gaussian = out.strip()
    code, out, err = run("compare", gaussian, learned, f"same={gaussian}", "--out", tmp_path / "errors.nc")
    assert code == 0
    assert "generative" in err
    assert "same            0.000e+00" in err
    assert (tmp_path / "errors.nc").exists()
    assert run("plot", learned, gaussian, "--out", tmp_path / "r.png")[:2] == (0, f"{tmp_path / 'r.png'}\n")
    assert run("plot", learned, "--against", "dx", "--at", "lag=10", "--out", tmp_path / "r.pdf")[0] == 0
    assert run("plot", data, "--times", "0,9", "--out", tmp_path / "u.svg")[0] == 0
    assert (tmp_path / "r.png").read_bytes().startswith(b"\x89PNG")
    code, out, _ = run("check", data, score)
    assert (code, out.split()[:3]) == (0, ["score", "check:", "green"])
    for file, word in ((data, "trajectory"), (learned, "response"), (score, "DSMScore")):
        code, out, _ = run("info", file)
        assert code == 0
        assert word in out
    assert not [path for path in tmp_path.iterdir() if "part" in path.name]


def test_config_file_gives_options_and_the_command_line_wins(run, tmp_path, trajectory):
    config = tmp_path / "respond.toml"
    config.write_text('max-lag = 5.0\nlag_stride = 2\nout = "unused.nc"\n')
    target = tmp_path / "r.nc"
    assert run("respond", trajectory, "gaussian", "--config", config, "--out", target)[0] == 0
    with xr.open_dataset(target) as got:
        np.testing.assert_allclose(got["lag"], np.arange(6.0))


def test_dry_run_writes_nothing(run, tmp_path, trajectory):
    for arguments in (
        ("train", trajectory, "--out", tmp_path / "s.st"),
        ("respond", trajectory, "gaussian", "--max-lag", 5, "--out", tmp_path / "r.nc"),
        ("demo", "--out", tmp_path / "demo"),
    ):
        code, out, err = run(*arguments, "--dry-run")
        assert (code, out) == (0, "")
        assert "would" in err
    assert not list(tmp_path.iterdir())


def bad_calls(tmp_path, good):
    truncated, text, score = tmp_path / "truncated.nc", tmp_path / "text.safetensors", tmp_path / "score.st"
    truncated.write_bytes(good.read_bytes()[:3000])
    text.write_text("not a score")
    gfdt.GaussianScore().fit(np.random.default_rng(0).random((1, 50, 3)), dims=("member", "time", "a")).save(score)
    (tmp_path / "bad.toml").write_text("max-lagg = 3\n")
    (tmp_path / "broken.toml").write_text("max-lag = = 3\n")
    (tmp_path / "deep.toml").write_text("max-lag = " + "[" * 100_000)
    (tmp_path / "bool.toml").write_text("max-lag = true\n")
    with xr.open_dataset(good, decode_times=False) as dataset:
        dataset.load()
        for name, change in {
            "nan": lambda d: d.where((d["time"] != 3.0) | (d["component"] == 0)),
            "uneven": lambda d: d.assign_coords(time=d["time"] ** 1.01),
            "constant": lambda d: 0 * d,
            "empty": lambda d: d.isel(time=slice(0, 0)),
            "dims": lambda d: d.rename(time="t"),
        }.items():
            change(dataset).drop_encoding().to_netcdf(tmp_path / f"{name}.nc")
    out = ("--out", tmp_path / "result.nc")
    respond = ("respond", good, "gaussian")
    yield ("train", tmp_path / "none.nc", *out), "no file"
    yield ("train", truncated, *out), "cannot be read"
    yield ("train", tmp_path / "nan.nc", *out), "NaN or inf"
    yield ("train", tmp_path / "constant.nc", *out), "constant"
    yield ("train", tmp_path / "empty.nc", *out), "empty"
    yield ("train", tmp_path / "dims.nc", *out), "no variable has a 'time' dim"
    yield ("respond", tmp_path / "uneven.nc", "gaussian", "--max-lag", 2, *out), "not uniform"
    yield ("train", good, "--score", "best", *out), "--score best is not known"
    yield ("train", good, "--network", "transformer", *out), "network"
    yield ("train", good, "--device", "tpu", *out), "device"
    yield ("train", good, "--max-steps", 0, *out), "--max-steps 0"
    yield ("train", good, "--var", "z", *out), "no variable 'z': choose --var among x"
    yield ("train", good, "--out", tmp_path / "missing" / "s.st"), "does not exist"
    yield ("train", good, "--out", "/proc/s.st"), "/proc"
    yield ("train", good, "--out", tmp_path), "is a directory"
    yield ("train", good, "--out", good, "--overwrite"), "is the input of this command"
    yield ("respond", good, score, "--max-lag", 5, "--out", score, "--overwrite"), "is the input of this command"
    yield ("plot", good, "--out", good, "--overwrite"), "is the input of this command"
    yield ("train", good, "--out", score), "exists already"
    yield ("train", good, "--out", "/dev/full", "--overwrite"), "not a regular file"
    yield (*respond, "--max-lag", 1000, *out), "not shorter than the record"
    yield (*respond, "--max-lag", -1, *out), "negative"
    yield (*respond, *out), "--max-lag"
    yield (*respond, "--max-lag", "long", *out), "--max-lag"
    yield (*respond, "--max-lag", 5, "--correction", "best", *out), "--correction best is not known"
    yield (*respond, "--max-lag", 5, "--homogeneous", "y,x", *out), "does not match the state dims"
    yield (*respond, "--max-lag", 5, "--unknown", *out), "No such option"
    yield (*respond, "--config", tmp_path / "bad.toml", *out), "did you mean max_lag"
    yield (*respond, "--config", tmp_path / "broken.toml", *out), "not TOML"
    yield (*respond, "--config", tmp_path / "none.toml", *out), "no config file"
    yield (*respond, "--config", tmp_path / "deep.toml", *out), "not TOML"
    yield (*respond, "--config", tmp_path / "bool.toml", *out), "gives True for 'max-lag'"
    yield (*respond, "--max-lag", 1000, "--dry-run", *out), "not shorter than the record"
    yield (*respond, "--max-lag", 5, "--observable", "entropy", "--dry-run", *out), "--observable entropy is not known"
    yield ("train", good, "--sigma", -3, "--dry-run", *out), "--sigma -3.0 is not a number"
    yield ("demo", "--device", "tpu", "--dry-run", "--out", tmp_path / "d"), "device is 'tpu'"
    yield ("info", tmp_path / "bad.toml"), "neither netCDF nor a usable score"
    yield ("plot", score, "--out", tmp_path / "x.png"), "is a score file"
    yield ("check", good, tmp_path / "none.st"), "no score file"
    yield ("respond", good), "Missing argument"
    yield ("respond", good, text, "--max-lag", 5, *out), "not a readable safetensors"
    yield ("respond", good, tmp_path / "none.st", "--max-lag", 5, *out), "no score file"
    yield ("respond", good, score, "--max-lag", 5, *out), "the score belongs to states"
    yield ("compare", good, good), "holds no response"
    yield ("compare", tmp_path / "none.nc", good), "no file"
    yield ("plot", good, "--out", tmp_path / "x.bmp"), "no known picture format"
    yield ("plot", good, "--times", "first", "--out", tmp_path / "x.png"), "--times first"
    yield ("plot", good, good, "--out", tmp_path / "x.png"), "one trajectory at a time"
    yield ("info", tmp_path / "none.nc"), "no file"
    yield ("info", text), "not a readable safetensors"
    yield ("simulate", "ou", "--members", 0, *out), "n_members"
    yield ("simulate", "lorenz", *out), "lorenz"
    yield ("demo", "--out", good), "cannot be made"
    yield ("fly",), "No such command"


def test_every_mistake_gets_one_sentence_and_exit_code_2(run, tmp_path, trajectory):
    for arguments, message in bad_calls(tmp_path, trajectory):
        before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
        code, out, err = run(*arguments)
        assert code == 2, (arguments, err)
        assert out == "", arguments
        assert message in err, (arguments, err)
        assert "Traceback" not in err, arguments
        assert err.count("\n") == 1, (arguments, err)
        assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before, arguments


def test_a_mistake_in_a_real_process_shows_no_traceback(tmp_path):
    got = subprocess.run(
        [sys.executable, "-m", "gfdt", "train", "none.nc"], capture_output=True, text=True, cwd=tmp_path, timeout=60
    )
    assert got.returncode == 2
    assert got.stderr.count("\n") == 1
    assert got.stderr.startswith("gfdt: error: there is no file none.nc")


@pytest.mark.filterwarnings("default::gfdt.errors.ReliabilityWarning")
def test_warnings_are_one_line_on_stderr(run, tmp_path):
    short = tmp_path / "short.nc"
    walk = np.cumsum(np.random.default_rng(0).standard_normal((1, 100, 1)), axis=1)
    xr.Dataset({"x": (("member", "time", "component"), walk), "time": np.arange(100.0)}).to_netcdf(short)
    code, _, err = run("respond", short, "gaussian", "--max-lag", 5)
    assert code == 0
    assert "gfdt: warning: the record holds only" in err
