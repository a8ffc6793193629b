"""The means: <s>, which is zero for an exact score, and <x>, which is the same at all times in a stationary record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gfdt.diagnostics.sample import times_there
from gfdt.record import time_blocks
from gfdt.responses.prepare import Prepared
from gfdt.responses.sums import UnitSums, significance_threshold, standard_error

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["MeanChange", "drift_of_the_mean", "mean_score"]


@dataclass(frozen=True)
class MeanChange:
    """A mean that should be zero.

    Attributes
    ----------
    share : the largest of all components, over its rms
    z : the largest in standard errors
    significant : whether that is beyond its error (0.1 % over all components together)
    component : which (flattened) component that is
    """

    share: float
    z: float
    significant: bool
    component: int


def mean_score(ready: Prepared) -> MeanChange:
    """Return the largest <s_j>, over the rms of s_j and in standard errors."""
    units = ready.conjugate_units
    squares = np.zeros(ready.layout.shape)
    for member, times in time_blocks(ready.conjugate.shape):
        squares += np.square(ready.conjugate[member, times], dtype=np.float64).sum(axis=0)
    rms = np.sqrt(squares.ravel() / ready.n_samples)
    mean = np.abs(units.mean())
    share = float((mean / np.maximum(rms, 1e-300)).max())
    return _judged(mean, standard_error(units.influence()), share, len(ready.units) - 1)


def drift_of_the_mean(ready: Prepared) -> MeanChange:
    """Return the largest change of <x> between the halves of the record in standard errors.

    Halves of the span of each member, from its first to its last sample. The change of each member is one number
    where the members are the resampling units, weighted by n_1 n_2/(n_1 + n_2) for n_1, n_2 samples in its halves;
    otherwise the early and the late blocks are two groups, and a straight line through the means of all blocks is tried
    as well: a trend scatters the blocks of a half, and lengthens them, so that it hides from the first test.
    """
    n_members, times = ready.trajectory.shape[:2]
    spans = [_span(ready, member) for member in range(n_members)]
    if len(ready.units) == n_members:
        halves = [sum(span) // 2 for span in spans]
        parts = [(_sums(ready, m, 0, half), _sums(ready, m, half, times)) for m, half in enumerate(halves)]
        whole = [(early, late) for early, late in parts if early[1] and late[1]]
        if len(whole) < 2:
            return MeanChange(0.0, 0.0, False, 0)
        weights = np.array([[early[1] * late[1] / (early[1] + late[1])] for early, late in whole])
        changes = np.array([late[0] / late[1] - early[0] / early[1] for early, late in whole])
        units = UnitSums(weights * changes, weights)
        return _judged(np.abs(units.mean()), standard_error(units.influence()), 0.0, len(whole) - 1)
    late = np.array([unit.start + unit.stop > sum(spans[unit.member]) for unit in ready.units])
    sums = [_sums(ready, unit.member, unit.start, unit.stop) for unit in ready.units]
    groups = []
    for group in (~late, late):
        kept = [item for item, chosen in zip(sums, group, strict=True) if chosen and item[1]]
        if len(kept) < 2:
            return MeanChange(0.0, 0.0, False, 0)
        groups.append(UnitSums(np.array([total for total, _ in kept]), np.array([[float(count)] for _, count in kept])))
    change = np.abs(groups[1].mean() - groups[0].mean())
    stderr = np.sqrt(sum(standard_error(group.influence()) ** 2 for group in groups))
    halves_found = _judged(change, stderr, 0.0, sum(len(group.sums) for group in groups) - 2)
    middle = np.array([(unit.start + unit.stop - sum(spans[unit.member])) / 2 for unit in ready.units])
    line = _slope(middle, sums)
    return max((halves_found, line), key=lambda found: (found.significant, found.z))


def _slope(middle: NDArray[np.float64], sums: list[tuple[NDArray[np.float64], int]]) -> MeanChange:
    """Return the largest slope of the blocks' means against their time, in standard errors from what is left."""
    count = np.array([float(item[1]) for item in sums])
    kept = count > 0
    if kept.sum() < 4:
        return MeanChange(0.0, 0.0, False, 0)
    weight, time = count[kept] / count[kept].sum(), middle[kept]
    means = np.array([total / n for total, n in sums if n])
    time, means = time - weight @ time, means - weight @ means
    spread = float(weight @ time**2)
    slope = (weight * time) @ means / spread
    rest = means - time[:, None] * slope
    freedom = int(kept.sum()) - 2
    stderr = np.sqrt((weight[:, None] * rest**2).sum(axis=0) / freedom / spread)
    return _judged(np.abs(slope), stderr, 0.0, freedom)


def _span(ready: Prepared, member: int) -> tuple[int, int]:
    """Return the time index of a member's first sample, and the one after its last."""
    there = times_there(ready, member, 0, ready.trajectory.sizes["time"])
    return int(there[0]), int(there[-1]) + 1


def _sums(ready: Prepared, member: int, start: int, stop: int) -> tuple[NDArray[np.float64], int]:
    """Sum of x - m of a member, flattened, and number of its samples, from start to stop."""
    total = np.zeros(ready.layout.shape)
    for _, part in time_blocks((1, stop - start, *ready.layout.shape)):
        total += ready.centred(member, slice(start + part.start, start + part.stop)).sum(axis=0)
    return total.ravel(), times_there(ready, member, start, stop).size


def _judged(size: NDArray[np.float64], stderr: NDArray[np.float64], share: float, freedom: int) -> MeanChange:
    z = size / np.maximum(stderr, 1e-300)
    threshold = significance_threshold(z.size, freedom + 1)
    return MeanChange(share, float(z.max()), bool(z.max() > threshold), int(z.argmax()))
