r"""A statistic of generated states against the same statistic of the record, with the errors of both.

A statistic is a function g of the means of some features φ of a state (moments, probabilities of bins, powers of
wavenumbers). Its departure

    D = [g(<φ>_samples) - g(<φ>_record)]/unit

has the standard error

    SE² = s² (r²/n_record + 1/n_samples),

s the scatter that single independent states give, r the factor by which the states of the record are correlated. For
any grouping of states with influences e_u on the mean (:mod:`gfdt.responses.sums`) the error of g is the spread of
[g(<φ> + e_u) - g(<φ>)]/unit. It is found for the resampling units of the record and for random groups of its states,
whose ratio is r, and for groups of samples; s is the larger of what states of the record and samples show. One of them
alone would not do: a bin that no sample fell into, or a tail that the record happens to lack, would be known without
error. As in :mod:`gfdt.diagnostics.verdict` a departure must both be beyond the errors (0.1 % over all entries) and
large enough to matter, so that a correct score passes whatever the size of the record.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gfdt.certificate.states import States, batches
from gfdt.responses.sums import UnitSums, significance_threshold, standard_error

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Comparison", "Statistic", "compare"]

_ROUNDING = 1e-9


@dataclass(frozen=True)
class Statistic:
    """A function of the means of features.

    Attributes
    ----------
    features : callable
        Maps a, (n, *state), to φ, (n, n_features).
    n_features : int
    summary : callable
        g: maps means (..., n_features) to (..., kind, entry); the kinds (components, variables) are judged one by one.
    unit : callable
        Maps g of the record, (kind, entry), to what a departure is measured in, of a shape that broadcasts.
    """

    features: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    n_features: int
    summary: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    unit: Callable[[NDArray[np.float64]], NDArray[np.float64]]


@dataclass(frozen=True)
class Comparison:
    """What came out; arrays are (kind, entry).

    Attributes
    ----------
    found, expected : of the samples and of the record
    departure, stderr : D and its standard error
    threshold : the number of standard errors that none of all entries exceeds by chance (0.1 %)
    """

    found: NDArray[np.float64]
    expected: NDArray[np.float64]
    departure: NDArray[np.float64]
    stderr: NDArray[np.float64]
    threshold: float

    @property
    def z(self) -> NDArray[np.float64]:
        """|D| in standard errors."""
        return np.abs(self.departure) / np.maximum(self.stderr, _ROUNDING)

    @property
    def worst(self) -> tuple[int, int]:
        """Kind and entry that are the most standard errors off."""
        kind, entry = np.unravel_index(int(self.z.argmax()), self.z.shape)
        return int(kind), int(entry)

    @property
    def excess(self) -> NDArray[np.float64]:
        """Rms of D over the entries of every kind, the squared standard errors subtracted."""
        return np.sqrt(np.maximum((self.departure**2 - self.stderr**2).mean(axis=1), 0.0))

    @property
    def significant(self) -> NDArray[np.bool_]:
        """Whether some entry of a kind is beyond its error."""
        return self.z.max(axis=1) > self.threshold

    @property
    def size(self) -> float:
        """The largest excess of a significant kind; that of all entries together where none is significant."""
        if self.significant.any():
            return float(self.excess[self.significant].max())
        return float(np.sqrt(max((self.departure**2 - self.stderr**2).mean(), 0.0)))

    @property
    def certain(self) -> float:
        """The largest |D| less what sampling noise may do to the largest of all entries."""
        return float(max((np.abs(self.departure) - self.threshold * self.stderr).max(), 0.0))


def compare(statistic: Statistic, record: States, samples: States, rng: np.random.Generator) -> Comparison:
    """Compare the samples with the record.

    Parameters
    ----------
    statistic : Statistic
    record, samples : States
    rng : Generator
        Of the random groups that show how independent states of the record would scatter.
    """
    known, independent = _sums(statistic, record, record.group, record.as_independent(rng))
    (own,) = _sums(statistic, samples, samples.group)
    here, there = own.mean(), known.mean()

    found, expected = statistic.summary(here), statistic.summary(there)
    unit = statistic.unit(expected)

    def error(sums: UnitSums, mean: NDArray[np.float64]) -> NDArray[np.float64]:
        return standard_error((statistic.summary(mean + sums.influence()) - statistic.summary(mean)) / unit)

    alone = error(independent, there)
    correlation = np.divide(error(known, there), alone, out=np.ones_like(alone), where=alone > 0)
    scatter = np.maximum(alone * np.sqrt(len(record)), error(own, here) * np.sqrt(len(samples)))
    stderr = scatter * np.sqrt(correlation**2 / len(record) + 1 / len(samples))
    freedom = min(record.n_groups, samples.n_groups)
    return Comparison(
        found=found,
        expected=expected,
        departure=(found - expected) / unit,
        stderr=stderr,
        # By the smaller number of groups: what is known the worst decides.
        threshold=significance_threshold(stderr.size, freedom),
    )


def _sums(statistic: Statistic, states: States, *groupings: NDArray[np.int64]) -> list[UnitSums]:
    """Sums of the features over each group, for each way of grouping."""
    sums = [np.zeros((int(group.max()) + 1, statistic.n_features)) for group in groupings]
    for part in batches(len(states), max(statistic.n_features, states.values[0].size)):
        features = statistic.features(states.values[part])
        for total, group in zip(sums, groupings, strict=True):
            order = np.argsort(group[part], kind="stable")
            owners, starts = np.unique(group[part][order], return_index=True)
            total[owners] += np.add.reduceat(features[order], starts, axis=0)
    counts = [np.bincount(group).astype(np.float64)[:, None] for group in groupings]
    return [UnitSums(total, count) for total, count in zip(sums, counts, strict=True)]
