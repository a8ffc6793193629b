r"""What the variational bound averages at one noise level.

In the notation of :mod:`gfdt.density.family`, blur a state a at the level σ_0 (v_0 = σ_0²) further, y = a + τ z with
τ² = v - v_0. The exact score is the regression of the target t = -z/τ on y, and the bound of the reverse SDE (the
CT-ELBO of Huang et al. 2021, its loss in the denoising form) is

    ln ρ(a; σ_0) >= E ln N(y_T; 0, C + v_T) - 1/2 ∫ E[|s(y; σ) - t|² - |t|²] dv           (v from v_0 to v_T)
                  = ln N(a; 0, C + v_0) - 1/2 ∫ E[|f|² + 2 f.(g - t)] dv,

g the Gaussian score of y: the bound of the Gaussian is its own log density, and only what f changes is averaged. Each z
is used with both signs, f.z/τ then stays finite as τ -> 0.

The density of the data themselves (``decode``) needs one more term, as f is not known below ``family.level`` = σ_0:
y_0 = a + σ_0 ε is decoded with N(C (C + v_0)⁻¹ y_0 + v_0 κ f, V), V = C v_0 (C + v_0)⁻¹. All levels are then reached
from the data (start at v_0 = 0, τ = σ), which averages over y_0 by the way, and what f changes in the decoder is

    -1/2 E[f'κΛκ f + 2 f'κΛ h],     Λ = v_0² V⁻¹ = v_0 (1 + v_0 C⁻¹),     Λ h = v_0 (ε/σ_0 - C⁻¹ a),

of the same form, with κ f for f: at the other levels Λ = 1 and h = g - t. At an exact score E[(f + h)'Λ φ(y)] = 0 for
every φ.

Any matrix κ leaves a bound. κ = 1 is the mean of an exact score, but Λ ~ v_0²/C weighs the errors of a learned one,
which are much alike in all directions, without limit where C << v_0. There f is nearly all error: an exact one is of
size C^½/(C + v_0), like the Gaussian's own answer to the state, and errors are taken to be of the mean of that, q. So

    κ = C [C + q² v_0 (C + v_0)]⁻¹,      q² = tr[C (C + v_0)⁻²]/d,

which is 1 where C >> v_0; no direction then costs more than 1/8 (error/q)². Measured in nats with errors of 0.2 q on
32 x 32 sites, C_k ~ (1 + k²)^-p of mean variance 1, v_0 = 4e-4, with κ = 1 and with this one: 25.6 and 0.97 for p = 4
(2.5 at all other levels), 3.9 and 2.4 for p = 3, 0.92 and 0.84 for p = 2. An exact score falls short of ln ρ a little
further: a mixture with peaks 0.22 wide, decoded from σ_0 = 0.4, by 0.354 instead of 0.342.

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
    """States of one batch blurred with z and with -z, and what is known at them.

    All but ``y`` are coefficients in the eigenbasis of C (:mod:`gfdt.density.modes`), (2 batch, m).

    Attributes
    ----------
    level : float
        σ of y.
    y : (2 batch, *state)
        The blurred states.
    coefficients : array
        ŷ.
    f : array
        f(y; σ); of the decoder κ f.
    rest : array
        Λ h, all of the residual s - t that is not f.
    weight : (m,)
        Λ.
    """

    family: Family
    level: float
    y: NDArray[np.float64]
    coefficients: NDArray[np.float64]
    f: NDArray[np.float64]
    rest: NDArray[np.float64]
    weight: NDArray[np.float64]

    def squares(self) -> NDArray[np.float64]:
        """Return f'Λ f for every state, (batch,)."""
        return self.per_state(self.f, self.weight * self.f)

    def cross(self) -> NDArray[np.float64]:
        """Return f'Λ h for every state, (batch,)."""
        return self.per_state(self.f, self.rest)

    def excess(self) -> NDArray[np.float64]:
        """Return 1/2 [f'Λ f + 2 f'Λ h] for every state: what f takes off the bound, per dv, (batch,)."""
        return self.per_state(self.f, (0.5 * self.weight) * self.f + self.rest)

    def per_state(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return x.y, averaged over z and -z, (batch,)."""
        return np.asarray(self.family.modes.dot(x, y).reshape(2, -1).mean(axis=0))


def denoising(
    family: Family,
    a: NDArray[np.float64],
    coefficients: NDArray[np.float64],
    z: NDArray[np.float64],
    level: float,
    start: float,
) -> Draw:
    """Return the draw at ``level`` from states a (batch, *state), coefficients â, of the level ``start`` below it."""
    modes = family.modes
    tau = math.sqrt((level - start) * (level + start))
    y = _mirrored(a, tau * z)
    f = modes.forward(family.remainder(y, level))
    noise = modes.forward(z)
    inside = _mirrored(coefficients, tau * noise)
    rest = _mirrored(0.0, noise / tau) - inverse(modes.values + level**2) * inside
    return Draw(family, level, y, inside, f, rest, np.ones(len(modes.values)))


def decoding(family: Family, a: NDArray[np.float64], coefficients: NDArray[np.float64], z: NDArray[np.float64]) -> Draw:
    """Return the draw of the decoder, from ``family.level`` > 0 to the data a (batch, *state), coefficients â."""
    modes, level = family.modes, family.level
    y = _mirrored(a, level * z)
    # Directions without variance have no density to decode to.
    there, precision = (modes.values > 0).astype(np.float64), inverse(modes.values)
    f = _share(family) * modes.forward(family.remainder(y, level))
    noise = modes.forward(z)
    rest = _mirrored(-(level**2) * precision * coefficients, level * there * noise)
    inside = _mirrored(coefficients, level * noise)
    return Draw(family, level, y, inside, f, rest, level**2 * (there + level**2 * precision))


def _share(family: Family) -> NDArray[np.float64]:
    """Return κ, the part of f that the decoder uses, (m,)."""
    c, v = family.modes.values, family.level**2
    strength = family.covariance.trace(lambda c: c / (c + v) ** 2) / family.size
    return np.asarray(c / (c + strength * v * (c + v)))


def _mirrored(middle: NDArray[np.float64] | float, offset: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return middle + offset and middle - offset, one after the other."""
    out = np.empty((2, *offset.shape))
    np.add(middle, offset, out=out[0])
    np.subtract(middle, offset, out=out[1])
    return out.reshape(-1, *offset.shape[1:])
