r"""From trajectory and score to per-unit correlation sums: all that is read off the data, once.

B = -s(x) is the conjugate variable of a kick of each component, M = <(x - m) B^T> its t = 0 covariance with the
state, C the covariance of the state. Everything after this module works on these few sums.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm.auto import tqdm

from gfdt.errors import InputError, ReliabilityWarning
from gfdt.responses.correlation import pair_counts
from gfdt.responses.layout import FullMatrix, Homogeneous
from gfdt.responses.observables import find_observable
from gfdt.responses.sums import UnitSums
from gfdt.responses.units import MAX_SERIES, MIN_MEMBERS, Unit, resampling_units
from gfdt.scores.analytic import AnalyticScore
from gfdt.scores.base import Score
from gfdt.trajectory import Source, fingerprint, homogeneous_dims, load_trajectory, state_dims, time_step, time_unit
from gfdt.validation import is_number, shown

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

__all__ = ["Prepared", "Request", "check_arguments", "prepare"]

_MAX_BYTES = 2 * 2**30  # of per-unit sums; at the peak three times as much is in use


@dataclass(frozen=True)
class Request:
    """Validated arguments: what is to be computed from what.

    Attributes
    ----------
    trajectory : the record (member, time, *state), its dims ordered as the score's
    score : Score
    observable, function : name of the observable, and A(x', m)
    layout : FullMatrix or Homogeneous
    lags : (n_lags,) in samples
    """

    trajectory: xr.DataArray
    score: Score
    observable: str
    function: Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]]
    layout: FullMatrix | Homogeneous
    lags: NDArray[np.int64]


@dataclass(frozen=True)
class Prepared:
    """Everything a response estimate is made of.

    Attributes
    ----------
    trajectory : the validated record (member, time, *state), its dims ordered as the score's
    score : Score
    observable : str
    layout : FullMatrix or Homogeneous
    lags : (n_lags,) in samples
    raw : UnitSums of <A(t) B(0)>, (unit, lag, ...)
    stein : UnitSums of M, (unit, ...)
    conjugate_units : UnitSums of B itself, (unit, d)
    units : the resampling units
    mean, conjugate : m, and B for every state (member, time, *state)
    covariance : C, in the layout's basis
    fitted_here : whether the score was fitted on this very record, which ties its errors to the record's
    unit_text : how the units were chosen
    """

    trajectory: xr.DataArray
    score: Score
    observable: str
    layout: FullMatrix | Homogeneous
    lags: NDArray[np.int64]
    raw: UnitSums
    stein: UnitSums
    conjugate_units: UnitSums
    units: list[Unit]
    mean: NDArray[np.float64]
    conjugate: NDArray[Any]
    covariance: NDArray[Any]
    fitted_here: bool
    unit_text: str

    @property
    def conjugate_mean(self) -> NDArray[np.float64]:
        """<B>, which is zero for an exact score; one number for all sites of a homogeneous field."""
        return _mean(self.conjugate, self.layout)


def prepare(request: Request, *, progress: bool | None, errors_wanted: bool = True) -> Prepared:
    """Evaluate the score on every state and accumulate the sums."""
    array, score, layout, lags = request.trajectory, request.score, request.layout, request.lags
    x = array.values
    mean = _mean(x, layout)
    units, unit_text = _units(x, mean, layout, warn=errors_wanted)
    needed = len(units) * layout.unit_bytes(lags.size)
    if needed > _MAX_BYTES:
        advice = "" if not layout.dense else f"homogeneous={layout.dims} if the field is the same everywhere, "
        raise InputError(
            f"{len(units)} units x {lags.size} lags of a response of {layout.unit_bytes(1) // 8} numbers need "
            f"{needed / 2**30:.1f} GiB, the limit is {_MAX_BYTES / 2**30:.0f} GiB: pass {advice}a larger lag_stride or "
            "a smaller max_lag."
        )
    conjugate = _conjugate_variable(score, x, progress)
    raw, stein, covariance = _accumulate(request, conjugate, mean, units)
    totals = np.stack([conjugate[u.member, u.start : u.stop].sum(axis=0, dtype=np.float64).ravel() for u in units])
    counts = np.array([[u.stop - u.start] for u in units], dtype=np.float64)
    return Prepared(
        trajectory=array,
        score=score,
        observable=request.observable,
        layout=layout,
        lags=lags,
        raw=raw,
        stein=stein,
        conjugate_units=UnitSums(totals, counts),
        units=units,
        mean=mean,
        conjugate=conjugate,
        covariance=covariance,
        fitted_here=score.fingerprint_ is not None and score.fingerprint_ == fingerprint(array),
        unit_text=unit_text,
    )


def check_arguments(
    trajectory: Source,
    score: Score | Callable[[NDArray[Any]], NDArray[Any]],
    *,
    max_lag: float,
    lag_stride: int = 1,
    observable: str | None = None,
    homogeneous: bool | str | Sequence[str] | None = None,
    var: str | None = None,
    dims: Sequence[str] | None = None,
    dt: float | None = None,
) -> Request:
    """Validate every argument, which are those of :func:`gfdt.response`; no score is evaluated yet."""
    name, function = find_observable(observable)
    score = _usable_score(score)
    array = _aligned(load_trajectory(trajectory, var=var, dims=dims, dt=dt), score)
    lags = _lags(array, max_lag, lag_stride)
    names = state_dims(array)
    shape = tuple(array.sizes[dim] for dim in names)
    _refuse_name_clashes(names)
    _refuse_several_fields(homogeneous, names)
    periodic = homogeneous_dims(homogeneous, names)
    layout = Homogeneous(names, shape) if periodic else FullMatrix(names, shape)
    return Request(array, score, name, function, layout, lags)


def _usable_score(score: Any) -> Score:
    if isinstance(score, Score):
        score._require_fit()
        return score
    if callable(score) and not isinstance(score, type):
        return AnalyticScore(score)
    found = f"the class {score.__name__}" if isinstance(score, type) else f"a {type(score).__name__}"
    raise InputError(
        f"score is {found}, expected a fitted score or a function s(x): e.g. gfdt.GaussianScore().fit(trajectory)."
    )


def _refuse_name_clashes(names: tuple[str, ...]) -> None:
    reserved = {"lag", "response", "stderr", "lower", "upper"} | {f"{name}_src" for name in names}
    clash = sorted(reserved & {*names, *(f"d{name}" for name in names)})
    if clash:
        raise InputError(
            f"the state dim {clash[0]!r} clashes with a name of the result: rename it, e.g. "
            f"da.rename({clash[0]}='site')."
        )


def _refuse_several_fields(homogeneous: Any, names: tuple[str, ...]) -> None:
    """Say what to do with a dim of variables, which a score may have and a displacement may not."""
    named = (homogeneous,) if isinstance(homogeneous, str) else homogeneous
    if isinstance(named, Sequence) and len(names) > 1 and set(named) == set(names[1:]):
        raise InputError(
            f"homogeneous={tuple(named)} leaves {names[0]!r} out, and only one field at a time is a function of "
            f"displacement: select one variable, e.g. da.isel({names[0]}=0), with a score fitted on it, or pass "
            "homogeneous=False for the full matrix."
        )


def _aligned(array: xr.DataArray, score: Score) -> xr.DataArray:
    """Order the state dims as the score has them; refuse a score of another state."""
    names = state_dims(array)
    if not hasattr(score, "state_dims_"):
        return array
    shape = tuple(array.sizes.get(dim, 0) for dim in score.state_dims_)
    if set(score.state_dims_) != set(names) or shape != score.state_shape_:
        raise InputError(
            f"the score belongs to states {dict(zip(score.state_dims_, score.state_shape_, strict=True))}, the "
            f"trajectory has {dict(zip(names, array.shape[2:], strict=True))}: fit the score on this system."
        )
    return array.transpose("member", "time", *score.state_dims_)


def _lags(array: xr.DataArray, max_lag: float, lag_stride: int) -> NDArray[np.int64]:
    step, times, unit = time_step(array), array.sizes["time"], time_unit(array)
    duration = step * (times - 1)
    if not is_number(max_lag):
        raise InputError(f"max_lag={shown(max_lag)} is not a finite number: give the largest lag in {unit}.")
    if max_lag < 0:
        raise InputError(f"max_lag={max_lag:g} is negative: the response is causal, give a lag of zero or more.")
    if max_lag >= duration:
        raise InputError(
            f"max_lag={max_lag:g} is not shorter than the record of {duration:g} {unit}: choose at most about "
            f"{duration / 2:g}, or record longer."
        )
    if isinstance(lag_stride, bool) or not isinstance(lag_stride, int | np.integer) or lag_stride < 1:
        raise InputError(
            f"lag_stride={lag_stride!r} is not a positive whole number of samples: use 1 for every sample."
        )
    if max_lag > duration / 2:
        warnings.warn(
            f"max_lag={max_lag:g} is more than half the record of {duration:g} {unit}: the longest lags rest on "
            "few pairs; record longer or shorten max_lag.",
            ReliabilityWarning,
            stacklevel=4,
        )
    return np.arange(0, int(max_lag / step * (1 + 1e-9) + 1e-9) + 1, lag_stride)


def _conjugate_variable(score: Score, x: NDArray[Any], progress: bool | None) -> NDArray[Any]:
    """B = -s(x) for every state, member by member."""
    out = np.empty_like(x)
    disable = None if progress is None else not progress
    for member in tqdm(range(x.shape[0]), desc=f"score ({score.label})", unit="member", disable=disable, leave=False):
        value = np.asarray(score(x[member]))
        if not (np.issubdtype(value.dtype, np.floating) or np.issubdtype(value.dtype, np.integer)):
            raise InputError(f"the score returned {value.dtype} values: it must return real numbers, grad log rho(x).")
        if not np.isfinite(value).all():
            raise InputError(f"the score returned NaN or inf for member {member}: check its formula, or fit it again.")
        np.negative(value, out=out[member])
    return out


def _units(
    x: NDArray[Any], mean: NDArray[Any], layout: FullMatrix | Homogeneous, *, warn: bool
) -> tuple[list[Unit], str]:
    # Only when blocks are needed is the slowest time looked for, in the basis the response is computed in.
    if x.shape[0] >= MIN_MEMBERS:
        return resampling_units(x.reshape(*x.shape[:2], -1)[:, :, :1])
    # A sample of the components, so that the copy stays small.
    chosen = np.unique(np.linspace(0, layout.transform(x[0, :1] - mean).shape[1] - 1, MAX_SERIES).astype(np.int64))
    series = np.stack([layout.transform(x[member] - mean)[:, chosen] for member in range(x.shape[0])])
    return resampling_units(series, warn=warn)


def _accumulate(
    request: Request, conjugate: NDArray[Any], mean: NDArray[np.float64], units: list[Unit]
) -> tuple[UnitSums, UnitSums, NDArray[Any]]:
    """Per-unit sums of <A(t) B(0)>, of M = <x B(0)> and the covariance C, in the layout's basis."""
    x, layout, lags, function = request.trajectory.values, request.layout, request.lags, request.function
    state_is_observed = request.observable == "mean"
    times = x.shape[1]
    conjugate_mean = _mean(conjugate, layout)
    zero = np.zeros(1, dtype=np.int64)
    raw: list[NDArray[Any]] = []
    stein: list[NDArray[Any]] = []
    covariance: Any = 0.0
    observed_mean = 0.0 if state_is_observed else _observable_mean(x, mean, function)
    member = -1
    for unit in units:
        if unit.member != member:
            member = unit.member
            centred = x[member] - mean
            state = layout.transform(centred)
            source = layout.transform(conjugate[member] - conjugate_mean)
            observed = state if state_is_observed else layout.transform(function(centred, mean) - observed_mean)
            covariance = covariance + layout.sums(state, state, Unit(member, 0, times), zero)[0]
        raw.append(layout.sums(observed, source, unit, lags))
        stein.append(raw[-1][0] if state_is_observed else layout.sums(state, source, unit, zero)[0])
    raw_sums, stein_sums = np.stack(raw), np.stack(stein)
    counts = np.stack([pair_counts(unit, times, lags) for unit in units])
    counts = counts.reshape(counts.shape + (1,) * (raw_sums.ndim - 2))
    return UnitSums(raw_sums, counts), UnitSums(stein_sums, counts[:, 0]), covariance / (x.shape[0] * times)


def _mean(values: NDArray[Any], layout: FullMatrix | Homogeneous) -> NDArray[np.float64]:
    """Mean over members and times, and over sites where they are all alike."""
    mean = values.mean(axis=(0, 1), dtype=np.float64)
    return mean if layout.dense else np.full_like(mean, mean.mean())


def _observable_mean(x: NDArray[Any], mean: NDArray[Any], function: Callable[..., NDArray[Any]]) -> Any:
    return sum(function(part - mean, mean).mean(axis=0) for part in x) / x.shape[0]
