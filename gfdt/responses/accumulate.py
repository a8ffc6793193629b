r"""Per-unit sums of <A(x(t)) B(x(0))>, tile by tile.

A response is made in tiles, parts of its values that fit in memory: some columns of the observable against everything
that is kicked, or one number per site of a homogeneous field against the kick of a site. For each tile

    raw    sum over pairs of A(t + l) (B(t) - <B>)^H, centred in A afterwards: S - <A> sum_t B(t) over the same pairs,
    slope  R(t) E_u, what the unit's error E_u of the score does to it (:mod:`gfdt.responses.correction`),
    target <w . grad A> of each unit, what R(0) is for an exact score (:mod:`gfdt.responses.targets`).

B is made of the corrected score throughout.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gfdt.record import time_blocks
from gfdt.responses.correction import Correction
from gfdt.responses.correlation import LaggedSums, spectral_lagged_sums, valid_pairs, window_sums
from gfdt.responses.observables import Bound
from gfdt.responses.perturbations import Amplitude
from gfdt.responses.prepare import Prepared
from gfdt.responses.sums import UnitSums
from gfdt.responses.targets import Target, amplitude_target, kick_target
from gfdt.responses.units import Unit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gfdt.responses.layout import Homogeneous

__all__ = ["Tile", "amplitude_tiles", "field_tiles", "kick_tiles"]

_TILE_BYTES = 2**28  # of per-unit sums, and of a tile's series
_BLOCK_VALUES = 2**22  # numbers of products of two series held at once
_ROUNDING = 1e-13  # of the spread: a mean that was taken off before


@dataclass(frozen=True)
class Tile:
    """Sums of a part of the response.

    Attributes
    ----------
    columns : slice of the flattened observable, or of its values at one site
    raw : UnitSums, (unit, lag, ...)
    slope : takes R(t) E_u off the errors (unit, lag, ...), given R (lag, ...); None without error of the score
    shift : adds to the errors what the units' errors of the mean do to A; None where A does not follow the mean
    target : <w . grad A>, or None where it is not known
    observed_mean, observed_spread : of A, per column
    """

    columns: slice
    raw: UnitSums
    slope: Callable[[NDArray[Any], NDArray[Any]], None] | None
    shift: Callable[[NDArray[Any]], None] | None
    target: Target | None
    observed_mean: NDArray[np.float64]
    observed_spread: NDArray[np.float64]


class _Moments:
    """Mean and spread of the observable, over all members."""

    def __init__(self) -> None:
        self.count, self.total, self.squares = 0, np.zeros(1), np.zeros(1)

    def add(self, values: NDArray[np.float64], count: int) -> None:
        """Take in the values (time, column) of a member, zero where missing."""
        self.count += count
        self.total = self.total + values.sum(axis=0)
        self.squares = self.squares + np.einsum("tc,tc->c", values, values)

    @property
    def mean(self) -> NDArray[np.float64]:
        """<A>."""
        return self.total / self.count

    @property
    def spread(self) -> NDArray[np.float64]:
        """Standard deviation of A."""
        return np.sqrt(np.maximum(self.squares / self.count - self.mean**2, 0.0))


def kick_tiles(
    ready: Prepared, observable: Bound, correction: Correction, slopes: NDArray[Any] | None, *, errors_wanted: bool
) -> Iterator[Tile]:
    """Any observable against the kick of every component; of a homogeneous field, of one site of any place."""
    layout, q = ready.layout, ready.layout.size if ready.layout.dense else ready.layout.n_variables
    per_column = 8 * q * ready.lags.size * len(ready.units)
    longest = 8 * ready.trajectory.sizes["time"]
    whole = slopes is None and not errors_wanted
    per_column = per_column // len(ready.units) if whole else per_column
    width = max(1, min(observable.size, 2 * _TILE_BYTES // per_column, 4 * _TILE_BYTES // longest))
    tiles = [slice(start, min(start + width, observable.size)) for start in range(0, observable.size, width)]
    kept: dict[int, _Source] = {}
    if slopes is not None and not layout.dense:
        slopes = slopes[:, 0].real.reshape(len(slopes), q, q)
    # Side by side, so that the errors of all units are one product.
    by_unit = None if slopes is None else np.ascontiguousarray(slopes.swapaxes(0, 1))
    for columns in tiles:
        sums = _PairSums(ready)
        slid = _PairSums(ready) if observable.follows_mean and errors_wanted else None
        for member in range(ready.trajectory.sizes["member"]):
            source = kept.get(member)
            if source is None:
                series = correction.divide_series(layout.transform(ready.source(member)))
                source = _Source.of(_of_one_site(series, layout), ready, member, observable.size, whole=whole)
                if len(tiles) > 1:
                    kept[member] = source
            sums.add(source, _columns(ready, observable, member, columns))
            if slid is not None:
                slid.add(source, _shift_columns(ready, observable, member, columns))
        slope = None if by_unit is None else _matrix_slope(by_unit)
        shift = None if slid is None else _shift(ready, observable, columns, slid.centred().mean())
        target = kick_target(ready, observable, correction, columns) if layout.dense else None
        yield sums.tile(columns, slope, shift, target)


def field_tiles(
    ready: Prepared, observable: Bound, correction: Correction, slopes: NDArray[Any] | None, *, errors_wanted: bool
) -> Iterator[Tile]:
    """A local observable of a homogeneous field against the kick of a site, per wavenumber."""
    layout: Homogeneous = ready.layout  # type: ignore[assignment]
    for extra in range(observable.n_extra):
        sums: list[NDArray[Any]] = []
        counts: list[NDArray[np.float64]] = []
        windows: list[NDArray[Any]] = []
        moments, squares = _Moments(), np.zeros(1)
        slid: Any = 0.0
        for member in range(ready.trajectory.sizes["member"]):
            units, there = [ready.units[index] for index in ready.of_member(member)], ready.present(member)
            centred = ready.centred(member)
            field = observable.field(centred, extra)
            field[~there] = 0.0
            moments.add(_per_variable(field, layout), int(there.sum()))
            squares = squares + _per_variable(field**2, layout).sum(axis=0)
            source = correction.divide_series(layout.transform(ready.source(member)))
            sums.append(spectral_lagged_sums(layout.transform(field), source, units, ready.lags))
            counts.append(valid_pairs(there, units, ready.lags))
            at_zero = source[:, 0].reshape(len(source), -1).real
            windows.append(window_sums(at_zero, there, units, ready.lags, "source"))
            if observable.follows_mean and errors_wanted:
                slope_field = observable.field(centred, extra, order=1)
                slope_field[~there] = 0.0
                total = spectral_lagged_sums(layout.transform(slope_field), source, units, ready.lags).sum(axis=0)
                slid = slid + total
        raw, count, window = np.concatenate(sums), np.concatenate(counts), np.concatenate(windows)
        # All sites have one mean, so that only k = 0 has to be centred; there <A> is the mean times n_sites^(1/2).
        offset = moments.mean * np.sqrt(layout.size / layout.n_variables)
        if layout.several:
            raw[:, :, 0] -= offset[:, None] * window[:, :, None, :]
        else:
            raw[:, :, 0] -= offset * window[:, :, 0]
        slope = None
        if slopes is not None:
            algebra = correction.algebra

            def slope(response: NDArray[Any], errors: NDArray[Any], algebra: Any = algebra) -> None:
                for error, one in zip(errors, slopes, strict=True):
                    error -= algebra.times(response, one)

        yield Tile(
            slice(extra, extra + 1),
            UnitSums(raw, count.reshape(*count.shape, *[1] * (raw.ndim - 2))),
            slope,
            None if np.ndim(slid) == 0 else _field_shift(ready, slid / _per_lag(count, raw.ndim - 2)),
            kick_target(ready, observable, correction, slice(extra, extra + 1)),
            moments.mean,
            # Of A at a site, which is more than that of its average over sites.
            np.sqrt(np.maximum(squares / moments.count - moments.mean**2, 0.0)),
        )


def amplitude_tiles(
    ready: Prepared,
    observable: Bound,
    amplitudes: list[Amplitude],
    correction: Correction,
    slopes: NDArray[Any] | None,
    *,
    errors_wanted: bool,
) -> Iterator[Tile]:
    """Any observable against whole perturbations, each with one amplitude f(t); sites of a field are averaged."""
    q, n_units = len(amplitudes), len(ready.units)
    size = _n_columns(observable, ready)
    flat = None if slopes is None else slopes.reshape(n_units, -1)
    # Columns that carry the errors of the score: one per entry of E or one per unit, whichever is less.
    by_entry = flat is not None and not np.iscomplexobj(flat) and flat.shape[1] <= n_units
    n_error = 0 if flat is None else q * (flat.shape[1] if by_entry else n_units)
    width = max(1, min(size, _TILE_BYTES // (8 * ready.lags.size * (q * n_units + n_error))))
    width = max(1, min(width, 2 * _TILE_BYTES // (8 * ready.trajectory.sizes["time"])))
    tiles = [slice(start, min(start + width, size)) for start in range(0, size, width)]
    kept: dict[int, tuple[_Source, _Source | None]] = {}
    for columns in tiles:
        pairs = _PairSums(ready)
        errors = _PairSums(ready) if n_error else None
        slid = _PairSums(ready) if observable.follows_mean and errors_wanted else None
        for member in range(ready.trajectory.sizes["member"]):
            if member not in kept:
                value, error = _conjugates(ready, member, amplitudes, correction, flat, by_entry)
                source = _Source.of(value, ready, member, width, centred=False)
                whole = None
                if error is not None:
                    whole = _Source.of(error, ready, member, width, centred=False, whole=True)
                if len(tiles) > 1:
                    kept[member] = source, whole
            else:
                source, whole = kept[member]
            observed = _columns(ready, observable, member, columns)
            pairs.add(source, observed)
            if errors is not None and whole is not None:
                errors.add(whole, observed)
            if slid is not None:
                slid.add(source, _shift_columns(ready, observable, member, columns))
        slope = None
        if errors is not None and flat is not None:
            gradient = errors.centred().mean().reshape(ready.lags.size, columns.stop - columns.start, q, -1)
            slope = _amplitude_slope(gradient, flat if by_entry else None)
        shift = None if slid is None else _shift(ready, observable, columns, slid.centred().mean())
        yield pairs.tile(columns, slope, shift, amplitude_target(ready, observable, amplitudes, columns))


def _conjugates(
    ready: Prepared,
    member: int,
    amplitudes: list[Amplitude],
    correction: Correction,
    flat: NDArray[Any] | None,
    by_entry: bool,
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """B of every amplitude, (time, q), and what the errors of the score add to it, (time, q * n_error)."""
    layout, times, q = ready.layout, ready.trajectory.sizes["time"], len(amplitudes)
    there = ready.present(member)
    value = np.zeros((times, q))
    n_error = 0 if flat is None else flat.shape[1] if by_entry else flat.shape[0]
    error = np.zeros((times, q, n_error)) if n_error else None
    block = max(1, _BLOCK_VALUES // max(layout.size, 1 if flat is None else flat.shape[1]))
    for _, part in time_blocks((1, times, *layout.shape)):
        for start in range(part.start, part.stop, block):
            piece = np.arange(start, min(start + block, part.stop))
            piece = piece[there[piece]]
            if not piece.size:
                continue
            states = ready.trajectory.values[member, piece].astype(np.float64)
            score = -ready.conjugate[member, piece].astype(np.float64)
            for j, amplitude in enumerate(amplitudes):
                constant, terms = amplitude.terms(states, score)
                value[piece, j] = constant
                for term in terms:
                    left = layout.transform(term.left)
                    right = correction.divide_series(layout.transform(term.right))
                    value[piece, j] += term.factor * layout.inner(left, right)
                    if error is None or flat is None:
                        continue
                    cross = layout.cross(left, right)
                    entries = cross if by_entry else (cross @ flat.T).real
                    error[piece, j] += term.derivative * entries
    return value, None if error is None else error.reshape(times, -1)


@dataclass(frozen=True)
class _Source:
    """One member's series of conjugate variables, ready to be correlated with any observable.

    Attributes
    ----------
    sums : LaggedSums
    units : what its sums are for
    there : (time,) bool
    windows : (unit, lag, q), sums of B over the pairs
    total : (q,), sum of B; None where it is centred
    count : number of samples
    """

    sums: LaggedSums
    units: list[Unit]
    there: NDArray[np.bool_]
    windows: NDArray[np.float64]
    total: NDArray[np.float64] | None
    count: int

    @classmethod
    def of(
        cls,
        series: NDArray[np.float64],
        ready: Prepared,
        member: int,
        n_observed: int,
        *,
        centred: bool = True,
        whole: bool = False,
    ) -> _Source:
        """Transform a series (time, q) of a member; ``whole``: as one unit."""
        units = [ready.units[index] for index in ready.of_member(member)]
        if whole:
            units = [Unit(member, 0, len(series))]
        there = ready.present(member)
        return cls(
            LaggedSums(series, units, ready.lags, n_observed=n_observed),
            units,
            there,
            window_sums(series, there, units, ready.lags, "source"),
            None if centred else series.sum(axis=0),
            int(there.sum()),
        )


class _PairSums:
    """Sums over the units of all members, centred at the end."""

    def __init__(self, ready: Prepared) -> None:
        self.lags = ready.lags
        self.moments = _Moments()
        self.sums: list[NDArray[np.float64]] = []
        self.counts: list[NDArray[np.float64]] = []
        self.windows: list[NDArray[np.float64]] = []
        self.observed: list[NDArray[np.float64]] = []
        self.total: NDArray[np.float64] | None = None

    def add(self, source: _Source, observed: NDArray[np.float64]) -> None:
        """Take in a member, (time, column)."""
        self.moments.add(observed, source.count)
        self.sums.append(source.sums.against(observed))
        self.counts.append(valid_pairs(source.there, source.units, self.lags))
        self.windows.append(source.windows)
        if source.total is not None:
            self.observed.append(window_sums(observed, source.there, source.units, self.lags, "observed"))
            self.total = source.total if self.total is None else self.total + source.total

    def centred(self) -> UnitSums:
        """Return the sums of (A - <A>) (B - <B>)."""
        raw = self.sums[0] if len(self.sums) == 1 else np.concatenate(self.sums)
        counts, mean = np.concatenate(self.counts), self.moments.mean
        if np.abs(mean).max() > _ROUNDING * self.moments.spread.max():
            for sums, windows in zip(raw, np.concatenate(self.windows), strict=True):
                sums -= mean[:, None] * windows[:, None, :]
        if self.total is not None:
            seen = np.concatenate(self.observed) - counts[:, :, None] * mean
            raw -= seen[:, :, :, None] * (self.total / self.moments.count)
        return UnitSums(raw, counts[:, :, None, None])

    def tile(self, columns: slice, slope: Any, shift: Any, target: Target | None) -> Tile:
        """Return what was gathered."""
        return Tile(columns, self.centred(), slope, shift, target, self.moments.mean, self.moments.spread)


def _per_lag(counts: NDArray[np.float64], n_more: int) -> NDArray[np.float64]:
    """Pairs of all units at each lag, (lag, ...)."""
    return counts.sum(axis=0).reshape(-1, *[1] * n_more)


def _shift(
    ready: Prepared, observable: Bound, columns: slice, response: NDArray[np.float64]
) -> Callable[[NDArray[Any]], None]:
    """Errors through the mean, from the response of g (:meth:`gfdt.responses.observables.Bound.shift_series`)."""
    layout: Any = ready.layout
    shifts = ready.mean_errors
    if not layout.dense and observable.local:
        # Site averages: one component for each variable.
        shifts = shifts.reshape(len(shifts), layout.n_variables, -1)[:, :, 0]

    def shift(errors: NDArray[Any]) -> None:
        for error, one in zip(errors, shifts, strict=True):
            error += observable.effect_of_shift(one, response, columns.start, columns.stop)

    return shift


def _field_shift(ready: Prepared, response: NDArray[Any]) -> Callable[[NDArray[Any]], None]:
    """-dm <A' B> for each wavenumber."""
    layout: Any = ready.layout
    shifts = ready.mean_errors.reshape(len(ready.units), layout.n_variables, -1)[:, :, 0]

    def shift(errors: NDArray[Any]) -> None:
        for error, one in zip(errors, shifts, strict=True):
            error -= response * (one[:, None] if layout.several else one[0])

    return shift


