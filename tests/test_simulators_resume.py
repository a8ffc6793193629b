"""Runs that were stopped go on bit for bit, whatever stopped them, and refuse what cannot be theirs."""

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import netCDF4
import numpy as np
import pytest
import xarray as xr
from reference.simulators_toys import RandomWalk, RecordedWalk

from simulators import (
    DoubleWell,
    OrnsteinUhlenbeck,
    OutputExistsError,
    ResumeError,
    engine,
)
from simulators.checkpoint import load_checkpoint
from simulators.target import part_path, state_path


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(engine, "BLOCK_BYTES", 1)  # one snapshot


def leftovers(directory):
    return sorted(path.name for path in directory.iterdir())


def test_every_variable_of_a_file_resumes_bit_for_bit(tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "BLOCK_BYTES", 2 * 4 * 8 * 3)  # three snapshots
    expected = RecordedWalk().simulate(2, 20.0, 1.0, seed=5)
    out = tmp_path / "run.nc"
    with monkeypatch.context() as broken:
        broken.setattr(engine, "_watch", fails_at_call(4))
        with pytest.raises(RuntimeError, match="power cut"):
            RecordedWalk().simulate(2, 20.0, 1.0, seed=5, out=out)
    assert load_checkpoint(out).done == 9
    kept = tmp_path / "kept"
    os.replace(part_path(out), kept)
    RandomWalk().simulate(2, 20.0, 1.0, seed=5, out=part_path(out)).close()  # the state without its companion
    with pytest.raises(ResumeError, match=r"cannot be read \('w'\)"):
        RecordedWalk().simulate(2, 20.0, 1.0, seed=5, out=out, resume=True)
    os.replace(kept, part_path(out))
    with RecordedWalk().simulate(2, 20.0, 1.0, seed=5, out=out, resume=True) as resumed:
        for name in ("x", "w"):
            np.testing.assert_array_equal(resumed[name], expected[name])
        with netCDF4.Dataset(out) as file:
            assert file["w"].long_name == "increment that led here"


def fails_at_call(count):
    """Return a stand-in for the watch over blocks that fails in its call number `count`."""
    calls = iter(range(1, 10**9))

    def watch(*arguments):
        if next(calls) == count:
            raise RuntimeError("power cut")

    return watch


@pytest.mark.parametrize("spinup", [0.0, 5.0])
@pytest.mark.parametrize("fail_at", [1, 4, 11, 16])
def test_a_failed_run_resumes_bit_for_bit(tmp_path, monkeypatch, small_blocks, spinup, fail_at):
    arguments = {"n_members": 2, "duration": 8.0, "save_every": 1.0, "seed": 5, "spinup": spinup}
    expected = RandomWalk().simulate(**arguments)["x"].values
    out = tmp_path / "run.nc"
    with monkeypatch.context() as broken:
        broken.setattr(RandomWalk, "failure", RuntimeError("power cut"))
        broken.setattr(RandomWalk, "fail_at", fail_at)
        with pytest.raises(RuntimeError, match="power cut"):
            RandomWalk().simulate(**arguments, out=out)
    assert not out.exists()
    # nothing is kept of a run that failed before its first checkpoint
    assert leftovers(tmp_path) == ([] if fail_at == 1 else ["run.nc.part", "run.nc.part.state.npz"])
    with RandomWalk().simulate(**arguments, out=out, resume=True, workers=1) as resumed:
        np.testing.assert_array_equal(resumed["x"], expected)
    assert leftovers(tmp_path) == ["run.nc"]


@pytest.fixture
def interrupted(tmp_path, monkeypatch, small_blocks):
    """A run of 2 members x 8 snapshots stopped by Ctrl-C in the fourth block."""
    out = tmp_path / "run.nc"
    with monkeypatch.context() as broken:
        broken.setattr(RandomWalk, "failure", KeyboardInterrupt())
        broken.setattr(RandomWalk, "fail_at", 7)
        with pytest.raises(KeyboardInterrupt) as caught:
            RandomWalk().simulate(2, 8.0, 1.0, seed=5, out=out)
    assert "run the same command with resume" in caught.value.__notes__[0]
    return out


def test_resume_continues_and_does_not_start_again(interrupted):
    assert load_checkpoint(interrupted).done == 3
    RandomWalk().simulate(2, 8.0, 1.0, seed=5, out=interrupted, resume=True).close()
    assert RandomWalk.calls == 2 * 5  # the five blocks that were missing


def test_resume_refuses_other_parameters_and_names_them(interrupted):
    with pytest.raises(ResumeError, match=r"simulate\.duration = 9\.0 \(the file has 8\.0\)"):
        RandomWalk().simulate(2, 9.0, 1.0, seed=5, out=interrupted, resume=True)
    with pytest.raises(ResumeError, match=r"parameters\.start_at = 1\.0 .*; simulate\.seed = 6 "):
        RandomWalk(start_at=1.0).simulate(2, 8.0, 1.0, seed=6, out=interrupted, resume=True)
    assert load_checkpoint(interrupted).done == 3  # the refusal has not touched it


