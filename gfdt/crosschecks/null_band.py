r"""What the Gaussian response C(t) C(0)^-1 shows by chance where nothing is linked (Falasca, Perezhogin & Zanna 2024).

A short record of slow components has correlations between them that mean nothing. The null model keeps what every
component does on its own, as a red noise, and drops all links:

    z_i(t + h) = phi_i z_i(t) + sd_i (1 - phi_i^2)^(1/2) w_i(t),       phi_i, sd_i those of component i,

independent of each other. The estimator applied to such surrogates, as long as the record and as many, has the mean
phi_i^l on the diagonal and 0 off it; a response inside the central part of its distribution is one that chance makes.
For n surrogates and the level p the band is the interval that a further surrogate falls into with probability p,

    mean +- t_{n-1}((1 + p)/2) sd (1 + 1/n)^(1/2),

right for any n if the distribution is normal, which that of an average over a long record is. Without surrogates
(``n_surrogates=0``) the closed variance of :mod:`gfdt.crosschecks.null_variance` takes their place.

**Many entries.** Of 10^4 entries of an unlinked system 500 lie outside a 95 % band. ``multiplicity`` says what to do
about it: "none" tests every entry by itself; "bonferroni" widens the band to the level 1 - (1 - p)/m for m entries (all
lags but 0), which leaves a probability of at most 1 - p for even one false entry; "fdr" (Benjamini & Hochberg 1995)
leaves the band as it is but calls significant only so many that of those a part of at most 1 - p is false on average
(for fields see Wilks, Bull. Amer. Meteor. Soc. 97, 2263 (2016): it holds up well under the correlations of neighbours).

The diagonal is compared with the decay of red noise, not with zero: "significant" there means that a component answers
its own kick otherwise than an AR(1) process would.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from scipy import stats
from tqdm import tqdm

from gfdt._version import __version__
from gfdt.crosschecks.inputs import Record, check_confidence, lag_samples, load_record, refuse_large
from gfdt.crosschecks.red_noise import RedNoise
from gfdt.errors import InputError, ReliabilityWarning
from gfdt.trajectory import Source, homogeneous_dims, time_unit
from gfdt.validation import integer, one_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["MULTIPLICITY", "null_band"]

MULTIPLICITY = ("none", "bonferroni", "fdr")
_MIN_SURROGATES = 8
_DEFAULTS = {"observable": "mean", "estimator": "gaussian"}  # where a response does not say


def null_band(
    trajectory: Source,
    *,
    max_lag: float | None = None,
    lag_stride: int = 1,
    response: xr.Dataset | None = None,
    n_surrogates: int = 200,
    confidence: float = 0.95,
    multiplicity: str = "none",
    homogeneous: bool | str | Sequence[str] | None = None,
    score: str = "gaussian",
    seed: int = 0,
    var: str | None = None,
    dims: Sequence[str] | None = None,
    dt: float | None = None,
    progress: bool | None = None,
) -> xr.Dataset:
    r"""Return the band in which the response of unlinked components would lie by chance.

    Parameters
    ----------
    trajectory : DataArray, Dataset, path or ndarray
        The record that the response was estimated from; see :func:`gfdt.load_trajectory`.
    max_lag, lag_stride
        As in :func:`gfdt.response`. Left out with ``response``, whose lags are then taken.
    response : Dataset, optional
        What :func:`gfdt.response` gave for this record and the Gaussian score; it comes back with the band.
    n_surrogates : int
        How many surrogates; at least 8, or 0 for the closed formula. Default 200: the width of the band is then
        known to 5 %. For d components each costs what the Gaussian response itself costs.
    confidence : float in (0, 1)
        Level p of the band. Default 0.95.
    multiplicity : "none", "bonferroni" or "fdr"
        How to treat many entries; see the module. Default "none". "fdr" needs ``response``.
    homogeneous : None, True or sequence of str
        As in :func:`gfdt.response`; taken from ``response`` where that is given. The sites are then unlinked, with one
        phi and one variance.
    score : "gaussian"
        The estimator whose null distribution is wanted. A learned score would have to be fitted to every surrogate.
    seed : int
        Of the surrogates.
    var, dims, dt, progress
        As in :func:`gfdt.response`.

    Returns
    -------
    Dataset
        ``null_mean``, ``null_lower``, ``null_upper`` with the dims of the response. With ``response``: a copy of that
        with these, ``p_value`` (two-sided, of each entry alone) and ``significant`` (bool; never at lag 0, where R = I
        is imposed).

    Raises
    ------
    InputError
        A response of other dims or lags than this record gives; an option that is not known.

    Warns
    -----
    ReliabilityWarning
        A response by another estimator than the Gaussian; lags beyond half the record.

    References
    ----------
    Falasca, Perezhogin & Zanna, Phys. Rev. E 109, 044202 (2024).
    """
    check_confidence(confidence, optional=False)
    one_of("multiplicity", multiplicity, MULTIPLICITY)
    one_of("score", score, ("gaussian",))
    integer("n_surrogates", n_surrogates, 0, 10**6)
    if 0 < n_surrogates < _MIN_SURROGATES:
        raise InputError(
            f"n_surrogates={n_surrogates} is too few for a spread: at least {_MIN_SURROGATES}, or 0 for the formula."
        )
    if multiplicity == "fdr" and response is None:
        raise InputError("multiplicity='fdr' orders the p values of a response: pass response=, or 'bonferroni'.")
    record = load_record(trajectory, var=var, dims=dims, dt=dt)
    periodic, names = _result_dims(record, homogeneous, response)
    lags = _lags(record, max_lag, lag_stride, response)
    null = RedNoise.fitted_to(record, periodic=periodic)
    entries = int(np.prod(null.shape, dtype=np.int64))
    refuse_large(6 * 8 * lags.size * entries, f"{lags.size} lags of {entries} numbers, six times,")
    if n_surrogates:
        mean, variance = _moments(null, lags, n_surrogates, seed, progress)
        spread, freedom = np.sqrt(variance * (1 + 1 / n_surrogates)), float(n_surrogates - 1)
    else:
        mean, variance = null.closed_form(lags)
        spread, freedom = np.sqrt(variance), np.inf
    tested = entries * int((lags > 0).sum())
    tail = (1 - confidence) / (max(tested, 1) if multiplicity == "bonferroni" else 1)
    half = stats.t.isf(tail / 2, freedom) * spread
    out = _labelled(record, periodic, names, lags, {"mean": mean, "lower": mean - half, "upper": mean + half})
    attributes = {
        "null_confidence": float(confidence),
        "null_multiplicity": multiplicity,
        "null_model": "independent AR(1) series, " + (f"{n_surrogates} surrogates" if n_surrogates else "closed form"),
        "null_config_json": json.dumps({"n_surrogates": int(n_surrogates), "seed": int(seed), "n_tested": tested}),
    }
    if response is None:
        return out.assign_attrs(title="response of unlinked components", source=f"gfdt {__version__}", **attributes)
    judged = _judged(response, out, spread, freedom, 1 - confidence, multiplicity)
    return response.assign(judged).assign_attrs(attributes)


def _result_dims(
    record: Record, homogeneous: bool | str | Sequence[str] | None, response: xr.Dataset | None
) -> tuple[bool, tuple[str, ...]]:
    """Return whether the result is a function of displacement, and its dims after ``lag``."""
    dims = record.dims
    shifts, pairs = tuple(f"d{name}" for name in dims), (*dims, *(f"{name}_src" for name in dims))
    if response is None:
        return (True, shifts) if homogeneous_dims(homogeneous, dims) else (False, pairs)
    if not isinstance(response, xr.Dataset) or "response" not in response:
        raise InputError(
            f"response is a {type(response).__name__} without 'response': pass what gfdt.response returned."
        )
    found = response["response"].sizes
    for periodic, names in ((False, pairs), (True, shifts)):
        wanted = record.shape * (1 if periodic else 2)
        if dict(found) == {"lag": found.get("lag"), **dict(zip(names, wanted, strict=True))}:
            break
    else:
        raise InputError(
            f"the response has sizes {dict(found)}, this record of {dict(zip(dims, record.shape, strict=True))} gives "
            f"dims {('lag', *pairs)} or {('lag', *shifts)}: pass the response of the state of the same record."
        )
    if homogeneous is not None and bool(homogeneous_dims(homogeneous, dims)) != periodic:
        raise InputError(
            f"homogeneous={homogeneous!r} contradicts the dims {tuple(found)} of the response: leave it out."
        )
    observable, estimator = (str(response.attrs.get(key, default)) for key, default in _DEFAULTS.items())
    if observable != "mean":
        raise InputError(f"the response is that of the {observable}: the null band is one for the state itself.")
    if estimator != "gaussian":
        warnings.warn(
            f"the response is by {estimator!r}, the band is that of the Gaussian estimator: it is a guide only, since "
            "another score has another spread.",
            ReliabilityWarning,
            stacklevel=3,
        )
    return periodic, names


def _lags(record: Record, max_lag: float | None, lag_stride: int, response: xr.Dataset | None) -> NDArray[np.int64]:
    if response is None:
        if max_lag is None:
            raise InputError("max_lag is missing: give the largest lag, or response= to take its lags.")
        return lag_samples(record.trajectory, max_lag, lag_stride)
    if max_lag is not None or lag_stride != 1:
        raise InputError("max_lag and lag_stride come with the response: leave them out.")
    exact = response["lag"].values / record.step
    lags = np.rint(exact).astype(np.int64)
    if np.abs(exact - lags).max() > 1e-6 * max(float(exact.max()), 1.0) or lags.max() >= record.series.shape[1]:
        raise InputError(
            f"the lags of the response (up to {float(response['lag'].max()):g}) are not multiples of the sample "
            f"interval {record.step:g} within this record: pass the record that it was estimated from."
        )
    return lags


def _moments(
    null: RedNoise, lags: NDArray[np.int64], n: int, seed: int, progress: bool | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and variance over surrogates, one at a time (Welford)."""
    mean: Any = 0.0
    squares: Any = 0.0
    disable = None if progress is None else not progress
    for k in tqdm(range(n), desc="surrogates", disable=disable, leave=False):
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(k,)))
        value = null.estimate(null.surrogate(rng), lags)
        change = value - mean
        mean = mean + change / (k + 1)
        squares = squares + change * (value - mean)
    return mean, squares / (n - 1)


