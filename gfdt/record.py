"""The values of a record: read and checked block by block, in memory or in a temporary file.

A record (member, time, *state) of more than ``MEMORY_SHARE`` of the machine's memory, opened lazily from a file, is
copied one block at a time into a temporary file without a name, and mapped from there: it can then be indexed like any
array while the system keeps in memory only the parts in use. The file vanishes with the array. It is put where
``GFDT_CACHE_DIR`` says, or in the directory of temporary files (which must be on a disk: a ``/tmp`` kept in memory
would win nothing).

Sums over a record are taken over blocks as well, so that no copy of it is ever made.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gfdt.errors import InputError
from gfdt.reading import first_line

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

__all__ = [
    "BLOCK_VALUES",
    "MEMORY_SHARE",
    "Checks",
    "complete_times",
    "memory_limit",
    "moments",
    "read_record",
    "scratch",
    "state_batches",
    "time_blocks",
]

MEMORY_SHARE = 0.3  # of physical memory: the estimators need room for a few arrays beside the record
BLOCK_VALUES = 2**22  # 32 MiB in float64; fingerprints are made of such blocks, so another number changes them
_SPARE = 1.02  # of the space on disk


def memory_limit() -> int:
    """Return the size in bytes above which a record stays on disk."""
    return int(MEMORY_SHARE * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def time_blocks(shape: tuple[int, ...]) -> Iterator[tuple[int, slice]]:
    """Yield (member, slice of times) for blocks of a record (member, time, *state), in the order of its values."""
    size = max(1, BLOCK_VALUES // max(1, int(np.prod(shape[2:]))))
    for member in range(shape[0]):
        for start in range(0, shape[1], size):
            yield member, slice(start, min(start + size, shape[1]))


def state_batches(shape: tuple[int, ...]) -> Iterator[slice]:
    """Yield slices of states (n, *state) that hold a bounded number of values."""
    size = max(1, BLOCK_VALUES // max(1, int(np.prod(shape[1:]))))
    for start in range(0, shape[0], size):
        yield slice(start, min(start + size, shape[0]))


def moments(states: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and standard deviation of each component of states (n, *state), in float64 and without a copy."""
    mean = np.asarray(states.mean(axis=0, dtype=np.float64))
    squares = np.zeros(states.shape[1:])
    for part in state_batches(states.shape):
        squares += np.square(states[part] - mean).sum(axis=0)
    return mean, np.sqrt(squares / len(states))


def complete_times(values: NDArray[Any]) -> NDArray[np.bool_] | None:
    """Return which samples of a record (member, time, *state) there are, (member, time); None if all."""
    first = values.reshape(*values.shape[:2], -1)[:, :, 0]
    there = ~np.isnan(first)
    return None if there.all() else there


def scratch(shape: tuple[int, ...], dtype: Any, *, processes: int = 1, remedy: str = "select members") -> NDArray[Any]:
    """Return an uninitialised array, in memory, or in a temporary file without a name where it would fill too much.

    So many processes on this machine each ask for one; ``remedy`` is what to do where there is no room, beside room.

    Raises
    ------
    InputError
        If it is too large for memory and does not fit on the disk either.
    """
    size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    if size * processes <= memory_limit():
        return np.empty(shape, dtype=dtype)
    place = Path(os.environ.get("GFDT_CACHE_DIR") or tempfile.gettempdir())
    try:
        if _SPARE * size > shutil.disk_usage(place).free:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        with tempfile.TemporaryFile(dir=place) as file:
            file.truncate(size)
            return np.memmap(file, dtype=dtype, mode="r+", shape=shape)
    except OSError as error:
        raise InputError(
            f"{size / 2**30:.3g} GiB are too much for memory, and {place} cannot hold them ({error.strerror}): set "
            f"GFDT_CACHE_DIR to a directory on a disk with room, or {remedy}."
        ) from error


def read_record(array: xr.DataArray, *, gaps: bool = False) -> xr.DataArray:
    """Return a record (member, time, *state) with its values read, as float32 (if it was) or float64, and checked.

    ``array`` has its dims in that order; ``member`` is added where it has none (here, because a lazy array would be
    read by it). With ``gaps`` a sample may be missing, all of its components NaN.

    Raises
    ------
    InputError
        If the values cannot be read, hold NaN or inf, or a component is constant; or if a record larger than memory
        does not fit on the disk either.
    """
    dtype = np.dtype(np.float32 if array.dtype == np.float32 else np.float64)
    ready = isinstance(array.variable._data, np.ndarray) and array.dtype == dtype
    if array.size * dtype.itemsize > memory_limit() and not ready:
        array = array.copy(data=_on_disk(array, dtype, gaps))
        return array if "member" in array.dims else array.expand_dims("member")
    try:
        array = array.astype(dtype, copy=False).load()
    except Exception as error:
        raise _unreadable(error) from error
    if "member" not in array.dims:
        array = array.expand_dims("member")
    checks, values = Checks(array.dims, gaps), array.values
    for member, times in time_blocks(array.shape):
        checks.visit(member, times, values[member, times])
    checks.finish()
    return array