def _shift_columns(ready: Prepared, observable: Bound, member: int, columns: slice) -> NDArray[np.float64]:
    """Series g of which the effect of the mean is made, (time, column)."""
    out = []
    for _, times in time_blocks((1, *ready.trajectory.shape[1:])):
        centred = ready.centred(member, times)
        if observable.local and not ready.layout.dense:
            values = _site_averages(ready, observable, centred, columns, order=1)
        else:
            values = observable.shift_series(centred, columns.start, columns.stop)
        values[~ready.present(member)[times]] = 0.0
        out.append(values)
    return np.concatenate(out)


def _matrix_slope(slopes: NDArray[Any]) -> Callable[[NDArray[Any], NDArray[Any]], None]:
    """R E_u of every unit by few large matrix products."""
    q, n_units = slopes.shape[:2]
    side_by_side = slopes.reshape(q, n_units * q)

    def slope(response: NDArray[Any], errors: NDArray[Any]) -> None:
        rows = response.reshape(-1, q)
        at_once = max(1, _TILE_BYTES // max(8 * len(rows) * q, 1))
        for first in range(0, n_units, at_once):
            some = slice(first, min(first + at_once, n_units))
            product = rows @ side_by_side[:, some.start * q : some.stop * q]
            errors[some] -= product.reshape(*response.shape[:-1], -1, q).transpose(2, 0, 1, 3)

    return slope


def _amplitude_slope(
    gradient: NDArray[np.float64], flat: NDArray[Any] | None
) -> Callable[[NDArray[Any], NDArray[Any]], None]:
    """R E_u from <A e> of the error columns, (lag, column, q, unit or entry)."""

    def slope(response: NDArray[Any], errors: NDArray[Any]) -> None:  # noqa: ARG001  same call as for matrices
        errors -= np.moveaxis(gradient if flat is None else gradient @ flat.T, -1, 0)

    return slope


def _of_one_site(series: NDArray[Any], layout: Any) -> NDArray[np.float64]:
    """The kick of one site of any place: for a homogeneous field the average over sites, from wavenumber zero."""
    if layout.dense:
        return series
    return series[:, 0].reshape(len(series), -1).real / np.sqrt(layout.size / layout.n_variables)


def _n_columns(observable: Bound, ready: Prepared) -> int:
    """Number of values of an observable, one for all sites of a homogeneous field."""
    if ready.layout.dense or not observable.local:
        return observable.size
    return ready.layout.n_variables * observable.n_extra


def _columns(ready: Prepared, observable: Bound, member: int, columns: slice) -> NDArray[np.float64]:
    """Values of a member, (time, column), zero where a sample is missing."""
    there = ready.present(member)
    out = np.zeros((len(there), columns.stop - columns.start))
    for _, times in time_blocks((1, *ready.trajectory.shape[1:])):
        kept = there[times]
        if not kept.any():
            continue
        centred = ready.centred(member, times)[kept]
        rows = np.flatnonzero(kept) + times.start
        if observable.local and not ready.layout.dense and observable.size != _n_columns(observable, ready):
            out[rows] = _site_averages(ready, observable, centred, columns)
        else:
            out[rows] = observable.columns(centred, columns.start, columns.stop)
    return out


def _site_averages(
    ready: Prepared, observable: Bound, centred: NDArray[np.float64], columns: slice, order: int = 0
) -> NDArray[np.float64]:
    """A local observable averaged over sites: columns (variable, extra)."""
    layout: Homogeneous = ready.layout  # type: ignore[assignment]
    out = np.empty((len(centred), columns.stop - columns.start))
    for column in range(columns.start, columns.stop):
        variable, extra = divmod(column, observable.n_extra)
        out[:, column - columns.start] = _per_variable(observable.field(centred, extra, order), layout)[:, variable]
    return out


def _per_variable(values: NDArray[np.float64], layout: Homogeneous) -> NDArray[np.float64]:
    """Average over sites, (time, variable)."""
    return values.reshape(len(values), layout.n_variables, -1).mean(axis=2)
