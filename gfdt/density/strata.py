r"""Stratified noise levels: where an integral over v = σ² is sampled.

With σ(t) a schedule, ∫ h dv = ∫ h(σ(t)) (dv/dt) dt. The unit interval of t is cut into strata, each with two levels
that are mirror images about its middle: what is linear in t then cancels, and what is left of the error is the noise of
h itself. As h is drawn anew at both, half their difference measures that noise, if anything too high.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gfdt.density.schedules import Schedule

__all__ = ["Stratum", "strata", "time_of"]

_HALVINGS = 60  # of the unit interval: t to rounding
_INSIDE = 1e-9  # of a stratum: the level of the state itself, at t = 0, leaves no noise to regress on


@dataclass(frozen=True)
class Stratum:
    """Two levels σ, and for each the weight that makes weights.h an estimate of the stratum's part of ∫ h dv.

    Attributes
    ----------
    bin : int
        Which interval of σ it belongs to.
    levels, weights : (2,)
        The weights are for each level alone: average over the two.
    """

    bin: int
    levels: NDArray[np.float64]
    weights: NDArray[np.float64]


def strata(schedule: Schedule, n_levels: int, rng: np.random.Generator, edges: NDArray[np.float64]) -> list[Stratum]:
    """Return the strata of ``n_levels`` levels between the first and the last edge.

    Parameters
    ----------
    schedule : Schedule
        From the first edge to the last. One that starts above the first edge, as a geometric one from 0 must, has its
        remainder made up for by a stratum uniform in v.
    n_levels : int
        About how many levels, two for each stratum.
    rng : Generator
    edges : (n_bins + 1,)
        σ, increasing; every stratum lies in one bin, and every bin has at least one stratum.
    """
    out = []
    bottom = float(schedule.level(0.0))
    if bottom > edges[0] * (1 + 1e-6):
        low, width = edges[0] ** 2, bottom**2 - edges[0] ** 2
        out.append(Stratum(0, np.sqrt(low + width * _mirrored(rng)), np.full(2, width)))
    times = time_of(schedule, edges)
    for index, (first, last) in enumerate(pairwise(times)):
        if last <= first:
            continue
        count = max(1, round(n_levels / 2 * (last - first)))
        for k in range(count):
            t = first + (last - first) * (k + _mirrored(rng)) / count
            out.append(Stratum(index, schedule.level(t), schedule.weight(t) * (last - first) / count))
    return out


def time_of(schedule: Schedule, levels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return t at which the schedule passes levels (n,), 0 and 1 beyond its ends, by bisection."""
    low, high = np.zeros(len(levels)), np.ones(len(levels))
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        above = schedule.level(middle) >= levels
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    return np.where(levels <= schedule.level(0.0), 0.0, np.where(levels >= schedule.level(1.0), 1.0, (low + high) / 2))


def _mirrored(rng: np.random.Generator) -> NDArray[np.float64]:
    u = min(max(rng.random(), _INSIDE), 1 - _INSIDE)
    return np.array([u, 1 - u])
