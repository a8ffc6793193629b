"""From tiles to labelled arrays: where each part of a response goes, its bands, names and units."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from scipy import stats

from gfdt.responses.accumulate import Tile, amplitude_tiles, field_tiles, kick_tiles
from gfdt.responses.bound import Bound
from gfdt.responses.correction import Correction
from gfdt.responses.layout import displacements
from gfdt.responses.perturbations import Kick, Pattern, Perturbation
from gfdt.responses.prepare import Prepared
from gfdt.responses.stream import Streamed
from gfdt.responses.summary import Summary
from gfdt.responses.tiles import StateDeparture, finish
from gfdt.trajectory import time_step, time_unit

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Estimate", "Frame", "frame_of", "label", "make_estimate"]

_MOST_INFLUENCE = 2**26  # bytes of the errors of all units that are handed to the user
_ROUNDING = 1e-9  # a band narrower than this part of the largest response is rounding, not knowledge

_LONG_NAMES = {
    "response": "response of the observable to a unit kick at lag 0",
    "stderr": "standard error of the response",
    "lower": "lower end of the confidence band",
    "upper": "upper end of the confidence band",
    "influence": "first-order error of the response from each resampling unit",
    "observable_mean": "mean of the observable in the record",
    "observable_std": "standard deviation of the observable in the record",
}


@dataclass(frozen=True)
class Frame:
    """The dims of a result and how tiles are put into it.

    Attributes
    ----------
    kind : "kick", "field" or "amplitude"
    observed, perturbed : names and coordinates of the observable's and the perturbation's dims
    displaced : dims of displacement, after the observable's first
    order : all dims after lag, in order
    shape : their sizes
    moments : names of the dims of the mean of the observable
    """

    kind: str
    observed: dict[str, Any]
    perturbed: dict[str, Any]
    displaced: dict[str, Any]
    order: tuple[str, ...]
    shape: tuple[int, ...]
    moments: tuple[str, ...]


@dataclass(frozen=True)
class Estimate:
    """A response before it is labelled; arrays have ``lag`` first, influence ``unit``, then ``lag``."""

    response: NDArray[np.float64]
    stderr: NDArray[np.float64] | None
    influence: NDArray[np.float64] | None
    mean: NDArray[np.float64]
    spread: NDArray[np.float64]
    controlled: bool
    departure: float
    miss: float
    n_error_lags: int


def frame_of(ready: Summary, observable: Bound, perturbation: Perturbation, single: bool) -> Frame:
    """Return the dims of the response of an observable to a perturbation."""
    layout: Any = ready.layout
    own = {dim: observable.coords[dim] for dim in observable.dims}
    if isinstance(perturbation, Kick):
        sources: dict[str, Any] = {}
        if layout.dense or layout.several:
            names = layout.dims if layout.dense else layout.dims[:1]
            sources = {f"{name}_src": ready.trajectory[name].values for name in names}
    else:
        sources = {} if single else {"perturbation": [item.name for item in perturbation]}
    if layout.dense or not observable.local:
        kind = "kick" if isinstance(perturbation, Kick) else "amplitude"
        return _frame(kind, own, sources, {}, tuple(own), tuple(own))
    state = {dim: own[dim] for dim in layout.dims}
    extra = {dim: value for dim, value in own.items() if dim not in state}
    variable = {dim: value for dim, value in state.items() if dim not in layout.grid_dims}
    moments = (*variable, *extra)
    if isinstance(perturbation, Kick):
        displaced = {f"d{dim}": displacements(n) for dim, n in zip(layout.grid_dims, layout.grid, strict=True)}
        return _frame("field", variable | extra, sources, displaced, (*variable, *displaced, *extra), moments)
    if all(isinstance(item, Pattern) for item in perturbation):
        return _frame("field", state | extra, sources, {}, (*state, *extra), moments)
    return _frame("amplitude", variable | extra, sources, {}, moments, moments)


def _frame(
    kind: str,
    observed: dict[str, Any],
    perturbed: dict[str, Any],
    displaced: dict[str, Any],
    first: tuple[str, ...],
    moments: tuple[str, ...],
) -> Frame:
    every = observed | perturbed | displaced
    order = (*first, *perturbed)
    return Frame(kind, observed, perturbed, displaced, order, tuple(len(every[dim]) for dim in order), moments)


def make_estimate(
    ready: Summary,
    observable: Bound,
    perturbation: Perturbation,
    correction: Correction,
    frame: Frame,
    *,
    errors_wanted: bool,
) -> Estimate:
    """Compute every tile of a response and put them together."""
    on_state = (
        observable.is_state and frame.kind != "amplitude" and (isinstance(perturbation, Kick) or frame.kind == "field")
    )
    units_wanted = errors_wanted or correction.mode == "auto"
    needed = errors_wanted or (correction.mode == "auto" and not on_state)
    slopes = correction.slopes(ready.stein, fitted=ready.fitted_here) if needed else None
    tiles, place, join = _parts(ready, observable, perturbation, correction, slopes, frame, units_wanted)
    keep = 8 * len(ready.units) * ready.lags.size * math.prod(frame.shape) <= _MOST_INFLUENCE
    parts: dict[str, list[Any]] = {key: [] for key in ("response", "stderr", "influence", "mean", "spread")}
    state = StateDeparture.of(ready, correction) if on_state and units_wanted else None
    controlled, departures, miss, n_error_lags = False, [], 0.0, ready.lags.size
    for tile in tiles:
        result = finish(tile, ready, correction, state=state, errors_wanted=errors_wanted)
        parts["response"].append(place(result.response))
        parts["mean"].append(tile.observed_mean)
        parts["spread"].append(tile.observed_spread)
        controlled = controlled or result.controlled
        departures.append(result.departure)
        miss = max(miss, result.miss)
        if result.errors is None:
            continue
        n_error_lags = result.error_lags.size
        keep = keep and n_error_lags == ready.lags.size
        variance: Any = 0.0
        each = []
        for error in result.errors:
            placed = place(error)
            variance = variance + placed**2
            if keep:
                each.append(placed)
        n_units = len(result.errors)
        stderr = np.sqrt(variance * n_units / max(n_units - 1, 1))
        parts["stderr"].append(_between(stderr, result.error_lags, ready.lags.size))
        if keep:
            parts["influence"].append(np.stack(each))
    shape = frame.shape
    moments = tuple(len((frame.observed | frame.displaced)[dim]) for dim in frame.moments)
    joined = {
        key: join(value, 1 if key == "influence" else 0)
        for key, value in parts.items()
        if value and key not in ("mean", "spread")
    }
    return Estimate(
        joined["response"].reshape(ready.lags.size, *shape),
        joined["stderr"].reshape(ready.lags.size, *shape) if "stderr" in joined else None,
        joined["influence"].reshape(-1, ready.lags.size, *shape) if "influence" in joined else None,
        _moments(parts["mean"], frame, moments) + (_mean_of_state(ready, moments) if observable.is_state else 0.0),
        _moments(parts["spread"], frame, moments),
        controlled,
        float(np.sqrt(np.mean(np.square(departures)))) if departures else float("nan"),
        miss,
        n_error_lags,
    )


def _moments(parts: list[NDArray[np.float64]], frame: Frame, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Tiles of columns, or for each extra value one array (variable,), to the observable's dims."""
    return (np.stack(parts, axis=-1) if frame.kind == "field" else np.concatenate(parts)).reshape(shape)