def test_resume_with_seed_none_keeps_the_entropy_of_the_file(interrupted):
    with RandomWalk().simulate(2, 8.0, 1.0, seed=None, out=interrupted, resume=True) as resumed:
        np.testing.assert_array_equal(resumed["x"], RandomWalk().simulate(2, 8.0, 1.0, seed=5)["x"])
        assert resumed.attrs["seed_entropy"] == "5"


def test_an_interrupted_run_is_replaced_only_on_request(interrupted):
    before = leftovers(interrupted.parent)
    with pytest.raises(OutputExistsError, match=r"interrupted run of run\.nc.*--resume.*--overwrite"):
        RandomWalk().simulate(2, 8.0, 1.0, seed=77, out=interrupted)
    assert leftovers(interrupted.parent) == before
    with RandomWalk().simulate(2, 8.0, 1.0, seed=77, out=interrupted, overwrite=True) as fresh:
        np.testing.assert_array_equal(fresh["x"], RandomWalk().simulate(2, 8.0, 1.0, seed=77)["x"])
    assert leftovers(interrupted.parent) == ["run.nc"]


def refused(out, match):
    """Resuming is refused, and neither finishes the file nor removes what is there."""
    before = leftovers(out.parent)
    with pytest.raises(ResumeError, match=match):
        RandomWalk().simulate(2, 8.0, 1.0, seed=5, out=out, resume=True)
    assert leftovers(out.parent) == before


def flipped(raw):
    middle = raw.index(b"state_0.npy") + 170  # inside the numbers: only the checksum of the archive can tell
    return raw[:middle] + bytes([raw[middle] ^ 1]) + raw[middle + 1 :]


@pytest.mark.parametrize(
    "damage",
    [lambda raw: b"not a zip file", lambda raw: b"", lambda raw: raw[: len(raw) // 2], flipped, lambda raw: raw * 1000],
    ids=["other", "empty", "truncated", "flipped", "huge"],
)
def test_a_damaged_checkpoint_is_one_clear_error(interrupted, damage):
    state_path(interrupted).write_bytes(damage(state_path(interrupted).read_bytes()))
    refused(interrupted, r"cannot be read.*start again without resume")


def rewrite(out, record=None, streams=None, state_0=None):
    """Replace parts of a checkpoint by consistent bytes with other contents."""
    with np.load(state_path(out)) as saved:
        arrays = dict(saved)
    if record is not None:
        arrays["record"] = np.array(json.dumps(json.loads(str(arrays["record"])) | record))
    if streams is not None:
        arrays["streams"] = np.array(json.dumps(streams(json.loads(str(arrays["streams"])))))
    if state_0 is not None:
        arrays["state_0"] = state_0(arrays["state_0"])
    with open(state_path(out), "wb") as file:
        np.savez(file, **arrays)


def with_position(key, value):
    return lambda states: [state | {"state": state["state"] | {key: value}} for state in states]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"record": {"done": "a"}}, "done = 'a'"),
        ({"record": {"done": -5}}, "done = -5"),
        ({"record": {"done": True}}, "done = True"),
        ({"record": {"done": 10**9}}, "1000000000 save intervals done, expected at most 8"),
        ({"record": {"config": None}}, "config is None"),
        ({"record": {"config": {"system": "random-walk"}}}, "config is"),
        ({"record": {"entropy": 6}}, "entropy is 6, the seed is 5"),
        ({"record": {"n_arrays": 0}}, "n_arrays = 0"),
        ({"record": {"n_arrays": 3}}, "KeyError"),
        ({"record": {"n_arrays": 1}}, "states .* expected"),
        ({"state_0": lambda x: x[:1]}, "states of shapes"),
        ({"state_0": lambda x: x[:, :1]}, "states .* expected"),
        ({"state_0": lambda x: x.astype("f4")}, "states .* expected"),
        ({"state_0": lambda x: x * np.nan}, "not finite"),
        ({"state_0": lambda x: np.array([None] * 2)}, "allow_pickle=False"),
        ({"streams": lambda states: states[::-1]}, "random streams that do not belong to its seed"),
        ({"streams": lambda states: [None] * 2}, "cannot be read"),
        ({"streams": with_position("state", -1)}, "cannot be read"),
        ({"streams": with_position("state", 2**128)}, "cannot be read"),
        ({"streams": with_position("inc", 1)}, "do not belong"),
    ],
)
def test_a_checkpoint_that_no_run_can_have_written_is_refused(interrupted, changes, message):
    rewrite(interrupted, **changes)
    refused(interrupted, message)


