"""Runs on a Dask cluster: the numbers of one machine, through deaths of workers and all that can go wrong."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import xarray as xr
from reference.simulators_toys import Exploding

from simulators import (
    AllenCahn,
    BlowUpError,
    ClusterError,
    DoubleWell,
    OrnsteinUhlenbeck,
    OutputError,
    OutputExistsError,
    ParameterError,
    cluster,
    cluster_task,
    engine,
    parts,
)
from simulators.__main__ import main
from simulators.target import part_path, state_path

distributed = pytest.importorskip("distributed")

SYSTEM = OrnsteinUhlenbeck(n=4)
FIRST, SECOND = "run_000000-000001.nc", "run_000002-000003.nc"


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def wait_until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


# ---- a cluster of two processes


@pytest.fixture(scope="module")
def workers():
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0", "processes": True}
    with distributed.LocalCluster(**options) as local, distributed.Client(local, set_as_default=False) as client:
        yield client


def run_on(client, tmp_path, duration=12.0, **options):
    arguments = {"n_members": 4, "members_per_task": 2, "seed": 3} | options
    return SYSTEM.simulate(duration=duration, client=client, out=tmp_path / "run.nc", **arguments)


def assert_is_the_run(dataset, duration=12.0):
    local = SYSTEM.simulate(4, duration, seed=3)
    stable = local.attrs.keys() - {"created", "history"}
    assert {key: dataset.attrs[key] for key in stable} == {key: local.attrs[key] for key in stable}
    xr.testing.assert_identical(dataset.load().drop_attrs(deep=False), local.drop_attrs(deep=False))


def test_a_cluster_gives_the_numbers_of_one_machine(workers, tmp_path, capsys):
    with run_on(workers, tmp_path) as dataset:
        assert dataset["u"].chunks is not None
        assert dataset.encoding["parts"] == [str(tmp_path / FIRST), str(tmp_path / SECOND)]
        assert_is_the_run(dataset)
    assert names(tmp_path) == [FIRST, SECOND]
    before = [(tmp_path / name).stat().st_mtime_ns for name in (FIRST, SECOND)]
    # the same command again, and more members with another size of parts
    with run_on(workers.scheduler.address, tmp_path, n_members=7, members_per_task=3) as more:
        np.testing.assert_array_equal(more["u"], SYSTEM.simulate(7, 12.0, seed=3)["u"])
        assert json.loads(more.attrs["config_json"])["simulate"]["n_members"] == 7
    assert names(tmp_path) == [FIRST, SECOND, "run_000004-000006.nc"]
    assert [(tmp_path / name).stat().st_mtime_ns for name in (FIRST, SECOND)] == before
    assert capsys.readouterr() == ("", "")  # no terminal, no bar


def test_a_range_on_a_cluster_with_noise_saved(workers, tmp_path):
    arguments = {"duration": 5.0, "seed": 1, "save_noise": True}
    with DoubleWell().simulate(range(2, 12), client=workers, out=tmp_path / "run.nc", **arguments) as dataset:
        # two threads, four tasks for each: two members for a task
        assert names(tmp_path) == [f"run_{first:06d}-{first + 1:06d}.nc" for first in range(2, 12, 2)]
        whole = DoubleWell().simulate(range(2, 12), **arguments)
        xr.testing.assert_identical(dataset.load().drop_attrs(), whole.drop_attrs())
        assert dataset.attrs["config_json"] == whole.attrs["config_json"]


def small_blocks(n_bytes):
    from simulators import engine

    engine.BLOCK_BYTES, before = n_bytes, engine.BLOCK_BYTES
    return before


@pytest.fixture
def slow(workers):
    """Workers that write after each snapshot, some hundred in a second."""
    (before, *_) = workers.run(small_blocks, 1).values()
    yield workers
    workers.run(small_blocks, before)


def test_a_worker_that_is_killed_is_replaced_where_it_stopped(slow, tmp_path):
    duration = 600.0
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(run_on, slow, tmp_path, duration)
        wait_until(state_path(tmp_path / FIRST).exists)
        (victim,) = (address for address, keys in slow.processing().items() if any(key[1] == 0 for key in keys))
        pid = slow.run(os.getpid, workers=[victim])[victim]
        os.kill(pid, signal.SIGKILL)
        with open(part_path(tmp_path / FIRST), "rb") as held:  # open, so that its number is not given to another file
            begun = os.fstat(held.fileno()).st_ino
            with running.result() as dataset:
                assert_is_the_run(dataset, duration)
            assert (tmp_path / FIRST).stat().st_ino == begun
    assert names(tmp_path) == [FIRST, SECOND]
    assert pid not in slow.run(os.getpid).values()


def fill_disk(wanted):
    """Let no file of this process grow beyond its coordinates and two blocks of the first member."""
    import resource

    from simulators import engine

    if wanted:
        blocks = iter(range(10**6))

        def watch(*arguments, real=engine._watch):
            real(*arguments)
            if next(blocks) == 3:
                resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, resource.RLIM_INFINITY))

        watch.real, engine._watch = engine._watch, watch
    else:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        engine._watch = getattr(engine._watch, "real", engine._watch)


def test_a_disk_that_fills_up_on_a_worker_leaves_what_can_be_continued(slow, tmp_path):
    duration = 400.0
    slow.run(fill_disk, True)
    try:
        with pytest.raises(OutputError, match=r"cannot write a block to .*expected room") as caught:
            run_on(slow, tmp_path, duration)
        assert type(caught.value) is OutputError
        assert "in the part with members" in caught.value.__notes__[0]
        wait_until(lambda: not any(slow.processing().values()))
    finally:
        slow.run(fill_disk, False)
    failed = FIRST if "0 to 1" in caught.value.__notes__[0] else SECOND
    assert {failed + ".part", failed + ".part.state.npz"} <= set(names(tmp_path))
    assert not any(name.endswith(".running") for name in names(tmp_path))
    slow.run(small_blocks, 2**20)
    with run_on(slow, tmp_path, duration) as dataset:
        assert_is_the_run(dataset, duration)
    assert names(tmp_path) == [FIRST, SECOND]


def test_a_member_that_blows_up_stops_the_run(workers, tmp_path):
    with pytest.raises(BlowUpError, match="member 3 is no longer finite") as caught:
        Exploding(culprit=3).simulate(4, 20.0, client=workers, members_per_task=2, out=tmp_path / "run.nc")
    assert caught.value.member == 3


def test_a_part_of_another_run_is_refused_before_a_task_begins(workers, tmp_path):
    run_on(workers, tmp_path).close()
    (tmp_path / FIRST).unlink()
    with pytest.raises(
        OutputExistsError, match=r"run_000002-000003.nc is not a part .*simulate.seed = 4 \(the file has 3"
    ):
        run_on(workers, tmp_path, seed=4)
    assert names(tmp_path) == [SECOND]
    with run_on(workers, tmp_path, seed=4, overwrite=True) as other:
        np.testing.assert_array_equal(other["u"], SYSTEM.simulate(4, 12.0, seed=4)["u"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"out": None}, "out = None with a client: expected a file name in a directory that all machines share"),
        ({"seed": None}, "seed = None with a range of members"),
        ({"members_per_task": 0}, "members_per_task = 0: expected an integer >= 1"),
        ({"n_members": 0}, "n_members = 0: expected an integer >= 1"),
        ({"client": "10.0.0.1:8786"}, r"client = '10.0.0.1:8786': expected a distributed.Client or the address"),
        ({"client": "tcp://somewhere"}, "client = 'tcp://somewhere': expected a distributed.Client"),
        ({"client": 8786}, "client = 8786: expected a distributed.Client"),
        ({"client": None}, "members_per_task = 2 without a client"),
    ],
)
def test_arguments_that_do_not_suit_a_cluster_are_named(workers, tmp_path, options, message):
    arguments = {"client": workers, "members_per_task": 2, "out": tmp_path / "run.nc"} | options
    with pytest.raises(ParameterError, match=message):
        SYSTEM.simulate(**({"n_members": 4, "duration": 3.0} | arguments))
    assert names(tmp_path) == []


def test_a_spinup_that_looks_at_all_members_is_refused(workers, tmp_path):
    with pytest.raises(ParameterError, match="'auto' looks at all members"):
        AllenCahn(n=8).simulate(4, 3.0, spinup="auto", client=workers, out=tmp_path / "run.nc")


def test_a_directory_that_is_not_there_or_not_writable_is_refused(workers, tmp_path):
    with pytest.raises(OutputError, match="absent is not a directory"):
        run_on(workers, tmp_path / "absent")


def patience_to_see(seconds):

    cluster_task._SIGHT, before = seconds, cluster_task._SIGHT
    return before


def test_workers_that_do_not_see_the_directory_are_an_error(workers, tmp_path, monkeypatch):
    (tmp_path / "there").mkdir()
    real = cluster._beacon
    # the beacon of a directory that the workers do not have
    monkeypatch.setattr(cluster, "_beacon", lambda place: real(tmp_path / "there" / place.name))
    monkeypatch.setattr(parts.Path, "__reduce__", lambda self: (type(self), (str(self).replace("there", "elsewhere"),)))
    (sight, *_) = workers.run(patience_to_see, 0.0).values()
    with pytest.raises(OutputError, match="expected one that all machines share; choose another out"):
        run_on(workers, tmp_path)
    monkeypatch.undo()
    workers.run(patience_to_see, sight)
    assert names(tmp_path) == ["there"]


def test_ctrl_c_says_what_is_kept_and_lets_the_tasks_go(workers, tmp_path, monkeypatch):
    def interrupt(futures, **options):
        futures[0].result()
        raise KeyboardInterrupt

    with monkeypatch.context() as interrupted:
        interrupted.setattr(distributed, "as_completed", interrupt)
        with pytest.raises(KeyboardInterrupt) as caught:
            run_on(workers, tmp_path)
    assert "parts are finished, and kept beside" in caught.value.__notes__[0]
    assert "run the same command again" in caught.value.__notes__[0]
    assert FIRST in names(tmp_path)
    assert not any(name.endswith(".running") for name in names(tmp_path))
    with run_on(workers, tmp_path) as dataset:
        assert_is_the_run(dataset)


def test_an_unknown_failure_of_a_worker_is_one_sentence(workers, tmp_path):
    class Unready(OrnsteinUhlenbeck):
        def make_stepper(self, dt, n_steps):  # noqa: ARG002
            raise ModuleNotFoundError("No module named 'gpu_kernels'")

    with pytest.raises(
        ClusterError, match=r"failed on a worker \(ModuleNotFoundError: No module.*0 of 1 parts are fini"
    ):
        Unready(n=4).simulate(2, 3.0, client=workers, members_per_task=2, out=tmp_path / "run.nc")


def test_the_shell_prints_one_path_a_line(workers, tmp_path, capsys):
    out, address = tmp_path / "run.nc", workers.scheduler.address
    command = ["ou", "--n", "4", "--members", "4", "--duration", "12", "--seed", "3", "--out", str(out)]
    command += ["--client", address, "--members-per-task", "2"]
    assert main([*command, "--dry-run"]) == 0
    said = capsys.readouterr()
    assert said.out == ""
    assert f"would write 2 of 2 parts, {tmp_path / FIRST} to {SECOND}, of at most 2 members: u(member=4, " in said.err
    assert "on 2 threads" in said.err
    assert names(tmp_path) == []
    assert main(command) == 0
    assert capsys.readouterr() == (f"{tmp_path / FIRST}\n{tmp_path / SECOND}\n", "")
    with parts.open_parts([tmp_path / FIRST, tmp_path / SECOND], range(4)) as dataset:
        assert_is_the_run(dataset)
    assert main([*command, "--dry-run"]) == 0
    assert "would write 0 of 2 parts" in capsys.readouterr().err
    (tmp_path / "run.toml").write_text(f"[simulate]\nmembers = '2:4'\nclient = '{address}'\nmembers_per_task = 2\n")
    config = ["--config", str(tmp_path / "run.toml"), "--n", "4", "--duration", "12", "--seed", "3", "--out", str(out)]
    assert main(["ou", *config]) == 0
    assert capsys.readouterr().out == f"{tmp_path / SECOND}\n"


# ---- other clusters, and none


def test_no_scheduler_at_the_address_is_said_at_once(tmp_path, capsys):
    begin = time.monotonic()
    command = ["ou", "--members", "4", "--out", str(tmp_path / "run.nc"), "--client", "tcp://127.0.0.1:9"]
    assert main(command) == 2
    assert time.monotonic() - begin < 10
    said = capsys.readouterr()
    assert said.out == ""
    assert "no scheduler answers at tcp://127.0.0.1:9 " in said.err
    assert "start it with 'dask scheduler' and its workers with 'dask worker tcp://127.0.0.1:9'" in said.err
    assert said.err.count("\n") == 1


def test_without_the_package_the_way_to_it_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ClusterError, match=r'pip install "gfdt\[dask\]"'):
        SYSTEM.simulate(2, 3.0, client="tcp://127.0.0.1:9", out=tmp_path / "run.nc")


def test_dask_is_not_loaded_before_it_is_needed():
    # later on xarray loads dask if it is there
    code = "import simulators.cluster, sys; simulators.SYSTEMS; print({'dask', 'distributed'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_threads_of_one_worker_write_one_at_a_time(tmp_path, monkeypatch):
    import netCDF4

    inside, most = set(), []

    def watched(*arguments, real=netCDF4.Dataset, **options):
        inside.add(threading.get_ident())
        most.append(len(inside))
        time.sleep(0.002)
        file = real(*arguments, **options)
        inside.remove(threading.get_ident())
        return file

    monkeypatch.setattr(engine, "BLOCK_BYTES", 1)
    options = {"n_workers": 1, "threads_per_worker": 4, "dashboard_address": ":0", "processes": False}
    plan = SYSTEM.plan_of_parts(8, 12.0, seed=3)
    with (
        distributed.LocalCluster(**options) as local,
        distributed.Client(local, set_as_default=False) as client,
        monkeypatch.context() as patched,
    ):
        patched.setattr(netCDF4, "Dataset", watched)
        cluster.simulate_parts(SYSTEM, plan, client=client, members_per_task=2, out=tmp_path / "run.nc")
    assert len(most) > 4 * 12
    assert max(most) == 1


def test_a_cluster_without_workers_is_said_unless_tasks_may_wait(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(cluster, "_ANSWER", 0.2)
    options = {"n_workers": 0, "dashboard_address": ":0", "processes": False}
    with distributed.LocalCluster(**options) as local, distributed.Client(local, set_as_default=False) as client:
        with pytest.raises(ClusterError, match=r"has no workers: expected at least one; start some with 'dask worker "):
            run_on(client, tmp_path, members_per_task=None)
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(run_on, client, tmp_path)
            wait_until(lambda: "has no workers yet: tasks wait for them" in caplog.text)
            local.scale(1)
            with running.result() as dataset:
                assert_is_the_run(dataset)
    with pytest.raises(ClusterError, match="the client is closed: expected one that is running"):
        run_on(client, tmp_path)


def test_a_scheduler_that_is_lost_leaves_what_the_same_command_continues(workers, tmp_path):
    file = tmp_path / "scheduler.json"
    (tmp_path / "out").mkdir()
    python = [sys.executable, "-m", "dask"]
    command = [*python, "scheduler", "--port", "0", "--dashboard-address", ":0", "--scheduler-file", str(file)]
    scheduler = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    slow = "import simulators.engine as e; e.BLOCK_BYTES = 1"
    (tmp_path / "slow.py").write_text(slow)
    options = ["--no-nanny", "--nthreads", "1", "--no-dashboard", "--preload", str(tmp_path / "slow.py")]
    worker = subprocess.Popen(
        [*python, "worker", "--scheduler-file", str(file), *options],
        stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        wait_until(lambda: file.exists() and file.read_text().endswith("}"))
        with ThreadPoolExecutor(1) as pool:
            address = json.loads(file.read_text())["address"]
            running = pool.submit(run_on, address, tmp_path / "out", 600.0)
            # one part is finished, the other under way
            wait_until(lambda: len({FIRST, SECOND} & set(names(tmp_path / "out"))) == 1)
            wait_until(lambda: any(name.endswith(".part.state.npz") for name in names(tmp_path / "out")))
            scheduler.kill()
            with pytest.raises(ClusterError, match=r"scheduler has gone.*1 of 2 parts are finished.*same command"):
                running.result()
    finally:
        for process in (scheduler, worker):
            process.kill()
            process.wait()
    with run_on(workers, tmp_path / "out", 600.0) as dataset:
        assert_is_the_run(dataset, 600.0)
