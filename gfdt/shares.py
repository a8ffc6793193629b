"""A record divided among several processes: each keeps every ``size``-th state, and reads no array that is larger.

Of the states numbered 0, 1, 2, ... in the order of the record (samples that are missing have no number) process r of N
keeps, of those for training, of those held out and of those among them that decide, the ones at the places

    r, r + N, r + 2N, ...

so that every share is a sample of the whole record. Every process goes through all of the values once, in the blocks of
:func:`gfdt.record.time_blocks` (twice where samples are missing, which changes the numbers), and checks all of
them, so that all raise the same error; the digests of the blocks, of which the fingerprint is made, are divided among
the processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from gfdt.errors import InputError
from gfdt.parts import expand_pattern
from gfdt.processes import local_size
from gfdt.reading import first_line
from gfdt.record import Checks, complete_times, scratch, time_blocks
from gfdt.trajectory import (
    Source,
    block_digest,
    described,
    joined_digest,
    load_trajectory,
    state_dims,
    with_coordinates,
)

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

__all__ = ["Share", "Split", "open_unread", "read_share"]

_DIGEST_BYTES = 16
_REMEDY = "start more processes on more machines"


class Split(NamedTuple):
    """Which states of a record are for what, by their numbers, all in increasing order.

    Attributes
    ----------
    training : those that are learned from
    held_out : all others
    judged : those among ``held_out`` that the learned is judged by
    pieces : (member, block) of each of ``judged``
    """

    training: NDArray[np.int64]
    held_out: NDArray[np.int64]
    judged: NDArray[np.int64]
    pieces: NDArray[np.int64]


@dataclass(frozen=True)
class Share:
    """What one process keeps of a record.

    Attributes
    ----------
    training, held_out : (n, *state) the states of this process, in the units of the data
    training_numbers, held_out_numbers : (n,) their numbers, increasing
    judged : (n, *state) the states of this process that decide
    pieces : those of all processes together
    n_states : how many states the record has, on all processes together
    fingerprint : that of the whole record
    """

    training: NDArray[Any]
    held_out: NDArray[Any]
    training_numbers: NDArray[np.int64]
    held_out_numbers: NDArray[np.int64]
    judged: NDArray[Any]
    pieces: NDArray[np.int64]
    n_states: int
    fingerprint: str

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a state."""
        return self.training.shape[1:]

    def batches(self, low: int, high: int, size: int) -> Iterator[NDArray[Any]]:
        """Yield the states with numbers from ``low`` to ``high - 1``, at most ``size`` at once."""
        pairs = ((self.training, self.training_numbers), (self.held_out, self.held_out_numbers))
        for states, numbers in pairs:
            first, last = np.searchsorted(numbers, [low, high])
            for start in range(first, last, size):
                yield states[start : min(start + size, last)]


def open_unread(
    source: Source,
    *,
    var: str | Sequence[str] | None = None,
    dims: Sequence[str] | None = None,
    dt: float | None = None,
) -> xr.DataArray:
    """Return a record with dims ([member,] time, *state) whose values are not read, where that can be.

    Parameters are those of :func:`gfdt.load_trajectory`, which does the rest: it reads lists of parts of different
    length, and all lists where Dask is not installed.

    Raises
    ------
    InputError
        As :func:`gfdt.load_trajectory`, but for what only the values can tell.
    """
    source = expand_pattern(source)
    if not isinstance(source, list | tuple):
        return with_coordinates(described(source, var, dims, dt, False, True))
    from gfdt.lazy import open_lazily

    try:
        joined = open_lazily(source, var=var, dims=dims, dt=dt)
    except InputError:  # a missing time step is no error here; of anything else the reader will say the same
        joined = None
    if joined is not None:
        return joined
    return load_trajectory(source, var=var, dims=dims, dt=dt, needs_time=False, gaps=True)


