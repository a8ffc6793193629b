r"""Use what is known at t = 0: R(0) = I, the Stein identity -<x s^T> = I, and <A B> = <w . grad A>.

Notation: R(t) is the raw estimate <A(t) B(0)> with B = -s(x), M = -<x s^T> its t = 0 value for A = x, P = C (C +
sigma^2)^-1 the value M has for Gaussian data and a score learned at noise level sigma. Two errors make M differ
from I, and each has its own cure (algorithms 6):

- *bias* of the score (finite sigma, an imperfect network) multiplies: s <- M^-T s, that is R(t) <- R(t) M^-1, on the
  perturbation index; for a state-dependent w or a change of the noise the corrected score goes into B;
- *sampling noise* of the record adds: R(t) <- R(t) - c(t) D, D = R(0) - <w . grad A>, c by regression over the
  resampling units (:class:`Control`); <w . grad A> is the average over the record of what R(0) is for an exact score.

"stein" is the first alone. "auto" divides by M where M is known well and by P where it is not,

    M~ = w M + (1 - w) P,      w = tau^2 / (tau^2 + SE[M]^2),      tau^2 = max(0.05^2, |M - P|^2 - 9 SE[M]^2)

(the posterior mean of a prior that trusts P to 5 %, or as far as M is seen to depart from it beyond three standard
errors), and gives what remains of D to the second, as far as it can be noise: by the share min(1, 16 SE[D]^2/D^2). The
same formulas hold for matrices and per wavenumber of a homogeneous field (:mod:`gfdt.responses.algebra`). Where the
data have no variance R(t) = 0.

Where, per wavenumber, the real part of M/P is not between 0 and 4, the error is no factor of the score, but something
added to it: a slow mode, such as the mean of a bimodal field, collects from every site a small mistake that goes with
it, s <- s + a x. Then M is off by -a C and R(t) by -a C(t): there w = 0, and c(t) = C(t)/C(0).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gfdt.responses.algebra import Algebra
from gfdt.responses.sums import UnitSums, standard_error

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["MODES", "Control", "Correction", "find_control", "find_correction"]

MODES = ("auto", "stein", "none")
_PRIOR_SPREAD = 0.05  # "a few per cent": how far the Gaussian factor P is trusted
_MIN_UNITS = 20  # a regression over fewer units adds more noise than it removes
_LARGEST_FACTOR = 4.0  # by which a score can be too strong as a whole; beyond it the error is no factor
_BIAS = 4.0  # standard errors of D beyond which it is not noise; three happen, D is heavy-tailed and errors rough
_REST = 0.05  # of the spread of x must be left without a unit, for its coefficient to mean anything
_ROUNDING = 1e-6  # a D that varies less than this part of R(0) is zero by construction


@dataclass(frozen=True)
class Correction:
    """What the score is divided by.

    Attributes
    ----------
    mode : "auto", "stein" or "none"
    algebra : of the layout, on the support of the density
    divisor, inverse : M~ and its inverse, or None for no division
    weight : w, the share of the measured M in M~ (None where M~ is not a mixture)
    condition : condition number of M~ (dimensionless, on the support); 1 for no division
    added : which wavenumbers have an error that is no factor; None where none can
    """

    mode: str
    algebra: Algebra
    divisor: NDArray[Any] | None = None
    inverse: NDArray[Any] | None = None
    weight: NDArray[np.float64] | None = None
    condition: float = 1.0
    added: NDArray[np.bool_] | None = None

    def divide(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return ``values`` M~^-1 (on the last, the perturbation index)."""
        return values if self.inverse is None else self.algebra.times(values, self.inverse)

    def divide_series(self, series: NDArray[Any]) -> NDArray[Any]:
        """Return the series of corrected scores (or of anything linear in the score)."""
        return series if self.inverse is None else self.algebra.times_series(series, self.inverse)

    def slopes(self, stein: UnitSums, *, fitted: bool) -> NDArray[Any] | None:
        r"""Return how the corrected score moves with each unit: ds = -E_u^H s, so that dR(t) = -R(t) E_u.

        - For a score fitted on this trajectory -<x s^T> is (nearly) fixed by the fit, so the estimate varies as the
          ratio C(t) C(0)^-1 does: E_u = dM_u M~^-1.
        - For a score known beforehand E_u = w dM_u M~^-1, from differentiating M~; None without a correction.
        """
        if fitted:
            return self.divide(stein.influence())
        if self.divisor is None:
            return None
        slopes = self.divide(stein.influence())
        return slopes if self.weight is None else self.weight * slopes


