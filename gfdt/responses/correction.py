r"""Use what is known at t = 0: R(0) = I, the Stein identity -<x s^T> = I.

Notation: R(t) is the raw estimate <A(t) B(0)> with B = -s(x), M = -<x s^T> its t = 0 value for A = x, P = C (C +
sigma^2)^-1 the value M has for Gaussian data and a score learned at noise level sigma. Two errors make M differ
from I, and each has its own cure (algorithms 6):

- *bias* of the score (finite sigma, an imperfect network) multiplies: R(t) <- R(t) M^-1, on the perturbation index;
- *sampling noise* of the record adds: R(t) <- R(t) - c(t) (M - I), c by regression over the resampling units.

"stein" is the first alone. "auto" divides by M where M is known well and by P where it is not,

    M~ = w M + (1 - w) P,      w = tau^2 / (tau^2 + SE[M]^2),  tau = 0.05,

(the posterior mean of a prior that trusts P to 5 %), and gives the remaining M M~^-1 - I, which is mostly noise, to
the second. The same formulas hold per wavenumber of a homogeneous field ("diagonal": arrays (..., k), products are
elementwise) and for matrices ("dense": arrays (..., i, j)).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["MODES", "Correction", "UnitSums", "find_correction"]

MODES = ("auto", "stein", "none")
_PRIOR_SPREAD = 0.05  # "a few per cent": how far the Gaussian factor P is trusted
_MIN_UNITS = 20  # a regression over fewer units adds more noise than it removes


@dataclass(frozen=True)
class UnitSums:
    """Per-unit sums and counts; axis 0 is the unit.

    Attributes
    ----------
    sums : (unit, *shape)
    counts : (unit, ...) broadcastable against ``sums``
    """

    sums: NDArray[Any]
    counts: NDArray[np.float64]

    def mean(self) -> NDArray[Any]:
        """Return the estimate: total sum over total count."""
        return self.sums.sum(axis=0) / self.counts.sum(axis=0)

    def influence(self) -> NDArray[Any]:
        """Return each unit's contribution e_u to the error of ``mean``: mean* - mean = sum_u w_u e_u.

        For resampling weights w_u (how often unit u was drawn) this is exact to first order (infinitesimal
        jackknife); sum_u e_u = 0.
        """
        return (self.sums - self.counts * self.mean()) / self.counts.sum(axis=0)


@dataclass(frozen=True)
class Correction:
    """How to correct R(t), and how the correction's own noise enters the error.

    Attributes
    ----------
    divisor : M~, or None for no division
    control : c(t) as an array like R, or None
    weight : w, the share of the measured M in M~ (None where M~ is not a mixture)
    identity : the exact R(0)
    """

    dense: bool
    divisor: NDArray[Any] | None
    control: NDArray[Any] | None
    weight: NDArray[np.float64] | None
    identity: NDArray[np.float64]

    def divide(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return ``values`` M~^-1 (on the last, the perturbation index)."""
        if self.divisor is None:
            return values
        if self.dense:
            return values @ np.linalg.inv(self.divisor)
        return values / self.divisor

    def times(self, left: NDArray[Any], right: NDArray[Any]) -> NDArray[Any]:
        """Return the product of a response and a t = 0 matrix in this algebra."""
        return left @ right if self.dense else left * right

    def apply(self, raw: NDArray[Any], stein: NDArray[Any]) -> NDArray[Any]:
        """Return the corrected response from the raw one (n_lags first) and M."""
        out = self.divide(raw)
        if self.control is not None:
            out = out - self.control * (self.divide(stein) - self.identity)
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
            return d_raw - self.times(corrected, d_stein)
        if self.divisor is None:
            return d_raw
        if self.weight is None:
            return d_raw - self.times(corrected, d_stein)
        out = d_raw - self.times(corrected, self.weight * d_stein)
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
    dense: bool,
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
    dense : bool
        Matrices, or one number per wavenumber.
    state_like : bool
        Whether the observable has the state's dims, so that R_ij(t) goes with M_ij.
    """
    shape = stein.sums.shape[1:]
    identity = np.eye(shape[0]) if dense else np.ones(shape)
    if mode == "none":
        return Correction(dense, None, None, None, identity)
    measured = stein.mean()
    if mode == "stein":
        return Correction(dense, measured, None, None, identity)
    n_units = stein.sums.shape[0]
    variance = (np.abs(stein.influence()) ** 2).sum(axis=0) * n_units / max(n_units - 1, 1)
    weight = _PRIOR_SPREAD**2 / (_PRIOR_SPREAD**2 + variance * scale**2)
    divisor = weight * measured + (1 - weight) * parametric
    plain = Correction(dense, divisor, None, weight, identity)
    if n_units < _MIN_UNITS or not state_like:
        return plain
    d_raw = np.moveaxis(plain.divide(raw.influence()), 1, 0)
    d_stein = plain.divide(stein.influence())
    spread = (np.abs(d_stein) ** 2).sum(axis=0)
    control = (d_raw * d_stein.conj()).sum(axis=1) / np.where(spread > 0, spread, 1.0)
    return Correction(dense, divisor, control, weight, identity)
