r"""The score-matching loss of a score against that of a Gaussian fit: which of them knows the density better?

For any score s of a density with the true score s*, integrating by parts (Hyvärinen 2005) gives

    L(s) = < s'Cs/2 + tr(C grad s) >/d = < (s - s*)' C (s - s*) >/(2 d) + const,

so the difference of two losses is the difference of their mean squared errors, and needs no s*. C, the covariance of
the record, makes it a pure number and weighs a score error by what it does to the response <x s'>; d is the number of
directions with variance. A Gaussian score has L = -1/2 over its own record. A score with noise level sigma is compared
at states x + sigma z with the Gaussian of covariance C + sigma^2.

Both scores are to be judged on states they were not fitted on. Where the record is new to the score, the Gaussian is
therefore fitted on the rest of the record, for each fifth of it in turn; where the score was fitted on this very
record, the Gaussian is too, and the comparison is in-sample for both. The two losses are paired state by state; the
standard error comes from the resampling units.

References
----------
Hyvärinen, J. Mach. Learn. Res. 6, 695 (2005), theorem 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gfdt.covariance import Covariance
from gfdt.diagnostics.derivatives import Derivatives, minus_inverse, trace_of_gaussian
from gfdt.diagnostics.sample import Sample, blocks_of, blurred_covariance, covariance_of, rank, spread_of
from gfdt.responses.prepare import Prepared
from gfdt.responses.sums import UnitSums, significance_threshold, standard_error

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["GaussianFits", "LossComparison", "compare_losses", "fit_gaussians"]

_FOLDS = 5  # each Gaussian is fitted on four fifths of the record


@dataclass(frozen=True)
class LossComparison:
    """Losses of a score and of the Gaussian on the same states.

    Attributes
    ----------
    score, gaussian : float
        L of each; NaN where it cannot be had.
    difference, stderr : float
        L(score) - L(Gaussian), paired, and its standard error; negative: the score is better.
    significant : bool
        Whether the difference is beyond its error (0.1 %).
    in_sample : bool
        Whether both were fitted on these states.
    """

    score: float
    gaussian: float
    difference: float
    stderr: float
    significant: bool
    in_sample: bool

    @property
    def z(self) -> float:
        """The difference in standard errors; 0 where it is of rounding size."""
        return self.difference / self.stderr if self.stderr > 1e-9 else 0.0

    def __str__(self) -> str:
        if not np.isfinite(self.difference):
            return "no Gaussian to compare with (too few states for a covariance matrix)"
        where = ", in-sample" if self.in_sample else ""
        if abs(self.difference) < 1e-9:
            return f"equal to that of the Gaussian{where}"
        word = "better" if self.difference < 0 else "worse"
        return (
            f"{word} than the Gaussian by {abs(self.difference):.3g} +- {self.stderr:.2g} "
            f"({abs(self.z):.1f} sigma{where})"
        )


@dataclass(frozen=True)
class GaussianFits:
    """Mean and covariance, in the layout's basis, of the record without each fold; one of it all if in-sample.

    Attributes
    ----------
    fold : (n_units,) which fit a resampling unit is judged by
    means : list of (*state)
    covariances : list of arrays in the layout's basis
    """

    fold: NDArray[np.int64]
    means: list[NDArray[np.float64]]
    covariances: list[NDArray[Any]]


def fit_gaussians(ready: Prepared) -> GaussianFits:
    """Fit the Gaussian on the record, or on four fifths of it five times."""
    n_units = len(ready.units)
    if ready.fitted_here:
        return GaussianFits(np.zeros(n_units, dtype=np.int64), [ready.mean], [ready.covariance])
    # By samples, not by units: where there are gaps some units hold little.
    of_unit = ready.conjugate_units.counts.ravel()
    n_folds = min(_FOLDS, n_units)
    before = np.cumsum(of_unit) - of_unit
    fold = np.minimum(before * n_folds // of_unit.sum(), n_folds - 1).astype(np.int64)
    layout = ready.layout
    sums: list[Any] = [np.zeros_like(ready.covariance) for _ in range(n_folds)]
    totals = np.zeros((n_folds, *layout.shape))
    counts = np.bincount(fold, weights=of_unit, minlength=n_folds)
    for index, unit in zip(fold, ready.units, strict=True):
        for centred, _ in blocks_of(ready, unit):
            series = layout.transform(centred)
            sums[index] += layout.product(series, series)
            totals[index] += centred.sum(axis=0)
    means, covariances = [], []
    for left_out in range(n_folds):
        others = [other for other in range(n_folds) if other != left_out]
        # All samples in one fold leave none to fit: a covariance of zero, which no loss is compared with.
        count = max(counts[others].sum(), 1.0)
        shift = layout.site_mean(totals[others].sum(axis=0) / count)
        offset = layout.transform(shift[None])
        own = layout.product(offset, offset)
        means.append(ready.mean + shift)
        covariances.append(sum(sums[other] for other in others) / count - own)
    return GaussianFits(fold, means, covariances)


def compare_losses(
    ready: Prepared,
    fits: GaussianFits,
    sample: Sample,
    values: NDArray[np.float64],
    derivatives: Derivatives,
    level: float | NDArray[np.float64],
) -> LossComparison:
    """Compare a score, given by its values and derivatives at ``sample.blurred(level)``, with the Gaussian fits."""
    covariance, spread = covariance_of(ready, ready.covariance), spread_of(ready)
    directions = rank(covariance)
    own = _loss(covariance, values * spread, derivatives.trace) / directions
    states = sample.blurred(level)
    gaussian = np.full(len(own), np.nan)
    fold = fits.fold[sample.unit]
    for index, (mean, fitted) in enumerate(zip(fits.means, fits.covariances, strict=True)):
        mine = fold == index
        if not mine.any() or not fitted.any():
            continue
        blurred = covariance_of(ready, blurred_covariance(ready, fitted, level))
        if rank(blurred) < directions:
            continue
        guess = blurred.apply((states[mine] - mean) / spread, minus_inverse)
        gaussian[mine] = _loss(covariance, guess, trace_of_gaussian(covariance, blurred)) / directions
    difference = _per_unit(own - gaussian, sample.unit, len(ready.units))
    stderr = float(standard_error(difference.influence()))
    value = float(difference.mean())
    threshold = significance_threshold(1, len(ready.units))
    return LossComparison(
        score=float(own.mean()),
        gaussian=float(gaussian.mean()),
        difference=value,
        stderr=stderr,
        significant=bool(abs(value) > max(threshold * stderr, 1e-9)),
        in_sample=ready.fitted_here,
    )


def _loss(covariance: Covariance, s: NDArray[np.float64], trace: NDArray[np.float64] | float) -> NDArray[np.float64]:
    """s'Cs/2 + tr(C grad s) at each state, of x in units of its spread."""
    weighted = covariance.apply(s, lambda eigenvalues: eigenvalues)
    return np.einsum("ni,ni->n", s.reshape(len(s), -1), weighted.reshape(len(s), -1)) / 2 + trace


def _per_unit(values: NDArray[np.float64], unit: NDArray[np.int64], n_units: int) -> UnitSums:
    sums = np.bincount(unit, weights=values, minlength=n_units)
    return UnitSums(sums, np.bincount(unit, minlength=n_units).astype(np.float64))
