r"""The likelihood of states of the record under the score, by the variational bound.

Three numbers are judged, in nats for each component:

- the bound against the log density of a Gaussian, both for the blurred record: a score that knows less than the mean
  and covariance of the record belongs to another density. The Gaussian is fitted to the rest of the record (for each
  fifth of it in turn), or to the record itself if the score was (:func:`gfdt.diagnostics.loss.fit_gaussians`);
- the part of the gap between bound and likelihood that the data show (``total_detected`` of
  :func:`gfdt.density.bound.bound`): zero for the exact score, and never more than the gap;
- the amplitude c of what the score adds to a Gaussian: the one factor for all noise levels that would make it best on
  these states (``total_amplitude``). c < 1: part of what was learned is noise of the training record; c > 1: not all
  there is has been learned.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from gfdt.certificate.verdict import LIKELIHOOD_AMBER, LIKELIHOOD_RED
from gfdt.density.bound import bound
from gfdt.density.family import Diagonal, Family
from gfdt.diagnostics.loss import GaussianFits, fit_gaussians
from gfdt.diagnostics.sample import blurred_covariance, covariance_of, spread_of, times_there
from gfdt.diagnostics.verdict import Finding
from gfdt.responses.departure import AMBER, RED
from gfdt.responses.prepare import Prepared
from gfdt.responses.sums import UnitSums, significance_threshold, standard_error

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["HeldOut", "judge_held_out"]

_LEVELS = 32  # noise levels of each state, each with z and -z
_VALUES = 2**17  # numbers in the states that are looked at
_FEWEST, _MOST = 128, 2048


@dataclass(frozen=True)
class HeldOut:
    """What came out.

    Attributes
    ----------
    findings : tuple of Finding
    bound : Dataset
        As :func:`gfdt.density.bound.bound` gives it, and ``gain``: the mean bound less the Gaussian's log density.
    amplitude, amplitude_stderr : float
        c; NaN for a Gaussian.
    gain, gain_stderr : float
        In nats for each component; NaN where no Gaussian can be fitted.
    """

    findings: tuple[Finding, ...]
    bound: xr.Dataset
    amplitude: float
    amplitude_stderr: float
    gain: float
    gain_stderr: float

    @property
    def amplitude_z(self) -> float:
        """C - 1 in standard errors; 0 for a Gaussian."""
        if not np.isfinite(self.amplitude):
            return 0.0
        return (self.amplitude - 1) / max(self.amplitude_stderr, 1e-9)


def judge_held_out(
    ready: Prepared,
    family: Family,
    noise_level: float | NDArray[np.float64],
    n_states: int | None,
    seed: int,
    progress: bool | None,
) -> HeldOut:
    """Bound the likelihood of states taken evenly from the record, and judge it.

    Parameters
    ----------
    ready : Prepared
        The record.
    family : Family
        Of the score.
    noise_level : float or ndarray
        σ of the score.
    n_states : int or None
        How many at most; None: 2^17 numbers in all, but 128 to 2048 states.
    seed : int
        Of the blur, the noise levels and the noise.
    progress : bool, optional
        Show a progress bar. Default: in a terminal.
    """
    states, unit = _states(ready, noise_level, n_states, np.random.default_rng([seed, 1]))
    a = family.units.states(states)
    # A score may overflow at states it was never asked about: that is a finding, not a fault of the arithmetic.
    with np.errstate(over="ignore", invalid="ignore"):
        known = bound(family, a, n_levels=_LEVELS, decode=False, unit_of=unit, seed=seed, progress=progress)
    if not np.isfinite(known["total_excess"]):
        reason = "the likelihood bound is not finite: the score diverges at some noise level; train it again."
        broken = Finding("likelihood", "red", float("nan"), "not finite", reason)
        return HeldOut((broken,), known, *[float("nan")] * 4)
    size, n_units = max(family.size, 1), int(unit.max()) + 1
    own = family.gaussian_log_density(a, family.level) - family.units.log_volume(family.shape)
    other = _gaussian_log_density(ready, fit_gaussians(ready), states, unit, noise_level)
    advantage = np.bincount(unit, own - other, minlength=n_units)
    sums = UnitSums(advantage, np.bincount(unit, minlength=n_units).astype(np.float64))
    gain = (float(sums.mean()) - float(known["total_excess"])) / size
    gain_stderr = float(np.hypot(standard_error(sums.influence()), known["total_excess_stderr"])) / size
    amplitude, amplitude_stderr = float(known["total_amplitude"]), float(known["total_amplitude_stderr"])
    threshold = significance_threshold(1, n_units)
    findings = (
        _judge_gain(gain, gain_stderr, threshold, ready.fitted_here),
        _judge_gap(known, size, threshold),
        _judge_amplitude(amplitude, amplitude_stderr, threshold, _cost_of_amplitude(known) / size),
    )
    known = known.assign(gain=gain * size, gain_stderr=gain_stderr * size)
    return HeldOut(findings, known, amplitude, amplitude_stderr, gain, gain_stderr)


def _states(
    ready: Prepared, noise_level: float | NDArray[np.float64], most: int | None, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Blurred states (n, *state) in the units of the data, and the resampling unit of each."""
    wanted = int(np.clip(_VALUES // max(ready.layout.size, 1), _FEWEST, _MOST))
    wanted = wanted if most is None else min(wanted, most)
    each = -(-wanted // len(ready.units))
    states, owner = [], []
    for index, item in enumerate(ready.units):
        times = times_there(ready, item.member, item.start, item.stop)
        # The middles of equal stretches, so that with one state for each unit it is not always the first.
        places = ((np.arange(min(each, times.size)) + 0.5) / min(each, times.size) * times.size).astype(np.int64)
        states.append(ready.trajectory.values[item.member, times[places]].astype(np.float64))
        owner.append(np.full(places.size, index))
    values = np.concatenate(states)
    return values + np.asarray(noise_level) * rng.standard_normal(values.shape), np.concatenate(owner)


def _gaussian_log_density(
    ready: Prepared,
    fits: GaussianFits,
    states: NDArray[np.float64],
    unit: NDArray[np.int64],
    noise_level: float | NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return ln of the blurred Gaussian that was not fitted to a state, for each; NaN where there is none."""
    out = np.full(len(states), np.nan)
    fold, spread, shape = fits.fold[unit], spread_of(ready), ready.layout.shape
    for index, (mean, covariance) in enumerate(zip(fits.means, fits.covariances, strict=True)):
        mine = fold == index
        if not mine.any() or not covariance.any():
            continue
        blurred = covariance_of(ready, blurred_covariance(ready, covariance, noise_level))
        gaussian = Family(Diagonal(np.asarray(mean), np.asarray(spread)), blurred, shape, 0.0)
        if gaussian.rank(0.0) < ready.algebra.n_present:
            continue
        values = gaussian.gaussian_log_density(gaussian.units.states(states[mine]), 0.0)
        out[mine] = values - gaussian.units.log_volume(shape)
    return out


def _judge_gain(gain: float, stderr: float, threshold: float, in_sample: bool) -> Finding:
    check = "likelihood"
    if not np.isfinite(gain):
        return Finding(check, "green", gain, "no Gaussian to compare with (too few states for a covariance matrix)")
    verdict = "green"
    if gain < -threshold * stderr and -gain > LIKELIHOOD_AMBER:
        verdict = "red" if -gain > LIKELIHOOD_RED else "amber"
    word = "better" if gain >= 0 else "worse"
    shown = f"{abs(gain):.3g} +- {stderr:.2g} nats a component {word} than a Gaussian"
    reason = (
        f"the likelihood bound is {shown} fitted to the rest of this record: the score belongs to another system, or "
        "was trained on too little of this one; check that score and trajectory belong together, or train with more "
        "data."
    )
    text = f"bound {shown}{', in-sample' if in_sample else ''}"
    return Finding(check, verdict, gain, text, reason if verdict != "green" else "")


def _judge_gap(known: xr.Dataset, size: int, threshold: float) -> Finding:
    gap, stderr = (float(known[name]) / size for name in ("total_detected", "total_detected_stderr"))
    verdict = "green"
    if gap > threshold * stderr and gap > LIKELIHOOD_AMBER:
        verdict = "red" if gap > LIKELIHOOD_RED else "amber"
    place = f"{float(known['sigma'][int(known['detected'].sel(test='all').values.argmax())]):.2g}"
    text = f"at least {max(gap, 0.0):.2g} +- {stderr:.1g} nats a component from the best likelihood"
    reason = (
        f"the score is {text}, most of it near sigma = {place} standard deviations (parts of first to third order and "
        "the amplitude of the rest are looked at): train longer or with more data, or check that score and trajectory "
        "belong to the same system."
    )
    return Finding("likelihood gap", verdict, gap, text, reason if verdict != "green" else "")


def _cost_of_amplitude(known: xr.Dataset) -> float:
    """The part of the gap that a wrong amplitude makes at every noise level, in nats."""
    return float(known["detected"].sel(test="amplitude").sum())


def _judge_amplitude(value: float, stderr: float, threshold: float, cost: float) -> Finding:
    """Judge c by its size, where it costs any likelihood worth mentioning."""
    check = "amplitude"
    if not np.isfinite(value):
        return Finding(check, "green", value, "a Gaussian: there is nothing that could be too strong")
    off = abs(value - 1)
    verdict = "green"
    if off > threshold * stderr and off > AMBER and cost > LIKELIHOOD_AMBER:
        verdict = "red" if off > RED else "amber"
    text = (
        f"what is not Gaussian would best be multiplied by {value:.3g} +- {stderr:.2g} (worth {max(cost, 0.0):.2g} "
        "nats a component)"
    )
    cause = (
        "part of what was learned is noise of the training record: train with more data, or stop earlier"
        if value < 1
        else "there is more to be learned: train longer, or with a larger network"
    )
    return Finding(check, verdict, value, text, f"{text}: {cause}." if verdict != "green" else "")
