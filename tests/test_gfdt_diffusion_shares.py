"""A record divided among processes: every state has one owner, sums over the shares are those of the whole."""

import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Barrier

import numpy as np
import pytest
import torch
import xarray as xr

import gfdt
from gfdt import record
from gfdt.covariance import estimate_covariance
from gfdt.diffusion import states
from gfdt.diffusion.data import split
from gfdt.diffusion.settings import resolve
from gfdt.diffusion.states import States
from gfdt.diffusion.statistics import shared_covariance, shared_moments
from gfdt.diffusion.streams import NOISE, ORDER, stream
from gfdt.diffusion.training import _Order
from gfdt.diffusion.units import Units
from gfdt.errors import InputError
from gfdt.record import complete_times, moments
from gfdt.shares import open_unread, read_share
from gfdt.trajectory import fingerprint, without_gaps

VECTOR = ("member", "time", "component")


class Together:
    """As many threads as there would be processes, which add up arrays."""

    def __init__(self, size):
        self.size = size
        self._barrier, self._found = Barrier(size, timeout=60), [None] * size

    def run(self, work):
        """Return ``work(rank, total)`` of every rank."""
        with ThreadPoolExecutor(self.size) as pool:
            futures = [pool.submit(work, rank, partial(self._total, rank)) for rank in range(self.size)]
            return [future.result() for future in futures]

    def _total(self, rank, values):
        self._found[rank] = values
        self._barrier.wait()
        total = sum(self._found[1:], start=np.array(self._found[0]))
        self._barrier.wait()
        return total


class OfThread:
    """What the statistics ask of :class:`gfdt.diffusion.distributed.Processes`."""

    def __init__(self, total):
        self.total = total


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(record, "BLOCK_VALUES", 28)


@pytest.fixture
def vectors():
    rng = np.random.default_rng(0)
    return rng.normal(size=(3, 50, 4)) @ rng.normal(size=(4, 4)) + np.arange(4.0)


def as_file(values, dims, folder):
    path = folder / "run.nc"
    coords = {"time": np.arange(float(values.shape[dims.index("time")]))}
    xr.Dataset({"u": (dims, values)}, coords=coords).to_netcdf(path)
    return path


def settings_for(dims, **changes):
    return resolve(gfdt.DSMScore(max_steps=100, batch_size=64, device="cpu", **changes), dims)


def read_all(path, size, settings):
    opened = open_for(size, path)
    return Together(size).run(
        lambda rank, total: read_share(opened[rank], partial(split, settings), rank, size, total=total)
    )


def open_for(size, path):
    """Open a record once for each thread, one after the other: the netCDF library is not made for threads."""
    return [open_unread(path) for _ in range(size)]


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("case", ["whole", "gaps", "one member", "other order of dims"])
def test_every_state_is_in_one_share_and_the_fingerprint_is_that_of_one_process(vectors, tmp_path, size, case):
    dims = VECTOR
    if case == "gaps":
        vectors[1, 20:31] = np.nan
        vectors[2, -3:] = np.nan
    elif case == "one member":
        vectors, dims = vectors[0], VECTOR[1:]
    elif case == "other order of dims":
        vectors, dims = vectors.transpose(2, 1, 0).astype(np.float32), VECTOR[::-1]
    path, settings = as_file(vectors, dims, tmp_path), settings_for(("component",))
    array = gfdt.load_trajectory(path, needs_time=False, gaps=True)
    mark, there = fingerprint(array), complete_times(array.values)
    if there is not None:
        array = without_gaps(array, there)
    parts, values = split(settings, array.shape[:2]), array.values.reshape(-1, 4)
    found = read_all(path, size, settings)
    for rank, share in enumerate(found):
        assert share.fingerprint == mark
        assert share.n_states == len(values)
        assert share.training.dtype == values.dtype
        np.testing.assert_array_equal(share.training, values[parts.training[rank::size]])
        np.testing.assert_array_equal(share.held_out, values[parts.held_out[rank::size]])
        np.testing.assert_array_equal(share.judged, values[parts.judged[rank::size]])
        np.testing.assert_array_equal(share.pieces, parts.pieces)
    numbers = np.concatenate([np.concatenate([s.training_numbers, s.held_out_numbers]) for s in found])
    np.testing.assert_array_equal(np.sort(numbers), np.arange(len(values)))


