r"""Langevin dynamics at one noise level, Metropolis-adjusted with the score alone.

With the notation of :mod:`gfdt.density.steps`, w = C + v, the proposal

    y = e x + (1 - e) w f(x) + √(w [1 - e²]) z,      e = exp(-h),

is exact for the Gaussian N(0, w), for any h. For any other density ρ = N(0, w) exp φ, ∇φ = f, it is accepted with
probability min(1, α), in which the Gaussian parts of ρ and of the proposal cancel,

    ln α = φ(y) - φ(x) - [(y - e x)·f(x) - (x - e y)·f(y)]/(1 + e) + (1 - e)/(2 (1 + e)) [f(x)·w f(x) - f(y)·w f(y)],

    φ(y) - φ(x) = ∫ f·dl = (y - x)·[f(x) + 4 f((x + y)/2) + f(y)]/6 + O(|y - x|⁵),

so that no density is needed, but a score that is a gradient (which a learned one is approximately). Where that differs
from (y - x)·[f(x) + f(y)]/2 by more than 0.25 it is not trusted, and y is refused: as this is the same from y to x, the
balance stays exact. (Without it, long steps between the peaks of a mixture put up to 0.6 of its probability in wrong
places; with it nothing was seen beside the sampling noise of 0.01.)

A chain has the density exactly while h does not depend on where it is. A few steps at each of many levels therefore draw
h at random, ln h uniform between ln 0.01 and 0; long chains at one level adapt it to the acceptance 0.57 that is best for
such proposals (Roberts & Rosenthal, J. R. Stat. Soc. B 60, 255 (1998)) in their first half only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gfdt.density.family import Family

__all__ = ["Chains"]

_ACCEPTED = 0.57
_GAIN = 0.3  # of ln h per unit of acceptance: a factor 2 takes about five steps
_FIRST, _LARGEST = 0.2, 2.0  # h: at 2 a step on a Gaussian forgets all but 13 % of its start
_TRUSTED = 0.25  # of the work, between two rules of integration; see the module docstring
_SMALLEST_DRAWN = 0.01  # as wide as peaks of a tenth of the standard deviation need


@dataclass
class Chains:
    """States under Langevin dynamics, one chain each.

    Attributes
    ----------
    a, f : (batch, *state)
        States, and f there.
    h : (batch,)
        Step of every chain, in units of the relaxation time of N(0, w).
    accepted : (batch,)
        Probability with which the last proposal was accepted.
    """

    a: NDArray[np.float64]
    f: NDArray[np.float64]
    h: NDArray[np.float64]
    accepted: NDArray[np.float64]

    @classmethod
    def start(cls, a: NDArray[np.float64], f: NDArray[np.float64]) -> Self:
        """Return chains at states a, all with the same first step."""
        return cls(a, f, np.full(len(a), _FIRST), np.ones(len(a)))

    def draw_steps(self, u: NDArray[np.float64]) -> None:
        """Draw h anew from u (batch,), uniform on [0, 1)."""
        self.h = _SMALLEST_DRAWN ** (1 - u)

    def adapt(self) -> None:
        """Move h towards the acceptance that is best."""
        self.h = np.minimum(self.h * np.exp(_GAIN * (self.accepted - _ACCEPTED)), _LARGEST)

    def move(self, family: Family, level: float, z: NDArray[np.float64], u: NDArray[np.float64]) -> None:
        """Take one step in place.

        Parameters
        ----------
        family : Family
        level : float
            σ.
        z : (batch, *state)
            White noise.
        u : (batch,)
            Uniform on [0, 1).
        """
        x, f = self.a, self.f
        e = np.exp(-_beside(self.h, x))
        y = e * x + (1 - e) * _variance(family, f, level) + np.sqrt(1 - e**2) * family.gaussian_sample(z, level)
        f_new = family.remainder(y, level)
        chance = np.exp(np.minimum(self._log_ratio(family, level, y, f_new), 0.0))
        taken = u < chance
        self.a = np.where(_beside(taken, x), y, x)
        self.f = np.where(_beside(taken, x), f_new, f)
        self.accepted = chance

    def _log_ratio(
        self, family: Family, level: float, y: NDArray[np.float64], f_y: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return ln α (batch,), zero for a Gaussian; -inf refuses the proposal."""
        if family.gaussian:
            return np.zeros(len(y))
        x, f_x, e = self.a, self.f, np.exp(-self.h)
        middle = family.remainder((x + y) / 2, level)
        work = _dot(y - x, f_x + 4 * middle + f_y) / 6
        doubt = np.abs(work - _dot(y - x, f_x + f_y) / 2)
        back = _dot(y, f_x) - e * _dot(x, f_x) - _dot(x, f_y) + e * _dot(y, f_y)
        size = _dot(f_x, _variance(family, f_x, level)) - _dot(f_y, _variance(family, f_y, level))
        ratio = work - back / (1 + e) + (1 - e) / (2 * (1 + e)) * size
        return np.where(doubt < _TRUSTED, ratio, -np.inf)  # also where it is not a number


def _variance(family: Family, f: NDArray[np.float64], level: float) -> NDArray[np.float64]:
    """G = w f."""
    return family.filtered(f, lambda c: c + level**2)


def _dot(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray((a * b).reshape(len(a), -1).sum(axis=1))


def _beside(values: NDArray[Any], states: NDArray[np.float64]) -> NDArray[Any]:
    return values.reshape(-1, *[1] * (states.ndim - 1))
