r"""Responses to kicks of the state from a record larger than memory, in one pass over its blocks.

The sums of :mod:`gfdt.responses.blocks` add up to those of the resampling units; the means are taken off at the end.
With d = m - m_0, beta = <B>, for every unit and lag

    sum (x - m)(B - <B>)^H = S - d b^H - a beta^H + n d beta^H,

of which only wavenumber zero differs for a homogeneous field. At lag 0 this is M, the Stein identity; the correction
divides the sums where :mod:`gfdt.responses.accumulate` divides the series, which is the same. The result is that of a
record in memory but for rounding. With fewer than 20 members the units are blocks of time, whose length is found in a
first look at the whole record (without the score); with very many, groups of members.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from gfdt.cluster import connected, in_order, read_piece
from gfdt.errors import InputError
from gfdt.lazy import precision_of
from gfdt.record import BLOCK_VALUES, Checks
from gfdt.responses.accumulate import Tile
from gfdt.responses.blocks import Block, Sums, Work, look_at_block, sum_block
from gfdt.responses.correction import Correction
from gfdt.responses.error_terms import field_slope, matrix_slope
from gfdt.responses.prepare import choose_units, series_chosen
from gfdt.responses.summary import Request, Summary
from gfdt.responses.sums import UnitSums
from gfdt.responses.units import MIN_MEMBERS, Unit
from gfdt.trajectory import joined_digest

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

__all__ = ["Streamed", "stream"]

_MOST_VALUES = 2**26  # of a block: 512 MiB in double precision, and several times that while it is summed
_MOST_SUMS = 2**30  # bytes of the sums of all units ...
_GROUPED = 2**28  # ... and beyond this, members are put together into groups,
_FEWEST_GROUPS = 20  # which know a standard error to 16 %
_FIRST = 1024  # samples whose mean is the origin


@dataclass(frozen=True)
class Streamed(Summary):
    """A record of which only sums were kept.

    Attributes
    ----------
    raw : UnitSums of (x - m)(B - <B>)^H, (unit, lag, ...)
    own : (lag, mode), x_k(t) x_k(0)^* of a field, or None
    observed_spread : standard deviation of each component, or of each variable of a field
    digest : of the values, where one was wanted
    """

    raw: UnitSums
    own: NDArray[Any] | None
    observed_spread: NDArray[np.float64]
    digest: str

    def fingerprint(self) -> str:
        """Return the digest of the record's values."""
        return self.digest

    def memory(self, modes: NDArray[np.int64]) -> NDArray[Any]:
        """Return C(t)/C(0) of some wavenumbers of a homogeneous field of one variable, (lag, mode)."""
        if self.own is None:
            return np.zeros((self.lags.size, modes.size), dtype=np.complex128)
        mean = self.own[:, modes]
        return mean / np.where(mean[0] != 0, mean[0], 1.0)

    def tile(self, correction: Correction, slopes: NDArray[Any] | None) -> Tile:
        """Return the whole response of the state to the kicks of its components, as one tile."""
        size = self.layout.size if self.layout.dense else self.layout.n_variables
        sums = correction.divide(self.raw.sums)
        if slopes is None:
            slope = None
        elif self.layout.dense:
            slope = matrix_slope(np.ascontiguousarray(slopes.swapaxes(0, 1)))
        else:
            slope = field_slope(slopes, correction.algebra)
        return Tile(
            slice(0, size if self.layout.dense else 1),
            UnitSums(sums.copy() if sums is self.raw.sums else sums, self.raw.counts),
            slope,
            None,
            None,
            np.zeros(size),
            self.observed_spread,
        )