@pytest.mark.parametrize("spoil", ["NaN", "constant"])
def test_bad_values_are_refused_by_all_with_the_words_of_one_process(vectors, tmp_path, spoil):
    if spoil == "NaN":
        vectors[2, 33, 1] = np.nan
    else:
        vectors[..., 2] = 7.0
    path = as_file(vectors, VECTOR, tmp_path)
    with pytest.raises(InputError) as by_one:
        gfdt.load_trajectory(path, needs_time=False, gaps=True)
    for rank in range(2):
        with pytest.raises(InputError) as by_two:
            read_share(open_unread(path), partial(split, settings_for(("component",))), rank, 2)
        assert str(by_two.value) == str(by_one.value)


def test_parts_of_a_run_are_one_record(vectors, tmp_path):
    for member in range(3):
        (tmp_path / str(member)).mkdir()
    paths = [as_file(vectors[[member]], VECTOR, tmp_path / str(member)) for member in range(3)]
    mark = fingerprint(gfdt.load_trajectory(paths, needs_time=False, gaps=True))
    for share in read_all(paths, 2, settings_for(("component",))):
        assert share.fingerprint == mark


def _fields(shape):
    white = np.random.default_rng(1).normal(size=(2, 40, *shape))
    return 3.0 + white + 0.5 * np.roll(white, 1, axis=-1)


@pytest.mark.parametrize("shrinkage", [0.0, 0.2, "ledoit-wolf"])
@pytest.mark.parametrize(
    ("dims", "shape", "n_homogeneous"),
    [((), (), 0), (("component",), (3,), 0), (("y", "x"), (4, 6), 2), (("variable", "x"), (2, 6), 1)],
)
def test_statistics_of_three_shares_are_those_of_the_record(tmp_path, dims, shape, n_homogeneous, shrinkage):
    values = _fields(shape) if shape else _fields((2,))[..., 0]
    path = as_file(values, ("member", "time", *dims), tmp_path)
    settings = settings_for(dims, network="mlp", homogeneous=dims[len(dims) - n_homogeneous :] or None)
    whole = values.reshape(-1, *shape)
    scale = np.full((shape[0], 1) if dims[:1] == ("variable",) else (1,) * len(shape), 2.0)
    opened = open_for(3, path)

    def work(rank, total):
        share = read_share(opened[rank], partial(split, settings), rank, 3, total=total)
        centre, deviation = shared_moments(share, OfThread(total))
        found = shared_covariance(share, centre, deviation, OfThread(total), n_homogeneous, shrinkage, scale)
        return centre, deviation, found

    expected = estimate_covariance(whole, n_homogeneous, shrinkage, scale=scale)
    for centre, deviation, found in Together(3).run(work):
        np.testing.assert_allclose(centre, moments(whole)[0], rtol=1e-12)
        np.testing.assert_allclose(deviation, moments(whole)[1], rtol=1e-12)
        assert type(found) is type(expected)
        np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-12)
        np.testing.assert_allclose(found.eigenvalues, expected.eigenvalues, rtol=1e-9)
        assert found.shrinkage == pytest.approx(expected.shrinkage, rel=1e-9)
        np.testing.assert_allclose(found.apply(whole, np.sqrt), expected.apply(whole, np.sqrt), atol=1e-9)


