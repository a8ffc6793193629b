r"""The two sets of states that are compared: those of the record, and those the score generates.

A score with noise level σ knows the density of x + σ z, z ~ N(0, I), so states of the record are blurred by σ before
they are compared with samples that are left at that level: like with like, whatever σ is. (What σ itself costs is
judged by itself, :mod:`gfdt.certificate.blur`.) Both are held as

    a = (x - m)/sd,        m, sd of the record (of a homogeneous field: the same at every site),

with the group that every state belongs to. States of the record in one resampling unit (a member, or a block of time)
are one group, since they are correlated; samples are independent, and their groups are arbitrary.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gfdt.diagnostics.sample import spread_of, times_there
from gfdt.responses.prepare import Prepared

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["States", "batches", "generated", "recorded"]

_MOST_GROUPS = 128  # know a standard error to 6 %, and bound the memory of one sum for each
_BATCH_VALUES = 2**21  # numbers in one batch of features


@dataclass(frozen=True)
class States:
    """States in standard deviations from the mean of the record.

    Attributes
    ----------
    values : (n, *state)
    group : (n,) int
        Which group a state belongs to, 0 to ``n_groups`` - 1; none is empty.
    """

    values: NDArray[np.float64]
    group: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.values)

    @property
    def n_groups(self) -> int:
        """Number of groups."""
        return int(self.group.max()) + 1

    def part(self, chosen: NDArray[Any] | slice) -> States:
        """Return some of the states, their groups numbered anew."""
        return States(self.values[chosen], np.unique(self.group[chosen], return_inverse=True)[1])

    def as_independent(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return random groups of equal size, which take every state for independent of the others."""
        return rng.permutation(len(self)) * _groups(len(self)) // len(self)


def recorded(ready: Prepared, noise_level: float | NDArray[np.float64], most: int, rng: np.random.Generator) -> States:
    """Take about ``most`` states evenly from all resampling units of a record, and blur them.

    Parameters
    ----------
    ready : Prepared
        The record.
    noise_level : float or ndarray
        σ of the score, in the units of the data.
    most : int
        At least one is taken from every unit.
    rng : Generator
        Of the noise.
    """
    each = -(-most // len(ready.units))
    states, owner = [], []
    for index, unit in enumerate(ready.units):
        times = times_there(ready, unit.member, unit.start, unit.stop)
        times = times[np.unique(np.linspace(0, times.size - 1, min(each, times.size)).astype(np.int64))]
        states.append(ready.trajectory.values[unit.member, times].astype(np.float64))
        owner.append(np.full(times.size, index))
    values = np.concatenate(states)
    values += np.asarray(noise_level) * rng.standard_normal(values.shape)
    n_units = len(ready.units)
    group = np.concatenate(owner) * min(n_units, _MOST_GROUPS) // n_units
    return States((values - ready.mean) / spread_of(ready), group)


def generated(samples: NDArray[Any], ready: Prepared) -> States:
    """Take samples (n, *state), in the units of the data, as they are: all independent."""
    values = (samples.astype(np.float64) - ready.mean) / spread_of(ready)
    return States(values, np.arange(len(values)) * _groups(len(values)) // len(values))


def batches(n_states: int, numbers_each: int) -> Iterator[slice]:
    """Yield slices of states for each of which so many numbers are computed, with bounded memory."""
    size = max(1, _BATCH_VALUES // max(numbers_each, 1))
    for start in range(0, n_states, size):
        yield slice(start, min(start + size, n_states))


def _groups(n_states: int) -> int:
    return min(_MOST_GROUPS, n_states)
