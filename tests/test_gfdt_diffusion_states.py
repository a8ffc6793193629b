"""Records larger than memory: streamed to disk, checked on the way, and trained on as if they were in memory."""

import subprocess
import sys

import numpy as np
import pytest
import torch
import xarray as xr

import gfdt
from gfdt import record
from gfdt.diffusion import states
from gfdt.diffusion.states import States
from gfdt.diffusion.units import Units
from gfdt.errors import InputError
from gfdt.trajectory import fingerprint

SETTINGS = {"max_steps": 20, "batch_size": 64, "network_options": {"width": 8, "depth": 1}, "device": "cpu"}


@pytest.fixture
def path(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.choice([-1.0, 1.0], (3, 200, 4)) + 0.3 * rng.normal(size=(3, 200, 4))
    dataset = xr.Dataset({"x": (("member", "time", "component"), x)}, coords={"time": np.arange(200.0)})
    dataset.to_netcdf(tmp_path / "run.nc")
    return tmp_path / "run.nc"


@pytest.fixture
def small_memory(monkeypatch, tmp_path):
    """Nothing fits, and blocks are of 7 states; the cache goes to a directory of its own."""
    cache = tmp_path / "cache"
    cache.mkdir()
    monkeypatch.setenv("GFDT_CACHE_DIR", str(cache))
    monkeypatch.setattr(record, "memory_limit", lambda: 0)
    monkeypatch.setattr(states, "memory_limit", lambda: 0)
    monkeypatch.setattr(record, "BLOCK_VALUES", 28)
    return cache


@pytest.mark.parametrize("selection", [{}, {"member": 1}])
def test_mapped_record_has_the_same_values_labels_and_fingerprint(path, request, selection):
    with xr.open_dataset(path) as dataset:
        plain = gfdt.load_trajectory(dataset.isel(selection))
    cache = request.getfixturevalue("small_memory")
    with xr.open_dataset(path) as dataset:
        mapped = gfdt.load_trajectory(dataset.isel(selection))
    assert isinstance(mapped.values.base, np.memmap) or isinstance(mapped.values, np.memmap)
    xr.testing.assert_identical(mapped, plain)
    assert fingerprint(mapped) == fingerprint(plain)
    assert not list(cache.iterdir())


def test_learned_score_is_the_same_number_for_number(path, request, monkeypatch):
    monkeypatch.setattr(record, "BLOCK_VALUES", 28)  # the fingerprint is made of the digests of the blocks
    plain = gfdt.DSMScore(**SETTINGS).fit(path)
    request.getfixturevalue("small_memory")
    streamed = gfdt.DSMScore(**SETTINGS).fit(path)
    x = gfdt.load_trajectory(path).values
    np.testing.assert_array_equal(streamed(x), plain(x))
    assert [h["held_out"] for h in streamed.history_] == [h["held_out"] for h in plain.history_]
    assert streamed.fingerprint_ == plain.fingerprint_


def test_batches_are_anomalies_in_either_way(monkeypatch):
    rng = np.random.default_rng(1)
    x = (1e6 + rng.normal(size=(50, 3))).astype(np.float32)
    units = Units(x.mean(axis=0, dtype=np.float64), np.array([[1.0, 2.0, 3.0]])[0])
    index, chosen = np.arange(0, 50, 2), torch.tensor([3, 0, 24, 3])
    resident = States(x, index, units, torch.device("cpu"))
    monkeypatch.setattr(states, "memory_limit", lambda: 0)
    streamed = States(x, index, units, torch.device("cpu"))
    assert len(resident) == len(streamed) == 25
    torch.testing.assert_close(streamed[chosen], resident[chosen], rtol=0, atol=0)
    expected = (x[index[chosen]].astype(np.float64) - units.mean) / units.scale
    np.testing.assert_allclose(resident[chosen].numpy(), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x.where((x["time"] != 101.0) | (x["component"] != 2)), r"3 NaN or inf.*member=0, time=101, compon"),
        (lambda x: x.where(x["component"] != 3, 7.0), r"1 of 4 .*component=3"),
    ],
)
def test_bad_values_are_found_on_the_way_to_disk(path, small_memory, tmp_path, change, message):
    with xr.open_dataset(path) as dataset:
        change(dataset["x"]).rename("x").drop_encoding().to_netcdf(tmp_path / "bad.nc")
    with pytest.raises(InputError, match=message):
        gfdt.load_trajectory(tmp_path / "bad.nc")
    assert not list(small_memory.iterdir())


def test_a_disk_without_room_or_a_missing_directory_is_refused(path, small_memory, monkeypatch):
    monkeypatch.setattr(record.shutil, "disk_usage", lambda place: type("", (), {"free": 1000})())
    with pytest.raises(InputError, match=r"has 9\.31e-07 GiB free: set GFDT_CACHE_DIR"):
        gfdt.load_trajectory(path)
    monkeypatch.undo()
    monkeypatch.setattr(record, "memory_limit", lambda: 0)
    monkeypatch.setenv("GFDT_CACHE_DIR", "/nonexistent")
    with pytest.raises(InputError, match=r"/nonexistent cannot hold it .*set GFDT_CACHE_DIR"):
        gfdt.load_trajectory(path)


def test_arrays_already_in_memory_stay_there(small_memory):
    x = np.random.default_rng(0).normal(size=(2, 20, 3))
    got = gfdt.load_trajectory(x, dims=("member", "time", "component"), dt=1.0)
    assert np.shares_memory(got.values, x)


def test_moments_of_blocks_are_those_of_the_whole(monkeypatch):
    x = np.random.default_rng(0).normal(5.0, 2.0, size=(101, 3, 2)).astype(np.float32)
    monkeypatch.setattr(record, "BLOCK_VALUES", 20)
    mean, deviation = record.moments(x)
    np.testing.assert_allclose(mean, x.mean(axis=0, dtype=np.float64))
    np.testing.assert_allclose(deviation, x.std(axis=0, dtype=np.float64))


_MEASURE = """
import sys, tracemalloc
import gfdt
from gfdt import record
from gfdt.diffusion import states
record.memory_limit = states.memory_limit = lambda: 2**20
record.BLOCK_VALUES = 2**15
import numpy as np
score = gfdt.DSMScore(max_steps=5, batch_size=32, network_options={"width": 8, "depth": 1}, device="cpu")
score.fit(np.random.default_rng(0).normal(size=(1, 40, 4, 4)), dims=("member", "time", "y", "x"))  # imports
tracemalloc.start()
score.fit(sys.argv[1])
print(tracemalloc.get_traced_memory()[1])
"""


def test_memory_is_bounded_by_blocks_not_by_the_record(tmp_path):
    """16 MiB of float32 fields are learned from with a peak of numpy's memory of a third of that."""
    x = np.random.default_rng(0).normal(size=(1, 1024, 64, 64)).astype(np.float32)
    dataset = xr.Dataset({"u": (("member", "time", "y", "x"), x)}, coords={"time": np.arange(1024.0)})
    dataset.to_netcdf(tmp_path / "large.nc")
    command = [sys.executable, "-c", _MEASURE, str(tmp_path / "large.nc")]
    got = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert got.returncode == 0, got.stderr
    assert int(got.stdout) < x.nbytes / 3
