"""One task of a run on a cluster, in this process, and which tasks a run has."""

import pickle
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import xarray as xr

from simulators import (
    BlowUpError,
    DoubleWell,
    OrnsteinUhlenbeck,
    OutputBusyError,
    OutputError,
    OutputExistsError,
    ParameterError,
    ResumeError,
    cluster_task,
    engine,
    errors,
    parts,
)
from simulators.checkpoint import load_checkpoint
from simulators.cluster_task import write_part
from simulators.target import claim_target

distributed = pytest.importorskip("distributed")

SYSTEM = OrnsteinUhlenbeck(n=4)
FIRST, SECOND = "run_000000-000001.nc", "run_000002-000003.nc"


@pytest.fixture
def task(tmp_path):
    """Write the part of members 2 and 3 of a short run."""
    beacon = tmp_path / "beacon"
    beacon.touch()
    plan = SYSTEM.plan_of_parts(range(2, 4), 12.0, seed=3)

    def call(*, plan=plan, system=SYSTEM, overwrite=False, beacon=beacon):
        return write_part(plan, tmp_path / SECOND, system=system, overwrite=overwrite, beacon=beacon)

    return call


def expected_part():
    return SYSTEM.simulate(4, 12.0, seed=3)["u"][2:]


def assert_is_the_part(path):
    with xr.open_dataset(path) as part:
        np.testing.assert_array_equal(part["u"], expected_part())


def test_a_task_is_repeated_at_no_cost(task, tmp_path, monkeypatch):
    path = task()
    assert path == tmp_path / SECOND
    assert_is_the_part(path)
    before = path.stat().st_mtime_ns
    monkeypatch.setattr(engine, "run_plan", None)  # nothing is simulated any more
    assert task() == path
    assert task(overwrite=True) == path
    assert path.stat().st_mtime_ns == before


def test_a_task_stops_when_nobody_waits_and_goes_on_when_somebody_does(task, tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "BLOCK_BYTES", 1)  # one snapshot
    beacon = tmp_path / "other"
    beacon.touch()
    blocks = iter(range(100))

    def watch(*arguments, real=engine._watch):
        real(*arguments)
        if next(blocks) == 4:
            beacon.unlink()

    with monkeypatch.context() as leaving:
        leaving.setattr(engine, "_watch", watch)
        error = task(beacon=beacon)
    assert isinstance(error, OutputError)
    assert "run the same command again" in str(error)
    assert "in the part with members 2 to 3" in error.__notes__[0]
    assert load_checkpoint(tmp_path / SECOND).done == 5
    assert_is_the_part(task())


def test_a_task_without_the_directory_does_not_simulate(task, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster_task, "_SIGHT", 0.0)
    error = task(beacon=tmp_path / "elsewhere" / "beacon")
    assert isinstance(error, OutputError)
    assert "is not the directory of this name where the run was started: expected one that all machines" in str(error)
    assert [path.name for path in tmp_path.iterdir()] == ["beacon"]


def test_a_task_waits_for_the_lock_of_another_but_not_for_ever(task, tmp_path, monkeypatch):
    with ThreadPoolExecutor(1) as pool:
        with claim_target(tmp_path / SECOND, overwrite=False, resume=True, n_bytes=0):
            waiting = pool.submit(task)
            time.sleep(0.3)
            assert not waiting.done()
        assert_is_the_part(waiting.result())
    monkeypatch.setattr(cluster_task, "_PATIENCE", 0.0)
    (tmp_path / SECOND).unlink()
    with claim_target(tmp_path / SECOND, overwrite=False, resume=True, n_bytes=0):
        error = task()
    assert isinstance(error, OutputBusyError)
    assert "its checkpoint has not moved for 0 s" in str(error)


def stop_as_by_ctrl_c():
    raise KeyboardInterrupt


