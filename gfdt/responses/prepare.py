r"""From trajectory and score to the t = 0 sums: all that every response of a record has in common.

B = -s(x) is the conjugate variable of a kick of each component, M = <(x - m) B^T> its t = 0 covariance with the
state, C the covariance of the state. Missing samples have B = 0 and are not counted.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from gfdt.errors import InputError, ReliabilityWarning
from gfdt.record import complete_times, scratch, time_blocks
from gfdt.responses.bound import RESULT_NAMES
from gfdt.responses.layout import FullMatrix, Homogeneous, Layout
from gfdt.responses.summary import Request, Summary
from gfdt.responses.sums import UnitSums
from gfdt.responses.units import MAX_SERIES, MIN_MEMBERS, Unit, resampling_units
from gfdt.scores.analytic import AnalyticScore
from gfdt.scores.base import Score
from gfdt.scores.labels import in_order
from gfdt.scores.values import checked_values
from gfdt.trajectory import Source, fingerprint, homogeneous_dims, load_trajectory, state_dims, time_step, time_unit
from gfdt.validation import is_number, shown

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

__all__ = ["Prepared", "check_arguments", "choose_units", "prepare", "series_chosen"]

_MAX_BYTES = 2 * 2**30  # of per-unit t = 0 matrices
# 256 blocks know a standard error to 4 %, and long ones have small end effects; every one costs a response in time and
# memory, so that large matrices get by with 16, which know it to 18 %.
_MOST_BLOCKS, _MOST_NUMBERS, _FEWEST_BLOCKS = 256, 2**21, 16
_SERIES_VALUES = 2**24  # of the series that tell the slowest time; 256 MiB of complex numbers


@dataclass(frozen=True)
class Prepared(Summary):
    """A record with its series, from which responses of any observable to any perturbation can be made.

    Attributes
    ----------
    trajectory : the validated record (member, time, *state), its dims ordered as the score's; NaN where missing
    there : (member, time) bool, or None where no sample is missing
    conjugate : B for every state (member, time, *state)
    """

    there: NDArray[np.bool_] | None
    conjugate: NDArray[Any]

    def fingerprint(self) -> str:
        """Return the digest of the record's values."""
        return fingerprint(self.trajectory)

    def memory(self, modes: NDArray[np.int64]) -> NDArray[Any]:
        """Return C(t)/C(0) of some wavenumbers of a homogeneous field of one variable, (lag, mode)."""
        sums = np.zeros((self.lags.size, modes.size), dtype=np.complex128)
        counts = np.zeros(self.lags.size)
        for member in range(self.trajectory.sizes["member"] if modes.size else 0):
            x = self.layout.transform(self.centred(member))[..., modes]
            there = self.present(member)
            for index, lag in enumerate(self.lags):
                sums[index] += (x[lag:] * x[: len(x) - lag].conj()).sum(axis=0)
                counts[index] += (there[lag:] & there[: len(x) - lag]).sum()
        mean = sums / np.maximum(counts, 1)[:, None]
        return mean / np.where(mean[0] != 0, mean[0], 1.0)

    def present(self, member: int) -> NDArray[np.bool_]:
        """Which samples of a member there are, (time,)."""
        if self.there is None:
            return np.ones(self.trajectory.sizes["time"], dtype=bool)
        return self.there[member]

    def centred(self, member: int, times: slice = slice(None)) -> NDArray[np.float64]:
        """Return x - m of a member, (time, *state), zero where a sample is missing."""
        out = self.trajectory.values[member, times] - self.mean
        if self.there is not None:
            out[~self.there[member, times]] = 0.0
        return out

    def source(self, member: int, times: slice = slice(None)) -> NDArray[np.float64]:
        """Return B - <B> of a member, (time, *state), zero where a sample is missing."""
        out = self.conjugate[member, times] - self.conjugate_mean
        if self.there is not None:
            out[~self.there[member, times]] = 0.0
        return out

    def of_member(self, member: int) -> list[int]:
        """Return the indices of the units of a member, in order of time."""
        return [index for index, unit in enumerate(self.units) if unit.member == member]


