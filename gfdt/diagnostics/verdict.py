"""From numbers to green, amber or red, with the reason and what to do about it.

A departure must be both beyond sampling noise (0.1 %, over all entries together) and large enough to matter. The
limits, 5 and 20 % rms of an identity that should be exact, are the "few per cent" that the correction of the response
deals with, and what it can no longer make good.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gfdt.diagnostics.loss import LossComparison
from gfdt.diagnostics.mean import MeanChange
from gfdt.diagnostics.names import Names
from gfdt.responses.departure import AMBER, Departure

__all__ = ["Finding", "judge", "worst_of"]

_ORDER = ("green", "amber", "red")
_CURL_AMBER, _CURL_RED = 0.10, 0.30  # of |grad s|: 0.01 to 0.02 for learned scores of simulators.Potential2D
_MODE_AMBER, _MODE_RED = 0.10, 0.25  # of one mode, beyond noise: a bimodal one has 0.67 with a Gaussian score
_DOUBT = 4.5  # standard errors that are not passed over, however few the units that they are estimated from
_LOSS_AMBER, _LOSS_RED = 0.00125, 0.005  # squared error halved: 5 and 10 % rms worse than the Gaussian


@dataclass(frozen=True)
class Finding:
    """One check and what came out.

    Attributes
    ----------
    check : str
        What was looked at.
    verdict : "green", "amber" or "red"
    value : float
        The number that was judged.
    text : str
        The number in words.
    reason : str
        What is wrong and how to fix it; empty if green.
    """

    check: str
    verdict: str
    value: float
    text: str
    reason: str = ""


def worst_of(findings: tuple[Finding, ...]) -> str:
    """Return the verdict over all findings."""
    return max((finding.verdict for finding in findings), key=_ORDER.index)


def judge(
    stein: Departure,
    observables: Mapping[str, Departure],
    modes: Departure,
    mean_score: MeanChange,
    loss: LossComparison,
    curl: float | None,
    drift: MeanChange,
    *,
    names: Names,
    is_gaussian: bool,
) -> tuple[Finding, ...]:
    """Judge every number.

    Parameters
    ----------
    stein, observables, modes, mean_score, loss, curl, drift
        The results of the checks; ``curl`` is None for one component, which has none.
    names : Names
        What the worst entries are called.
    is_gaussian : bool
        Whether the score is a Gaussian fit, which needs no advice to learn longer.
    """
    findings = [_stein(stein, names)]
    findings += [_observable(name, found, names, is_gaussian) for name, found in observables.items()]
    findings += [_modes(modes, names, is_gaussian), _mean(mean_score, names), _loss(loss)]
    if curl is not None:
        findings.append(_curl(curl))
    return (*findings, _drift(drift, names))


def _stein(found: Departure, names: Names) -> Finding:
    text = f"rms |M - I| beyond noise {found.excess:.3g} (worst {found.worst_z:.1f} stderr)"
    reason = ""
    if found.verdict != "green":
        where = found.worst
        reason = (
            f"the Stein identity fails by {100 * found.excess:.0f} % rms (worst{_at(names.stein(where))}: "
            f"{np.real(found.measured[where]):.3g} +- {found.stderr[where]:.2g} instead of "
            f"{np.real(found.identity[where]):.2g}; {found.weakest:.2g} to {found.strongest:.2g} of the score is "
            "there): gfdt.response divides much of it out, but train longer or with more data, or check that score and "
            "trajectory belong to the same system."
        )
    return Finding("Stein identity", found.verdict, found.excess, text, reason)


_ORDERS = {
    "variance": ("second order", "<x^2 s>", "the skewness of the density"),
    "moment3": ("third order", "<x^3 s> + 3 <x^2>", "the shape of the density"),
    "moment4": ("fourth order", "<x^4 s> + 4 <x^3>", "the tails of the density"),
    "second_moment": ("second moment", "<x^2 s> + 2 <x>", "the mean or the skewness of the density"),
    "mean": ("first order", "<x s> + 1", "the width of the density"),
}


def _observable(name: str, found: Departure, names: Names, is_gaussian: bool) -> Finding:
    label, formula, lacking = _ORDERS.get(name, (name, "<A s> + <A'>", "the density"))
    text = f"rms {formula} beyond noise {found.excess:.3g} (worst {found.worst_z:.1f} stderr)"
    reason = ""
    if found.verdict != "green":
        advice = "learn one, e.g. with DSMScore" if is_gaussian else "train longer, or with more data"
        where = names.observable(found.worst)
        worst = f" (worst{_at(where)})" if where else ""
        reason = (
            f"the {label.replace(' ', '-')} identity fails by {100 * found.excess:.0f} % rms{worst}: the score does "
            f"not know {lacking} (a Gaussian score of other data fails here): {advice}."
        )
    return Finding(label, found.verdict, found.excess, text, reason)


def _modes(found: Departure, names: Names, is_gaussian: bool) -> Finding:
    verdict, reason = "green", ""
    if found.significant and found.certain > _MODE_AMBER:
        verdict = "red" if found.certain > _MODE_RED else "amber"
        departure = np.abs(found.measured - found.identity)
        where = int(np.argmax(departure - found.stderr))
        advice = "learn one, e.g. with DSMScore" if is_gaussian else "train longer, or with more data"
        reason = (
            f"the third-order identity of {names.mode(where)} fails by "
            f"{100 * departure[where]:.0f} +- {100 * found.stderr[where]:.0f} %: the score does not know the shape of "
            f"its density: {advice}."
        )
    text = f"largest departure of one beyond noise {found.certain:.3g} (worst {found.worst_z:.1f} stderr)"
    return Finding("modes", verdict, found.certain, text, reason)


def _mean(found: MeanChange, names: Names) -> Finding:
    bad = found.share > AMBER and found.significant
    reason = (
        f"the mean score is {100 * found.share:.0f} % of its rms ({found.z:.1f} standard errors"
        f"{_at(names.component(found.component))}): the score belongs to a density with another mean; fit it on this "
        "record, or train longer."
    )
    text = f"largest |<s>| {found.share:.2g} of its rms ({found.z:.1f} stderr)"
    return Finding("mean score", "amber" if bad else "green", found.share, text, reason if bad else "")


def _loss(found: LossComparison) -> Finding:
    verdict, reason = "green", ""
    if not np.isfinite(found.score):
        verdict = "amber"
        reason = "the score or its derivative is not finite at some states: check its formula there."
    elif found.significant and found.difference > _LOSS_AMBER:
        verdict = "red" if found.difference > _LOSS_RED else "amber"
        reason = (
            f"the score-matching loss is {found}: its error is larger than that of the Gaussian, by "
            f"{100 * np.sqrt(2 * found.difference):.0f} % of the score rms: use GaussianScore, or train longer, with "
            "more data or a larger sigma, or check that score and trajectory belong to the same system."
        )
    return Finding("loss", verdict, found.difference, str(found), reason)


def _curl(curl: float) -> Finding:
    verdict, reason = "green", ""
    if curl > _CURL_AMBER:
        verdict = "red" if curl > _CURL_RED else "amber"
        reason = (
            f"the curl of the score is {100 * curl:.0f} % of its derivative, that of a gradient is zero: the score is "
            "not the gradient of any log density; train longer or with more data, or leave rotational terms of the "
            "drift out of a formula."
        )
    if not np.isfinite(curl):
        verdict, reason = "amber", "the derivative of the score is not finite at some states: check its formula there."
    return Finding("curl", verdict, curl, f"|J - J'|/2 over |J| {curl:.2g}", reason)


def _drift(found: MeanChange, names: Names) -> Finding:
    bad = found.significant or found.z > _DOUBT
    few = "" if found.significant else " (few independent stretches, so this is not certain)"
    reason = (
        f"the mean drifts by {found.z:.1f} standard errors from the beginning of the record to its end"
        f"{_at(names.component(found.component))}, so it is not stationary{few}: remove trend and seasonal cycle, or "
        "cut the spin-up."
    )
    text = f"largest drift of the mean {found.z:.1f} stderr"
    return Finding("stationarity", "amber" if bad else "green", found.z, text, reason if bad else "")


def _at(name: str) -> str:
    return f" at {name}" if name else ""
