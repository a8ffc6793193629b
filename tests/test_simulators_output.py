"""Files: complete or absent under their final name, and resumable bit for bit."""

import fcntl
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
from reference.simulators_toys import Exploding, RandomWalk, RecordedWalk

from simulators import (
    BlowUpError,
    DoubleWell,
    OrnsteinUhlenbeck,
    OutputError,
    OutputExistsError,
    ParameterError,
    ResumeError,
    engine,
)
from simulators.checkpoint import load_checkpoint
from simulators.target import claim_target, lock_path, part_path, state_path


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


def test_existing_file_is_safe_without_overwrite(tmp_path):
    out = tmp_path / "run.nc"
    out.write_text("precious")
    for resume, message in ((False, "exists: pass overwrite=True"), (True, "not of this run, it cannot be read")):
        with pytest.raises(OutputExistsError, match=message):
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
        OrnsteinUhlenbeck(n=512).simulate(10, 1e6, 1.0, out=tmp_path / "run.nc")
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


def test_overwrite_replaces_regular_files_only(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for out, message in ((pipe, "a named pipe"), ("/dev/null", "a device"), (tmp_path, "a directory")):
        with pytest.raises(OutputError, match=f"is {message}.*expected"):
            RandomWalk().simulate(1, 3.0, out=out, overwrite=True)
    os.mkfifo(tmp_path / "run.nc.part")
    with pytest.raises(OutputError, match=r"run\.nc\.part is a named pipe"):
        RandomWalk().simulate(1, 3.0, out=tmp_path / "run.nc")
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    with pytest.raises(OutputError, match="is a symbolic link"):
        RandomWalk().simulate(1, 3.0, out=loop, overwrite=True)
    assert leftovers(tmp_path) == ["loop", "pipe", "run.nc.part"]


def test_a_symbolic_link_is_written_through(tmp_path):
    link, target = tmp_path / "link.nc", tmp_path / "target.nc"
    link.symlink_to(target)
    RandomWalk().simulate(1, 3.0, out=link).close()  # it dangled
    with pytest.raises(OutputExistsError):
        RandomWalk().simulate(1, 3.0, out=link)
    RandomWalk().simulate(1, 4.0, out=link, overwrite=True).close()
    assert link.is_symlink()
    with xr.open_dataset(target) as dataset:
        assert dataset.sizes["time"] == 4
    assert leftovers(tmp_path) == ["link.nc", "target.nc"]


@pytest.mark.parametrize("out", [3, True, "a\0b", "x" * 240])
def test_names_no_file_can_have_are_refused(tmp_path, out):
    with pytest.raises(OutputError, match=r"expected|cannot"):
        RandomWalk().simulate(1, 3.0, out=tmp_path / out if isinstance(out, str) else out)
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("blocks", [8, 10_000])
def test_a_quota_is_one_sentence_and_leaves_nothing(tmp_path, blocks):
    # the limit is met while the file is created (8 blocks), or its numbers alone do not fit (10 MB)
    duration = "1000" if blocks == 8 else "3000000"
    code = (
        f"import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, ({blocks * 1024},) * 2)\n"
        f"from simulators.__main__ import main\n"
        f"sys.exit(main(['double-well', '--duration', '{duration}', '--dt', '1', '--out', sys.argv[1]]))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "run.nc")]
    # with compiled code, caches are files too
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path.parent / "numba")}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("simulators: error: cannot ")
    assert leftovers(tmp_path) == []


def test_two_runs_never_write_one_file(tmp_path):
    out = tmp_path / "run.nc"
    with claim_target(out, overwrite=False, resume=False, n_bytes=1):
        for options in ({}, {"resume": True}, {"overwrite": True}):
            with pytest.raises(OutputError, match=r"run\.nc\.part is being written by another run: expected"):
                RandomWalk().simulate(1, 3.0, out=out, **options)
        RandomWalk().simulate(1, 3.0, out=tmp_path / "other.nc").close()
    assert leftovers(tmp_path) == ["other.nc"]
    lock_path(out).write_text("")  # a killed run leaves its lock file, and no lock
    RandomWalk().simulate(1, 3.0, out=out).close()
    assert leftovers(tmp_path) == ["other.nc", "run.nc"]


def test_a_lock_file_that_its_owner_removed_is_no_lock(tmp_path, monkeypatch):
    out = tmp_path / "run.nc"
    attempts = []

    def flock(file, operation, real=fcntl.flock):
        real(file, operation)
        attempts.append(operation)
        if len(attempts) == 1:  # as if the run before had ended between opening and locking
            lock_path(out).unlink()

    monkeypatch.setattr(fcntl, "flock", flock)
    with claim_target(out, overwrite=False, resume=False, n_bytes=1):
        assert len(attempts) == 2
        assert lock_path(out).exists()