def test_a_small_archive_that_unpacks_to_much_is_refused_unread(interrupted):
    with zipfile.ZipFile(state_path(interrupted), "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("record.npy", bytes(10**8))
    refused(interrupted, "it holds 100000000 bytes")


def test_a_part_file_that_is_not_the_beginning_of_the_run_is_refused(interrupted):
    raw = part_path(interrupted).read_bytes()
    part_path(interrupted).write_bytes(raw[: len(raw) // 2])
    refused(interrupted, r"run\.nc\.part cannot be read")
    RandomWalk(start_at=1.0).simulate(2, 8.0, 1.0, seed=5, out=interrupted.with_name("other.nc")).close()
    os.replace(interrupted.with_name("other.nc"), part_path(interrupted))
    refused(interrupted, "expected .* with the one of its checkpoint")


def test_runs_killed_at_random_moments_resume_bit_for_bit():
    # the acceptance check in small: `benchmarks/streaming.py --kills 20` does the whole of it
    script = Path(__file__).parent.parent / "benchmarks" / "streaming.py"
    small = ["--parameters", '{"n": 4}', "--simulate", '{"n_members": 2}', "--block-draws", "20000"]
    done = subprocess.run([sys.executable, script, "--kills", "2", *small], capture_output=True, text=True, check=False)
    assert done.stdout.endswith("2 of 2 identical\n"), done.stdout + done.stderr


def test_resume_without_leftovers_starts_from_the_beginning(tmp_path):
    with RandomWalk().simulate(1, 3.0, out=tmp_path / "run.nc", resume=True) as dataset:
        np.testing.assert_array_equal(dataset["x"], RandomWalk().simulate(1, 3.0)["x"])


def test_resume_leaves_the_complete_file_of_the_run_alone(tmp_path, caplog):
    out = tmp_path / "run.nc"
    RandomWalk().simulate(2, 3.0, seed=None, out=out).close()
    before, entropy = out.read_bytes(), xr.load_dataset(out).attrs["seed_entropy"]
    for seed in (None, int(entropy)):
        with caplog.at_level("INFO"), RandomWalk().simulate(2, 3.0, seed=seed, out=out, resume=True) as dataset:
            assert dataset.sizes["member"] == 2
        assert "complete file of this run: nothing to do" in caplog.text
        caplog.clear()
    for name, value in {"n_members": 3, "seed": 5, "duration": 4.0}.items():
        other = {"n_members": 2, "duration": 3.0, "seed": None, name: value}
        with pytest.raises(OutputExistsError, match=rf"exists and is not of this run, simulate\.{name} = "):
            RandomWalk().simulate(**other, out=out, resume=True)
    assert out.read_bytes() == before
    RandomWalk().simulate(3, 3.0, out=out, resume=True, overwrite=True).close()
    assert xr.load_dataset(out).sizes["member"] == 3
    assert leftovers(tmp_path) == ["run.nc"]


@pytest.mark.parametrize("spinup", [0.0, "auto"])
def test_resume_knows_its_complete_file_whatever_the_spin_up(tmp_path, spinup):
    arguments = {"n_members": 2, "duration": 5.0, "spinup": spinup, "out": tmp_path / "run.nc", "resume": True}
    with DoubleWell().simulate(**arguments) as first, DoubleWell().simulate(**arguments) as second:
        xr.testing.assert_identical(first, second)


_VICTIM = """
import sys
from simulators import OrnsteinUhlenbeck, engine
engine.BLOCK_BYTES = 1
OrnsteinUhlenbeck(n=3).simulate(2, 50_000, 1.0, seed=8, out=sys.argv[1])
"""


def test_a_killed_process_resumes_bit_for_bit(tmp_path):
    out = tmp_path / "run.nc"
    process = subprocess.Popen([sys.executable, "-c", _VICTIM, str(out)])  # one snapshot per block: minutes of work
    try:
        deadline = time.monotonic() + 60
        while not state_path(out).exists() and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.02)
        time.sleep(0.3)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert process.returncode == -signal.SIGKILL
    assert not out.exists()
    done = load_checkpoint(out).done
    assert 1 < done < 50_000
    system = OrnsteinUhlenbeck(n=3)
    expected = system.simulate(2, 50_000, 1.0, seed=8)["u"]
    with system.simulate(2, 50_000, 1.0, seed=8, out=out, resume=True) as resumed:
        np.testing.assert_array_equal(resumed["u"], expected)
    assert leftovers(tmp_path) == ["run.nc"]


def test_ctrl_c_on_the_command_line_says_how_to_continue(tmp_path):
    out = tmp_path / "run.nc"
    options = ["--members", "1", "--duration", "100000", "--dt", "1e-5", "--out"]  # a minute, in many blocks
    process = subprocess.Popen(
        [sys.executable, "-m", "simulators", "double-well", *options, str(out)],
        stderr=subprocess.PIPE,
        text=True,
        # A shell that runs the tests in the background leaves Ctrl-C ignored in everything below it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 60
    while not state_path(out).exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.startswith("simulators: interrupted; the blocks so far are in")
    assert load_checkpoint(out).done >= 1
    assert not out.exists()