def _on_disk(array: xr.DataArray, dtype: np.dtype[Any], gaps: bool) -> NDArray[Any]:
    """Copy the values into an unnamed temporary file, block by block, and map it."""
    place = Path(os.environ.get("GFDT_CACHE_DIR") or tempfile.gettempdir())
    needed = array.size * dtype.itemsize
    one = "member" not in array.dims
    shape = (1, *array.shape) if one else array.shape
    checks = Checks(("member", *array.dims) if one else array.dims, gaps)
    try:
        free = shutil.disk_usage(place).free
        file = tempfile.TemporaryFile(dir=place)  # noqa: SIM115  closed below; the map outlives it
    except OSError as error:
        raise InputError(
            f"the trajectory of {needed / 2**30:.3g} GiB is too large for memory, and {place} cannot hold it "
            f"({error.strerror}): set GFDT_CACHE_DIR to a directory on a disk with room."
        ) from error
    with file:
        if _SPARE * needed > free:
            raise InputError(
                f"the trajectory of {needed / 2**30:.3g} GiB is too large for memory, and {place} has "
                f"{free / 2**30:.3g} GiB free: set GFDT_CACHE_DIR to a directory with more, select members, or thin it "
                "in time, e.g. da.isel(time=slice(None, None, 10))."
            )
        for member, times in time_blocks(shape):
            try:
                block = np.ascontiguousarray((array[times] if one else array[member, times]).values, dtype=dtype)
            except Exception as error:
                raise _unreadable(error) from error
            checks.visit(member, times, block)
            try:
                file.write(block.data)
            except OSError as error:
                raise InputError(
                    f"{place} is full ({error.strerror}): set GFDT_CACHE_DIR to a directory with {needed / 2**30:.3g} "
                    "GiB free."
                ) from error
        checks.finish()
        file.flush()
        return np.memmap(file, dtype=dtype, mode="r", shape=array.shape)


class Checks:
    """What every record must satisfy, gathered over its blocks."""

    def __init__(self, dims: tuple[Hashable, ...], gaps: bool) -> None:
        self.dims = dims
        self.gaps = gaps
        self.samples: dict[int, int] = {}
        self.low: Any = np.inf
        self.high: Any = -np.inf
        self.bad, self.first = 0, ""

    def visit(self, member: int, times: slice, block: NDArray[Any]) -> None:
        """Take in the values (time, *state) of one member."""
        if self.gaps:
            missing = np.isnan(block).reshape(len(block), -1).all(axis=1)
            self.samples[member] = self.samples.get(member, 0) + int(len(block) - missing.sum())
            if missing.all():
                return
            if missing.any():
                # The first sample that is there stands in for those that are not: it changes no bound.
                block = np.where(missing.reshape(-1, *[1] * (block.ndim - 1)), block[~missing][:1], block)
        finite = np.isfinite(block)
        if not finite.all():
            if not self.bad:
                time, *state = np.unravel_index(int(np.argmin(finite)), finite.shape)
                indices = (member, times.start + time, *state)
                self.first = ", ".join(f"{dim}={index}" for dim, index in zip(self.dims, indices, strict=True))
            self.bad += int(finite.size - finite.sum())
        if not self.bad:
            self.low = np.minimum(self.low, block.min(axis=0))
            self.high = np.maximum(self.high, block.max(axis=0))

    def merge(self, other: Checks) -> None:
        """Take in what was gathered elsewhere, over later blocks."""
        for member, count in other.samples.items():
            self.samples[member] = self.samples.get(member, 0) + count
        self.first = self.first or other.first
        self.bad += other.bad
        self.low, self.high = np.minimum(self.low, other.low), np.maximum(self.high, other.high)

    def finish(self, *, so_far: bool = False) -> None:
        """Raise InputError for what was found, ``so_far`` where there may be more."""
        if self.bad:
            whole = "; only a sample whose components are all NaN counts as missing" if self.gaps else ""
            count = f"{'at least ' if so_far else ''}{self.bad}"
            raise InputError(
                f"the trajectory holds {count} NaN or inf (the first at {self.first}): fill or cut the gaps, e.g. "
                f"split the series there into members or use da.interpolate_na('time'){whole}."
            )
        empty = [member for member, count in self.samples.items() if count == 0]
        if empty:
            raise InputError(f"member {empty[0]} holds no sample, all of it is NaN: leave it out, e.g. da.drop_isel.")
        constant = np.asarray(self.low == self.high)
        if not constant.any():
            return
        if not constant.ndim:
            raise InputError("the series is constant: a response needs fluctuations; pass a varying series.")
        first = np.unravel_index(int(np.argmax(constant)), constant.shape)
        place = ", ".join(f"{dim}={index}" for dim, index in zip(self.dims[2:], first, strict=True))
        raise InputError(
            f"{int(constant.sum())} of {constant.size} state components are constant (the first at {place}): "
            "drop them, e.g. with da.isel or by masking, since a response needs fluctuations."
        )


def _unreadable(error: Exception) -> InputError:
    return InputError(
        f"the values cannot be read ({first_line(error)}): the file is truncated or damaged; write or copy it again."
    )
