"""Files: complete or absent under their final name, and resumable bit for bit."""

import fcntl
import os
import subprocess
import sys

import netCDF4
import numpy as np
import pytest
import xarray as xr
from reference.simulators_toys import Exploding, RandomWalk

from simulators import (
    BlowUpError,
    DoubleWell,
    OrnsteinUhlenbeck,
    OutputError,
    OutputExistsError,
    ParameterError,
    engine,
)
from simulators.checkpoint import load_checkpoint
from simulators.target import claim_target, lock_path


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


def test_a_full_disk_at_a_checkpoint_is_named(tmp_path, monkeypatch):
    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OutputError, match=r"state\.npz \(No space left on device\)"):
        RandomWalk().simulate(1, 3.0, out=tmp_path / "run.nc")
    assert leftovers(tmp_path) == []


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
