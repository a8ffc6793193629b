r"""One step down in the noise: the family of reverse processes, integrated exactly but for f.

With the notation of :mod:`gfdt.density.family`, for every λ <= 1 the process that goes from v to smaller v by

    dX = (1 - λ/2) s(X; σ) |dv| + √(1 - λ) dB,     B of variance |dv|      (Huang et al. 2021, section 4)

has at every v the density blurred at that level, if s is its score: λ = 0 is the reverse SDE, λ = 1 the
probability-flow ODE, λ < 0 adds noise. In terms of G = w f, s = (G - X)/w, so that for constant G it is linear, and
with p = 1 - λ/2 and r = w'/w from v to v'

    X' = r^p X + (1 - r^p) G + √(w' [1 - r^(1-λ)]) z,      z ~ N(0, I),

which is exact for Gaussians (G = 0) in any number of steps. ``euler`` takes G at the start; ``heun`` the average of G
at the start and at the point so predicted, with the same z: of order 1 and 2. At v' = 0 the directions without variance
end at exactly 0.

At one level, Langevin dynamics with the preconditioner w, dX = (G - X) dτ + √(2w) dB, becomes in the same way

    X' = e^(-h) X + (1 - e^(-h)) G + √(w [1 - e^(-2h)]) z.

References: Huang, Lim & Courville, arXiv:2106.02808; exponential integrators for λ = 1: Zhang & Chen, arXiv:2204.13902.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gfdt.density.family import Family
    from gfdt.density.modes import Modes

__all__ = ["Step", "euler", "heun"]


@dataclass(frozen=True)
class Step:
    """The coefficients of one step, functions of the eigenvalues c of C.

    Attributes
    ----------
    start, end : float
        σ before and after, start > end >= 0.
    lam : float
        λ <= 1.
    """

    start: float
    end: float
    lam: float

    def carry(self, c: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return r^p, what is left of X."""
        return self._power(c, 1 - self.lam / 2)

    def pull(self, c: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return 1 - r^p, the weight of G; 0 where no variance is left at the end."""
        return np.where(c + self.end**2 > 0, 1 - self.carry(c), 0.0)

    def draw(self, c: NDArray[np.float64], level: float) -> NDArray[np.float64]:
        """Return (1 - r^p) w, the weight of f at a level."""
        return self.pull(c) * (c + level**2)

    def spread(self, c: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return √(w' [1 - r^(1-λ)]), the standard deviation of the noise."""
        return np.sqrt((c + self.end**2) * (1 - self._power(c, 1 - self.lam)))

    def _power(self, c: NDArray[np.float64], power: float) -> NDArray[np.float64]:
        return ((c + self.end**2) / (c + self.start**2)) ** power


def euler(
    family: Family, a: NDArray[np.float64], f: NDArray[np.float64], z: NDArray[np.float64] | None, step: Step
) -> NDArray[np.float64]:
    """Return X' of order 1 from states a (batch, *state).

    Parameters
    ----------
    family : Family
    a, f : (batch, *state)
        X and f(X) at ``step.start``.
    z : (batch, *state) or None
        White noise; None for λ = 1, which has none.
    step : Step
    """
    modes = family.modes
    return modes.back(_unforced(modes, a, z, step) + step.draw(modes.values, step.start) * modes.forward(f))


def heun(
    family: Family, a: NDArray[np.float64], f: NDArray[np.float64], z: NDArray[np.float64] | None, step: Step
) -> NDArray[np.float64]:
    """Return X' of order 2; as :func:`euler`, with one more evaluation, of f at the end of the step."""
    modes = family.modes
    # In the eigenbasis of C: each array is transformed once.
    unforced = _unforced(modes, a, z, step)
    first = step.draw(modes.values, step.start) * modes.forward(f)
    at_end = family.remainder(modes.back(unforced + first), step.end)
    second = step.draw(modes.values, step.end) * modes.forward(at_end)
    return modes.back(unforced + (first + second) / 2)


def _unforced(modes: Modes, a: NDArray[np.float64], z: NDArray[np.float64] | None, step: Step) -> NDArray[np.float64]:
    """r^p X + √(w' [1 - r^(1-λ)]) z, its coefficients in the eigenbasis."""
    out = step.carry(modes.values) * modes.forward(a)
    return out if z is None else out + step.spread(modes.values) * modes.forward(z)
