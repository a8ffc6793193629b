"""Files: complete or absent under their final name, and resumable bit for bit."""

import os
import signal
import subprocess
import sys
import time

import netCDF4
import numpy as np
import pytest
import xarray as xr
from reference.simulators_toys import Exploding, RandomWalk

from simulators import BlowUpError, OrnsteinUhlenbeck, OutputError, OutputExistsError, ResumeError, engine
from simulators.output import load_checkpoint, part_path, state_path


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(engine, "BLOCK_BYTES", 1)  # one snapshot


def leftovers(directory):
    return sorted(path.name for path in directory.iterdir())


def test_file_equals_memory_and_leaves_nothing_else(tmp_path, monkeypatch):
    system = OrnsteinUhlenbeck(n=5)
    arguments = {"n_members": 3, "duration": 10.0, "save_every": 0.5, "seed": 4}
    memory = system.simulate(**arguments)
    monkeypatch.setattr(engine, "BLOCK_BYTES", 3 * 25 * 8 * 7)  # seven snapshots, the last block shorter
    with system.simulate(**arguments, out=tmp_path / "run.nc") as file:
        assert file.attrs.keys() == memory.attrs.keys()
        stable = file.attrs.keys() - {"created", "history"}
        assert {key: file.attrs[key] for key in stable} == {key: memory.attrs[key] for key in stable}
        assert "_FillValue" not in file["u"].encoding
        xr.testing.assert_identical(file.load().drop_attrs(deep=False), memory.drop_attrs(deep=False))
    assert leftovers(tmp_path) == ["run.nc"]


def test_float32_file(tmp_path):
    system = OrnsteinUhlenbeck(n=4)
    with system.simulate(2, 4.0, 1.0, dtype="float32", out=str(tmp_path / "run.nc")) as file:
        np.testing.assert_array_equal(file["u"], system.simulate(2, 4.0, 1.0)["u"].astype(np.float32))


def test_existing_file_is_safe_without_overwrite(tmp_path):
    out = tmp_path / "run.nc"
    out.write_text("precious")
    for resume in (False, True):
        with pytest.raises(OutputExistsError, match="exists: pass overwrite=True"):
            RandomWalk().simulate(1, 3.0, out=out, resume=resume)
    assert out.read_text() == "precious"
    RandomWalk().simulate(1, 3.0, out=out, overwrite=True).close()
    assert leftovers(tmp_path) == ["run.nc"]


@pytest.mark.parametrize(
    ("out", "message"),
    [("missing/run.nc", "is not a directory"), ("file/run.nc", "is not a directory"), (".", "is a directory")],
)
def test_impossible_targets_are_refused_before_simulating(tmp_path, monkeypatch, out, message):
    (tmp_path / "file").write_text("")
    RandomWalk.calls = 0
    with pytest.raises(OutputError, match=message):
        RandomWalk().simulate(1, 3.0, out=tmp_path / out)
    assert RandomWalk.calls == 0


def test_unwritable_directory_is_refused_before_simulating():
    # /proc refuses new files even to root, whom permission bits do not stop
    with pytest.raises(OutputError, match=r"cannot write /proc/run\.nc\.part"):
        RandomWalk().simulate(1, 3.0, out="/proc/run.nc")


def test_full_disk_is_refused_before_simulating(tmp_path):
    with pytest.raises(OutputError, match="GB are free"):
        OrnsteinUhlenbeck(n=512).simulate(10**6, 1e6, 1.0, out=tmp_path / "run.nc")
    assert leftovers(tmp_path) == []


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
    assert part_path(out).exists()
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


def test_without_resume_a_leftover_is_overwritten(interrupted):
    with RandomWalk().simulate(2, 8.0, 1.0, seed=77, out=interrupted) as fresh:
        np.testing.assert_array_equal(fresh["x"], RandomWalk().simulate(2, 8.0, 1.0, seed=77)["x"])
    assert leftovers(interrupted.parent) == ["run.nc"]


def test_a_damaged_checkpoint_is_one_clear_error(interrupted):
    state_path(interrupted).write_bytes(b"not a zip file")
    with pytest.raises(ResumeError, match=r"cannot be read.*start again without resume"):
        RandomWalk().simulate(2, 8.0, 1.0, seed=5, out=interrupted, resume=True)


def test_resume_without_leftovers_starts_from_the_beginning(tmp_path):
    with RandomWalk().simulate(1, 3.0, out=tmp_path / "run.nc", resume=True) as dataset:
        np.testing.assert_array_equal(dataset["x"], RandomWalk().simulate(1, 3.0)["x"])


def test_blow_up_leaves_no_final_file(tmp_path):
    with pytest.raises(BlowUpError):
        Exploding(culprit=0).simulate(1, 20.0, out=tmp_path / "run.nc")
    assert not (tmp_path / "run.nc").exists()


def test_a_write_error_is_named_and_can_be_resumed(tmp_path, monkeypatch, small_blocks):
    out = tmp_path / "run.nc"
    system = RandomWalk()
    with monkeypatch.context() as broken:
        opened = []

        def fail_third(*arguments, real=netCDF4.Dataset, **options):
            opened.append(arguments)
            if len(opened) == 4:  # the file is opened once to create it, then once for each block
                raise RuntimeError("NetCDF: HDF error")
            return real(*arguments, **options)

        broken.setattr(netCDF4, "Dataset", fail_third)
        with pytest.raises(OutputError, match=r"cannot write a block.*HDF error.*with resume"):
            system.simulate(1, 6.0, out=out)
    assert load_checkpoint(out).done == 2
    with system.simulate(1, 6.0, out=out, resume=True) as resumed:
        np.testing.assert_array_equal(resumed["x"], system.simulate(1, 6.0)["x"])


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
    options = ["--members", "1", "--duration", "10000", "--dt", "1e-5", "--out"]  # about a second of work per block
    process = subprocess.Popen(
        [sys.executable, "-m", "simulators", "double-well", *options, str(out)], stderr=subprocess.PIPE, text=True
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
