r"""Does a score satisfy what every exact score satisfies?

With x' = x - m and M = -<x' s^T>, without knowing the density:

- <s> = 0;  M = I (Stein, :mod:`gfdt.responses.departure`);  <A B> = <A'> for other observables
  (:mod:`gfdt.diagnostics.identities`): averages over the record, which the response rests on;
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

from gfdt.covariance import SpectralCovariance
from gfdt.diagnostics.derivatives import Derivatives, differentiate
from gfdt.diagnostics.identities import drift_of_the_mean, mean_score, mode_departure, observable_departures
from gfdt.diagnostics.loss import blurred_covariance, compare_losses, fit_gaussians
from gfdt.diagnostics.report import ScoreReport
from gfdt.diagnostics.sample import Sample, covariance_of, draw_sample
from gfdt.diagnostics.sweep import levels_to_sweep, sweep
from gfdt.diagnostics.verdict import judge
from gfdt.errors import InputError
from gfdt.responses.departure import stein_departure
from gfdt.responses.layout import FullMatrix, Homogeneous
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
    var: str | None = None,
    dims: Sequence[str] | None = None,
    dt: float | None = None,
    progress: bool | None = None,
) -> ScoreReport:
    """Test a score on a trajectory against identities, against a Gaussian fit, and for curl.

    Parameters
    ----------
    trajectory, var, dims, dt
        As in :func:`gfdt.load_trajectory`. Best a record the score was not fitted on: on its own the loss is
        flattered, and the report says so. To hold a part back, fit on ``run.isel(member=slice(0, 48))`` and check on
        ``run.isel(member=slice(48, None))``; with few members, split in time.
    score : Score or callable
        s(x), in the units of the data.
    homogeneous : None, True or sequence of str
        Test per wavenumber instead of per pair of components. Default None: as the score itself was fitted.
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
    names = _names(observables)
    integer("seed", seed, 0, 2**63 - 1)
    if homogeneous is None and isinstance(getattr(score, "covariance_", None), SpectralCovariance):
        homogeneous = True
    request = check_arguments(trajectory, score, max_lag=0.0, homogeneous=homogeneous, var=var, dims=dims, dt=dt)
    refuse_several_fields(request.layout)
    levels = levels_to_sweep(request.score, noise_levels)
    ready = prepare(request, progress=progress)
    departure = stein_departure(ready)
    identities = observable_departures(ready, names)
    modes = mode_departure(ready)
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
        is_gaussian=isinstance(ready.score, GaussianScore),
    )
    return ScoreReport(
        findings=findings,
        departure=departure,
        observables=identities,
        modes=modes,
        mean_score=mean[0],
        mean_score_z=mean[1],
        loss=loss,
        curl=0.0 if curl is None else curl,
        sweep=sweep(ready, fits, sample, levels, rng, extrapolate=noise_levels is not None),
        drift_z=drift[0],
        noise_level=level,
        in_sample=ready.fitted_here,
        label=ready.score.label,
        layout=ready.layout,
        coordinates={dim: ready.trajectory[dim].values for dim in ready.layout.dims},
    )


def refuse_several_fields(layout: FullMatrix | Homogeneous) -> None:
    """Say what to do with several variables at each site, which are not checked per wavenumber."""
    if not layout.dense and layout.several:
        raise InputError(
            f"homogeneous={layout.grid_dims} leaves {layout.dims[0]!r} out, and one field at a time is checked per "
            f"wavenumber: select one variable, e.g. da.isel({layout.dims[0]}=0), with a score fitted on it, or pass "
            "homogeneous=False for the full matrix."
        )


def _names(observables: str | Sequence[str]) -> tuple[str, ...]:
    names = (observables,) if isinstance(observables, str) else observables
    if not isinstance(names, Sequence):
        raise InputError(f"observables={shown(observables)} does not name any: pass e.g. {OBSERVABLES}.")
    return tuple(find_observable(name)[0] for name in names)


def _on_sample(ready: Prepared, sample: Sample, rng: np.random.Generator) -> tuple[NDArray[np.float64], Derivatives]:
    """Values and derivatives of the score at the blurred states of the sample."""
    score, level = ready.score, ready.score.noise_level_
    if isinstance(score, AnalyticScore) and not hasattr(score, "state_shape_"):
        noise = score.noise_level_
        score = copy.copy(score).fit(ready.trajectory)
        score.noise_level_ = noise
    states = sample.blurred(level)
    covariance = covariance_of(ready.layout, ready.mean, ready.covariance)
    blurred = covariance_of(ready.layout, ready.mean, blurred_covariance(ready, ready.covariance, level))
    values = np.asarray(score(states), dtype=np.float64)
    return values, differentiate(score, states, covariance, blurred, rng)
