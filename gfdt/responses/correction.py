r"""Use what is known at t = 0: R(0) = I, the Stein identity -<x s^T> = I.

Notation: R(t) is the raw estimate <A(t) B(0)> with B = -s(x), M = -<x s^T> its t = 0 value for A = x, P = C (C +
sigma^2)^-1 the value M has for Gaussian data and a score learned at noise level sigma. Two errors make M differ
from I, and each has its own cure (algorithms 6):

- *bias* of the score (finite sigma, an imperfect network) multiplies: R(t) <- R(t) M^-1, on the perturbation index;
- *sampling noise* of the record adds: R(t) <- R(t) - c(t) (M - I), c by regression over the resampling units.

"stein" is the first alone. "auto" divides by M where M is known well and by P where it is not,

    M~ = w M + (1 - w) P,      w = tau^2 / (tau^2 + SE[M]^2),      tau^2 = max(0.05^2, |M - P|^2 - 9 SE[M]^2)

(the posterior mean of a prior that trusts P to 5 %, or as far as M is seen to depart from it beyond three standard
errors), and gives the remaining M M~^-1 - I, which is mostly noise, to the second. The same formulas hold per
wavenumber of a homogeneous field ("diagonal": arrays (..., k), products are elementwise) and for matrices ("dense":
arrays (..., i, j)).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from gfdt.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "MODES",
    "Correction",
    "Departure",
    "UnitSums",
    "find_correction",
    "find_departure",
    "significance_threshold",
    "standard_error",
]

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
class Departure:
    """How far the Stein identity fails, the known factor P divided out.

    Attributes
    ----------
    measured : M P^-1, made dimensionless
    stderr : its standard error
    identity : what it should be
    excess : rms of |M P^-1 - I|, the squared standard errors subtracted
    significant : whether any entry is beyond its errors (Student t, 0.1 % over all entries together)
    worst : index of the entry that is the most standard errors off
    worst_z : by how many
    """

    measured: NDArray[Any]
    stderr: NDArray[np.float64]
    identity: NDArray[np.float64]
    excess: float
    significant: bool
    worst: tuple[int, ...]
    worst_z: float


def find_departure(
    stein: UnitSums, *, parametric: NDArray[Any], scale: NDArray[np.float64] | float, dense: bool
) -> Departure:
    """Compare M with P; the arguments are those of :func:`find_correction`."""
    inverse = _inverse(parametric) if dense else 1 / parametric
    measured = (stein.mean() @ inverse if dense else stein.mean() * inverse) * scale
    influence = (stein.influence() @ inverse if dense else stein.influence() * inverse) * scale
    stderr = standard_error(influence)
    identity = np.eye(measured.shape[0]) if dense else np.ones(measured.shape)
    departure = np.abs(measured - identity)
    # An in-sample Gaussian fit satisfies the identity to rounding, which is not a departure.
    z = departure / np.maximum(stderr, 1e-9)
    return Departure(
        measured=measured,
        stderr=stderr,
        identity=identity,
        excess=float(np.sqrt(max(np.mean(departure**2 - stderr**2), 0.0))),
        significant=bool(z.max() > significance_threshold(z.size, influence.shape[0])),
        worst=tuple(int(i) for i in np.unravel_index(int(z.argmax()), z.shape)),
        worst_z=float(z.max()),
    )


def significance_threshold(n_entries: int, n_units: int) -> float:
    """Return the |t| that the largest of ``n_entries`` exceeds by chance with probability 0.1 % (Bonferroni)."""
    return float(stats.t.ppf(1 - 0.0005 / n_entries, max(n_units - 1, 1)))


def standard_error(influence: NDArray[Any]) -> NDArray[np.float64]:
    """Return the standard error that the units' contributions e_u (axis 0) add up to: [n/(n-1) sum |e_u|^2]^(1/2)."""
    n_units = influence.shape[0]
    return np.sqrt((np.abs(influence) ** 2).sum(axis=0) * n_units / max(n_units - 1, 1))


def _inverse(matrix: NDArray[Any]) -> NDArray[Any]:
    try:
        return np.linalg.inv(matrix)
    except np.linalg.LinAlgError as error:
        raise InputError(_SINGULAR) from error


_SINGULAR = (
    "the measured R(0) = -<x s^T> is singular, so it cannot be divided out: the score is zero or constant along some "
    "direction; check its formula, fit it again, or pass correction='none'."
)


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
            return values @ _inverse(self.divisor)
        if not np.abs(self.divisor).min() > 0:
            raise InputError(_SINGULAR)
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
    variance = standard_error(stein.influence()) ** 2
    variance = variance * scale**2
    evidence = np.abs((measured - parametric) * scale) ** 2 - 9 * variance
    prior = np.maximum(_PRIOR_SPREAD**2, evidence)
    weight = prior / (prior + variance)
    divisor = weight * measured + (1 - weight) * parametric
    plain = Correction(dense, divisor, None, weight, identity)
    if n_units < _MIN_UNITS or not state_like:
        return plain
    d_raw = np.moveaxis(plain.divide(raw.influence()), 1, 0)
    d_stein = plain.divide(stein.influence())
    spread = (np.abs(d_stein) ** 2).sum(axis=0)
    control = (d_raw * d_stein.conj()).sum(axis=1) / np.where(spread > 0, spread, 1.0)
    return Correction(dense, divisor, control, weight, identity)
