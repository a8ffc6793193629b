r"""The sliced Wasserstein-2 distance between two sets of states, and how far it is from what chance alone gives.

For a unit vector θ the distance of the one-dimensional densities of θ.a is exact from sorted values,

    W²(θ) = 1/n sum_i (θ.a_(i) - θ.b_(i))²,        SW² = mean of W²(θ) over random θ,

in standard deviations: SW = 0.05 is a shift, or a width, that is wrong by 5 % in every direction. Two finite sets of
one density have SW > 0. That floor is measured: the record against itself, two halves made of whole resampling units,
with as many states as in the comparison of the samples with each half. Samples of the right density are not farther
from a half than the other half is, whatever the size of the record, since the states of a half are correlated and
samples are not. What is judged is the excess (SW² - floor²)^½.

References
----------
Rabin, Peyré, Delon and Bernot, LNCS 6667, 435 (2012).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gfdt.certificate.states import States

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["SlicedDistance", "sliced_distance", "squared_distance"]

_DIRECTIONS = 64  # the mean over directions is then known to about 1/5 even where one of them alone differs
_SPLITS = 12  # of the record into halves: where one slow variable decides, a single split knows the floor to 1/2 or so
_MOST = 2**12  # states on each side
_VALUES = 2**22  # numbers sorted at once


@dataclass(frozen=True)
class SlicedDistance:
    """A distance and its floor.

    Attributes
    ----------
    distance : float
        SW between the samples and halves of the record, in standard deviations.
    floor : float
        SW between two halves of the record.
    n_states : int
        On each side.
    """

    distance: float
    floor: float
    n_states: int

    @property
    def ratio(self) -> float:
        """Distance over floor."""
        return self.distance / max(self.floor, 1e-300)

    @property
    def excess(self) -> float:
        """What the floor does not explain."""
        return float(np.sqrt(max(self.distance**2 - self.floor**2, 0.0)))


def sliced_distance(record: States, samples: States, rng: np.random.Generator) -> SlicedDistance:
    """Compare the samples with halves of the record, and the halves with each other.

    Parameters
    ----------
    record, samples : States
        The record must have at least two groups.
    rng : Generator
        Of the directions, the halves and the states that are taken.
    """
    directions = _directions(record.values[0].size, rng)
    across, within, least = [], [], _MOST
    for _ in range(_SPLITS):
        first, second = _halves(record, rng)
        n_states = min(len(first), len(second), len(samples), _MOST)
        least = min(least, n_states)
        left, right = (_some(record.values[half], n_states, rng) for half in (first, second))
        own = _some(samples.values, n_states, rng)
        within.append(squared_distance(left, right, directions))
        across += [squared_distance(own, half, directions) for half in (left, right)]
    return SlicedDistance(float(np.sqrt(np.mean(across))), float(np.sqrt(np.mean(within))), least)


def squared_distance(left: NDArray[np.float64], right: NDArray[np.float64], directions: NDArray[np.float64]) -> float:
    """Return SW² between as many states (n, *state) on both sides, along directions (d, p)."""
    left, right = left.reshape(len(left), -1), right.reshape(len(right), -1)
    size = max(1, _VALUES // len(left))
    total = 0.0
    for start in range(0, directions.shape[1], size):
        some = directions[:, start : start + size]
        difference = np.sort(left @ some, axis=0) - np.sort(right @ some, axis=0)
        total += float((difference**2).mean(axis=0).sum())
    return total / directions.shape[1]


def _directions(size: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return unit vectors (d, p), all alike in one dimension."""
    vectors = rng.standard_normal((size, _DIRECTIONS if size > 1 else 1))
    return vectors / np.sqrt((vectors**2).sum(axis=0))


def _halves(record: States, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return which states belong to either half of the groups, chosen at random."""
    order = rng.permutation(record.n_groups)
    chosen = np.isin(record.group, order[: record.n_groups // 2])
    return np.flatnonzero(chosen), np.flatnonzero(~chosen)


def _some(values: NDArray[np.float64], count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    return values[rng.choice(len(values), count, replace=False)]