def stream(request: Request, *, client: Any, progress: bool | None, errors_wanted: bool, memory: bool) -> Streamed:
    """Go through a record (an array of Dask) and return its sums.

    Parameters
    ----------
    request : Request
    client : Client, address, or None
        Who does the work; None: this process.
    progress : bool, optional
        Show a bar. Default None: only on a terminal.
    errors_wanted : bool
        Whether to warn where there are too few units for error bars.
    memory : bool
        Whether C(t)/C(0) of a field will be asked for.

    Raises
    ------
    InputError
        Bad values; chunks of too many values at once; more sums than fit into memory.
    ClusterError
        If the cluster is lost.
    """
    array, score, layout, lags = request.trajectory, request.score, request.layout, request.lags
    memory = memory and not layout.dense and not layout.several
    origin = layout.site_mean(_first_mean(array))
    wanted = bool(score.records()) or score.certificate_ is not None
    work = Work(tuple(map(str, array.dims)), layout, score, lags, origin, precision_of(array), memory, wanted)
    n_members, n_times = array.shape[:2]
    disable = None if progress is None else not progress
    with connected(client) as cluster:
        digests: list[list[bytes]] = [[] for _ in range(n_members)]
        edges, text = [0, n_times], f"{n_members} members"
        if n_members < MIN_MEMBERS:
            edges, text = _first_look(array, work, digests, cluster, disable, warn=errors_wanted)
        group = _group_size(n_members * (len(edges) - 1), lags, layout, n_members)
        units = [Unit(member, *edge) for member in range(0, n_members, group) for edge in pairwise(edges)]
        if group > 1:
            text = f"{len(units)} groups of {group} members"
        sums = [Sums() for _ in units]
        blocks = _blocks(array, layout, lags, edges)
        for block, part in _results(sum_block, array, blocks, (work,), cluster, f"score ({score.label})", disable):
            place = int(np.searchsorted(edges, block.start, side="right")) - 1
            for index, member in enumerate(range(block.first, block.last)):
                sums[member // group * (len(edges) - 1) + place].add(part.sums[index])
                if n_members >= MIN_MEMBERS:
                    digests[member] += part.digests[index]
    digest = joined_digest(array.sizes, (each for member in digests for each in member)) if wanted else ""
    filled = [index for index, each in enumerate(sums) if each.count]
    if len(filled) < len(units):
        text = f"{text}, {len(filled)} of them with samples"
    return _finished(request, [units[i] for i in filled], [sums[i] for i in filled], text, origin, digest)


def _first_look(
    array: xr.DataArray, work: Work, digests: list[list[bytes]], client: Any, disable: bool | None, *, warn: bool
) -> tuple[list[int], str]:
    """Find the blocks of time that count as independent, for a record of few members.

    Returns where they end, the same for all members, and how they were chosen; ``digests`` of every member grow.
    """
    layout, (n_members, n_times) = work.layout, array.shape[:2]
    columns, stride = series_chosen(layout, n_members, n_times)
    series: list[list[Any]] = [[] for _ in range(n_members)]
    there: list[list[Any]] = [[] for _ in range(n_members)]
    total, count = np.zeros(layout.shape), 0
    blocks = _blocks(array, layout, work.lags, [0, n_times])
    for block, look in _results(look_at_block, array, blocks, (work, columns, stride), client, "first look", disable):
        total, count = total + look.states, count + look.count
        for index, member in enumerate(range(block.first, block.last)):
            series[member].append(look.series[index])
            there[member].append(look.there[index])
            digests[member] += look.digests[index]
    present = np.stack([np.concatenate(each) for each in there])
    centred = np.stack([np.concatenate(each) for each in series])
    shift = layout.transform(layout.site_mean(total / count)[None]).ravel()[columns]
    centred = np.where(present[:, :, None], centred - shift, 0.0)
    units, text = choose_units(centred, layout, n_times, stride, None if present.all() else present, warn=warn)
    return sorted({unit.start for unit in units} | {n_times}), text


def _first_mean(array: xr.DataArray) -> NDArray[np.float64]:
    """Return the mean of the first samples there are, (*state)."""
    for member in range(array.sizes["member"]):
        values = read_piece(array[member, :_FIRST]).astype(np.float64)
        values = values[np.isfinite(values).reshape(len(values), -1).all(axis=1)]
        if len(values):
            return np.asarray(values.mean(axis=0))
    return np.zeros(array.shape[2:])


def _blocks(array: xr.DataArray, layout: Any, lags: NDArray[np.int64], edges: list[int]) -> list[Block]:
    """Cut a record into blocks that end at the edges, as its chunks suggest.

    A block is long beside the largest lag and, for full matrices, beside its sums; without edges in between it is a
    multiple of the blocks in which a record in memory is gone through, so that networks see the same batches.
    """
    chunks: Any = array.chunks
    n_times, reach, d = array.sizes["time"], int(lags[-1]), layout.size
    group = max(chunks[0])
    size = max(1, BLOCK_VALUES // d)
    wanted = max(2 * reach, lags.size * d if layout.dense else 1)
    chunk = max(chunks[1])
    if chunk * group * d <= _MOST_VALUES // 2:
        wanted = max(wanted, chunk)
    length = min(size * -(-wanted // size), n_times)
    # A chunk of many members is read once for every few of them, a part of it at a time.
    together = max(1, min(group, _MOST_VALUES // (min(length + reach, n_times) * d)))
    largest = max(together * min(length + reach, n_times), group * chunk) * d
    if largest > 2 * _MOST_VALUES:
        raise InputError(
            f"the chunks of the record, {dict(zip(array.dims, map(max, chunks), strict=True))}, and the largest lag of "
            f"{reach} samples need {8 * largest / 2**30:.1f} GiB at a time, the limit is {_MOST_VALUES >> 26} GiB: "
            f"rechunk it, e.g. da.chunk(member=1, time={max(1, min(size, n_times))}), or take a smaller max_lag."
        )
    starts = [
        (start, min(start + length, last)) for first, last in pairwise(edges) for start in range(first, last, length)
    ]
    bounds = np.cumsum([0, *chunks[0]]).tolist()
    return [
        Block(member, min(member + together, last), start, stop, min(stop + reach, n_times))
        for first, last in pairwise(bounds)
        for member in range(first, last, together)
        for start, stop in starts
    ]


def _results(
    function: Any,
    array: xr.DataArray,
    blocks: list[Block],
    shared: tuple[Any, ...],
    client: Any,
    text: str,
    disable: bool | None,
) -> Iterator[tuple[Block, Any]]:
    """Yield what a function finds in every block, once its values are known to be good."""
    checks = Checks(array.dims, gaps=True)
    pieces = [(array[block.first : block.last, block.start : block.reach], block) for block in blocks]
    with tqdm(total=len(blocks), desc=text, unit="block", disable=disable, leave=False) as bar:
        for block, found in zip(blocks, in_order(function, pieces, shared, client), strict=True):
            checks.merge(found.checks)
            if checks.bad:
                checks.finish(so_far=True)
            yield block, found
            bar.update()
    checks.finish()


def _group_size(n_units: int, lags: NDArray[np.int64], layout: Any, n_members: int) -> int:
    """Return how many members make a unit, so that the sums of all units fit into memory.

    Raises
    ------
    InputError
        If there would be too few units left.
    """
    each = 8 * lags.size * (layout.size**2 if layout.dense else 2 * layout.n_modes * layout.n_variables**2)
    group = 1
    if n_members >= MIN_MEMBERS and n_units * each > _GROUPED:
        group = max(1, min(-(-n_members // max(1, _GROUPED // each)), n_members // _FEWEST_GROUPS))
    needed = -(-n_units // group) * each
    if needed > _MOST_SUMS:
        raise InputError(
            f"the sums of {-(-n_units // group)} units at {lags.size} lags need {needed / 2**30:.1f} GiB, the limit "
            f"for a record that stays on disk is {_MOST_SUMS >> 30} GiB: pass homogeneous= if the field is the same "
            "everywhere, a larger lag_stride, or a smaller max_lag."
        )
    return group


def _finished(
    request: Request, units: list[Unit], sums: list[Sums], text: str, origin: NDArray[np.float64], digest: str
) -> Streamed:
    """Take the means off and label what comes out."""
    layout: Any = request.layout
    total = Sums()
    for each in sums:
        total.add(each)
    counts, n = np.array([each.count for each in sums]), total.count
    shift = layout.site_mean(total.states / n)
    beta = layout.site_mean(total.conjugate / n)
    if layout.dense:
        d, e = shift.ravel(), beta.ravel()
    else:
        scale = np.sqrt(layout.size / layout.n_variables)
        d, e = (scale * item.reshape(layout.n_variables, -1)[:, 0] for item in (shift, beta))
    raw = np.stack([each.lagged for each in sums])
    for target, each in zip(raw, sums, strict=True):
        part = _constant(target, layout)
        part -= d[:, None] * each.source[:, None, :] + each.observed[:, :, None] * e
        part += each.pairs[:, None, None] * d[:, None] * e
    covariance = np.array(total.products) / n
    _constant(covariance[None], layout)[0] -= d[:, None] * d
    pairs = np.stack([each.pairs for each in sums])
    own = None
    if np.ndim(total.memory):
        own = total.memory
        own[:, 0] += -d[0] * (total.behind + total.observed)[:, 0] + total.pairs * d[0] ** 2
        own = own / np.maximum(total.pairs, 1)[:, None]
    squares = (total.squares / n).reshape(-1 if layout.dense else layout.n_variables, *([] if layout.dense else [-1]))
    variance = squares - shift.ravel() ** 2 if layout.dense else squares.mean(axis=1) - (d / scale) ** 2
    errors = [(layout.site_mean(each.states) - each.count * shift).ravel() / n for each in sums]
    score, array = request.score, request.trajectory
    return Streamed(
        trajectory=array,
        score=score,
        layout=layout,
        lags=request.lags,
        stein=UnitSums(raw[:, 0].copy(), counts.reshape(-1, *[1] * (raw.ndim - 2))),
        conjugate_units=UnitSums(np.stack([each.conjugate.ravel() for each in sums]), counts[:, None]),
        mean_errors=np.stack(errors),
        units=units,
        mean=origin + shift,
        covariance=covariance,
        fitted_here=digest in score.records() if digest else False,
        unit_text=text,
        raw=UnitSums(raw, pairs.reshape(*pairs.shape, *[1] * (raw.ndim - 2))),
        own=own,
        observed_spread=np.sqrt(np.maximum(variance, 0.0)),
        digest=digest,
    )


def _constant(sums: NDArray[Any], layout: Any) -> NDArray[Any]:
    """Return a view of the entries that the means are in, (lag, observed, source)."""
    if layout.dense:
        return sums
    return sums[:, 0] if layout.several else sums[:, :1, None]
