r"""The response of a stationary system to a small push, from its unperturbed trajectory.

GFDT (PRL eq. 3-4): a small drift perturbation w(x) f(t) changes <A> by int R_A(t - t') f(t') dt' with

    R_A(t) = <A(x(t)) B(x(0))>,        B = -[div w + w . s],        s = grad log rho,

so that for a kick e_j of each component, w = e_j and A = x, R(0) = I. :mod:`gfdt.responses.perturbations` has the B of
other perturbations, :mod:`gfdt.responses.correction` what is done with what is known at t = 0.

Error bars: every resampling unit u (a member, or a block of time; :mod:`gfdt.responses.units`) contributes e_u to the
error of the estimate, to first order; stderr^2 = n/(n - 1) sum_u e_u^2. This is the limit of the bootstrap over
units for many resamples, without its own noise (the infinitesimal jackknife, Efron 1982); the band is
estimate +- t_{n-1} stderr.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from gfdt._version import __version__
from gfdt.certificate.stamp import attributes
from gfdt.cluster import connected
from gfdt.errors import InputError
from gfdt.responses.assemble import Estimate, frame_of, label, make_estimate
from gfdt.responses.bind_perturbation import find_perturbation
from gfdt.responses.bound import Record
from gfdt.responses.correction import MODES, Correction, find_correction
from gfdt.responses.departure import (
    stein_departure,
    warn_of_a_bad_score,
    warn_of_a_constant,
    warn_of_a_missed_value,
    warn_of_noise,
)
from gfdt.responses.in_blocks import open_in_blocks
from gfdt.responses.observables import check_observable, find_observables
from gfdt.responses.perturbations import Kick, NoiseAmplitude, Perturbation
from gfdt.responses.prepare import Prepared, check_arguments, prepare
from gfdt.responses.several import average
from gfdt.responses.state_units import units_of
from gfdt.responses.stream import stream
from gfdt.responses.summary import Request, Summary
from gfdt.scores.analytic import AnalyticScore
from gfdt.scores.base import Score
from gfdt.scores.gaussian import GaussianScore
from gfdt.trajectory import Source
from gfdt.validation import is_number, shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["response"]

_EXAMPLES = 8  # states shown to a user's function to learn what it returns


def response(
    trajectory: Source,
    score: Score | Callable[[NDArray[Any]], NDArray[Any]] | Sequence[Any],
    *,
    max_lag: float,
    lag_stride: int = 1,
    observable: Any = None,
    perturbation: Any = None,
    homogeneous: bool | str | Sequence[str] | None = None,
    correction: str = "auto",
    confidence: float | None = 0.95,
    var: str | Sequence[str] | None = None,
    dims: Sequence[str] | None = None,
    dt: float | None = None,
    client: Any = None,
    progress: bool | None = None,
) -> xr.Dataset:
    r"""Estimate the linear response R(t) = <A(x(t)) B(x(0))> to a small perturbation.

    Parameters
    ----------
    trajectory : DataArray, Dataset, path, ndarray, or list of these
        The unperturbed stationary record; see :func:`gfdt.load_trajectory`. Members may have gaps (samples that are
        NaN in all components, or left out of the time coordinate) and different lengths (a list).
    score : Score, callable, or sequence of them
        s(x), fitted or exact, in the units of the data. Several (networks of different seeds): the response is the
        average of theirs, ``score_spread`` their standard deviation, which is added to the error.
    max_lag : float
        Largest lag, in the trajectory's time unit; must be shorter than the record.
    lag_stride : int
        Every how many samples a lag is computed. Default 1.
    observable : str, class, callable, or several in a list or dict, optional
        What is observed. Default None: the state itself. "mean", "second_moment", "variance", "moment3", "moment4" of
        every component; "covariance" of every pair (of a homogeneous field by separation); "pdf", the one-point
        density, or :class:`gfdt.Density` with values and bandwidth of one's own; :class:`gfdt.Exceedance`
        of a threshold; "spectrum" of a homogeneous field; any function of labelled states (time, *state) that
        keeps ``time`` (its other dims are kept too; one that returns the state's dims is taken for local, which
        matters with homogeneous). Several must have the same dims and are numbered by the dim ``observable``.
    perturbation : None, array, str, Drift, NoiseAmplitude, or several in a list or dict, optional
        What is pushed. Default None: every state component, by one unit at t = 0. An array over the state is a constant
        pattern, the name of a labelled component (or variable, at every site) a unit push of it, :class:`gfdt.Drift`
        any w(x), :class:`gfdt.NoiseAmplitude` the noise. Several are numbered by the dim ``perturbation``.
    homogeneous : None, True or sequence of str
        State dims along which the system is statistically the same everywhere and periodic, e.g. ``("y", "x")``:
        the response is then a function of displacement, averaged over all kick sites, and costs n numbers a lag
        instead of n^2. All state dims, or all but the first, which then numbers variables at each site. With Drift
        or NoiseAmplitude, which must then be the same everywhere too, local observables are averaged over sites.
        Default None: the full matrix.
    correction : "auto", "stein" or "none"
        How what is known at t = 0 is used; see :mod:`gfdt.responses.correction`. Default "auto". For a
        :class:`GaussianScore` "auto" is "stein", i.e. the classical C(t) C(0)^-1 (and "none" if it has shrinkage).
    confidence : float in (0, 1) or None
        Level of the band ``lower``, ``upper``. None: no error bars. Default 0.95, the custom.
    var, dims, dt
        As in :func:`gfdt.load_trajectory`; ``var`` may name several variables, which then are one state.
    client : dask.distributed.Client or str, optional
        A cluster, or the address of its scheduler ("tcp://..."), whose workers go through the record in blocks: for
        the response of the state to kicks, from a file that all workers can read or from an array of Dask. The result
        is the same. Default None: this process, also in blocks where the record is larger than memory and Dask is
        installed (:mod:`gfdt.responses.stream`).
    progress : bool, optional
        Show a progress bar on stderr. Default None: only on a terminal.

    Returns
    -------
    Dataset
        ``response``, ``stderr``, ``lower``, ``upper`` with dims ``lag``, those of the observable, then those of the
        perturbation: ``(lag, *state, *state_src)``, or ``(lag, d<dim>, ...)`` when homogeneous: centred signed
        displacement in grid cells (observed site minus kicked site), so ``.sel(dy=0, dx=1)`` is one cell in +x from
        the kick; with several variables ``(lag, variable, d<dim>, ..., variable_src)``; only ``(lag, *observed)``
        for one pattern, Drift or NoiseAmplitude. The unit is that of A over that of x (or of f times time).
        ``influence`` (unit, ...), where it is not too large: the first-order error from each resampling unit, from
        which the error of anything linear in the response follows. ``observable_mean``, ``observable_std``: of A in
        the record.
        A direction or wavenumber in which the record has no variance does not respond: R(0) is then the projector on
        the rest, and at displacement zero the share of wavenumbers with variance.
        Attributes: ``stein_departure`` (rms of |M P^-1 - I| beyond sampling noise), ``stein_worst`` and
        ``stein_worst_stderr`` (its most significant entry), ``score_verdict`` (green, amber or red, by these),
        ``certificate_verdict`` and ``certificate_reasons`` (what :func:`gfdt.certify` said of it; "none": never),
        ``certificate_record`` (whether it said so of the "same" record as this, or of an "other"),
        ``correction_condition`` (condition number of what was divided by), ``target_departure`` (rms of R(0) minus its
        known value <w . grad A>, in standard errors, before it was used).

    Raises
    ------
    InputError
        Bad trajectory, lag, dims or option; a score of another state.
    ClusterError
        No scheduler at ``client``, or it was lost.

    Warns
    -----
    ReliabilityWarning
        Too few independent units for a band; lags beyond half the record; a division by R(0) that would amplify noise
        (correction "stein"; the message has the condition number); an R(0) that misses its known value
        <w . grad A> by more than 10 % and five standard errors; an event that never or always happens in the record.
    UnreliableScoreWarning
        A score that misses R(0) = I by so much that dividing by it would dress it up; the rule is in
        :mod:`gfdt.responses.departure`. The response is returned as asked for.

    References
    ----------
    Giorgini et al., Phys. Rev. Lett. 133, 267302 (2024), eq. 3-5; higher moments: arXiv:2504.13333.
    """
    _check_options(correction, confidence)
    scores = list(score) if isinstance(score, list | tuple) else [score]
    if not scores:
        raise InputError("score is an empty list: pass a fitted score, or several.")
    lazy = open_in_blocks(trajectory, observable, perturbation, client, var=var, dims=dims, dt=dt)
    if lazy is not None:
        trajectory, var, dims, dt = lazy, None, None, None
    results = []
    for item in scores:
        request, plan = _plan(
            trajectory,
            item,
            observable,
            perturbation,
            max_lag=max_lag,
            lag_stride=lag_stride,
            homogeneous=homogeneous,
            var=var,
            dims=dims,
            dt=dt,
            lazily=lazy is not None,
        )
        # The same validated record for every score, so that it is read once.
        trajectory, var, dims, dt = request.trajectory, None, None, None
        wanted = confidence is not None
        if lazy is None:
            ready: Summary = prepare(request, progress=progress, errors_wanted=wanted)
        else:
            memory = _mode(correction, request.score) == "auto"
            ready = stream(request, client=client, progress=progress, errors_wanted=wanted, memory=memory)
        results.append(_estimate(ready, plan, observable, correction, confidence))
    out = results[0] if len(results) == 1 else average(results, confidence)
    return out.assign_attrs(
        config_json=json.dumps(
            {
                "max_lag": float(max_lag),
                "lag_stride": int(lag_stride),
                "correction": correction,
                "homogeneous": [] if request.layout.dense else list(request.layout.grid_dims),
            }
        ),
    )


def check_request(
    trajectory: Source,
    score: Score,
    *,
    correction: str,
    confidence: float | None,
    observable: Any = None,
    perturbation: Any = None,
    client: Any = None,
    **options: Any,
) -> None:
    """Raise what :func:`response` would raise for these arguments, without its work."""
    _check_options(correction, confidence)
    given = {name: options.pop(name, None) for name in ("var", "dims", "dt")}
    lazy = open_in_blocks(trajectory, observable, perturbation, client, **given)
    if lazy is None:
        _plan(trajectory, score, observable, perturbation, **given, **options)
        return
    with connected(client):
        _plan(lazy, score, observable, perturbation, lazily=True, **options)


def _check_options(correction: str, confidence: float | None) -> None:
    if correction not in MODES:
        raise InputError(f"correction={shown(correction)} is not known: choose among {', '.join(MODES)}.")
    if confidence is not None and not (is_number(confidence) and 0 < confidence < 1):
        raise InputError(
            f"confidence={shown(confidence)} is not a level between 0 and 1: 0.95 is the custom; None for no band."
        )


def _plan(
    trajectory: Source, score: Any, observable: Any, perturbation: Any, **options: Any
) -> tuple[Request, tuple[Perturbation, bool]]:
    """Validate all arguments and bind the perturbation to the state."""
    check_observable(observable)
    request = check_arguments(trajectory, score, gaps=True, **options)
    known = _told_of_its_state(request.score, request) if _needs_derivative(perturbation) else request.score
    return request, find_perturbation(perturbation, request.trajectory, request.layout, known)


def _needs_derivative(perturbation: Any) -> bool:
    items = perturbation.values() if isinstance(perturbation, Mapping) else perturbation
    items = items if isinstance(perturbation, Mapping | list | tuple) else [perturbation]
    return any(isinstance(item, NoiseAmplitude) for item in items)


def _told_of_its_state(score: Score, request: Request) -> Score:
    """A formula is differentiated along the state dims, which only a fit tells it."""
    if not isinstance(score, AnalyticScore) or hasattr(score, "state_shape_"):
        return score
    noise, certificate = score.noise_level_, score.certificate_
    score = copy.copy(score).fit(request.trajectory)
    score.noise_level_, score.certificate_ = noise, certificate
    return score


def _estimate(
    ready: Summary,
    plan: tuple[Perturbation, bool],
    observable: Any,
    correction: str,
    confidence: float | None,
) -> xr.Dataset:
    """The response with one score."""
    found = find_correction(
        _mode(correction, ready.score),
        ready.stein,
        parametric=ready.parametric,
        scale=ready.layout.scale(ready.covariance),
        algebra=ready.algebra,
    )
    departure = stein_departure(ready)
    warn_of_a_bad_score(departure, found.condition)
    if not ready.fitted_here:  # a fit on this record has R(0) = I by construction
        warn_of_noise(departure, found.condition, found.mode)
    observables, one = find_observables(observable, _record(ready))
    perturbation, single = plan
    estimates, parts = [], []
    for item in observables:
        frame = frame_of(ready, item, perturbation, single)
        made = make_estimate(ready, item, perturbation, found, frame, errors_wanted=confidence is not None)
        estimates.append(made)
        parts.append(label(made, ready, frame, confidence, units_of(item, perturbation, ready.trajectory)))
        warn_of_a_missed_value(made.departure, made.miss, item.name)
        warn_of_a_constant(item, made.spread)
    out = parts[0] if one else _side_by_side(parts, [item.name for item in observables])
    kicked = "component" if isinstance(perturbation, Kick) else ", ".join(item.name for item in perturbation)
    return out.assign_attrs(
        title="linear response function",
        Conventions="CF-1.11",
        source=f"gfdt {__version__}",
        references="Giorgini et al., Phys. Rev. Lett. 133, 267302 (2024)",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        estimator=ready.score.label,
        observable=", ".join(item.name for item in observables),
        perturbation=f"kick of each {kicked}" if isinstance(perturbation, Kick) else kicked,
        correction=found.mode,
        correction_summary=_summary(found, estimates),
        noise_level=_attribute(ready.score.noise_level_),
        score_verdict=departure.verdict,
        **attributes(ready.score, ready.fingerprint),
        stein_departure=departure.excess,
        stein_worst=float(np.abs(departure.measured - departure.identity)[departure.worst]),
        stein_worst_stderr=float(departure.stderr[departure.worst]),
        correction_condition=found.condition,
        target_departure=float(np.sqrt(np.mean([item.departure**2 for item in estimates]))),
        resampling=ready.unit_text + _error_lags(estimates, ready),
        confidence=float(confidence) if confidence is not None else "none",
        n_members=int(ready.trajectory.sizes["member"]),
        n_times=int(ready.trajectory.sizes["time"]),
        n_samples=ready.n_samples,
        n_units=len(ready.units),
    )


def _record(ready: Summary) -> Record:
    """What observables need to know of the record; of one that was streamed, only what the state itself needs."""
    low, high, examples = -np.inf, np.inf, np.zeros((0, *ready.layout.shape))
    if isinstance(ready, Prepared):
        values = ready.trajectory.values
        examples = values[0][ready.present(0)][:_EXAMPLES].astype(np.float64)
        low, high = float(np.nanmin(values)), float(np.nanmax(values))
    return Record(ready.trajectory, ready.layout, ready.mean, ready.spread(), low, high, ready.n_samples, examples)


def _side_by_side(parts: list[xr.Dataset], names: list[str]) -> xr.Dataset:
    """Several observables along a dim of their own, after lag."""
    out = xr.concat(parts, xr.Variable("observable", names), combine_attrs="override")
    first = str(out.attrs["observable_dims"])
    for name in ("response", "stderr", "lower", "upper", "influence"):
        if name in out:
            lead = ("unit", "lag") if name == "influence" else ("lag",)
            out[name] = out[name].transpose(*lead, "observable", ...)
    return out.assign_attrs(observable_dims=f"observable {first}".strip())


def _mode(correction: str, score: Score) -> str:
    if correction == "auto" and isinstance(score, GaussianScore):
        return "none" if score.shrinkage_ > 0 else "stein"
    return correction


def _attribute(noise_level: float | NDArray[np.float64]) -> float | NDArray[np.float64]:
    """Return sigma as netCDF can hold it: a number, or a list of them."""
    levels = np.unique(np.asarray(noise_level, dtype=np.float64))
    return float(levels[0]) if levels.size == 1 else np.ravel(np.asarray(noise_level, dtype=np.float64))


def _error_lags(estimates: list[Estimate], ready: Summary) -> str:
    used = min(item.n_error_lags for item in estimates)
    return "" if used == ready.lags.size else f"; errors at {used} of {ready.lags.size} lags, interpolated between"


def _summary(found: Correction, estimates: list[Estimate]) -> str:
    if found.divisor is None:
        return "R(0) = I was not used"
    absent = found.algebra.size - found.algebra.n_present
    kind = "directions" if found.algebra.dense else "wavenumbers of the half plane"
    missing = f"; {absent} of {found.algebra.size} {kind} have no variance and no response" if absent else ""
    if found.weight is None:
        return f"R(0) = I imposed by dividing by the measured R(0){missing}"
    share = float((found.weight > 0.5).mean())
    rest = "" if share == 1 else f" in {100 * share:.0f} % of its entries, by the known blur of sigma in the others"
    controlled = any(item.controlled for item in estimates)
    noise = "; what remained was removed as sampling noise" if controlled else ""
    return f"R(0) = I imposed by dividing by the measured R(0){rest}{noise}{missing}"
