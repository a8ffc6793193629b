r"""Statistics of the values at one point: the density, its tails, its mean, skewness and kurtosis.

A kind is what has a one-point density of its own: every component, or every variable of a homogeneous field, whose
sites are averaged over.

- density: the probabilities of 20 bins that are equally likely in the record, q_b against p_b. The rms of q_b/p_b - 1
  is the relative error of the density weighted by the density itself (the square root of Pearson's χ² divergence);
  half the mean of |q_b/p_b - 1| is the total variation distance between the two histograms.
- tails: the probability to lie below the 1 % or above the 99 % quantile of the record, relative.
- mean and width: in standard deviations of the record.
- shape: γ1/√6 and γ2/√24 with γ1, γ2 the skewness and the excess kurtosis, the coefficients of the orthonormal Hermite
  polynomials: an error of so much is one of as much in the density near a Gaussian. Where the record has heavier
  tails than a Gaussian, the kurtosis is compared in units of its own size.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from gfdt.certificate.comparison import Statistic
from gfdt.certificate.states import States
from gfdt.responses.layout import Layout

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["density", "histogram_edges", "mean_and_width", "per_kind", "shape_of", "standardised_shape", "tails"]

_BINS = 20  # of 5 % each: known to 1/sqrt(n/20), and none of them small
_TAIL = 0.01
_MOST_FOR_QUANTILES = 2**22


def per_kind(layout: Layout, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return states (n, *state) as (n, kind, site): one site each for components, all sites of every variable."""
    n_kinds = layout.size if layout.dense else layout.n_variables
    return values.reshape(len(values), n_kinds, -1)


def density(layout: Layout, record: States) -> Statistic:
    """Probabilities of bins that are equally likely in the record; summary (kind, bin)."""
    return _probabilities(layout, histogram_edges(layout, record, np.arange(1, _BINS) / _BINS), slice(None))


def tails(layout: Layout, record: States) -> Statistic:
    """Probabilities to lie beyond the 1 % and 99 % quantiles of the record; summary (kind, 2)."""
    return _probabilities(layout, histogram_edges(layout, record, np.array([_TAIL, 1 - _TAIL])), slice(None, None, 2))


def mean_and_width(layout: Layout) -> Statistic:
    """Mean and standard deviation of every kind; summary (kind, 2), the mean first."""

    def summary(means: NDArray[np.float64]) -> NDArray[np.float64]:
        first, second = np.split(means, 2, axis=-1)
        return np.stack([first, _root(second - first**2)], axis=-1)

    def unit(expected: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.maximum(expected[..., 1:], 1e-300)

    return _moments(layout, 2, summary, unit)


def shape_of(layout: Layout) -> Statistic:
    """Skewness and kurtosis of every kind; summary (kind, 2)."""
    return _moments(layout, 4, standardised_shape, _heavy)


def standardised_shape(means: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return γ1/√6 and γ2/√24, (..., kind, 2), from means (..., 4 kinds) of the first four powers."""
    m1, m2, m3, m4 = np.split(means, 4, axis=-1)
    variance = np.maximum(m2 - m1**2, 1e-300)
    third = m3 - 3 * m1 * m2 + 2 * m1**3
    fourth = m4 - 4 * m1 * m3 + 6 * m1**2 * m2 - 3 * m1**4
    return np.stack([third / variance**1.5 / math.sqrt(6), (fourth / variance**2 - 3) / math.sqrt(24)], axis=-1)


def histogram_edges(layout: Layout, record: States, levels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the quantiles of every kind in the record, (kind, level)."""
    most = max(1, _MOST_FOR_QUANTILES // record.values[0].size)
    chosen = np.unique(np.linspace(0, len(record) - 1, min(most, len(record))).astype(np.int64))
    values = per_kind(layout, record.values[chosen])
    return np.stack([np.quantile(values[:, kind], levels) for kind in range(values.shape[1])])


def _probabilities(layout: Layout, edges: NDArray[np.float64], kept: slice) -> Statistic:
    n_kinds, n_bins = edges.shape[0], edges.shape[1] + 1

    def features(values: NDArray[np.float64]) -> NDArray[np.float64]:
        x = per_kind(layout, values)
        place = np.stack([np.searchsorted(edges[kind], x[:, kind], side="right") for kind in range(n_kinds)], axis=1)
        cell = place + n_bins * np.arange(len(x) * n_kinds).reshape(len(x), n_kinds, 1)
        count = np.bincount(cell.ravel(), minlength=len(x) * n_kinds * n_bins)
        return count.reshape(len(x), -1) / x.shape[2]

    def summary(means: NDArray[np.float64]) -> NDArray[np.float64]:
        return means.reshape(*means.shape[:-1], n_kinds, n_bins)[..., kept]

    def unit(expected: NDArray[np.float64]) -> NDArray[np.float64]:
        # Values that repeat, as those of a record of integers, leave bins without any width.
        return np.where(expected > 0, expected, 1.0)

    return Statistic(features, n_kinds * n_bins, summary, unit)


def _moments(layout: Layout, most: int, summary: Any, unit: Any) -> Statistic:
    n_kinds = layout.size if layout.dense else layout.n_variables

    def features(values: NDArray[np.float64]) -> NDArray[np.float64]:
        x = per_kind(layout, values)
        return np.concatenate([(x**power).mean(axis=2) for power in range(1, most + 1)], axis=1)

    return Statistic(features, most * n_kinds, summary, unit)


def _heavy(expected: NDArray[np.float64]) -> NDArray[np.float64]:
    """Units of (γ1/√6, γ2/√24): 1, and the kurtosis over 3 where that is larger."""
    kurtosis = 3 + math.sqrt(24) * expected[..., 1]
    size = np.maximum(kurtosis / 3, 1.0)
    return np.stack([np.sqrt(size), size], axis=-1)


def _root(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.sqrt(np.maximum(values, 0.0))
