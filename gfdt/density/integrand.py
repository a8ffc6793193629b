r"""What the variational bound averages at one noise level.

In the notation of :mod:`gfdt.density.family`, blur a state a at the level σ_0 (v_0 = σ_0²) further, y = a + τ z with
τ² = v - v_0. The exact score is the regression of the target t = -z/τ on y, and the bound of the reverse SDE (the
CT-ELBO of Huang et al. 2021, its loss in the denoising form) is

    ln ρ(a; σ_0) >= E ln N(y_T; 0, C + v_T) - 1/2 ∫ E[|s(y; σ) - t|² - |t|²] dv           (v from v_0 to v_T)
                  = ln N(a; 0, C + v_0) - 1/2 ∫ E[|f|² + 2 f.(g - t)] dv,

g the Gaussian score of y: the bound of the Gaussian is its own log density, and only what f changes is averaged. Each z
is used with both signs, f.z/τ then stays finite as τ -> 0.

The density of the data themselves (``decode``) needs one more term, as f is not known below ``family.level`` = σ_0:
y_0 = a + σ_0 ε is decoded with N(D(y_0), V), V = C v_0 (C + v_0)⁻¹. All levels are then reached from the data (start at
v_0 = 0, τ = σ), which averages over y_0 by the way, and the change that f makes to the decoder is

    -1/2 E[f'Λ f + 2 f'Λ h],     Λ = v_0² V⁻¹ = v_0 (1 + v_0 C⁻¹),     Λ h = v_0 (ε/σ_0 - C⁻¹ a),

of the same form: at the other levels Λ = 1 and h = g - t. At an exact score E[(f + h)'Λ φ(y)] = 0 for every φ.

Reference: Huang, Lim & Courville, arXiv:2106.02808.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gfdt.density.family import inverse

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gfdt.density.family import Family

__all__ = ["Draw", "decoding", "denoising"]


@dataclass(frozen=True)
class Draw:
    """States of one batch blurred with z and with -z, and what is known at them; arrays of shape (2 batch, *state).

    Attributes
    ----------
    level : float
        σ of y.
    y : array
        The blurred states.
    f : array
        f(y; σ).
    rest : array
        Λ h, all of the residual s - t that is not f.
    weighted : array
        Λ f.
    """

    family: Family
    level: float
    y: NDArray[np.float64]
    f: NDArray[np.float64]
    rest: NDArray[np.float64]
    weighted: NDArray[np.float64]
    decodes: bool = False

    def squares(self) -> NDArray[np.float64]:
        """Return f'Λ f for every state, (batch,)."""
        return self.per_state(self.f, self.weighted)

    def cross(self) -> NDArray[np.float64]:
        """Return f'Λ h for every state, (batch,)."""
        return self.per_state(self.f, self.rest)

    def excess(self) -> NDArray[np.float64]:
        """Return 1/2 [f'Λ f + 2 f'Λ h] for every state: what f takes off the bound, per dv, (batch,)."""
        return 0.5 * self.squares() + self.cross()

    def weigh(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return Λ x."""
        return _decoder_weight(self.family, x) if self.decodes else x

    @staticmethod
    def per_state(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return x.y, averaged over z and -z, (batch,)."""
        return np.einsum("szi,szi->z", *(part.reshape(2, len(x) // 2, -1) for part in (x, y))) / 2


def denoising(family: Family, a: NDArray[np.float64], z: NDArray[np.float64], level: float, start: float) -> Draw:
    """Return the draw at ``level`` from states a (batch, *state) of the level ``start`` below it."""
    tau = math.sqrt((level - start) * (level + start))
    y = np.concatenate([a + tau * z, a - tau * z])
    f = family.remainder(y, level)
    rest = family.linear_score(y, level) + np.concatenate([z, -z]) / tau
    return Draw(family, level, y, f, rest, f)


def decoding(family: Family, a: NDArray[np.float64], z: NDArray[np.float64]) -> Draw:
    """Return the draw of the decoder, from ``family.level`` > 0 to the data a (batch, *state)."""
    level = family.level
    y = np.concatenate([a + level * z, a - level * z])
    # Directions without variance have no density to decode to.
    f = family.filtered(family.remainder(y, level), _there)
    state = family.filtered(np.concatenate([a, a]), inverse)
    rest = level**2 * (family.filtered(np.concatenate([z, -z]) / level, _there) - state)
    return Draw(family, level, y, f, rest, _decoder_weight(family, f), decodes=True)


def _decoder_weight(family: Family, x: NDArray[np.float64]) -> NDArray[np.float64]:
    v = family.level**2
    return family.filtered(x, lambda c: v * (_there(c) + v * inverse(c)))


def _there(c: NDArray[np.float64]) -> NDArray[np.float64]:
    return (c > 0).astype(np.float64)