def test_a_file_system_without_locks_is_no_obstacle(tmp_path, monkeypatch):
    def flock(file, operation):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", flock)
    RandomWalk().simulate(1, 3.0, out=tmp_path / "run.nc").close()
    assert leftovers(tmp_path) == ["run.nc"]


_FILLED = """
import resource, sys
from simulators import engine
from simulators.__main__ import main
engine.BLOCK_BYTES = 2 * 8 * 1000
blocks = iter(range(100))
def watch(*arguments, real=engine._watch):
    real(*arguments)
    if next(blocks) == 3:  # from now on no file can grow beyond the coordinates and two blocks of the first member
        resource.setrlimit(resource.RLIMIT_FSIZE, (120_000, resource.RLIM_INFINITY))
engine._watch = watch
options = ["--members", "2", "--duration", "10000", "--save-every", "1", "--dt", "0.1", "--seed", "5"]
sys.exit(main(["double-well", *options, "--out", sys.argv[1]]))
"""


def test_a_disk_that_fills_up_during_the_run_leaves_what_can_be_resumed(tmp_path):
    out = tmp_path / "run.nc"
    done = subprocess.run([sys.executable, "-c", _FILLED, str(out)], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("simulators: error: cannot write a block to ")
    assert done.stderr.count("\n") == 1
    assert leftovers(tmp_path) == ["run.nc.part", "run.nc.part.state.npz"]
    assert load_checkpoint(out).done == 3000
    arguments = {"n_members": 2, "duration": 10_000.0, "save_every": 1.0, "dt": 0.1, "seed": 5}
    with DoubleWell().simulate(**arguments, out=out, resume=True) as resumed:
        np.testing.assert_array_equal(resumed["x"], DoubleWell().simulate(**arguments)["x"])


_FILLED_AND_MENDED = """
import resource, subprocess, sys
from simulators import DoubleWell, OutputError, engine
arguments = {"n_members": 2, "duration": 10000.0, "dt": 0.1, "seed": 5, "out": sys.argv[1]}
engine.BLOCK_BYTES = 2 * 8 * 1000
blocks = iter(range(100))
def watch(*arguments, real=engine._watch):
    real(*arguments)
    limit = 120_000 if next(blocks) == 3 else resource.RLIM_INFINITY
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
engine._watch = watch
try:
    DoubleWell().simulate(**arguments)
except OutputError:
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    DoubleWell().simulate(**arguments, resume=True)
    look = "import sys, xarray; print(xarray.open_dataset(sys.argv[1])['x'].values.sum())"
    sys.exit(subprocess.run([sys.executable, "-c", look, sys.argv[1]]).returncode)
"""


def test_a_process_that_met_a_full_disk_can_resume_once_there_is_room(tmp_path):
    # HDF5 cannot close a file that it cannot write: it stayed open and locked, and nobody else could read the result
    out = tmp_path / "run.nc"
    command = [sys.executable, "-c", _FILLED_AND_MENDED, str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    expected = DoubleWell().simulate(2, 10_000.0, dt=0.1, seed=5)["x"].values.sum()
    assert float(done.stdout) == pytest.approx(expected, rel=1e-12)


def test_runs_killed_at_random_moments_resume_bit_for_bit():
    # the acceptance check in small: `benchmarks/streaming.py --kills 20` does the whole of it
    script = Path(__file__).parent.parent / "benchmarks" / "streaming.py"
    small = ["--parameters", '{"n": 4}', "--simulate", '{"n_members": 2}', "--block-draws", "20000"]
    done = subprocess.run([sys.executable, script, "--kills", "2", *small], capture_output=True, text=True, check=False)
    assert done.stdout.endswith("2 of 2 identical\n"), done.stdout + done.stderr


def test_a_full_disk_at_a_checkpoint_is_named(tmp_path, monkeypatch):
    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OutputError, match=r"state\.npz \(No space left on device\)"):
        RandomWalk().simulate(1, 3.0, out=tmp_path / "run.nc")
    assert leftovers(tmp_path) == []


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


def test_blow_up_leaves_nothing_because_it_would_blow_up_again(tmp_path, small_blocks):
    with pytest.raises(BlowUpError):
        Exploding(culprit=0).simulate(1, 20.0, out=tmp_path / "run.nc")
    assert leftovers(tmp_path) == []


def test_a_failure_to_start_leaves_nothing(tmp_path, monkeypatch):
    def fail(rng):
        raise ParameterError("found late")

    monkeypatch.setattr(RandomWalk, "make_stepper", lambda *arguments: engine.Stepper(fail, fail, fail))
    with pytest.raises(ParameterError, match="found late"):
        RandomWalk().simulate(1, 3.0, out=tmp_path / "run.nc")
    assert leftovers(tmp_path) == []


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