def read_share(
    array: xr.DataArray,
    split: Callable[[tuple[int, int]], Split],
    rank: int = 0,
    size: int = 1,
    *,
    total: Callable[[NDArray[np.uint8]], NDArray[np.uint8]] = lambda digests: digests,
) -> Share:
    """Go through a record once and keep the share of one process.

    Parameters
    ----------
    array : DataArray
        From :func:`open_unread`, or any validated trajectory.
    split : callable
        What the states are for, given the numbers of members and of times. A record with missing samples counts as one
        member of all samples there are.
    rank, size : int
        Number of this process, and of all.
    total : callable
        Returns the sum of an array over the processes. Default: of one process.

    Raises
    ------
    InputError
        As :func:`gfdt.load_trajectory`, for the values: NaN or inf, constant components, a damaged file.
    """
    blocks = _Blocks(array)
    members, times = blocks.shape[:2]
    checks = Checks(("member", "time", *state_dims(array)), True)
    there = np.ones((members, times), dtype=bool)
    keeper = _Keeper(split((members, times)), blocks, rank, size)
    names, digests = state_dims(array), []
    for number, (member, part, block) in enumerate(blocks):
        checks.visit(member, part, block)
        found = complete_times(block[None])
        if found is not None:
            there[member, part] = found[0]
        keeper.take(member * times + part.start, block)
        own = number % size == rank
        digests.append(np.frombuffer(block_digest(block, names) if own else bytes(_DIGEST_BYTES), np.uint8))
    checks.finish()
    sizes = {"member": members, "time": times, **dict(zip(names, blocks.shape[2:], strict=True))}
    mark = joined_digest(sizes, (row.tobytes() for row in total(np.stack(digests))))
    if there.all():
        return keeper.share(members * times, mark)
    del keeper
    n_states = int(there.sum())
    keeper, start = _Keeper(split((1, n_states)), blocks, rank, size), 0
    for member, part, block in blocks:
        present = block[there[member, part]]
        keeper.take(start, present)
        start += len(present)
    return keeper.share(n_states, mark)


class _Blocks:
    """The blocks of a record as (member, slice of times, values (time, *state)), read anew each time."""

    def __init__(self, array: xr.DataArray) -> None:
        self._array, self._one = array, "member" not in array.dims
        self.shape = (1, *array.shape) if self._one else array.shape
        self.dtype = np.dtype(np.float32 if array.dtype == np.float32 else np.float64)

    def __iter__(self) -> Iterator[tuple[int, slice, NDArray[Any]]]:
        for member, times in time_blocks(self.shape):
            part = self._array[times] if self._one else self._array[member, times]
            try:
                yield member, times, np.asarray(part.values, dtype=self.dtype)
            except Exception as error:
                raise InputError(
                    f"the values cannot be read ({first_line(error)}): the file is truncated or damaged; write or "
                    "copy it again."
                ) from error


class _Keeper:
    """Takes the states of one process out of blocks that come in the order of the record."""

    def __init__(self, split: Split, blocks: _Blocks, rank: int, size: int) -> None:
        self._pieces = split.pieces
        self._numbers = (split.training[rank::size], split.held_out[rank::size], split.judged[rank::size])
        self._kept = [
            scratch((numbers.size, *blocks.shape[2:]), blocks.dtype, processes=local_size(), remedy=_REMEDY)
            for numbers in self._numbers
        ]

    def take(self, start: int, block: NDArray[Any]) -> None:
        """Keep what is wanted of the states numbered from ``start``."""
        for numbers, kept in zip(self._numbers, self._kept, strict=True):
            first, last = np.searchsorted(numbers, [start, start + len(block)])
            kept[first:last] = block[numbers[first:last] - start]

    def share(self, n_states: int, fingerprint: str) -> Share:
        (training, held_out, judged), numbers = self._kept, self._numbers
        return Share(training, held_out, numbers[0], numbers[1], judged, self._pieces, n_states, fingerprint)