def prepare(request: Request, *, progress: bool | None, errors_wanted: bool = True) -> Prepared:
    """Evaluate the score on every state and accumulate the sums at t = 0."""
    array, score, layout = request.trajectory, request.score, request.layout
    x = array.values
    there = complete_times(x)
    mean = layout.site_mean(_mean(x, there))
    units, unit_text = _units(x, there, mean, layout, warn=errors_wanted)
    filled = [unit for unit in units if _count(there, unit)]  # an empty block is no evidence
    if len(filled) < len(units):
        units, unit_text = filled, f"{unit_text}, {len(filled)} of them with samples"
    needed = len(units) * 8 * layout.size**2 if layout.dense else 0
    if needed > _MAX_BYTES:
        raise InputError(
            f"{len(units)} units of matrices of {layout.size} x {layout.size} need {needed / 2**30:.1f} GiB, the limit "
            f"is {_MAX_BYTES / 2**30:.0f} GiB: pass homogeneous={layout.dims} if the field is the same everywhere, or "
            "fewer members or components."
        )
    conjugate = _conjugate_variable(score, x, there, progress)
    totals = np.stack([conjugate[u.member, u.start : u.stop].sum(axis=0, dtype=np.float64).ravel() for u in units])
    counts = np.array([[_count(there, u)] for u in units], dtype=np.float64)
    ready = Prepared(
        trajectory=array,
        there=there,
        score=score,
        layout=layout,
        lags=request.lags,
        stein=UnitSums(np.zeros(1), np.ones(1)),
        conjugate_units=UnitSums(totals, counts),
        mean_errors=np.zeros(0),
        units=units,
        mean=mean,
        conjugate=conjugate,
        covariance=np.zeros(0),
        fitted_here=bool(score.records()) and fingerprint(array) in score.records(),
        unit_text=unit_text,
    )
    stein, covariance, mean_errors = _at_zero(ready)
    return replace(ready, stein=stein, covariance=covariance, mean_errors=mean_errors)


def _at_zero(ready: Prepared) -> tuple[UnitSums, NDArray[Any], NDArray[np.float64]]:
    """Per-unit sums of M = <x B(0)>, and C, in the layout's basis; and the errors of the mean."""
    layout = ready.layout
    stein: list[Any] = []
    means: list[Any] = []
    covariance: Any = 0.0
    for unit in ready.units:
        total: Any = 0.0
        offset: Any = 0.0
        for times in _pieces(unit, ready.trajectory.shape[2:]):
            centred = ready.centred(unit.member, times)
            offset = offset + centred.sum(axis=0)
            state = layout.transform(centred)
            total = total + layout.product(state, layout.transform(ready.source(unit.member, times)))
            covariance = covariance + layout.product(state, state)
        stein.append(total)
        means.append(layout.site_mean(offset).ravel())
    sums = np.stack(stein)
    counts = ready.conjugate_units.counts.reshape(-1, *[1] * (sums.ndim - 1))
    return UnitSums(sums, counts), covariance / ready.n_samples, np.stack(means) / ready.n_samples


def _pieces(unit: Unit, shape: tuple[int, ...]) -> Iterator[slice]:
    for _, part in time_blocks((1, unit.stop - unit.start, *shape)):
        yield slice(unit.start + part.start, unit.start + part.stop)


def _count(there: NDArray[np.bool_] | None, unit: Unit) -> int:
    if there is None:
        return unit.stop - unit.start
    return int(np.count_nonzero(there[unit.member, unit.start : unit.stop]))


def check_arguments(
    trajectory: Source,
    score: Score | Callable[[NDArray[Any]], NDArray[Any]],
    *,
    max_lag: float,
    lag_stride: int = 1,
    homogeneous: bool | str | Sequence[str] | None = None,
    var: str | Sequence[str] | None = None,
    dims: Sequence[str] | None = None,
    dt: float | None = None,
    gaps: bool = False,
    lazily: bool = False,
) -> Request:
    """Validate every argument, which are those of :func:`gfdt.response`; no score is evaluated yet.

    With ``lazily`` the trajectory comes from :func:`gfdt.lazy.open_lazily` and stays unread.
    """
    score = _usable_score(score)
    if lazily:
        array: xr.DataArray = trajectory  # type: ignore[assignment]
    else:
        array = load_trajectory(trajectory, var=var, dims=dims, dt=dt, gaps=gaps)
    array = _aligned(array, score)
    lags = _lags(array, max_lag, lag_stride)
    names = state_dims(array)
    shape = tuple(array.sizes[dim] for dim in names)
    _refuse_name_clashes(names)
    periodic = homogeneous_dims(homogeneous, names, variables=True)
    layout = Homogeneous(names, shape, len(periodic) < len(names)) if periodic else FullMatrix(names, shape)
    return Request(array, score, layout, lags)


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
    reserved = {*RESULT_NAMES, *(f"{name}_src" for name in names)}
    clash = sorted(reserved & {*names, *(f"d{name}" for name in names)})
    if clash:
        raise InputError(
            f"the state dim {clash[0]!r} clashes with a name of the result: rename it, e.g. "
            f"da.rename({clash[0]}='site')."
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
    return in_order(array.transpose("member", "time", *score.state_dims_), score.state_labels_)


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
            stacklevel=5,
        )
    return np.arange(0, int(max_lag / step * (1 + 1e-9) + 1e-9) + 1, lag_stride)


