r"""Use what is known at t = 0: R(0) = I, the Stein identity -<x s^T> = I.

Notation: R(t) is the raw estimate <A(t) B(0)> with B = -s(x), M = -<x s^T> its t = 0 value for A = x, P = C (C +
sigma^2)^-1 the value M has for Gaussian data and a score learned at noise level sigma. Two errors make M differ
from I, and each has its own cure (algorithms 6):

- *bias* of the score (finite sigma, an imperfect network) multiplies: R(t) <- R(t) M^-1, on the perturbation index;
- *sampling noise* of the record adds: R(t) <- R(t) - c(t) (M - I), c by regression over the resampling units.

"stein" is the first alone. "auto" divides by M where M is known well and by P where it is not,

    M~ = w M + (1 - w) P,      w = tau^2 / (tau^2 + SE[M]^2),      tau^2 = max(0.05^2, |M - P|^2 - 9 SE[M]^2)

(the posterior mean of a prior that trusts P to 5 %, or as far as M is seen to depart from it beyond three standard
errors), and gives the remaining M M~^-1 - I, which is mostly noise, to the second. The same formulas hold for matrices
and per wavenumber of a homogeneous field (:mod:`gfdt.responses.algebra`). Where the data have no variance R(t) = 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gfdt.responses.algebra import Algebra
from gfdt.responses.sums import UnitSums, standard_error

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["MODES", "Correction", "find_correction"]

MODES = ("auto", "stein", "none")
_PRIOR_SPREAD = 0.05  # "a few per cent": how far the Gaussian factor P is trusted
_MIN_UNITS = 20  # a regression over fewer units adds more noise than it removes


@dataclass(frozen=True)
class Correction:
    """How to correct R(t), and how the correction's own noise enters the error.

    Attributes
    ----------
    algebra : of the layout, on the support of the density
    divisor : M~, or None for no division
    control : c(t) as an array like R, or None
    weight : w, the share of the measured M in M~ (None where M~ is not a mixture)
    condition : condition number of M~ (dimensionless, on the support); 1 for no division
    """

    algebra: Algebra
    divisor: NDArray[Any] | None = None
    control: NDArray[Any] | None = None
    weight: NDArray[np.float64] | None = None
    condition: float = 1.0

    def divide(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return ``values`` M~^-1 (on the last, the perturbation index)."""
        return values if self.divisor is None else self.algebra.divide(values, self.divisor)

    def apply(self, raw: NDArray[Any], stein: NDArray[Any]) -> NDArray[Any]:
        """Return the corrected response from the raw one (n_lags first) and M."""
        out = self.divide(raw)
        if self.control is not None:
            out = out - self.control * (self.divide(stein) - self.algebra.identity)
        return out

    def influence(
        self, raw: NDArray[Any], stein: NDArray[Any], corrected: NDArray[Any], *, fitted: bool
    ) -> NDArray[Any]:
        r"""First-order error of the corrected response from one unit's errors of R(t) and M.

        With dR, dM the unit's influences,  d(corrected) = dR M~^-1 - G(t) dM M~^-1,  where G is

        - R(t) for a score fitted on this trajectory: -<x s^T> is then (nearly) fixed by the fit, so the estimate
          varies as the ratio C(t) C(0)^-1 does;
        - w R(t) + (1 - w) c(t) for a score known beforehand, from differentiating M~ and the control.
        """
        d_raw, d_stein = self.divide(raw), self.divide(stein)
        if fitted:
            return d_raw - self.algebra.times(corrected, d_stein)
        if self.divisor is None:
            return d_raw
        if self.weight is None:
            return d_raw - self.algebra.times(corrected, d_stein)
        out = d_raw - self.algebra.times(corrected, self.weight * d_stein)
        if self.control is not None:
            out = out - self.control * ((1 - self.weight) * d_stein)
        return out


def find_correction(
    mode: str,
    raw: UnitSums,
    stein: UnitSums,
    *,
    parametric: NDArray[Any],
    scale: NDArray[np.float64] | float,
    algebra: Algebra,
    state_like: bool,
) -> Correction:
    """Choose M~ and c(t).

    Parameters
    ----------
    mode : "auto", "stein" or "none"
    raw, stein : UnitSums
        Of R(t), shape (unit, lag, ...), and of M, shape (unit, ...).
    parametric : P, shape of M
    scale : shape of M or 1
        sd_j / sd_i, which makes M_ij a pure number.
    algebra : Algebra
        Of the layout the sums are in.
    state_like : bool
        Whether the observable has the state's dims, so that R_ij(t) goes with M_ij.
    """
    if mode == "none":
        return Correction(algebra)
    measured = stein.mean()
    if mode == "stein":
        return Correction(algebra, measured, condition=_condition(algebra, measured * scale))
    n_units = stein.sums.shape[0]
    variance = standard_error(stein.influence()) ** 2
    variance = variance * scale**2
    evidence = np.abs((measured - parametric) * scale) ** 2 - 9 * variance
    prior = np.maximum(_PRIOR_SPREAD**2, evidence)
    weight = prior / (prior + variance)
    divisor = weight * measured + (1 - weight) * parametric
    condition = _condition(algebra, divisor * scale)
    plain = Correction(algebra, divisor, None, weight, condition)
    if n_units < _MIN_UNITS or not state_like:
        return plain
    d_raw = np.moveaxis(plain.divide(raw.influence()), 1, 0)
    d_stein = plain.divide(stein.influence())
    spread = (np.abs(d_stein) ** 2).sum(axis=0)
    control = (d_raw * d_stein.conj()).sum(axis=1) / np.where(spread > 0, spread, 1.0)
    return Correction(algebra, divisor, control, weight, condition)


def _condition(algebra: Algebra, divisor: NDArray[Any]) -> float:
    strengths = algebra.strengths(divisor)
    return float(strengths[0] / strengths[-1]) if strengths[-1] > 0 else float("inf")
