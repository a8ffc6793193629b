r"""How far estimated responses are from that of twin experiments, with what noise alone would make.

Notation: D(r, t) = R(r, t) - R_dyn(r, t), displacement r, lag t, and R_dyn the mean of n batches of twins. At each lag

    rms = (mean_r D^2)^(1/2),        max = max_r |D|.

Both sides have errors, known to first order as a sum of independent contributions e_u of resampling units (members or
blocks of the record, batches of the twins), e_u(r, t). They carry over to

    rms:  sum_u mean_r(D e_u) / rms,        max:  sum_u sign(D) e_u at the r of the maximum,

whose squares, summed with n/(n - 1) for each side, give the standard error; lower and upper are -+ t of it, not below
zero, with t the 97.5 % point of Student's t at Welch's number of degrees of freedom. Where the contributions of an
estimate were too large to keep, its part is bounded from above by mean_r |D| stderr / rms, as if all cells went
together. ``noise`` is what rms would be, on average, if the estimate were right: the root of the mean of both
variances. For the twins themselves, (ab)^(1/2)/n times the difference of the means of a and b = n - a batches has the
noise of the mean of all: its rms and max, on average over ways to halve them, with the 2.5 % and 97.5 % quantiles.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from scipy import stats

from gfdt.diagnostics.compare import compare

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gfdt.experiments.recipes import Recipe

__all__ = ["Judged", "conclude", "errors_csv", "tabulate"]

_METRICS = ("rms", "max")
_QUANTILE = 1.96
_MOST_HALVES = 200


@dataclass(frozen=True)
class Judged:
    """Errors over the lags that are judged.

    Attributes
    ----------
    lags : (float, float)
        The first and the last.
    table : Dataset
        ``rms`` (root of the mean over these lags of rms^2), ``max`` (the largest), ``relative`` (rms over that of the
        twins' response), ``noise``, ``inside`` (part of the cells inside the band of the twins) and ``coverage`` (part
        of the cells whose band holds the twins), by estimator; ``rms_ratio``, ``max_ratio``: over those of "gaussian".
    worst_rms_ratio : mapping of str to (float, float)
        The largest ratio of rms to that of "gaussian" at any lag after 0, and that lag.
    """

    lags: tuple[float, float]
    table: xr.Dataset
    worst_rms_ratio: dict[str, tuple[float, float]]


def tabulate(batches: Sequence[xr.Dataset], estimates: Mapping[str, xr.Dataset]) -> tuple[xr.Dataset, xr.Dataset]:
    """Return the response of all twins together, and the errors of the estimates against it.

    Parameters
    ----------
    batches : sequence of Dataset
        Of equal size, as ``direct_response`` gives them.
    estimates : mapping of str to Dataset
        As :func:`gfdt.response` or ``exact_response`` gives them.

    Returns
    -------
    dynamical : Dataset
        ``response``, ``stderr``, ``lower``, ``upper``; the errors are those of the batches' own, pooled.
    errors : Dataset
        ``value``, ``lower``, ``upper`` (estimator, metric, lag), ``noise`` (estimator, lag), ``size`` (lag): the rms
        of the twins' response, ``inside``, ``coverage`` (estimator, lag).
    """
    dynamical = _pooled(batches)
    truth = dynamical["response"]
    parts = np.stack([item["response"].transpose(*truth.dims).values for item in batches])
    own = (parts - parts.mean(axis=0)) / len(parts)
    variance = dynamical["stderr"].values ** 2
    rows = {"dynamical": _of_the_twins(parts, variance)}
    for name, estimate in estimates.items():
        rows[name] = _of_an_estimate(name, estimate, dynamical, own, variance)
    out = xr.concat(list(rows.values()), xr.Variable("estimator", list(rows)))
    out = out.assign_coords(lag=truth["lag"], metric=list(_METRICS))
    out["size"] = truth.dims[0], np.sqrt((truth.values**2).mean(axis=_cells(truth.values)))
    for name, text in {
        "value": "error against the twin experiments",
        "noise": "rms error that noise alone would make",
        "size": "rms of the response of the twins",
        "inside": "part of the cells inside the band of the twins",
        "coverage": "part of the cells whose band holds the twins",
    }.items():
        out[name].attrs.update(long_name=text, units="1")
    return dynamical, out.assign_attrs(confidence=0.95, reference="twin experiments")


def _pooled(batches: Sequence[xr.Dataset]) -> xr.Dataset:
    n = len(batches)
    mean = sum(item["response"] for item in batches) / n
    stderr = np.sqrt(sum(item["stderr"] ** 2 for item in batches)) / n
    out = xr.Dataset(
        {
            "response": mean,
            "stderr": stderr,
            "lower": mean - _QUANTILE * stderr,
            "upper": mean + _QUANTILE * stderr,
        },
        attrs=batches[0].attrs,
    )
    for name in out:
        out[name].attrs.update(batches[0][name].attrs)
    pairs = sum(int(item.attrs["n_pairs"]) for item in batches)
    verdicts = {str(item.attrs["linear_range"]) for item in batches}
    verdict = "no" if "no" in verdicts else "undetermined" if len(verdicts) > 1 else verdicts.pop()
    return out.assign_attrs(n_batches=n, n_pairs=pairs, linear_range=verdict, confidence=0.95, estimator="dynamical")


def _of_the_twins(parts: NDArray[np.float64], variance: NDArray[np.float64]) -> xr.Dataset:
    n, cells = len(parts), _cells(parts[0])
    found: list[NDArray[np.float64]] = []
    for half in _halves(n):
        other = np.setdiff1d(np.arange(n), half)
        difference = np.abs(parts[half].mean(axis=0) - parts[other].mean(axis=0))
        difference *= np.sqrt(len(half) * len(other)) / n
        found.append(np.stack([np.sqrt((difference**2).mean(axis=cells)), difference.max(axis=cells)]))
    low, high = np.quantile(found, [0.025, 0.975], axis=0)
    ones = np.ones(parts.shape[1])
    return _row(np.mean(found, axis=0), low, high, np.sqrt(variance.mean(axis=cells)), ones, ones)


def _halves(n: int) -> list[NDArray[np.int64]]:
    """All ways to take half of n batches, or some of them at random."""
    if comb(n, n // 2) <= _MOST_HALVES:
        return [np.array(half) for half in combinations(range(n), n // 2)]
    rng = np.random.default_rng([n, _MOST_HALVES])
    return [np.sort(rng.permutation(n)[: n // 2]) for _ in range(_MOST_HALVES)]


def _of_an_estimate(
    name: str, estimate: xr.Dataset, dynamical: xr.Dataset, own: NDArray[np.float64], variance: NDArray[np.float64]
) -> xr.Dataset:
    compare(dynamical, {name: estimate})  # refuses what cannot be compared
    truth = dynamical["response"]
    value = estimate["response"].transpose(*truth.dims).sel(lag=truth["lag"], method="nearest")
    error = value.values - truth.values
    cells = _cells(error)
    rms, largest = np.sqrt((error**2).mean(axis=cells)), np.abs(error).max(axis=cells)
    contributions = [own]
    if "influence" in estimate:
        each = estimate["influence"].transpose("unit", *truth.dims).sel(lag=truth["lag"], method="nearest")
        contributions.append(each.values)
    parts, freedom = [], []
    flat = error.reshape(len(rms), -1)
    where = np.abs(flat).argmax(axis=1)
    for values in contributions:
        n = len(values)
        entries = values.reshape(n, len(rms), -1)
        on_rms = np.einsum("ltc,tc->lt", entries, flat) / flat.shape[1] / np.maximum(rms, 1e-300)
        on_max = entries[:, np.arange(len(rms)), where]
        parts.append(n / max(n - 1, 1) * np.stack([(on_rms**2).sum(axis=0), (on_max**2).sum(axis=0)]))
        freedom.append(max(n - 1, 1))
    if "stderr" in estimate and "influence" not in estimate:
        spread = estimate["stderr"].transpose(*truth.dims).sel(lag=truth["lag"], method="nearest").values
        cells_of = spread.reshape(len(rms), -1)
        on_rms = (np.abs(flat) * cells_of).mean(axis=1) / np.maximum(rms, 1e-300)
        parts.append(np.stack([on_rms, cells_of[np.arange(len(rms)), where]]) ** 2)
        freedom.append(max(int(estimate.attrs.get("n_units", 2)) - 1, 1))
    both = np.stack([rms, largest])
    squares = sum(parts)
    welch = squares**2 / np.maximum(sum(part**2 / dof for part, dof in zip(parts, freedom, strict=True)), 1e-300)
    half = stats.t.ppf(0.975, np.maximum(welch, 1.0)) * np.sqrt(squares)
    total = variance.copy()
    coverage = np.full(len(rms), np.nan)
    if "stderr" in estimate:
        stderr, low, high = (
            estimate[part].transpose(*truth.dims).sel(lag=truth["lag"], method="nearest").values
            for part in ("stderr", "lower", "upper")
        )
        total += stderr**2
        coverage = ((low <= truth.values) & (truth.values <= high)).mean(axis=cells)
    inside = (np.abs(error) <= _QUANTILE * np.sqrt(variance)).mean(axis=cells)
    return _row(both, np.maximum(both - half, 0), both + half, np.sqrt(total.mean(axis=cells)), inside, coverage)


def _row(value: Any, lower: Any, upper: Any, noise: Any, inside: Any, coverage: Any) -> xr.Dataset:
    dims = ("metric", "lag")
    return xr.Dataset(
        {
            "value": (dims, value),
            "lower": (dims, lower),
            "upper": (dims, upper),
            "noise": ("lag", noise),
            "inside": ("lag", inside),
            "coverage": ("lag", coverage),
        }
    )


def _cells(values: NDArray[Any]) -> tuple[int, ...]:
    return tuple(range(1, values.ndim))


def conclude(errors: xr.Dataset, recipe: Recipe) -> Judged:
    """Sum the errors up over the lags a recipe judges."""
    first, last = recipe.judged
    lag = errors["lag"].values
    chosen = errors.isel(lag=np.flatnonzero((lag >= first - 1e-9) & (lag <= last + 1e-9)))
    rms = (chosen["value"].sel(metric="rms", drop=True) ** 2).mean("lag") ** 0.5
    largest = chosen["value"].sel(metric="max", drop=True).max("lag")
    size = float(np.sqrt((chosen["size"] ** 2).mean()))
    table = xr.Dataset(
        {
            "rms": rms,
            "max": largest,
            "relative": rms / size,
            "noise": (chosen["noise"] ** 2).mean("lag") ** 0.5,
            "inside": chosen["inside"].mean("lag"),
            "coverage": chosen["coverage"].mean("lag"),
            "rms_ratio": rms / rms.sel(estimator="gaussian", drop=True),
            "max_ratio": largest / largest.sel(estimator="gaussian", drop=True),
        }
    )
    after = errors["value"].sel(metric="rms", drop=True).isel(lag=slice(1, None))
    ratio = after / after.sel(estimator="gaussian", drop=True)
    worst = {
        str(name): (float(line.max()), float(line.idxmax("lag")))
        for name in ratio["estimator"].values
        for line in (ratio.sel(estimator=name),)
    }
    return Judged((first, last), table, worst)


def errors_csv(errors: Mapping[str, xr.Dataset]) -> str:
    """Return the errors as a long table, one line for each system, estimator, metric and lag."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["system", "estimator", "metric", "lag", "value", "lower", "upper"])
    for system, item in errors.items():
        for name in item["estimator"].values:
            for metric in item["metric"].values:
                line = item.sel(estimator=name, metric=metric)
                for lag, *numbers in zip(
                    line["lag"].values, line["value"].values, line["lower"].values, line["upper"].values, strict=True
                ):
                    writer.writerow([system, name, metric, f"{lag:g}", *(f"{number:.6g}" for number in numbers)])
    return text.getvalue()
