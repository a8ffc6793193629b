"""Sums over resampling units, and the standard errors that the spread between units gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["UnitSums", "significance_threshold", "standard_error"]


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

    def influence_in_place(self, mean: NDArray[Any]) -> NDArray[Any]:
        """Return ``influence`` in the memory of the sums, which are lost, given their mean."""
        total = self.counts.sum(axis=0)
        for sums, counts in zip(self.sums, self.counts, strict=True):
            sums -= counts * mean
            sums /= total
        return self.sums


def standard_error(influence: NDArray[Any]) -> NDArray[np.float64]:
    """Return the standard error that the units' contributions e_u (axis 0) add up to: [n/(n-1) sum |e_u|^2]^(1/2)."""
    n_units = influence.shape[0]
    return np.sqrt((np.abs(influence) ** 2).sum(axis=0) * n_units / max(n_units - 1, 1))


def significance_threshold(n_entries: int, n_units: int) -> float:
    """Return the |t| that the largest of ``n_entries`` exceeds by chance with probability 0.1 % (Bonferroni)."""
    return float(stats.t.ppf(1 - 0.0005 / max(n_entries, 1), max(n_units - 1, 1)))