def test_a_file_is_never_read_whole(tmp_path, monkeypatch):
    """Of 16 MiB in float32 one of four processes holds a quarter, its anomalies in the same place, and blocks."""
    monkeypatch.setattr(record, "BLOCK_VALUES", 2**16)
    values = np.random.default_rng(0).normal(size=(1, 1024, 64, 64)).astype(np.float32)
    path, settings = as_file(values, ("member", "time", "y", "x"), tmp_path), settings_for(("y", "x"))
    reading = partial(read_share, split=partial(split, settings), rank=1, size=4)
    reading(open_unread(path))  # imports
    tracemalloc.start()
    share = reading(open_unread(path))
    units = Units(np.zeros((1, 1)), np.ones((1, 1)))
    learned_from = States(share.training, None, units, torch.device("cpu"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(learned_from) == len(share.training_numbers)
    assert learned_from.nbytes == pytest.approx(values.nbytes / 4, rel=0.15)
    assert peak < values.nbytes / 4 + 2**22


def test_anomalies_of_a_share_are_the_same_numbers_in_place_copied_or_on_disk(monkeypatch, tmp_path):
    monkeypatch.setenv("GFDT_CACHE_DIR", str(tmp_path))
    x = (1e6 + np.random.default_rng(1).normal(size=(50, 3))).astype(np.float32)
    units = Units(x.mean(axis=0, dtype=np.float64), np.array([1.0, 2.0, 3.0]))
    chosen = torch.tensor([3, 0, 49, 3])
    expected = States(x, np.arange(50), units, torch.device("cpu"))[chosen]
    own = x.copy()
    in_place = States(own, None, units, torch.device("cpu"))
    assert not np.array_equal(own, x)
    copied = States(x.astype(np.float64), None, units, torch.device("cpu"))
    monkeypatch.setattr(record, "memory_limit", lambda: 0)
    monkeypatch.setattr(states, "memory_limit", lambda: 0)
    on_disk = record.scratch(x.shape, x.dtype)
    on_disk[:] = x
    assert isinstance(on_disk, np.memmap)
    mapped = States(on_disk, None, units, torch.device("cpu"))
    assert (in_place.nbytes, mapped.nbytes) == (x.nbytes, 0)
    for found in (in_place, copied, mapped):
        assert torch.equal(found[chosen], expected)
    assert not list(tmp_path.iterdir())


def test_a_share_without_room_is_refused(vectors, tmp_path, monkeypatch):
    path, settings = as_file(vectors, VECTOR, tmp_path), settings_for(("component",))
    monkeypatch.setattr(record, "memory_limit", lambda: 0)
    monkeypatch.setenv("GFDT_CACHE_DIR", "/nonexistent")
    with pytest.raises(InputError, match=r"/nonexistent cannot hold .*set GFDT_CACHE_DIR .*start more processes"):
        read_share(open_unread(path), partial(split, settings), 0, 2)


def test_processes_of_one_machine_share_its_memory(monkeypatch):
    monkeypatch.setattr(record, "memory_limit", lambda: 800)
    assert not isinstance(record.scratch((50,), np.float64, processes=2), np.memmap)
    assert isinstance(record.scratch((51,), np.float64, processes=2), np.memmap)


def test_orders_of_three_shares_pass_over_the_record_together():
    """One pass of all processes is one pass over the record, each state once."""
    counts, size = [7, 7, 6], 3
    orders = [_Order(count, 2, stream(0, ORDER, rank)) for rank, count in enumerate(counts)]
    seen = [rank + size * int(number) for rank, order in enumerate(orders) for _ in range(3) for number in next(order)]
    assert len(set(seen)) == len(seen) == 18
    assert max(seen) < sum(counts)


def test_streams_that_begin_anew_are_none_of_those_before():
    keys = [(0, NOISE, rank, anew) for rank in range(3) for anew in ((), (1, 37), (2, 37), (2, 38), (3, 37))]
    keys += [(0, ORDER, *key[2:]) for key in keys]
    draws = {tuple(torch.rand(3, generator=stream(*key)).tolist()) for key in keys}
    assert len(draws) == len(keys)
