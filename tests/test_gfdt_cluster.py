"""Responses by the workers of a cluster: the numbers of one process, whatever happens to a worker."""

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import xarray as xr

import gfdt
from gfdt.cluster import connected, in_order

distributed = pytest.importorskip("distributed")

RTOL = 1e-10  # of the largest value
pytestmark = pytest.mark.filterwarnings("ignore::gfdt.ReliabilityWarning")


@contextlib.contextmanager
def local_cluster(**options):
    settings = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0"} | options
    with distributed.LocalCluster(**settings) as cluster, distributed.Client(cluster) as client:
        yield client


@pytest.fixture(scope="module")
def client():
    with local_cluster() as client:
        yield client


@pytest.fixture(scope="module")
def record():
    rng = np.random.default_rng(1)
    x = rng.standard_normal((20, 300, 8))
    for t in range(1, 300):
        x[:, t] = 0.8 * x[:, t - 1] + 0.6 * x[:, t]
    x += 0.4 * np.roll(x, 1, axis=-1)
    return xr.DataArray(x, dims=("member", "time", "x"), coords={"time": np.arange(300.0)}, name="u")


def score(x):
    return -0.9 * x + 0.02 * x**3


OPTIONS = {"max_lag": 6.0, "homogeneous": True}


def assert_same(got, expected):
    for name in expected.data_vars:
        scale = float(np.abs(expected[name]).max())
        np.testing.assert_allclose(got[name], expected[name], rtol=0, atol=RTOL * scale, err_msg=str(name))


def test_workers_give_the_response_of_one_process(client, record, tmp_path):
    expected = gfdt.response(record, score, **OPTIONS)
    path = tmp_path / "run.nc"
    record.to_netcdf(path)
    assert_same(gfdt.response(path, score, client=client, **OPTIONS), expected)
    assert_same(gfdt.response(str(path), score, client=client.scheduler.address, **OPTIONS), expected)
    assert_same(gfdt.response(record.chunk(member=4, time=50), score, client=client, **OPTIONS), expected)


def test_learned_score_goes_to_the_workers(client, record):
    learned = gfdt.DSMScore(homogeneous=True, max_steps=20, seed=0).fit(record)
    expected = gfdt.response(record, learned, **OPTIONS)
    got = gfdt.response(record.chunk(member=1), learned, client=client, **OPTIONS)
    for name in ("response", "stderr"):
        # the network runs in single precision, in batches of its own on every worker
        np.testing.assert_allclose(got[name], expected[name], rtol=0, atol=1e-5 * float(np.abs(expected[name]).max()))


def test_killed_worker_changes_no_number(client, record, tmp_path):
    expected = gfdt.response(record, score, **OPTIONS)
    flag = tmp_path / "died"

    def deadly(x):
        with contextlib.suppress(FileExistsError):
            os.close(os.open(flag, os.O_CREAT | os.O_EXCL))
            os.kill(os.getpid(), signal.SIGKILL)
        return -0.9 * x + 0.02 * x**3

    with local_cluster() as doomed:
        got = gfdt.response(record.chunk(member=1), deadly, client=doomed, **OPTIONS)
    assert flag.exists()
    assert_same(got, expected)
    undisturbed = gfdt.response(record.chunk(member=1), score, client=client, **OPTIONS)
    np.testing.assert_array_equal(got["response"], undisturbed["response"])


def test_errors_of_the_data_arrive_as_they_are(client, record):
    bad = record.copy(deep=True)
    bad[11, 140, 3] = np.nan
    with pytest.raises(gfdt.InputError, match="member=11, time=140, x=3"):
        gfdt.response(bad.chunk(member=1), score, client=client, **OPTIONS)
    with pytest.raises(gfdt.InputError, match="must return real numbers"):
        gfdt.response(record.chunk(member=1), lambda x: 1j * x, client=client, **OPTIONS)
    with pytest.raises(gfdt.ClusterError, match=r"failed on a worker \(KeyError: 'nothing'\)"):
        gfdt.response(record.chunk(member=1), lambda x: {}["nothing"], client=client, **OPTIONS)
    lock = threading.Lock()
    with pytest.raises(gfdt.InputError, match="cannot be sent to the workers"):
        gfdt.response(record.chunk(member=1), lambda x: -x * lock.locked(), client=client, **OPTIONS)


