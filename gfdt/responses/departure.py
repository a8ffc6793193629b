r"""How far a score misses the Stein identity, and when a correction would only hide that.

With D = M P^-1 (the measured -<x s^T>, the known factor of the noise level divided out; D = I for an exact score),

    excess = [mean (|D - I|^2 - SE^2)]^(1/2)

over all entries is what sampling noise does not explain. A response made with the score is divided by D, which is
right if the score is off by a linear map and hides the error if it is off by anything else. The score is called
unreliable, with :class:`gfdt.UnreliableScoreWarning`, when a departure is significant and

- the excess is above 20 %, or
- along some direction or wavenumber less than half or more than twice of the score is there: the smallest singular
  value of I + (M - P) is below 1/2, or the largest above 2, by more than sampling noise can do. (M - P, not D: a
  wavenumber far below the noise level is not the network's fault.)

A score that is wrong in one of many wavenumbers does not show in the average, hence the second rule. The noise of
singular values is bounded by (t/2) (largest row norm + largest column norm of SE), the size of a random matrix
(Seginer, Combin. Probab. Comput. 9, 149, 2000) times half the 0.1 % quantile t of Student's distribution.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gfdt.errors import ReliabilityWarning, UnreliableScoreWarning
from gfdt.responses.algebra import Algebra
from gfdt.responses.sums import UnitSums, significance_threshold, standard_error

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gfdt.responses.bound import Bound
    from gfdt.responses.summary import Summary

__all__ = [
    "AMBER",
    "RED",
    "Departure",
    "departure_of",
    "find_departure",
    "stein_departure",
    "warn_of_a_bad_score",
    "warn_of_a_constant",
    "warn_of_a_missed_value",
    "warn_of_noise",
]

AMBER, RED = 0.05, 0.20  # excess: "a few per cent" and "wrong"
_MISSED, _MISSED_SHARE = 5.0, 0.10  # standard errors and share of the largest response
_HALF = 0.5  # of the score missing along a direction: as wrong as having none of it as having all


@dataclass(frozen=True)
class Departure:
    """How far an identity fails.

    Attributes
    ----------
    measured : what was found, dimensionless; M P^-1 for the Stein identity
    stderr : its standard error
    identity : what it should be
    excess : rms of |measured - identity|, the squared standard errors subtracted
    significant : whether any entry is beyond its errors (Student t, 0.1 % over all entries together)
    worst : index of the entry that is the most standard errors off
    worst_z : by how many
    weakest, strongest : smallest and largest singular value of I + M - P (1 and 1 where not looked at)
    lost : whether they are off by more than a factor two, beyond sampling noise
    uncertainty : the largest ratio of two standard errors of a singular value of I + M - P to that value
    certain : the largest |measured - identity| less what sampling noise may do to the largest of all entries
    """

    measured: NDArray[Any]
    stderr: NDArray[np.float64]
    identity: NDArray[np.float64]
    excess: float
    significant: bool
    worst: tuple[int, ...]
    worst_z: float
    weakest: float = 1.0
    strongest: float = 1.0
    lost: bool = False
    uncertainty: float = 0.0
    certain: float = 0.0

    @property
    def verdict(self) -> str:
        """Return "green", "amber" or "red"."""
        if self.significant and (self.excess > RED or self.lost):
            return "red"
        return "amber" if self.significant and self.excess > AMBER else "green"


def departure_of(
    measured: NDArray[Any],
    influence: NDArray[Any],
    identity: NDArray[np.float64],
    n_present: int | None = None,
    **more: Any,
) -> Departure:
    """Compare a measured quantity with its identity.

    Parameters
    ----------
    measured, identity : arrays of one shape
    influence : (unit, ...)
        Each unit's contribution to the error of ``measured``.
    n_present : int, optional
        Number of entries that can depart, where some are zero by construction. Default None: all.
    """
    stderr = standard_error(influence)
    departure = np.abs(measured - identity)
    # An in-sample Gaussian fit satisfies the identity to rounding, which is not a departure.
    z = departure / np.maximum(stderr, 1e-9)
    threshold = significance_threshold(z.size, influence.shape[0])
    beyond = (departure**2 - stderr**2).sum() / max(n_present or z.size, 1)
    return Departure(
        measured=measured,
        stderr=stderr,
        identity=identity,
        excess=float(np.sqrt(max(beyond, 0.0))),
        significant=bool(z.max() > threshold),
        certain=float(max((departure - threshold * stderr).max(), 0.0)),
        worst=tuple(int(i) for i in np.unravel_index(int(z.argmax()), z.shape)),
        worst_z=float(z.max()),
        **more,
    )


def find_departure(
    stein: UnitSums, *, parametric: NDArray[Any], scale: NDArray[np.float64] | float, algebra: Algebra
) -> Departure:
    """Compare M with P; the arguments are those of :func:`gfdt.responses.correction.find_correction`."""
    measured = algebra.divide(stein.mean(), parametric) * scale
    influence = algebra.divide(stein.influence(), parametric) * scale
    shifted = algebra.identity * scale + (stein.mean() - parametric) * scale
    stderr = standard_error(stein.influence() * scale)
    n_units = influence.shape[0]
    strengths: NDArray[np.float64]
    noise: Any
    if algebra.kind == "matrix":
        strengths = algebra.strengths(shifted)
        rows, columns = (np.sqrt((stderr**2).sum(axis=axis)).max() for axis in (1, 0))
        threshold = significance_threshold(1, n_units)
        noise = threshold / 2 * (rows + columns)
    elif algebra.kind == "blocks":
        # What is off the support is taken for present: it can neither be weak nor strong.
        absent = np.eye(algebra.n_variables) - algebra.identity
        strengths = np.linalg.svd(shifted + absent * scale, compute_uv=False)
        rows, columns = (np.sqrt((stderr**2).sum(axis=axis)).max(axis=1) for axis in (2, 1))
        threshold = significance_threshold(len(strengths), n_units)
        noise = (threshold / 2 * (rows + columns))[:, None]
    else:
        present = algebra.identity > 0
        strengths = np.abs(shifted[present])
        threshold = significance_threshold(strengths.size, n_units)
        noise = threshold * stderr[present]
    return departure_of(
        measured,
        influence,
        algebra.identity * scale,
        algebra.n_entries,
        weakest=float(strengths.min()),
        strongest=float(strengths.max()),
        lost=bool((strengths + noise).min() < _HALF or (strengths - noise).max() > 1 / _HALF),
        # Two standard errors of one, not the bound that none of all exceeds.
        uncertainty=float((2 / threshold * noise / np.maximum(strengths, 1e-300)).max()),
    )


def stein_departure(ready: Summary) -> Departure:
    """Return the departure from the Stein identity of a prepared score and record."""
    return find_departure(
        ready.stein,
        parametric=ready.parametric,
        scale=ready.layout.scale(ready.covariance),
        algebra=ready.algebra,
    )


def warn_of_a_missed_value(z: float, miss: float, observable: str) -> None:
    """Warn, from within :func:`gfdt.response`, of an R(0) that is not what it is known to be."""
    if not (z > _MISSED and miss > _MISSED_SHARE):
        return
    warnings.warn(
        f"the response of the {observable} starts at a value that misses the known <w . grad A> by {100 * miss:.0f} % "
        f"of the largest response ({z:.0f} standard errors, before what can be noise is taken off): the score does not "
        "know what this observable needs of the density, although it may satisfy the Stein identity; see "
        "gfdt.check_score, or learn another score.",
        ReliabilityWarning,
        stacklevel=4,
    )


def warn_of_a_constant(observable: Bound, spread: NDArray[np.float64]) -> None:
    """Warn of an event that never, or always, happens in the record: its response is not zero but unknown."""
    if observable.name.startswith("exceedance") and not np.all(spread > 0):
        warnings.warn(
            f"{observable.name} never or always happens for {int((spread == 0).sum())} of {spread.size} components in "
            "this record: their response, zero with no error, is not known; choose a threshold within the data.",
            ReliabilityWarning,
            stacklevel=4,
        )


def warn_of_noise(departure: Departure, condition: float, mode: str) -> None:
    """Warn, from within :func:`gfdt.response`, where dividing by the measured R(0) alone would amplify its noise."""
    if mode != "stein" or departure.uncertainty < 1:
        return
    warnings.warn(
        "correction='stein' divides by an R(0) that along some direction or wavenumber is not known to differ from "
        f"zero (noise up to {departure.uncertainty:.2g} times its size; condition number {condition:.2g}): the "
        "response there is amplified noise; pass correction='auto', which divides only by what is known, or record "
        "longer.",
        ReliabilityWarning,
        stacklevel=4,
    )


def warn_of_a_bad_score(departure: Departure, condition: float) -> None:
    """Warn, from within :func:`gfdt.response`, of a score whose correction would hide what is wrong with it."""
    if departure.verdict != "red":
        return
    where = departure.worst
    warnings.warn(
        f"the score misses the Stein identity -<x s^T> = I by {100 * departure.excess:.0f} % rms, and it is "
        f"{departure.weakest:.2g} to {departure.strongest:.2g} times too strong along single directions (worst at "
        f"index {where}: {_shown(departure.measured[where])} +- {departure.stderr[where]:.2g} instead of "
        f"{departure.identity[where]:.2g}; condition number of the correction {condition:.2g}): the response made with "
        "it is not reliable, whatever its band, even though it starts at R(0) = I after the correction; see "
        "gfdt.check_score and correction='none', train longer, or check that score and trajectory belong to the same "
        "system.",
        UnreliableScoreWarning,
        stacklevel=4,
    )


def _shown(value: Any) -> str:
    """A number, complex only where its imaginary part counts."""
    if np.iscomplexobj(value) and abs(value.imag) > 1e-3 * abs(value):
        return f"{value.real:.3g}{value.imag:+.3g}i"
    return f"{np.real(value):.3g}"
