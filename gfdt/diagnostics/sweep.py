"""The same score at other noise levels: what does sigma cost, and what does the noise of learning?

A large sigma blurs the density (a bias of O(sigma^2), which the loss at that sigma does not see, since it belongs to
the blurred density); a small one amplifies the errors of learning (which the loss sees: its gain over the Gaussian
turns into a loss).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gfdt.diagnostics.derivatives import differentiate
from gfdt.diagnostics.loss import GaussianFits, LossComparison, compare_losses
from gfdt.diagnostics.sample import Sample, blurred_covariance, covariance_of, spread_of
from gfdt.errors import InputError, ReliabilityWarning
from gfdt.responses.departure import Departure, find_departure
from gfdt.responses.prepare import Prepared
from gfdt.responses.sums import UnitSums
from gfdt.scores.base import Score
from gfdt.validation import is_number, shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["SweepLevel", "levels_to_sweep", "sweep"]

_FACTORS = (0.75, 1.0, 1.5, 2.0, 3.0)  # of the score's own noise level


@dataclass(frozen=True)
class SweepLevel:
    """The score at one noise level.

    Attributes
    ----------
    noise_level : float
        sigma (the rms over components, if it differs between them).
    stein : Departure
        From the Stein identity, on the subsample of states.
    loss : LossComparison
        Of the score at this level with the Gaussian's at this level.
    """

    noise_level: float
    stein: Departure
    loss: LossComparison


def levels_to_sweep(score: Score, wanted: Sequence[float] | None) -> list[float | NDArray[np.float64]]:
    """Return the levels to look at: those wanted, or 3/4 to 3 times the score's own; none if it has but one.

    Raises
    ------
    InputError
        If levels are wanted of a score that has only one, or one is not a positive number.
    """
    capable = hasattr(score, "at_noise_level")
    if wanted is None:
        level = np.asarray(score.noise_level_, dtype=np.float64)
        if not capable or not (level > 0).all():
            return []
        return [factor * level if level.ndim else factor * float(level) for factor in _FACTORS]
    if not isinstance(wanted, Sequence | np.ndarray):
        raise InputError(f"noise_levels={shown(wanted)} is not a list: give positive numbers, e.g. (0.05, 0.1).")
    for one in wanted:
        if not is_number(one) or one <= 0:
            raise InputError(f"noise_levels holds {shown(one)}: give positive numbers, in the units of the data.")
    if len(wanted) and not capable:
        raise InputError(
            f"noise_levels was given, but a {type(score).__name__} has only the level {score.noise_level_}: leave "
            "noise_levels out, or use a score that was learned at many levels, such as DSMScore."
        )
    return [float(one) for one in wanted]


def sweep(
    ready: Prepared,
    fits: GaussianFits,
    sample: Sample,
    levels: Sequence[float | NDArray[np.float64]],
    rng: np.random.Generator,
    *,
    extrapolate: bool,
) -> tuple[SweepLevel, ...]:
    """Evaluate the score at each level on the subsample; levels it cannot be evaluated at are left out.

    So are levels beyond those it was learned at, of which it warns, unless ``extrapolate`` asks for them.
    """
    found = []
    covariance, spread = covariance_of(ready, ready.covariance), spread_of(ready)
    for level in levels:
        there = _at(ready.score, level, extrapolate)
        if there is None:
            continue
        blurred = covariance_of(ready, blurred_covariance(ready, ready.covariance, level))
        states = sample.blurred(level)
        values = np.asarray(there(states), dtype=np.float64)
        derivatives = differentiate(there, states, covariance, blurred, rng, spread)
        loss = compare_losses(ready, fits, sample, values, derivatives, level)
        departure = _stein(ready, sample, np.asarray(there(sample.clean), dtype=np.float64), level)
        found.append(SweepLevel(float(np.sqrt(np.mean(np.square(level)))), departure, loss))
    return tuple(found)


def _at(score: Any, level: float | NDArray[np.float64], extrapolate: bool) -> Score | None:
    with warnings.catch_warnings():
        if not extrapolate:
            warnings.simplefilter("error", ReliabilityWarning)
        try:
            there: Score = score.at_noise_level(level)
        except (InputError, ReliabilityWarning):
            return None
    return there


def _stein(
    ready: Prepared, sample: Sample, values: NDArray[np.float64], level: float | NDArray[np.float64]
) -> Departure:
    """Departure of M on the subsample from P at this noise level."""
    layout = ready.layout
    b = -values
    centre = layout.site_mean(b.mean(axis=0))
    sums = np.zeros((len(ready.units), *ready.covariance.shape), dtype=ready.covariance.dtype)
    counts = np.bincount(sample.unit, minlength=len(ready.units)).astype(np.float64)
    for index in np.flatnonzero(counts):
        mine = sample.unit == index
        state, source = layout.transform(sample.clean[mine] - ready.mean), layout.transform(b[mine] - centre)
        sums[index] = layout.product(state, source)
    units = UnitSums(sums, counts.reshape(-1, *[1] * ready.covariance.ndim))
    return find_departure(
        units,
        parametric=layout.parametric(ready.covariance, level),
        scale=layout.scale(ready.covariance),
        algebra=ready.algebra,
    )
