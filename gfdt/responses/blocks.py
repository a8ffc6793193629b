r"""Sums of one block of a record: all that a response to kicks of the state needs to know of it.

A block holds the start times t_0 <= t < t_1 of some members, and is read up to t_1 + max(lag), so that every pair
(t, t + l) belongs to one block and no sum is made twice. With x' = x - m_0 about a fixed m_0 near the mean,
B = -s(x), v(t) = 1 where a sample is there, and A, B zero where it is missing, a block gives

    S(l) = sum_t x'(t + l) B(t)^H,    n(l) = sum_t v(t) v(t + l),
    a(l) = sum_t v(t) x'(t + l),      b(l) = sum_t v(t + l) B(t),
    sum x',    sum |x'|^2,    sum x' x'^H,    sum B,    and of fields sum_t x'(t + l) x'(t)^*,

in double precision, per wavenumber for homogeneous fields. They add up over blocks, and the means are taken off at the
end (:mod:`gfdt.responses.stream`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from gfdt.record import BLOCK_VALUES, Checks, complete_times
from gfdt.responses.correlation import LaggedSums, spectral_lagged_sums, valid_pairs, window_sums
from gfdt.responses.layout import Layout
from gfdt.responses.units import Unit
from gfdt.scores.base import Score
from gfdt.scores.values import checked_values
from gfdt.trajectory import block_digest

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Block", "BlockSums", "Look", "Sums", "Work", "look_at_block", "sum_block"]


@dataclass(frozen=True)
class Block:
    """Start times ``start <= t < stop`` of members ``first <= m < last``, read up to ``reach``."""

    first: int
    last: int
    start: int
    stop: int
    reach: int


@dataclass(frozen=True)
class Work:
    """What is to be done with every block, the same for all.

    Attributes
    ----------
    dims : of the record, (member, time, *state)
    layout, score, lags : as in :class:`gfdt.responses.summary.Request`
    origin : m_0, (*state)
    dtype : precision of the record
    memory : whether the correlation of a field with itself is wanted
    digest : whether the digests of blocks are wanted
    """

    dims: tuple[str, ...]
    layout: Layout
    score: Score
    lags: NDArray[np.int64]
    origin: NDArray[np.float64]
    dtype: np.dtype[Any]
    memory: bool
    digest: bool


@dataclass
class Sums:
    """Sums over some start times; those of two sets of them add up."""

    lagged: Any = 0.0
    pairs: Any = 0.0
    observed: Any = 0.0
    source: Any = 0.0
    states: Any = 0.0
    squares: Any = 0.0
    products: Any = 0.0
    conjugate: Any = 0.0
    count: float = 0.0
    memory: Any = 0.0
    behind: Any = 0.0

    def add(self, other: Sums) -> None:
        """Take in other start times."""
        for item in fields(self):
            setattr(self, item.name, getattr(self, item.name) + getattr(other, item.name))


@dataclass(frozen=True)
class BlockSums:
    """What one block gives.

    Attributes
    ----------
    sums : of each of its members
    checks : of its values
    digests : of its parts, by member
    """

    sums: list[Sums]
    checks: Checks
    digests: list[list[bytes]] = field(default_factory=list)


@dataclass(frozen=True)
class Look:
    """What a first look at a block gives: (member, time/stride, column) of some series, and the sum of x'."""

    series: NDArray[Any]
    there: NDArray[np.bool_]
    states: NDArray[np.float64]
    count: int
    checks: Checks
    digests: list[list[bytes]]


def sum_block(values: NDArray[Any], block: Block, work: Work) -> BlockSums:
    """Return the sums of a block.

    Parameters
    ----------
    values : (member, time, *state), up to ``block.reach``
    """
    values, checks, digests = _checked(values, block, work)
    if checks.bad:  # there is nothing to sum
        return BlockSums([], checks)
    return BlockSums([_sum_member(each, block.stop - block.start, work) for each in values], checks, digests)


def look_at_block(values: NDArray[Any], block: Block, work: Work, columns: NDArray[np.int64], stride: int) -> Look:
    """Return what the resampling units are found from, and the sum of the states."""
    values, checks, digests = _checked(values, block, work)
    series, there, total, count = [], [], np.zeros(work.layout.shape), 0
    some = np.arange(-(-block.start // stride) * stride, block.stop, stride) - block.start
    for each in values if not checks.bad else []:
        centred, kept = _centred(each, work)
        total += centred.sum(axis=0)
        count += int(kept.sum())
        series.append(work.layout.transform(centred[some]).reshape(len(some), -1)[:, columns])
        there.append(kept[some])
    return Look(np.array(series), np.array(there, dtype=bool), total, count, checks, digests)


def _checked(values: NDArray[Any], block: Block, work: Work) -> tuple[NDArray[Any], Checks, list[list[bytes]]]:
    values = np.ascontiguousarray(values, dtype=work.dtype)
    checks, digests = Checks(work.dims, gaps=True), []
    for index, member in enumerate(range(block.first, block.last)):
        own = values[index, : block.stop - block.start]
        checks.visit(member, slice(block.start, block.stop), own)
        digests.append([block_digest(own[part], work.dims[2:]) for part in _parts(own.shape)] if work.digest else [])
    return values, checks, digests


def _parts(shape: tuple[int, ...]) -> Iterator[slice]:
    """Yield the parts of a member in which a record in memory is gone through, for the same rounding."""
    size = max(1, BLOCK_VALUES // max(1, int(np.prod(shape[1:]))))
    for start in range(0, shape[0], size):
        yield slice(start, min(start + size, shape[0]))


def _centred(values: NDArray[Any], work: Work) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return x', zero where a sample is missing, and where there is one."""
    there = complete_times(values[None])
    centred = values - work.origin
    if there is None:
        return centred, np.ones(len(values), dtype=bool)
    centred[~there[0]] = 0.0
    return centred, there[0]


def _sum_member(values: NDArray[Any], n: int, work: Work) -> Sums:
    """Return the sums of a member with ``n`` start times, (time, *state)."""
    layout, lags = work.layout, work.lags
    centred, there = _centred(values, work)
    conjugate = np.zeros(centred.shape)
    for part in _parts((n, *layout.shape)):
        kept = there[part]
        if kept.any():
            conjugate[part][kept] = -checked_values(work.score, values[part][kept]).astype(work.dtype)
    unit, own = [Unit(0, 0, n)], centred[:n]
    x, b = layout.transform(centred), layout.transform(conjugate)
    out = Sums(
        pairs=valid_pairs(there, unit, lags)[0],
        states=own.sum(axis=0),
        squares=np.square(own).sum(axis=0),
        products=layout.product(x[:n], x[:n]),
        conjugate=conjugate[:n].sum(axis=0),
        count=float(there[:n].sum()),
    )
    at_zero: Callable[[NDArray[Any]], NDArray[np.float64]] = _constant_part if not layout.dense else np.asarray
    out.observed = window_sums(at_zero(x), there, unit, lags, "observed")[0]
    out.source = window_sums(at_zero(b), there, unit, lags, "source")[0]
    if layout.dense:
        out.lagged = LaggedSums(b, unit, lags).against(x)[0]
        return out
    out.lagged = spectral_lagged_sums(x, b, unit, lags)[0]
    if work.memory:
        out.memory = spectral_lagged_sums(x, x, unit, lags)[0]
        out.behind = window_sums(at_zero(x), there, unit, lags, "source")[0]
    return out


def _constant_part(series: NDArray[Any]) -> NDArray[np.float64]:
    """Return wavenumber zero, (time, variable): all of a field that its mean is in."""
    return series[:, 0].reshape(len(series), -1).real
