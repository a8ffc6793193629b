r"""Langevin dynamics at one noise level, Metropolis-adjusted with the score alone.

With the notation of :mod:`gfdt.density.steps`, w = C + v, the proposal

    y = e x + (1 - e) w f(x) + √(w [1 - e²]) z,      e = exp(-h),

is exact for the Gaussian N(0, w), for any h. For any other density ρ = N(0, w) exp φ, ∇φ = f, it is accepted with
probability min(1, α), in which the Gaussian parts of ρ and of the proposal cancel,

    ln α = φ(y) - φ(x) - [(y - e x)·f(x) - (x - e y)·f(y)]/(1 + e) + (1 - e)/(2 (1 + e)) [f(x)·w f(x) - f(y)·w f(y)],

    φ(y) - φ(x) = ∫ f·dl = (y - x)·[f(x) + 4 f((x + y)/2) + f(y)]/6 + O(|y - x|⁵),

so that no density is needed, but a score that is a gradient (which a learned one is approximately). Where that differs
from (y - x)·[f(x) + f(y)]/2 by more than 0.05 √(d/2) it is not trusted, and y is refused: as this is the same from y
to x, the balance stays exact. (Without it, long steps between the peaks of a mixture in two dimensions put up to 0.6 of
its probability in wrong places. The root is for components that err independently.)

The density is left alone while h does not depend on where the chain is, so h is drawn: ln h uniform between ln 0.003
and ln 0.3. For peaks 0.3 standard deviations wide, 0.8 of the steps with h = 0.1 are taken in two dimensions, and 0.9
of those with h = 0.003 in 4096. (Adapted to the acceptance, h left errors of 2 %; beyond 0.3 the work is the less exact
the farther a step goes.)

Reference: Roberts & Tweedie, Bernoulli 2, 341 (1996), for the adjusted Langevin algorithm with w = 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gfdt.density.family import Family

__all__ = ["Chains"]

_TRUSTED = 0.05  # difference of the work between two rules of integration, in two dimensions
_SHORTEST, _LONGEST = 0.003, 0.3  # h


@dataclass
class Chains:
    """States under Langevin dynamics, one chain each.

    Attributes
    ----------
    a, f : (batch, *state)
        States, and f there.
    accepted : float
        Share of the last proposals that were accepted.
    """

    a: NDArray[np.float64]
    f: NDArray[np.float64]
    accepted: float = 1.0

    def move(
        self, family: Family, level: float, z: NDArray[np.float64], step: NDArray[np.float64], u: NDArray[np.float64]
    ) -> None:
        """Take one step in place.

        Parameters
        ----------
        family : Family
        level : float
            σ.
        z : (batch, *state)
            White noise.
        step, u : (batch,)
            Uniform on [0, 1): for h, and for the acceptance.
        """
        x, f = self.a, self.f
        h = _SHORTEST * (_LONGEST / _SHORTEST) ** step
        e = _beside(np.exp(-h), x)
        y = e * x + (1 - e) * _variance(family, f, level) + np.sqrt(1 - e**2) * family.gaussian_sample(z, level)
        f_new = family.remainder(y, level)
        taken = np.log1p(-u) < self._log_ratio(family, level, np.exp(-h), y, f_new)
        self.a = np.where(_beside(taken, x), y, x)
        self.f = np.where(_beside(taken, x), f_new, f)
        self.accepted = float(taken.mean())

    def _log_ratio(
        self,
        family: Family,
        level: float,
        e: NDArray[np.float64],
        y: NDArray[np.float64],
        f_y: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """Return ln α (batch,), zero for a Gaussian; -inf refuses the proposal."""
        if family.gaussian:
            return np.zeros(len(y))
        x, f_x = self.a, self.f
        middle = family.remainder((x + y) / 2, level)
        work = _dot(y - x, f_x + 4 * middle + f_y) / 6
        doubt = np.abs(work - _dot(y - x, f_x + f_y) / 2)
        back = _dot(y, f_x) - e * _dot(x, f_x) - _dot(x, f_y) + e * _dot(y, f_y)
        size = _dot(f_x, _variance(family, f_x, level)) - _dot(f_y, _variance(family, f_y, level))
        ratio = work - back / (1 + e) + (1 - e) / (2 * (1 + e)) * size
        trusted = _TRUSTED * math.sqrt(max(family.size, 2) / 2)
        return np.where(doubt < trusted, ratio, -np.inf)  # also where it is not a number


def _variance(family: Family, f: NDArray[np.float64], level: float) -> NDArray[np.float64]:
    """G = w f."""
    return family.filtered(f, lambda c: c + level**2)


def _dot(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray((a * b).reshape(len(a), -1).sum(axis=1))


def _beside(values: NDArray[Any], states: NDArray[np.float64]) -> NDArray[Any]:
    return values.reshape(-1, *[1] * (states.ndim - 1))
