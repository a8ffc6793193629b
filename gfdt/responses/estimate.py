r"""The response of a stationary system to a small kick, from its unperturbed trajectory.

GFDT (PRL eq. 3-4): a small drift perturbation e_j f(t) changes <A> by int R_Aj(t - t') f(t') dt' with

    R_Aj(t) = <A(x(t)) B_j(x(0))>,        B_j = -s_j(x),        s = grad log rho,

so that R(0) = I for A = x. What is done with that last identity is in :mod:`gfdt.responses.correction`.

Error bars: every resampling unit u (a member, or a block of time; :mod:`gfdt.responses.units`) contributes e_u to the
error of the estimate, to first order; stderr^2 = n/(n - 1) sum_u e_u^2. This is the limit of the bootstrap over
units for many resamples, without its own noise (the infinitesimal jackknife, Efron 1982); the band is
estimate +- t_{n-1} stderr.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from scipy import stats

from gfdt._version import __version__
from gfdt.errors import InputError
from gfdt.responses.correction import MODES, Correction, find_correction
from gfdt.responses.departure import stein_departure, warn_of_a_bad_score
from gfdt.responses.prepare import Prepared, check_arguments, prepare
from gfdt.scores.base import Score
from gfdt.scores.gaussian import GaussianScore
from gfdt.trajectory import Source, time_step, time_unit
from gfdt.validation import is_number, shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["response"]

_ROUNDING = 1e-9  # a band narrower than this part of the largest response is rounding, not knowledge


def response(
    trajectory: Source,
    score: Score | Callable[[NDArray[Any]], NDArray[Any]],
    *,
    max_lag: float,
    lag_stride: int = 1,
    observable: str | None = None,
    perturbation: None = None,
    homogeneous: bool | str | Sequence[str] | None = None,
    correction: str = "auto",
    confidence: float | None = 0.95,
    var: str | None = None,
    dims: Sequence[str] | None = None,
    dt: float | None = None,
    progress: bool | None = None,
) -> xr.Dataset:
    r"""Estimate the linear response R(t) = -<A(x(t)) s(x(0))> to a kick of each state component.

    Parameters
    ----------
    trajectory : DataArray, Dataset, path or ndarray
        The unperturbed stationary record; see :func:`gfdt.load_trajectory`.
    score : Score or callable
        s(x), fitted or exact, in the units of the data.
    max_lag : float
        Largest lag, in the trajectory's time unit; must be shorter than the record.
    lag_stride : int
        Every how many samples a lag is computed. Default 1.
    observable : str, optional
        "mean", "second_moment", "variance", "moment3", "moment4" of every component. Default None: the state itself.
    perturbation : None
        Every state component is kicked by one unit at t = 0.
    homogeneous : None, True or sequence of str
        State dims along which the system is statistically the same everywhere and periodic, e.g. ``("y", "x")``:
        the response is then a function of displacement, averaged over all kick sites, and costs n numbers a lag
        instead of n^2. Default None: the full matrix.
    correction : "auto", "stein" or "none"
        How the identity R(0) = I is used; see :mod:`gfdt.responses.correction`. Default "auto". For a
        :class:`GaussianScore` "auto" is "stein", i.e. the classical C(t) C(0)^-1 (and "none" if it has shrinkage).
    confidence : float in (0, 1) or None
        Level of the band ``lower``, ``upper``. None: no error bars. Default 0.95, the custom.
    var, dims, dt
        As in :func:`gfdt.load_trajectory`.
    progress : bool, optional
        Show a progress bar on stderr. Default None: only on a terminal.

    Returns
    -------
    Dataset
        ``response``, ``stderr``, ``lower``, ``upper`` with dims ``(lag, *state, *state_src)``, or
        ``(lag, d<dim>, ...)`` when homogeneous: centred signed displacement in grid cells (observed site minus
        kicked site), so ``.sel(dy=0, dx=1)`` is one cell in +x from the kick. The unit is that of A over that of x.
        A direction or wavenumber in which the record has no variance does not respond: R(0) is then the projector on
        the rest, and at displacement zero the share of wavenumbers with variance.
        Attributes: ``stein_departure`` (rms of |M P^-1 - I| beyond sampling noise), ``stein_worst`` and
        ``stein_worst_stderr`` (its most significant entry), ``score_verdict`` (green, amber or red, by these),
        ``correction_condition`` (condition number of what was divided by).

    Raises
    ------
    InputError
        Bad trajectory, lag, dims or option; a score of another state.

    Warns
    -----
    ReliabilityWarning
        Too few independent units for a band; lags beyond half the record.
    UnreliableScoreWarning
        A score that misses R(0) = I by so much that dividing by it would dress it up; the rule is in
        :mod:`gfdt.responses.departure`. The response is returned as asked for.

    References
    ----------
    Giorgini et al., Phys. Rev. Lett. 133, 267302 (2024), eq. 3-5.
    """
    if perturbation is not None:
        raise InputError(
            f"perturbation={shown(perturbation)} is not supported: leave it None (every component is kicked) and "
            "combine the columns of the result, e.g. (R.response * w).sum('component_src')."
        )
    _check_options(correction, confidence)
    request = check_arguments(
        trajectory,
        score,
        max_lag=max_lag,
        lag_stride=lag_stride,
        observable=observable,
        homogeneous=homogeneous,
        var=var,
        dims=dims,
        dt=dt,
    )
    ready = prepare(request, progress=progress, errors_wanted=confidence is not None)
    layout = ready.layout
    mode = _mode(correction, ready.score)
    found = find_correction(
        mode,
        ready.raw,
        ready.stein,
        parametric=layout.parametric(ready.covariance, ready.score.noise_level_),
        scale=layout.scale(ready.covariance),
        algebra=layout.algebra(ready.covariance),
        state_like=ready.observable == "mean",
    )
    estimate = found.apply(ready.raw.mean(), ready.stein.mean())
    departure = stein_departure(ready)
    warn_of_a_bad_score(departure, found.condition)
    data = {"response": layout.to_physical(estimate)}
    if confidence is not None:
        stderr = _standard_error(ready, found, estimate)
        data |= _band(data["response"], stderr, confidence, ready.raw.sums.shape[0])
    out = _labelled(data, ready)
    return out.assign_attrs(
        title="linear response function",
        Conventions="CF-1.11",
        source=f"gfdt {__version__}",
        references="Giorgini et al., Phys. Rev. Lett. 133, 267302 (2024)",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        estimator=ready.score.label,
        observable=ready.observable,
        correction=mode,
        correction_summary=_summary(found),
        noise_level=_attribute(ready.score.noise_level_),
        score_verdict=departure.verdict,
        stein_departure=departure.excess,
        stein_worst=float(np.abs(departure.measured - departure.identity)[departure.worst]),
        stein_worst_stderr=float(departure.stderr[departure.worst]),
        correction_condition=found.condition,
        resampling=ready.unit_text,
        confidence=float(confidence) if confidence is not None else "none",
        n_members=int(ready.trajectory.sizes["member"]),
        n_times=int(ready.trajectory.sizes["time"]),
        config_json=json.dumps(
            {
                "max_lag": float(max_lag),
                "lag_stride": int(lag_stride),
                "correction": correction,
                "homogeneous": list(layout.dims) if not layout.dense else [],
            }
        ),
    )


def check_request(
    trajectory: Source,
    score: Score,
    *,
    correction: str,
    confidence: float | None,
    **options: Any,
) -> None:
    """Raise what :func:`response` would raise for these arguments, without its work."""
    _check_options(correction, confidence)
    check_arguments(trajectory, score, **options)


def _check_options(correction: str, confidence: float | None) -> None:
    if correction not in MODES:
        raise InputError(f"correction={shown(correction)} is not known: choose among {', '.join(MODES)}.")
    if confidence is not None and not (is_number(confidence) and 0 < confidence < 1):
        raise InputError(
            f"confidence={shown(confidence)} is not a level between 0 and 1: 0.95 is the custom; None for no band."
        )


def _mode(correction: str, score: Score) -> str:
    if correction == "auto" and isinstance(score, GaussianScore):
        return "none" if score.shrinkage_ > 0 else "stein"
    return correction


def _attribute(noise_level: float | NDArray[np.float64]) -> float | NDArray[np.float64]:
    """Return sigma as netCDF can hold it: a number, or a list of them."""
    levels = np.unique(np.asarray(noise_level, dtype=np.float64))
    return float(levels[0]) if levels.size == 1 else np.ravel(np.asarray(noise_level, dtype=np.float64))


def _standard_error(ready: Prepared, found: Correction, estimate: NDArray[Any]) -> NDArray[np.float64]:
    raw = ready.raw
    total, count = raw.mean(), raw.counts.sum(axis=0)
    variance: Any = 0.0
    for sums, counts, d_stein in zip(raw.sums, raw.counts, ready.stein.influence(), strict=True):
        d_raw = (sums - counts * total) / count
        error = found.influence(d_raw, d_stein, estimate, fitted=ready.fitted_here)
        variance = variance + ready.layout.to_physical(error) ** 2
    n_units = raw.sums.shape[0]
    return np.sqrt(variance * n_units / max(n_units - 1, 1))


def _band(
    estimate: NDArray[np.float64], stderr: NDArray[np.float64], confidence: float, n_units: int
) -> dict[str, NDArray[np.float64]]:
    half = stats.t.ppf(0.5 + confidence / 2, max(n_units - 1, 1)) * stderr + _ROUNDING * np.abs(estimate).max()
    return {"stderr": stderr, "lower": estimate - half, "upper": estimate + half}


def _labelled(data: dict[str, NDArray[Any]], ready: Prepared) -> xr.Dataset:
    layout, array = ready.layout, ready.trajectory
    coords: dict[str, Any] = {"lag": ready.lags * time_step(array), **layout.coords(array)}
    long_names = {
        "response": "response of the observable to a unit kick at lag 0",
        "stderr": "standard error of the response",
        "lower": "lower end of the confidence band",
        "upper": "upper end of the confidence band",
    }
    variables = {
        key: (tuple(coords), value, {"long_name": long_names[key], "units": "1"}) for key, value in data.items()
    }
    out = xr.Dataset(variables, coords=coords)
    out["lag"].attrs.update(long_name="lag", units=time_unit(array))
    for dim in coords:
        if dim != "lag" and not layout.dense:
            out[dim].attrs.update(long_name=f"displacement from the kick along {dim[1:]}", units="grid cells")
    return out


def _summary(found: Correction) -> str:
    if found.divisor is None:
        return "R(0) = I was not used"
    absent = found.algebra.size - found.algebra.n_present
    kind = "directions" if found.algebra.dense else "wavenumbers of the half plane"
    missing = f"; {absent} of {found.algebra.size} {kind} have no variance and no response" if absent else ""
    if found.weight is None:
        return f"R(0) = I imposed by dividing by the measured R(0){missing}"
    share = float((found.weight > 0.5).mean())
    rest = "" if share == 1 else f" in {100 * share:.0f} % of its entries, by the known blur of sigma in the others"
    noise = "; what remained was removed as sampling noise" if found.control is not None else ""
    return f"R(0) = I imposed by dividing by the measured R(0){rest}{noise}{missing}"
