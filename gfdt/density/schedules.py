r"""Schedules: the noise level σ(t), increasing from the lowest at t = 0 to the highest at t = 1.

    edm     σ = [low^(1/ρ) + t (high^(1/ρ) - low^(1/ρ))]^ρ,  ρ = 7          (Karras et al. 2022, eq. 5)
    ve      σ = low (high/low)^t                                            (Song & Ermon 2019; Song et al. 2021, C)
    vp      σ² = exp B(T) - 1,  B = 19.9 T²/2 + 0.1 T,  T linear in t       (Song et al. 2021, eq. 33: σ = √(1 - α²)/α)

What is exact does not depend on the schedule: it places the steps of an integration, and is the importance
distribution of a Monte-Carlo integral over v = σ²: with t uniform on [0, 1],

    ∫ h dv = E[h(σ(t)) dv/dt],      weight(t) = dv/dt.

References: Karras et al., arXiv:2206.00364; Song & Ermon, arXiv:1907.05600; Song et al., arXiv:2011.13456.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from gfdt.errors import InputError
from gfdt.validation import one_of

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "LEAST",
    "SCHEDULES",
    "GeometricSchedule",
    "PowerSchedule",
    "Schedule",
    "VariancePreservingSchedule",
    "make_schedule",
]

LEAST = 1e-3  # of the highest level: where a schedule that cannot reach 0 starts instead
_RHO = 7.0  # Karras et al. 2022, section 3: the steps then err about equally at all levels
_BETA_LOW, _BETA_HIGH = 0.1, 20.0  # Song et al. 2021, appendix C


@runtime_checkable
class Schedule(Protocol):
    """Any object with these two methods; both take a number or an array of t in [0, 1]."""

    def level(self, t: ArrayLike) -> NDArray[np.float64]:
        """Return σ(t), increasing."""

    def weight(self, t: ArrayLike) -> NDArray[np.float64]:
        """Return dv/dt, v = σ²."""


@dataclass(frozen=True)
class PowerSchedule:
    """σ^(1/ρ) linear in t ("edm"); ``low`` may be 0."""

    low: float
    high: float
    rho: float = _RHO

    def level(self, t: ArrayLike) -> NDArray[np.float64]:
        """Return σ(t)."""
        return np.asarray(self._root(t) ** self.rho)

    def weight(self, t: ArrayLike) -> NDArray[np.float64]:
        """Return dv/dt = 2 ρ σ^(2 - 1/ρ) dσ^(1/ρ)/dt."""
        return np.asarray(2 * self.rho * self._root(t) ** (2 * self.rho - 1) * self._slope)

    def _root(self, t: ArrayLike) -> NDArray[np.float64]:
        return np.asarray(self.low ** (1 / self.rho) + np.asarray(t, dtype=np.float64) * self._slope)

    @property
    def _slope(self) -> float:
        return float(self.high ** (1 / self.rho) - self.low ** (1 / self.rho))


@dataclass(frozen=True)
class GeometricSchedule:
    """ln σ linear in t ("ve"); ``low`` is positive."""

    low: float
    high: float

    def level(self, t: ArrayLike) -> NDArray[np.float64]:
        """Return σ(t)."""
        return np.asarray(self.low * (self.high / self.low) ** np.asarray(t, dtype=np.float64))

    def weight(self, t: ArrayLike) -> NDArray[np.float64]:
        """Return dv/dt = 2 v ln(high/low)."""
        return np.asarray(2 * math.log(self.high / self.low) * self.level(t) ** 2)


@dataclass(frozen=True)
class VariancePreservingSchedule:
    """σ of the process whose total variance stays one, at a rate of noise linear in time ("vp"); ``low`` may be 0."""

    low: float
    high: float

    def level(self, t: ArrayLike) -> NDArray[np.float64]:
        """Return σ(t)."""
        return np.asarray(np.sqrt(np.expm1(self._integral(self._time(t)))))

    def weight(self, t: ArrayLike) -> NDArray[np.float64]:
        """Return dv/dt = B'(T) exp B(T) dT/dt."""
        time = self._time(t)
        rate = _BETA_LOW + (_BETA_HIGH - _BETA_LOW) * time
        return np.asarray(rate * np.exp(self._integral(time)) * (self._ends[1] - self._ends[0]))

    def _time(self, t: ArrayLike) -> NDArray[np.float64]:
        start, end = self._ends
        return np.asarray(start + np.asarray(t, dtype=np.float64) * (end - start))

    @staticmethod
    def _integral(time: NDArray[np.float64]) -> NDArray[np.float64]:
        return (_BETA_HIGH - _BETA_LOW) * time**2 / 2 + _BETA_LOW * time

    @property
    def _ends(self) -> tuple[float, float]:
        """The times at which σ is low and high: roots of B(T) = ln(1 + σ²), written without cancellation."""
        rise = _BETA_HIGH - _BETA_LOW
        wanted = (math.log1p(self.low**2), math.log1p(self.high**2))
        start, end = (2 * b / (_BETA_LOW + math.sqrt(_BETA_LOW**2 + 2 * rise * b)) for b in wanted)
        return start, end


SCHEDULES: dict[str, type[PowerSchedule] | type[GeometricSchedule] | type[VariancePreservingSchedule]] = {
    "edm": PowerSchedule,
    "ve": GeometricSchedule,
    "vp": VariancePreservingSchedule,
}


def make_schedule(schedule: str | Schedule, low: float, high: float) -> Schedule:
    """Return a schedule between two levels.

    Parameters
    ----------
    schedule : {"edm", "ve", "vp"} or Schedule
        An object is returned as it is, if it has these ends.
    low, high : float
        σ at t = 0 and 1. A geometric schedule from ``low`` = 0 starts at ``LEAST`` times ``high``.

    Raises
    ------
    InputError
        For an unknown name, an object without ``level`` and ``weight``, or one with other ends.
    """
    if not 0 <= low < high < math.inf:
        raise InputError(f"a schedule from the level {low:.4g} to {high:.4g}: levels increase from 0 or more.")
    if isinstance(schedule, Schedule):
        _require_ends(schedule, low, high)
        return schedule
    one_of("schedule", schedule, tuple(SCHEDULES), ", or an object with level(t) and weight(t)")
    if schedule == "ve" and low == 0:
        low = LEAST * high
    return SCHEDULES[schedule](low, high)


def _require_ends(schedule: Any, low: float, high: float) -> None:
    found = float(schedule.level(0.0)), float(schedule.level(1.0))
    if not (math.isclose(found[1], high, rel_tol=1e-6) and abs(found[0] - low) <= max(1e-6 * low, LEAST * high)):
        raise InputError(
            f"the schedule goes from the level {found[0]:.6g} to {found[1]:.6g}, needed is {low:.6g} to {high:.6g}: "
            "make it for this score, or pass a name such as 'edm'."
        )
