r"""From comparisons to green, amber or red, with the reason and what to do about it.

The limits are those of :mod:`gfdt.diagnostics.verdict`: 5 and 20 % rms of what should agree exactly, 10 and 25 % of a
single mode beyond noise; a departure must be beyond its errors too. Others are

- tails, 20 and 50 %: the probability of a rare value is off by more than the density where values are common, and half
  of it is what one decides by;
- sliced Wasserstein distance: an excess of 0.05 and 0.20 standard deviations, and more than twice the floor. The floor
  is known from few resampling units where the record is short; a correct score does not come near twice of it, since
  its distance to a half of the record is expected to be less than that of the other half;
- likelihood, 0.0025 and 0.04 nats for each component: the divergence of Gaussians whose widths differ by 5 and 20 %,
  (5 %)² and (20 %)² to leading order;
- share of the score that the noise level costs, 10 and 30 %: twice what is accepted when a level is chosen by default,
  and what no response or sample made with it could hide.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gfdt.certificate.comparison import Comparison
from gfdt.certificate.sliced import SlicedDistance
from gfdt.diagnostics.verdict import Finding
from gfdt.responses.departure import AMBER, RED

__all__ = [
    "BLUR_AMBER",
    "BLUR_RED",
    "LIKELIHOOD_AMBER",
    "LIKELIHOOD_RED",
    "judge_blur",
    "judge_comparison",
    "judge_density",
    "judge_modes",
    "judge_sliced",
    "judge_spread",
    "judge_tails",
]

_MODE_AMBER, _MODE_RED = 0.10, 0.25
_TAIL_AMBER, _TAIL_RED = 0.20, 0.50
_FLOORS = 2.0
BLUR_AMBER, BLUR_RED = 0.10, 0.30
LIKELIHOOD_AMBER, LIKELIHOOD_RED = AMBER**2, RED**2

_ADVICE = "train longer or with more data, or check that score and trajectory belong to the same system"


def judge_comparison(
    check: str,
    found: Comparison,
    what: str,
    name: Callable[[int, int], str],
    *,
    limits: tuple[float, float] = (AMBER, RED),
) -> Finding:
    """Judge by the rms over the entries of the worst kind.

    Parameters
    ----------
    check : str
    found : Comparison
    what : str
        What was compared, for the sentence: "the mean and width of the samples".
    name : callable
        What (kind, entry) is called, with a leading space, or empty.
    limits : (float, float)
        Amber and red.
    """
    verdict = _graded(found.size, limits) if found.significant.any() else "green"
    return Finding(
        check,
        verdict,
        found.size,
        f"rms departure {_extent(found)}",
        _why(found, what, name) if verdict != "green" else "",
    )


def judge_density(found: Comparison, name: Callable[[int], str]) -> Finding:
    """Judge the one-point density; ``name`` says what a kind is called, with a leading space, or empty."""
    kind = int(found.worst[0]) if not found.significant.any() else int((found.excess * found.significant).argmax())
    distance = 0.5 * float(np.abs(found.found[kind] - found.expected[kind]).sum())
    largest = int(np.abs(found.departure[kind]).argmax())
    largest_text = f"{100 * found.departure[kind, largest]:+.0f} +- {100 * found.stderr[kind, largest]:.1g} %"
    verdict = _graded(found.size, (AMBER, RED)) if found.significant.any() else "green"
    text = (
        f"rms relative error {_extent(found)}, total variation {distance:.2g}, largest {largest_text} in one of "
        f"{found.departure.shape[1]} bins"
    )
    reason = (
        f"the one-point density of the samples{name(kind)} is off by {100 * found.size:.0f} % rms (total variation "
        f"{distance:.2g}, the largest error of a bin of 5 % {largest_text}): {_ADVICE}."
    )
    return Finding("density", verdict, found.size, text, reason if verdict != "green" else "")


def judge_tails(found: Comparison, name: Callable[[int, int], str]) -> Finding:
    """Judge the probabilities beyond the 1 % and 99 % quantiles."""
    found_text = "the probability of rare values (beyond the 1 % and 99 % quantiles of the record)"
    return judge_comparison("tails", found, found_text, name, limits=(_TAIL_AMBER, _TAIL_RED))


def judge_modes(check: str, found: Comparison, what: str, name: Callable[[int], str]) -> Finding:
    """Judge what is known for every mode, by the rms over all and by the worst beyond noise."""
    verdict = "green"
    if found.significant.any():
        grades = [_graded(found.size, (AMBER, RED)), _graded(found.certain, (_MODE_AMBER, _MODE_RED))]
        verdict = max(grades, key=["green", "amber", "red"].index)
    text = f"rms departure {_extent(found)}"
    if found.significant.any():
        text += f", of one mode at least {found.certain:.3g}"
    reason = _why(found, what, lambda _, entry: name(entry)) if verdict != "green" else ""
    return Finding(check, verdict, max(found.size, found.certain), text, reason)


def judge_sliced(found: SlicedDistance) -> Finding:
    """Judge the distance of the samples from the record."""
    text = (
        f"{found.distance:.3g} sd, {found.ratio:.2g} times the floor of {found.floor:.2g} (record against itself, "
        f"{found.n_states} states)"
    )
    verdict = _far(found)
    reason = (
        f"the samples are {found.distance:.2g} standard deviations from the record in sliced Wasserstein distance, "
        f"{found.ratio:.1f} times what the record is from itself: {_ADVICE}."
    )
    return Finding("distance", verdict, found.excess, text, reason if verdict != "green" else "")


def judge_spread(distance: SlicedDistance, others: list[Finding]) -> Finding:
    """Judge whether samples of different reverse processes (λ = 0 and λ = 1) are of one density.

    ``others`` are findings on their statistics, of which the worst counts.
    """
    order = ["green", "amber", "red"]
    worst = max(others, key=lambda item: (order.index(item.verdict), item.value))
    verdict = max(_far(distance), worst.verdict, key=order.index)
    text = (
        f"samples with lambda 0 and 1 {distance.distance:.3g} sd apart, {distance.ratio:.2g} times the floor; worst "
        f"of their statistics: {worst.check}, {worst.text.split(',')[0]}"
    )
    reason = (
        "samples of the reverse SDE (lambda = 0) and of the probability flow (lambda = 1) differ "
        f"({distance.distance:.2g} sd apart, {distance.ratio:.1f} times the floor; {worst.check} {worst.value:.2g}), "
        "which they do not for any exact score: at some noise level it was not learned; train longer or with more data."
    )
    return Finding("spread over lambda", verdict, distance.excess, text, reason if verdict != "green" else "")


def judge_blur(share: float, level: str) -> Finding:
    """Judge the share of the score that the noise level costs."""
    verdict = _graded(share, (BLUR_AMBER, BLUR_RED))
    text = f"sigma = {level} costs {100 * share:.2g} % of the score, <sigma^2/(C_k + sigma^2)>"
    reason = (
        f"the noise level sigma = {level} blurs away {100 * share:.0f} % of the score (average over modes): train with "
        "a smaller sigma, or leave sigma out."
    )
    return Finding("noise level", verdict, share, text, reason if verdict != "green" else "")


def _graded(size: float, limits: tuple[float, float]) -> str:
    return "red" if size > limits[1] else "amber" if size > limits[0] else "green"


def _extent(found: Comparison) -> str:
    """The size where something was found; sizes within the noise would only mislead."""
    worst = f"(worst {found.z.max():.1f} stderr)"
    return f"beyond noise {found.size:.3g} {worst}" if found.significant.any() else f"within noise {worst}"


def _far(found: SlicedDistance) -> str:
    return _graded(found.excess, (AMBER, RED)) if found.ratio > _FLOORS else "green"


def _why(found: Comparison, what: str, name: Callable[[int, int], str]) -> str:
    kind, entry = found.worst
    return (
        f"{what} departs from the record by {100 * found.size:.0f} % rms beyond noise (worst{name(kind, entry)}: "
        f"{100 * found.departure[kind, entry]:+.0f} +- {100 * found.stderr[kind, entry]:.1g} %): {_ADVICE}."
    )
