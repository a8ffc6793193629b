r"""Does a score satisfy what every exact score satisfies?

With x' = x - m and M = -<x' s^T>, without knowing the density:

- <s> = 0 (:mod:`gfdt.diagnostics.mean`);  M = I (Stein, :mod:`gfdt.responses.departure`);  <A B> = <A'> for other
  observables (:mod:`gfdt.diagnostics.identities`) and of single modes (:mod:`gfdt.diagnostics.modes`): averages over
  the record, which the response rests on;
- the score-matching loss is no larger than a Gaussian's (:mod:`gfdt.diagnostics.loss`): the error at single states;
- grad s is symmetric (:mod:`gfdt.diagnostics.derivatives`): s is the gradient of something;
- the same at other noise levels, for a score that was learned at many (:mod:`gfdt.diagnostics.sweep`).

A score learned at noise level sigma has M = P = C (C + sigma^2 I)^-1 on Gaussian data; that known factor is divided out
before judging, since ``gfdt.response`` divides by it too. All of it supposes a stationary record, so a drift of the
mean from the first half of the record to the second is looked for as well.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gfdt.covariance import CrossSpectralCovariance, SpectralCovariance
from gfdt.diagnostics.derivatives import Derivatives, differentiate
from gfdt.diagnostics.identities import observable_departures
from gfdt.diagnostics.loss import compare_losses, fit_gaussians
from gfdt.diagnostics.mean import drift_of_the_mean, mean_score
from gfdt.diagnostics.modes import mode_departure
from gfdt.diagnostics.names import Names
from gfdt.diagnostics.report import ScoreReport
from gfdt.diagnostics.sample import Sample, blurred_covariance, covariance_of, draw_sample, spread_of
from gfdt.diagnostics.sweep import levels_to_sweep, sweep
from gfdt.diagnostics.verdict import judge
from gfdt.errors import InputError
from gfdt.responses.departure import stein_departure
from gfdt.responses.observables import find_observable
from gfdt.responses.prepare import Prepared, check_arguments, prepare
from gfdt.scores.analytic import AnalyticScore
from gfdt.scores.base import Score
from gfdt.scores.gaussian import GaussianScore
from gfdt.trajectory import Source
from gfdt.validation import integer, shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ScoreReport", "check_score"]

OBSERVABLES = ("variance", "moment3")


def check_score(
    trajectory: Source,
    score: Score | Callable[[NDArray[Any]], NDArray[Any]],
    *,
    homogeneous: bool | str | Sequence[str] | None = None,
    observables: str | Sequence[str] = OBSERVABLES,
    noise_levels: Sequence[float] | None = None,
    seed: int = 0,
    var: str | Sequence[str] | None = None,
    dims: Sequence[str] | None = None,
    dt: float | None = None,
    progress: bool | None = None,
) -> ScoreReport:
    """Test a score on a trajectory against identities, against a Gaussian fit, and for curl.

    Parameters
    ----------
    trajectory, var, dims, dt
        As in :func:`gfdt.response`: samples may be missing, members may differ in length (a list), ``var`` may name
        several variables. Best a record the score was not fitted on: on its own the loss is
        flattered, and the report says so. To hold a part back, fit on ``run.isel(member=slice(0, 48))`` and check on
        ``run.isel(member=slice(48, None))``; with few members, split in time.
    score : Score or callable
        s(x), in the units of the data.
    homogeneous : None, True or sequence of str
        Test per wavenumber instead of per pair of components; all but the first of the state dims: for every pair of
        the variables that this one numbers. Default None: as the score itself was fitted.
    observables : sequence of str
        The A of <A B> = <A'> to look at besides the state itself; names as in :func:`gfdt.response`. Default variance
        and moment3: they see skewness and kurtosis; moment4 is noisy.
    noise_levels : sequence of float, optional
        The sigma of the sweep, in the units of the data. Default None: 3/4, 1, 3/2, 2, 3 times the score's own, as far
        as it was learned there; an empty sequence for no sweep.
    seed : int
        Of the noise and the probes of the loss, the curl and the sweep.
    progress : bool, optional
        Show a progress bar. Default None: only on a terminal.

    Returns
    -------
    ScoreReport
        Green: departures from the identities below 5 % rms, or within sampling noise. Red: above 20 % and significant,
        or above 25 % beyond noise in a single mode; a loss significantly larger than the Gaussian's; a curl above 30 %.
        ``gfdt.response`` divides a departure from the Stein identity out; the others it cannot.

    Raises
    ------
    InputError
        As :func:`gfdt.response`; or noise levels the score does not have.

    References
    ----------
    Giorgini et al., Phys. Rev. Lett. 133, 267302 (2024), eq. 3-5; Hyvärinen, J. Mach. Learn. Res. 6, 695 (2005).
    """
    wanted = _names(observables)
    integer("seed", seed, 0, 2**63 - 1)
    if homogeneous is None:
        homogeneous = _as_fitted(score)
    request = check_arguments(
        trajectory, score, max_lag=0.0, homogeneous=homogeneous, var=var, dims=dims, dt=dt, gaps=True
    )
    levels = levels_to_sweep(request.score, noise_levels)
    ready = prepare(request, progress=progress)
    departure = stein_departure(ready)
    identities = observable_departures(ready, wanted)
    modes, where = mode_departure(ready)
    names = Names(ready.layout, {dim: ready.trajectory[dim].values for dim in ready.layout.dims}, where)
    rng = np.random.default_rng(seed)
    sample = draw_sample(ready, rng)
    fits = fit_gaussians(ready)
    level = ready.score.noise_level_
    values, derivatives = _on_sample(ready, sample, rng)
    loss = compare_losses(ready, fits, sample, values, derivatives, level)
    curl = derivatives.curl if ready.mean.size > 1 else None
    mean, drift = mean_score(ready), drift_of_the_mean(ready)
    findings = judge(
        departure,
        identities,
        modes,
        mean,
        loss,
        curl,
        drift,
        names=names,
        is_gaussian=isinstance(ready.score, GaussianScore),
    )
    return ScoreReport(
        findings=findings,
        departure=departure,
        observables=identities,
        modes=modes,
        mean_score=mean.share,
        mean_score_z=mean.z,
        loss=loss,
        curl=0.0 if curl is None else curl,
        sweep=sweep(ready, fits, sample, levels, rng, extrapolate=noise_levels is not None),
        drift_z=drift.z,
        noise_level=level,
        in_sample=ready.fitted_here,
        label=ready.score.label,
        resampling=_resampling(ready),
        n_samples=ready.n_samples,
        names=names,
    )


def _as_fitted(score: Any) -> tuple[str, ...] | bool | None:
    """The dims along which the score itself takes the field for homogeneous."""
    covariance = getattr(score, "covariance_", None)
    if isinstance(covariance, CrossSpectralCovariance):
        return tuple(score.state_dims_[1:])
    return True if isinstance(covariance, SpectralCovariance) else None


def _resampling(ready: Prepared) -> str:
    """What the standard errors are the spread of, in words."""
    # A few short members are not cut up: each is then one block, and called what it is.
    n_members = ready.trajectory.sizes["member"]
    return f"{n_members} members" if len(ready.units) == n_members else ready.unit_text


def _names(observables: str | Sequence[str]) -> tuple[str, ...]:
    names = (observables,) if isinstance(observables, str) else observables
    if not isinstance(names, Sequence):
        raise InputError(f"observables={shown(observables)} does not name any: pass e.g. {OBSERVABLES}.")
    return tuple(find_observable(name)[0] for name in names)


def _on_sample(ready: Prepared, sample: Sample, rng: np.random.Generator) -> tuple[NDArray[np.float64], Derivatives]:
    """Values and derivatives of the score at the blurred states of the sample."""
    score, level, spread = ready.score, ready.score.noise_level_, spread_of(ready)
    if isinstance(score, AnalyticScore) and not hasattr(score, "state_shape_"):
        # What ``fit`` would tell a formula, without another pass over the record.
        score = copy.copy(score)
        score.state_dims_, score.state_shape_, score._spread = ready.layout.dims, ready.layout.shape, spread
    states = sample.blurred(level)
    covariance = covariance_of(ready, ready.covariance)
    blurred = covariance_of(ready, blurred_covariance(ready, ready.covariance, level))
    values = np.asarray(score(states), dtype=np.float64)
    return values, differentiate(score, states, covariance, blurred, rng, spread)
