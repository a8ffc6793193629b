"""What the findings of a certificate together point to: which of the usual mistakes it looks like.

Single findings say what is wrong; the causes of bad scores are few, and each leaves its own pattern:

- the noise level is too large: it costs a noticeable share of the score, although what is left of it may be exact;
- the score is of another system: mean and covariance, which any training gets right at once, are not those of the
  record, or the likelihood of the record is less than that of a Gaussian;
- too few samples: on new states what was learned beyond a Gaussian is too strong, or was not worth keeping at all;
- trained too little: there is more beyond a Gaussian than was learned.

The sentences are put before the reasons of the findings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gfdt.certificate.held_out import HeldOut
from gfdt.certificate.samples import SampleReport
from gfdt.certificate.verdict import BLUR_AMBER
from gfdt.diagnostics.report import ScoreReport
from gfdt.diagnostics.verdict import Finding
from gfdt.responses.departure import AMBER, RED
from gfdt.scores.base import Score
from gfdt.scores.gaussian import GaussianScore
from gfdt.scores.kde import KDEScore

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Evidence", "diagnose"]

_CERTAIN = 4.0  # standard errors of an amplitude


@dataclass(frozen=True)
class Evidence:
    """What the diagnosis rests on.

    Attributes
    ----------
    score : Score
    identities : ScoreReport
    samples : SampleReport or None
    held_out : HeldOut or None
    blur : float
        Share of the score that the noise level costs.
    """

    score: Score
    identities: ScoreReport
    samples: SampleReport | None
    held_out: HeldOut | None
    blur: float


def diagnose(evidence: Evidence, findings: tuple[Finding, ...]) -> tuple[str, ...]:
    """Return a sentence for each cause that the findings point to; none if all are green.

    Parameters
    ----------
    evidence : Evidence
    findings : tuple of Finding
        All of them.
    """
    if all(item.verdict == "green" for item in findings):
        return ()
    other = _other_system(evidence)
    tests = (_too_coarse(evidence), other, "" if other else _not_learned(evidence))
    return tuple(sentence for sentence in tests if sentence)


def _too_coarse(evidence: Evidence) -> str:
    if evidence.blur <= BLUR_AMBER:
        return ""
    return (
        f"likely cause: a noise level that is too large (it costs {100 * evidence.blur:.0f} % of the score): train "
        "with a smaller sigma, or leave sigma out."
    )


def _other_system(evidence: Evidence) -> str:
    """Whether the mean, the widths or the covariance of the score's density are not those of the record."""
    if evidence.samples is None:
        return ""
    first, second = evidence.samples.mean_and_width, evidence.samples.second
    wrong = [
        name
        for name, found in (("mean and width", first), ("covariance", second))
        if found.significant.any() and found.size > RED
    ]
    held_out = evidence.held_out
    worse = held_out is not None and held_out.gain < -(AMBER**2) and held_out.findings[0].verdict == "red"
    if not wrong and not worse:
        return ""
    are = "are" if len(wrong) > 1 or "mean and width" in wrong else "is"
    what = f"the {' and the '.join(wrong)} of its samples {are}" if wrong else "its likelihood is"
    return (
        f"likely cause: the score belongs to another system, or was trained on too few samples of this one ({what} "
        "not that of the record, which any training gets right first): check that score and trajectory belong "
        "together, or train with more data."
    )


def _not_learned(evidence: Evidence) -> str:
    """Whether there is more beyond a Gaussian than was learned, or less."""
    held_out = evidence.held_out
    if _is_gaussian(evidence.score):
        if not _not_gaussian(evidence.identities):
            return ""
        kind = (
            "a Gaussian was fitted"
            if isinstance(evidence.score, GaussianScore)
            else ("the network never beat its Gaussian start on held-out states")
        )
        advice = (
            "learn one, e.g. with DSMScore"
            if isinstance(evidence.score, GaussianScore)
            else ("train with more data, longer, or with a larger network")
        )
        return f"likely cause: the record is not Gaussian, and {kind}: {advice}."
    if held_out is None or abs(held_out.amplitude_z) < _CERTAIN:
        return ""
    if held_out.amplitude < 1 - AMBER:
        return (
            f"likely cause: too few training samples, or too long a training (on these states {held_out.amplitude:.2g} "
            "of what was learned beyond a Gaussian would be best): train with more data, or stop earlier."
        )
    if isinstance(evidence.score, KDEScore):
        return "likely cause: too few states for a kernel density estimate, whose kernels are too wide: use more data."
    if held_out.amplitude > 1 + AMBER:
        return (
            f"likely cause: trained too little ({held_out.amplitude:.2g} times what was learned beyond a Gaussian "
            "would be best): train longer, or with a larger network."
        )
    return ""


def _is_gaussian(score: Any) -> bool:
    return isinstance(score, GaussianScore) or isinstance(getattr(score, "selected_", None), str)


def _not_gaussian(identities: ScoreReport) -> bool:
    """Whether an identity of second order or higher fails."""
    found: list[NDArray[np.bool_] | bool] = [item.verdict != "green" for item in identities.observables.values()]
    modes = [item.verdict != "green" for item in identities.findings if item.check == "modes"]
    return bool(any([*found, *modes]))