def test_a_part_of_another_run_is_replaced_only_on_request(task, tmp_path, monkeypatch):
    other = SYSTEM.plan_of_parts(range(2, 4), 12.0, seed=4)
    task(plan=other)
    error = task()
    assert isinstance(error, OutputExistsError)
    assert "simulate.seed = 3 (the file has 4)" in str(error)
    assert_is_the_part(task(overwrite=True))
    # the same of one that was interrupted
    (tmp_path / SECOND).unlink()
    monkeypatch.setattr(engine, "BLOCK_BYTES", 1)
    with pytest.raises(KeyboardInterrupt):
        SYSTEM.carry_out(other, out=tmp_path / SECOND, after_block=stop_as_by_ctrl_c)
    error = task()
    assert isinstance(error, ResumeError)
    assert "simulate.seed = 3 (the file has 4)" in str(error)
    assert_is_the_part(task(overwrite=True))


def test_a_damaged_part_is_named(task, tmp_path):
    (tmp_path / SECOND).write_bytes(b"\x89HDF")
    error = task()
    assert isinstance(error, OutputExistsError)
    assert "it cannot be read" in str(error)
    assert_is_the_part(task(overwrite=True))


@pytest.mark.parametrize("name", errors.__all__)
def test_every_error_survives_the_way_back(name):
    kind = getattr(errors, name)
    arguments = (3, -1.5, 0.01, "advice") if kind is BlowUpError else ("what, and how to fix it",)
    error = kind(*arguments)
    error.add_note("on some worker")
    back = pickle.loads(pickle.dumps(error))  # noqa: S301  what Dask does
    assert type(back) is kind
    assert (str(back), back.args, back.__dict__) == (str(error), error.args, error.__dict__)
    assert back.__notes__ == ["on some worker"]


# ---- which parts


def touch(tmp_path, *files):
    for name in files:
        (tmp_path / name).touch()


def test_parts_that_are_there_are_kept_and_the_rest_is_divided(tmp_path):
    place = tmp_path / "run.nc"
    assert parts.divide(place, range(5), 2) == [range(2), range(2, 4), range(4, 5)]
    touch(tmp_path, "run_000004-000009.nc", "run_000012-000012.nc.part.state.npz", "run_000040-000050.nc")
    touch(tmp_path, "other_000000-000003.nc", "run_000001-000003.nc.part", "run_1-2.nc", "xrun_000001-000003.nc")
    expected = [range(3), range(3, 4), range(4, 10), range(10, 12), range(12, 13), range(13, 15)]
    assert parts.divide(place, range(15), 3) == expected
    assert [parts.part_file(place, part).name for part in expected[1:3]] == [
        "run_000003-000003.nc",
        "run_000004-000009.nc",
    ]
    assert parts.divide(place, range(12, 13), 3) == [range(12, 13)]


@pytest.mark.parametrize("members", [range(6), range(6, 20), range(5, 8)])
def test_a_part_that_reaches_beyond_the_run_is_refused(tmp_path, members):
    touch(tmp_path, "run_000004-000009.nc")
    with pytest.raises(
        ParameterError, match=r"run_000004-000009.nc is for members 4 to 9, members \d to \d+ were asked"
    ):
        parts.divide(tmp_path / "run.nc", members, 2)


def test_parts_that_share_members_are_refused(tmp_path):
    touch(tmp_path, "run_000004-000009.nc", "run_000009-000010.nc.part.state.npz")
    with pytest.raises(
        ParameterError, match=r"run_000009-000010.nc is for members 9 to 10, as is run_000004-000009.nc"
    ):
        parts.divide(tmp_path / "run.nc", range(20), 2)


def test_room_is_counted_for_all_parts(tmp_path, monkeypatch):
    plan = DoubleWell().plan_of_parts(range(4), 1000.0)
    todo = [range(2), range(2, 4)]
    monkeypatch.setattr(parts.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 20_000}))
    with pytest.raises(OutputError, match=r"2 parts of .*run.nc need 0.00 GB, 0.00 GB are free"):
        parts.check_room(DoubleWell(), plan, tmp_path / "run.nc", todo)
    touch(tmp_path, FIRST + ".part")  # its room is taken already
    parts.check_room(DoubleWell(), plan, tmp_path / "run.nc", todo)