def find_correction(
    mode: str,
    stein: UnitSums,
    *,
    parametric: NDArray[Any],
    scale: NDArray[np.float64] | float,
    algebra: Algebra,
) -> Correction:
    """Choose M~.

    Parameters
    ----------
    mode : "auto", "stein" or "none"
    stein : UnitSums
        Of M, shape (unit, ...).
    parametric : P, shape of M
    scale : shape of M or 1
        sd_j / sd_i, which makes M_ij a pure number.
    algebra : Algebra
        Of the layout the sums are in.
    """
    if mode == "none":
        return Correction(mode, algebra)
    measured = stein.mean()
    if mode == "stein":
        return Correction(
            mode, algebra, measured, algebra.inverse(measured), None, _condition(algebra, measured * scale)
        )
    variance = standard_error(stein.influence()) ** 2
    variance = variance * scale**2
    evidence = np.abs((measured - parametric) * scale) ** 2 - 9 * variance
    prior = np.maximum(_PRIOR_SPREAD**2, evidence)
    weight = prior / (prior + variance)
    added = None
    if measured.ndim == 1:
        factor = np.divide(measured.real, parametric, out=np.ones(measured.shape), where=parametric > 0)
        added = (factor <= 0) | (factor >= _LARGEST_FACTOR)
        weight = np.where(added, 0.0, weight)
    divisor = weight * measured + (1 - weight) * parametric
    condition = _condition(algebra, divisor * scale)
    return Correction(mode, algebra, divisor, algebra.inverse(divisor), weight, condition, added)


@dataclass(frozen=True)
class Control:
    """c(t) by regression of the errors of R(t) on those of D, each unit left out of its own coefficient.

    With one c for all, c and D come from the same units, and a few of them decide both where products have heavy tails:
    R(t) is then biased and its errors look small. With c_(-u), from all units but u,

        R(t) - sum_u c_(-u)(t) (D/n + dD_u),        e_u - c_(-u)(t) dD_u.

    Attributes
    ----------
    cross : (lag, ...), sum_u e_u x_u^*
    size : (...), sum_u |x_u|^2
    share : (...), the part of D that can be noise; 0 where there is nothing to gain
    """

    cross: NDArray[Any]
    size: NDArray[np.float64]
    share: NDArray[np.float64]

    def whole(self) -> NDArray[Any]:
        """Return c(t) from all units, for the kicks of the state: their D is small, M~ has taken most of it."""
        return self.cross / np.where(self.size > 0, self.size, 1.0) * self.share

    def without(self, error: NDArray[Any], regressor: NDArray[Any]) -> NDArray[Any]:
        """Return c_(-u) from the unit's errors of R(t), (lag, ...), and x_u, (...)."""
        rest = self.size - np.abs(regressor) ** 2
        usable = rest > _REST * self.size
        cross = self.cross - error * regressor.conj()
        return cross / np.where(usable, rest, 1.0) * np.where(usable, self.share, 0.0)


def find_control(
    error: NDArray[Any], departure: NDArray[Any], departure_error: NDArray[Any], regressor: NDArray[Any] | None = None
) -> Control | None:
    """Return c(t) with the share of D that can be noise; None where there is nothing to gain.

    Parameters
    ----------
    error : (unit, lag, ...)
        First-order errors of R(t) from each unit.
    departure : (...)
        D, what R(0) misses its known value by.
    departure_error : (unit, ...)
        Errors of D from each unit.
    regressor : (unit, ...), optional
        x, what c is regressed on. Default None: the errors of D.
    """
    if len(error) < _MIN_UNITS:
        return None
    slope = departure_error if regressor is None else regressor
    size = (np.abs(slope) ** 2).sum(axis=0)
    usable = size > _ROUNDING**2 * (np.abs(error[:, 0]) ** 2).sum(axis=0)
    if not usable.any():
        return None
    cross = np.einsum("ul...,u...->l...", error, slope.conj())
    stderr, found = standard_error(departure_error), np.abs(departure)
    beyond = found > _BIAS * stderr
    share = np.where(beyond, (_BIAS * stderr / np.where(beyond, found, 1.0)) ** 2, 1.0)
    return Control(cross, size, np.where(usable, share if regressor is None else 1.0, 0.0))


def _condition(algebra: Algebra, divisor: NDArray[Any]) -> float:
    strengths = algebra.strengths(divisor)
    return float(strengths[0] / strengths[-1]) if strengths[-1] > 0 else float("inf")
