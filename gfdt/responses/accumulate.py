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

from gfdt.responses.bound import Bound
from gfdt.responses.columns import n_columns, per_variable, series_of, slope_series
from gfdt.responses.correction import Correction
from gfdt.responses.correlation import spectral_lagged_sums, valid_pairs, window_sums
from gfdt.responses.error_terms import amplitude_slope, field_shift, field_slope, matrix_slope, mean_shift
from gfdt.responses.perturbations import Amplitude
from gfdt.responses.prepare import Prepared
from gfdt.responses.sources import Moments, PairSums, Source, conjugates, of_one_site
from gfdt.responses.sums import UnitSums
from gfdt.responses.targets import Target, amplitude_target, kick_target

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gfdt.responses.layout import Homogeneous

__all__ = ["Tile", "amplitude_tiles", "field_tiles", "kick_tiles"]

_TILE_BYTES = 2**28  # of per-unit sums, and of a tile's series


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
    kept: dict[int, Source] = {}
    if slopes is not None and not layout.dense:
        slopes = slopes[:, 0].real.reshape(len(slopes), q, q)
    # Side by side, so that the errors of all units are one product.
    by_unit = None if slopes is None else np.ascontiguousarray(slopes.swapaxes(0, 1))
    for columns in tiles:
        sums = PairSums(ready)
        slid = PairSums(ready) if observable.follows_mean and errors_wanted else None
        for member in range(ready.trajectory.sizes["member"]):
            source = kept.get(member)
            if source is None:
                series = correction.divide_series(layout.transform(ready.source(member)))
                source = Source.of(of_one_site(series, layout), ready, member, observable.size, whole=whole)
                if len(tiles) > 1:
                    kept[member] = source
            sums.add(source, series_of(ready, observable, member, columns))
            if slid is not None:
                slid.add(source, slope_series(ready, observable, member, columns))
        slope = None if by_unit is None else matrix_slope(by_unit)
        shift = None if slid is None else mean_shift(ready, observable, columns, slid.centred().mean())
        target = kick_target(ready, observable, correction, columns) if layout.dense else None
        yield _tile(sums, columns, slope, shift, target)


def field_tiles(
    ready: Prepared, observable: Bound, correction: Correction, slopes: NDArray[Any] | None, *, errors_wanted: bool
) -> Iterator[Tile]:
    """A local observable of a homogeneous field against the kick of a site, per wavenumber."""
    layout: Homogeneous = ready.layout  # type: ignore[assignment]
    for extra in range(observable.n_extra):
        sums: list[NDArray[Any]] = []
        counts: list[NDArray[np.float64]] = []
        windows: list[NDArray[Any]] = []
        moments, squares = Moments(), np.zeros(1)
        slid: Any = 0.0
        for member in range(ready.trajectory.sizes["member"]):
            units, there = [ready.units[index] for index in ready.of_member(member)], ready.present(member)
            centred = ready.centred(member)
            field = observable.field(centred, extra)
            field[~there] = 0.0
            moments.add(per_variable(field, layout), int(there.sum()))
            squares = squares + per_variable(field**2, layout).sum(axis=0)
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
        pairs = count.sum(axis=0).reshape(-1, *[1] * (raw.ndim - 2))
        slope = None if slopes is None else field_slope(slopes, correction.algebra)
        yield Tile(
            slice(extra, extra + 1),
            UnitSums(raw, count.reshape(*count.shape, *[1] * (raw.ndim - 2))),
            slope,
            None if np.ndim(slid) == 0 else field_shift(ready, slid / pairs),
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
    size = n_columns(observable, ready)
    flat = None if slopes is None else slopes.reshape(n_units, -1)
    # Columns that carry the errors of the score: one per entry of E or one per unit, whichever is less.
    by_entry = flat is not None and not np.iscomplexobj(flat) and flat.shape[1] <= n_units
    n_error = 0 if flat is None else q * (flat.shape[1] if by_entry else n_units)
    width = max(1, min(size, _TILE_BYTES // (8 * ready.lags.size * (q * n_units + n_error))))
    width = max(1, min(width, 2 * _TILE_BYTES // (8 * ready.trajectory.sizes["time"])))
    tiles = [slice(start, min(start + width, size)) for start in range(0, size, width)]
    kept: dict[int, tuple[Source, Source | None]] = {}
    for columns in tiles:
        pairs = PairSums(ready)
        errors = PairSums(ready) if n_error else None
        slid = PairSums(ready) if observable.follows_mean and errors_wanted else None
        for member in range(ready.trajectory.sizes["member"]):
            if member not in kept:
                value, error = conjugates(ready, member, amplitudes, correction, flat, by_entry)
                source = Source.of(value, ready, member, width, centred=False)
                whole = None
                if error is not None:
                    whole = Source.of(error, ready, member, width, centred=False, whole=True)
                if len(tiles) > 1:
                    kept[member] = source, whole
            else:
                source, whole = kept[member]
            observed = series_of(ready, observable, member, columns)
            pairs.add(source, observed)
            if errors is not None and whole is not None:
                errors.add(whole, observed)
            if slid is not None:
                slid.add(source, slope_series(ready, observable, member, columns))
        slope = None
        if errors is not None and flat is not None:
            gradient = errors.centred().mean().reshape(ready.lags.size, columns.stop - columns.start, q, -1)
            slope = amplitude_slope(gradient, flat if by_entry else None)
        shift = None if slid is None else mean_shift(ready, observable, columns, slid.centred().mean())
        yield _tile(pairs, columns, slope, shift, amplitude_target(ready, observable, amplitudes, columns))


def _tile(sums: PairSums, columns: slice, slope: Any, shift: Any, target: Target | None) -> Tile:
    """Return what was gathered."""
    return Tile(columns, sums.centred(), slope, shift, target, sums.moments.mean, sums.moments.spread)
