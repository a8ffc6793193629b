r"""Does a score stand for the density of a record?

:func:`gfdt.check_score` tests what every response rests on, averages at the noise level of the score. A density says
more, and can be wrong where those averages are right. A certificate therefore also

- draws samples and compares them with the record: one-point densities, spectrum or covariance, higher moments of
  sites, modes and increments, a distance of the whole (:mod:`gfdt.certificate.samples`);
- draws samples by two reverse processes that agree for an exact score only;
- bounds the likelihood of the record (:mod:`gfdt.certificate.held_out`);
- says what the noise level costs (:mod:`gfdt.certificate.blur`), and what is known of the training.

Everything is compared within standard errors from the resampling units of the record, and by size where it is beyond
them (:mod:`gfdt.certificate.verdict`). A score that is known at one noise level only can neither be sampled nor has it
a likelihood: it is judged by the identities, and amber at best, since nothing was found out about its density.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from gfdt.certificate.blur import share_of_blur
from gfdt.certificate.diagnosis import Evidence, diagnose
from gfdt.certificate.held_out import HeldOut, judge_held_out
from gfdt.certificate.report import Certificate
from gfdt.certificate.samples import SampleReport, Samples, draw, judge_samples
from gfdt.certificate.stamp import stamp_of
from gfdt.certificate.verdict import judge_blur
from gfdt.diagnostics.check import check_score
from gfdt.diagnostics.report import ScoreReport
from gfdt.diagnostics.verdict import Finding
from gfdt.errors import InputError
from gfdt.output import check_output
from gfdt.responses.prepare import check_arguments, prepare
from gfdt.scores.analytic import AnalyticScore
from gfdt.scores.base import Score
from gfdt.trajectory import Source
from gfdt.validation import integer

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gfdt.density.family import Family

__all__ = ["Certificate", "certify"]

_VALUES = 2**18  # numbers in all samples: 256 fields of 32 x 32, 8192 states of up to 32 components
_FEWEST, _MOST = 256, 8192  # 8192 know the probability of a bin of 5 % to 5 %
_LEAST_SAMPLES = 64


def certify(
    score: Score | Callable[[NDArray[Any]], NDArray[Any]],
    trajectory: Source,
    *,
    n_samples: int | None = None,
    seed: int = 0,
    homogeneous: bool | str | Sequence[str] | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    var: str | Sequence[str] | None = None,
    dims: Sequence[str] | None = None,
    dt: float | None = None,
    progress: bool | None = None,
) -> Certificate:
    """Judge a score as a model of the density of a record, in one report with one verdict.

    Parameters
    ----------
    score : Score or callable
        Fitted; a function s(x) is judged by the identities only. The verdict is kept on it as ``certificate_``, and
        :func:`gfdt.response` writes it into its results.
    trajectory, var, dims, dt
        As in :func:`gfdt.response`. Best a record the score was not fitted on: on its own what was memorised looks
        learned, and the verdict is amber at best. To hold a part back, fit on ``run.isel(member=slice(0, 48))`` and
        certify on ``run.isel(member=slice(48, None))``; with few members, split in time.
    n_samples : int, optional
        Samples to draw with λ = 0; half as many are drawn with λ = 1. Default: 2^18 numbers in all, but 256 to 8192
        samples. The likelihood is then looked at for about as many states of the record (one of every resampling unit
        at least). Fewer find less: what is beyond the errors decides.
    seed : int
        Of samples, noise and whatever is chosen at random.
    homogeneous : None, True or sequence of str
        As in :func:`gfdt.check_score`. Default None: as the score itself was fitted.
    out : path, optional
        HTML file to write the report to.
    overwrite : bool
        Replace that file. Default False.
    progress : bool, optional
        Show progress bars. Default None: only on a terminal.

    Returns
    -------
    Certificate
        ``print`` it; ``verdict`` is green, amber or red, ``reasons`` say why and what to do.

    Raises
    ------
    InputError
        As :func:`gfdt.check_score`; or if score and trajectory cannot be told apart.
    OutputError
        If the file cannot be written.
    """
    score, trajectory = _in_order(score, trajectory)
    integer("n_samples", n_samples, _LEAST_SAMPLES, 10**7, optional=True)
    integer("seed", seed, 0, 2**32 - 1)
    if out is not None:
        check_output(out, overwrite=overwrite)
    request = check_arguments(
        trajectory, score, max_lag=0.0, homogeneous=homogeneous, var=var, dims=dims, dt=dt, gaps=True
    )
    known = _told_of_its_state(request.score, request.trajectory)
    identities = check_score(request.trajectory, known, homogeneous=homogeneous, seed=seed, progress=progress)
    # Mean, covariance and resampling units alone: the score was evaluated on the record already.
    without = replace(request, score=AnalyticScore(np.zeros_like), layout=identities.layout)
    ready = replace(
        prepare(without, progress=False, errors_wanted=False), score=known, fitted_here=identities.in_sample
    )
    family = _family_of(known)
    drawn: Samples | str | None = None
    samples: SampleReport | None = None
    held_out: HeldOut | None = None
    if not isinstance(family, str):
        count = n_samples or int(np.clip(_VALUES // max(ready.layout.size, 1), _FEWEST, _MOST))
        drawn = draw(known, count, seed, progress)
        if isinstance(drawn, Samples):
            samples = judge_samples(ready, known.noise_level_, drawn, np.random.default_rng([seed, 2]))
            held_out = judge_held_out(ready, family, known.noise_level_, n_samples, seed, progress)
    share = share_of_blur(ready, known.noise_level_)
    sections = _sections(identities, family, drawn, samples, held_out)
    sections["score"] = _of_the_score(known, identities, drawn, share)
    evidence = Evidence(known, identities, samples, held_out, share)
    certificate = Certificate(
        sections=sections,
        diagnosis=diagnose(evidence, tuple(item for section in sections.values() for item in section)),
        identities=identities,
        distance=samples.distance if samples else None,
        spread=samples.spread if samples else None,
        likelihood=held_out.bound if held_out else None,
        pictures=samples.pictures if samples else xr.Dataset(),
        label=known.label,
        in_sample=identities.in_sample,
        noise_level=known.noise_level_,
        n_samples=len(drawn.sde) if isinstance(drawn, Samples) else 0,
        n_states=samples.n_states if samples else 0,
        resampling=identities.resampling,
    )
    if isinstance(score, Score):
        score.certificate_ = stamp_of(score, request.trajectory, certificate.verdict, certificate.reasons)
    if out is not None:
        certificate.to_html(out, overwrite=overwrite)
    return certificate


def _in_order(score: Any, trajectory: Any) -> tuple[Any, Any]:
    """Score first, whichever way they came."""

    def is_score(value: Any) -> bool:
        return isinstance(value, Score) or (callable(value) and not isinstance(value, type | xr.DataArray | xr.Dataset))

    if is_score(score) and not is_score(trajectory):
        return score, trajectory
    if is_score(trajectory) and not is_score(score):
        return trajectory, score
    raise InputError(
        f"certify takes a score and a trajectory, found a {type(score).__name__} and a {type(trajectory).__name__}: "
        "call gfdt.certify(score, trajectory)."
    )


def _told_of_its_state(score: Score, trajectory: xr.DataArray) -> Score:
    """A formula that knows its state dims, which only a fit tells it; other scores as they are."""
    if not isinstance(score, AnalyticScore) or hasattr(score, "state_shape_"):
        return score
    noise = score.noise_level_
    score = copy.copy(score).fit(trajectory)
    score.noise_level_ = noise
    return score


def _family_of(score: Score) -> Family | str:
    """The scores at all noise levels, or why there are none."""
    try:
        return score.family()
    except InputError as error:
        return str(error)


def _sections(
    identities: ScoreReport,
    family: Family | str,
    drawn: Samples | str | None,
    samples: SampleReport | None,
    held_out: HeldOut | None,
) -> dict[str, tuple[Finding, ...]]:
    """The findings by part."""
    out = {"identities": identities.findings}
    if isinstance(family, str):
        text = "not certified as a density: no samples, no likelihood"
        out["density"] = (Finding("density", "amber", float("nan"), text, f"{text}: {family}"),)
        return out
    if isinstance(drawn, str):
        reason = f"no samples can be drawn with this score, nor is its likelihood looked at: {drawn}"
        out["samples against the record"] = (Finding("samples", "red", float("nan"), "none could be drawn", reason),)
    if samples is not None:
        out["samples against the record"] = samples.findings
        out["reverse processes"] = samples.processes
    if held_out is not None:
        out["likelihood"] = held_out.findings
    return out


def _of_the_score(
    score: Score, identities: ScoreReport, drawn: Samples | str | None, share: float
) -> tuple[Finding, ...]:
    """What the noise level costs, and what is known of the training."""
    levels = np.unique(np.asarray(score.noise_level_, dtype=np.float64))
    shown = f"{levels[0]:.3g}" if levels.size == 1 else f"{levels[0]:.3g} to {levels[-1]:.3g}"
    findings = [judge_blur(share, shown)]
    if isinstance(drawn, Samples):
        text = "; ".join(drawn.doubts)
        findings.append(
            Finding("noise range", "amber", float("nan"), "not all of what samples need", f"{text}")
            if drawn.doubts
            else Finding("noise range", "green", float("nan"), "known as far up as samples need")
        )
    findings.append(_training(score, identities.in_sample))
    return tuple(findings)


def _training(score: Score, in_sample: bool) -> Finding:
    check, selected = "training", getattr(score, "selected_", None)
    if in_sample:
        reason = (
            "the score was fitted on this very record, on which what it memorised looks learned: certify it on a part "
            "of the data it has not seen, e.g. fit on run.isel(member=slice(0, 48)), certify on the other members."
        )
        return Finding(check, "amber", 1.0, "judged on the record it was fitted on", reason)
    if score.label == "analytical":
        return Finding(check, "green", 0.0, "a formula: nothing was learned")
    if getattr(score, "interrupted_", False) or getattr(score, "stopped_", "") == "not finite":
        why = "was interrupted" if getattr(score, "interrupted_", False) else "diverged"
        reason = f"the training {why}, and the best weights until then were kept: train again, or to the end."
        return Finding(check, "amber", 1.0, f"the training {why}", reason)
    if isinstance(selected, str):
        return Finding(
            check, "green", 0.0, f"not the identical record it was fitted on; {selected}: the network is not used"
        )
    return Finding(check, "green", 0.0, "not the identical record the score was fitted on")