def _labelled(
    record: Record, periodic: bool, names: tuple[str, ...], lags: NDArray[np.int64], data: dict[str, NDArray[Any]]
) -> xr.Dataset:
    coords: dict[str, Any] = {"lag": lags * record.step}
    for name, size in zip(names, record.shape * (1 if periodic else 2), strict=True):
        coords[name] = np.arange(size) - size // 2 if periodic else record.trajectory[name.removesuffix("_src")].values
    texts = {
        "mean": "mean response of unlinked components",
        "lower": "lower end of the band of unlinked components",
        "upper": "upper end of the band of unlinked components",
    }
    shape = (lags.size, *record.shape * (1 if periodic else 2))
    variables = {
        f"null_{key}": (("lag", *names), value.reshape(shape), {"long_name": texts[key], "units": "1"})
        for key, value in data.items()
    }
    out = xr.Dataset(variables, coords=coords)
    out["lag"].attrs.update(long_name="lag", units=time_unit(record.trajectory))
    return out


def _judged(
    response: xr.Dataset,
    band: xr.Dataset,
    spread: NDArray[np.float64],
    freedom: float,
    rate: float,
    multiplicity: str,
) -> dict[str, xr.DataArray]:
    """Return the band on the response's dims, p values and what is significant; ``rate`` is 1 - p."""
    # The labels are the response's own: the record may number the same components otherwise.
    value = response["response"].transpose(*band["null_mean"].dims)
    parts = {key: value.copy(data=band[key].values).assign_attrs(band[key].attrs) for key in map(str, band.data_vars)}
    distance = np.abs(value.values - band["null_mean"].values)
    spread = spread.reshape(distance.shape)
    known = spread > 0
    known[response["lag"].values == 0] = False  # R(0) = I by construction
    p = np.ones(distance.shape)
    p[known] = 2 * stats.t.sf(distance[known] / spread[known], freedom)
    limit = rate
    if multiplicity == "bonferroni":
        limit = rate / max(int(known.sum()), 1)
    elif multiplicity == "fdr":
        limit = _false_discovery_limit(p[known], rate)
    parts["p_value"] = value.copy(data=p).assign_attrs(long_name="p value under the null of no links", units="1")
    parts["significant"] = value.copy(data=known & (p < limit) if multiplicity != "fdr" else known & (p <= limit))
    parts["significant"].attrs = {"long_name": "outside what unlinked components show by chance"}
    return {key: part.transpose(*response["response"].dims) for key, part in parts.items()}


def _false_discovery_limit(p: NDArray[np.float64], rate: float) -> float:
    """Return the largest p_(k) <= k rate / m of the sorted p values (Benjamini & Hochberg), or -1 if there is none."""
    ordered = np.sort(p)
    passed = ordered <= rate * np.arange(1, p.size + 1) / max(p.size, 1)
    return float(ordered[passed][-1]) if passed.any() else -1.0