def _conjugate_variable(
    score: Score, x: NDArray[Any], there: NDArray[np.bool_] | None, progress: bool | None
) -> NDArray[Any]:
    """B = -s(x) for every state, block by block; zero where a sample is missing."""
    out = scratch(x.shape, x.dtype)
    disable = None if progress is None else not progress
    bar = tqdm(total=x.shape[0] * x.shape[1], desc=f"score ({score.label})", unit="state", disable=disable, leave=False)
    with bar:
        for member, times in time_blocks(x.shape):
            states = x[member, times]
            kept = slice(None) if there is None else there[member, times]
            value = checked_values(score, states[kept], f" for member {member}")
            if there is not None:
                out[member, times] = 0.0
            out[member, times][kept] = -value
            bar.update(len(states))
    return out


def _units(
    x: NDArray[Any], there: NDArray[np.bool_] | None, mean: NDArray[Any], layout: Layout, *, warn: bool
) -> tuple[list[Unit], str]:
    # Only when blocks are needed is the slowest time looked for, in the basis the response is computed in.
    if x.shape[0] >= MIN_MEMBERS:
        return resampling_units(x.reshape(*x.shape[:2], -1)[:, :, :1])
    chosen, stride = series_chosen(layout, x.shape[0], x.shape[1])
    series = []
    for member in range(x.shape[0]):
        pieces = []
        for _, times in time_blocks((1, *x.shape[1:])):
            some = np.arange(-(-times.start // stride) * stride, times.stop, stride)
            centred = x[member, some] - mean
            if there is not None:
                centred[~there[member, some]] = 0.0
            pieces.append(layout.transform(centred).reshape(len(centred), -1)[:, chosen])
        series.append(np.concatenate(pieces))
    kept = None if there is None else there[:, ::stride]
    return choose_units(np.stack(series), layout, x.shape[1], stride, kept, warn=warn)


def series_chosen(layout: Layout, members: int, times: int) -> tuple[NDArray[np.int64], int]:
    """Return which series tell the slowest time, and every how many samples: a bounded copy, however long the record.

    A stride makes a time that is shorter look half as long as the stride, and so blocks too long, never too short.
    """
    n_series = layout.size if isinstance(layout, FullMatrix) else layout.n_modes * layout.n_variables
    chosen = np.unique(np.linspace(0, n_series - 1, MAX_SERIES).astype(np.int64))
    return chosen, max(1, -(-members * times * chosen.size // _SERIES_VALUES))


def choose_units(
    series: NDArray[Any],
    layout: Layout,
    times: int,
    stride: int,
    there: NDArray[np.bool_] | None,
    *,
    warn: bool,
) -> tuple[list[Unit], str]:
    """Cut a record of few members into blocks, by the centred series (member, time/stride, column) of some components.

    ``there`` (member, time/stride) says which of these samples there are; ``times`` is the length of the record.
    """
    affordable = max(_FEWEST_BLOCKS, _MOST_NUMBERS // layout.size**2) if layout.dense else _MOST_BLOCKS
    most = min(_MOST_BLOCKS, affordable)
    return resampling_units(series, warn=warn, most=most, there=there, stride=stride, times=times)


def _mean(values: NDArray[Any], there: NDArray[np.bool_] | None) -> NDArray[np.float64]:
    """Mean over members and times."""
    if there is None:
        return values.mean(axis=(0, 1), dtype=np.float64)
    total = np.zeros(values.shape[2:])
    for member, times in time_blocks(values.shape):
        total += values[member, times][there[member, times]].sum(axis=0, dtype=np.float64)
    return total / np.count_nonzero(there)