def test_cluster_that_lost_its_workers_does_not_wait_for_ever(client, record, monkeypatch):
    monkeypatch.setattr("gfdt.cluster._LOOK", 0.1)
    monkeypatch.setattr("gfdt.cluster._PATIENCE", 0.3)
    answers = iter([{"worker": 1}] * 2)
    monkeypatch.setattr(client, "nthreads", lambda: next(answers, {}))
    with pytest.raises(gfdt.ClusterError, match=r"no workers for 0\.3 s"):
        gfdt.response(record.chunk(member=1), lambda x: time.sleep(1) or -x, client=client, **OPTIONS)


def test_what_a_cluster_cannot_do_is_refused(client, record):
    with pytest.raises(gfdt.InputError, match=r"da\.chunk\(member=1\)"):
        gfdt.response(record, score, client=client, **OPTIONS)
    with pytest.raises(gfdt.InputError, match="observable"):
        gfdt.response(record.chunk(member=1), score, observable="variance", client=client, **OPTIONS)
    with pytest.raises(gfdt.InputError, match="not a cluster"):
        gfdt.response(record.chunk(member=1), score, client=3, **OPTIONS)


def test_scheduler_that_is_not_there(record, monkeypatch):
    monkeypatch.setattr("gfdt.cluster._ANSWER", 0.5)
    with pytest.raises(gfdt.ClusterError, match=r"no scheduler answers at tcp://127\.0\.0\.1:9"):
        gfdt.response(record.chunk(member=1), score, client="tcp://127.0.0.1:9", **OPTIONS)
    with pytest.raises(gfdt.InputError, match="is not a cluster"):
        gfdt.response(record.chunk(member=1), score, client="localhost:1", **OPTIONS)


def test_cluster_without_workers_is_refused(client, record, monkeypatch):
    monkeypatch.setattr(client, "nthreads", dict)
    with pytest.raises(gfdt.ClusterError, match="has no workers"):
        gfdt.response(record.chunk(member=1), score, client=client, **OPTIONS)


def test_errors_survive_the_way_back():
    for kind in (gfdt.InputError, gfdt.MissingFileError, gfdt.ClusterError, gfdt.OutputError):
        assert str(pickle.loads(pickle.dumps(kind("what, and how to fix it")))) == "what, and how to fix it"  # noqa: S301


def _shifted(values, label, offset):
    return float(values.sum()) + label + offset


def test_results_come_in_order(client):
    array = xr.DataArray(np.arange(40.0), dims="x").chunk(x=4)
    pieces = [(array[start : start + 4], 100 * start) for start in range(0, 40, 4)]
    expected = [float(piece.sum()) + label + 5 for piece, label in pieces]
    for cluster in (None, client):
        with connected(cluster) as workers:
            assert list(in_order(_shifted, pieces, (5,), workers)) == expected


def test_scheduler_lost_on_the_way_is_one_sentence(record, tmp_path):
    place = tmp_path / "scheduler.json"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    common = ["--no-dashboard", "--scheduler-file", str(place)]
    scheduler = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--port", "0", *common]
    worker = [sys.executable, "-m", "distributed.cli.dask_worker", "--no-nanny", "--nthreads", "1", *common]
    with subprocess.Popen(scheduler, **quiet) as first, subprocess.Popen(worker, **quiet) as second:
        try:
            with distributed.Client(scheduler_file=str(place), set_as_default=False, timeout=30) as client:
                client.wait_for_workers(1, timeout=30)
                pid = first.pid

                def deadly(x):
                    os.kill(pid, signal.SIGKILL)
                    time.sleep(1)
                    return -x

                with pytest.raises(gfdt.ClusterError, match="the scheduler was lost"):
                    gfdt.response(record.chunk(member=1), deadly, client=client, **OPTIONS)
        finally:
            first.kill()
            second.kill()