def _mean_of_state(ready: Summary, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return m, which was taken off; one for each variable where sites are alike."""
    layout = ready.layout
    return (ready.mean if layout.dense else ready.mean.reshape(layout.n_variables, -1)[:, 0]).reshape(shape)


def _parts(
    ready: Summary,
    observable: Bound,
    perturbation: Perturbation,
    correction: Correction,
    slopes: NDArray[Any] | None,
    frame: Frame,
    units_wanted: bool,
) -> tuple[
    Iterator[Tile], Callable[[NDArray[Any]], NDArray[np.float64]], Callable[[list[Any], int], NDArray[np.float64]]
]:
    """Return the tiles, how a tile becomes physical, and how physical tiles are joined (after so many axes)."""
    layout: Any = ready.layout
    if isinstance(ready, Streamed):
        place = _same if layout.dense else layout.to_physical
        return iter([ready.tile(correction, slopes)]), place, _along_columns
    assert isinstance(ready, Prepared)
    if frame.kind == "kick":
        return kick_tiles(ready, observable, correction, slopes, errors_wanted=units_wanted), _same, _along_columns
    if frame.kind == "amplitude" and not isinstance(perturbation, Kick):
        return (
            amplitude_tiles(ready, observable, list(perturbation), correction, slopes, errors_wanted=units_wanted),
            _same,
            _along_columns,
        )
    tiles = field_tiles(ready, observable, correction, slopes, errors_wanted=units_wanted)
    n_state = len(layout.dims)

    def stack(parts: list[Any], lead: int) -> NDArray[np.float64]:
        return (
            np.stack(parts, axis=lead + 1 + n_state)
            if observable.n_extra > 1 or len(observable.dims) > n_state
            else parts[0]
        )

    if isinstance(perturbation, Kick):
        return tiles, layout.to_physical, stack
    patterns: list[Any] = list(perturbation)

    def under_patterns(values: NDArray[Any]) -> NDArray[np.float64]:
        answers = [layout.under_pattern(values, pattern.values) for pattern in patterns]
        return answers[0] if not frame.perturbed else np.stack(answers, axis=-1)

    return tiles, under_patterns, stack


def _same(values: NDArray[Any]) -> NDArray[np.float64]:
    return values


def _along_columns(parts: list[Any], lead: int) -> NDArray[np.float64]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=lead + 1)


def _between(values: NDArray[np.float64], chosen: NDArray[np.int64], n_lags: int) -> NDArray[np.float64]:
    """Interpolate linearly from the chosen lags to all."""
    if chosen.size == n_lags:
        return values
    weights = np.stack([np.interp(np.arange(n_lags), chosen, row) for row in np.eye(chosen.size)], axis=1)
    return np.tensordot(weights, values, axes=1)


def label(
    estimate: Estimate, ready: Summary, frame: Frame, confidence: float | None, units: tuple[str, str]
) -> xr.Dataset:
    """Return the Dataset of an estimate, with its band; ``units`` of the response and of the observable, or empty."""
    every = frame.observed | frame.perturbed | frame.displaced
    coords: dict[str, Any] = {"lag": ready.lags * time_step(ready.trajectory)}
    coords |= {dim: every[dim] for dim in frame.order}
    dims = ("lag", *frame.order)
    variables: dict[str, Any] = {"response": (dims, estimate.response)}
    if estimate.stderr is not None and confidence is not None:
        n_units = len(ready.units)
        half = stats.t.ppf(0.5 + confidence / 2, max(n_units - 1, 1)) * estimate.stderr
        half = half + _ROUNDING * np.abs(estimate.response).max()
        variables["stderr"] = (dims, estimate.stderr)
        variables["lower"] = (dims, estimate.response - half)
        variables["upper"] = (dims, estimate.response + half)
        if estimate.influence is not None:
            variables["influence"] = (("unit", *dims), estimate.influence)
    variables["observable_mean"] = (frame.moments, estimate.mean)
    variables["observable_std"] = (frame.moments, estimate.spread)
    out = xr.Dataset(variables, coords=coords)
    for name in out.data_vars:
        out[name].attrs.update(long_name=_LONG_NAMES[str(name)])
        unit = units[1 if str(name).startswith("observable") else 0]
        if unit:
            out[name].attrs["units"] = unit
    out["lag"].attrs.update(long_name="lag", units=time_unit(ready.trajectory))
    for dim in frame.displaced:
        out[dim].attrs.update(long_name=f"displacement from the kick along {dim[1:]}", units="grid cells")
    return out.assign_attrs(
        observable_dims=" ".join(frame.observed),
        perturbation_dims=" ".join(frame.perturbed),
        displacement_dims=" ".join(frame.displaced),
    )
