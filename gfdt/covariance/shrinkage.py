"""Shrinkage of a covariance estimate towards one without correlations, by a weight that the data give.

C <- (1 - a) C + a T with the target T = diag(C), or for a homogeneous field the white spectrum of the same variance.
The weight that minimises the expected squared error (Ledoit & Wolf, J. Multivariate Anal. 88, 365, 2004; with the
diagonal target Schäfer & Strimmer, Stat. Appl. Genet. Mol. Biol. 4, 32, 2005) is

    a = sum_ij Var[C_ij] / sum_ij (C_ij - T_ij)^2,    0 <= a <= 1,

over the entries that T changes. They take Var from independent samples; a trajectory is not one, so here it comes from
the spread of C between consecutive blocks of the record, which counts the autocorrelation.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["AUTOMATIC", "BlockMean", "blocks"]

AUTOMATIC = "ledoit-wolf"
_BLOCKS = 32  # the variance of a variance estimated from 32 blocks is known to 25 %
_BATCH_VALUES = 2**22  # numbers transformed at once: bounds memory to a few times this many


def blocks(shape: tuple[int, ...]) -> Iterator[Iterator[slice]]:
    """Yield for each of up to 32 equal blocks of states (n, *state) the batches of bounded size it consists of."""
    n, batch = shape[0], max(1, _BATCH_VALUES // max(1, int(np.prod(shape[1:]))))
    edges = np.linspace(0, n, min(_BLOCKS, n) + 1).astype(int)
    for low, high in itertools.pairwise(edges):
        yield (slice(start, min(start + batch, high)) for start in range(low, high, batch))


class BlockMean:
    """The mean of a second-order quantity over blocks, and the variance of that mean."""

    def __init__(self) -> None:
        self._sum: Any = 0.0
        self._square: Any = 0.0
        self._count = 0
        self._blocks = 0

    def add(self, total: NDArray[Any], count: int) -> None:
        """Take in the sum over the ``count`` states of one block."""
        self._sum = self._sum + total
        self._square = self._square + np.abs(total / count) ** 2
        self._count += count
        self._blocks += 1

    def mean(self) -> NDArray[Any]:
        """Return the mean over all states."""
        return self._sum / self._count

    def shrunk(
        self, target: NDArray[Any], shrinkage: float | str, weights: NDArray[np.float64] | float = 1.0
    ) -> tuple[NDArray[Any], float]:
        """Return (1 - a) C + a T and a; entries where T equals C take no part in finding a.

        ``weights`` says how many entries each stands for, as those of a half-plane of wavenumbers do.
        """
        estimate = self.mean()
        if shrinkage == AUTOMATIC:
            n = max(self._blocks, 2)
            variance = np.maximum(self._square / n - np.abs(estimate) ** 2, 0.0) / (n - 1)
            distance = np.abs(estimate - target) ** 2
            counted = np.where(distance > 0, weights, 0.0)
            a = float(np.clip((variance * counted).sum() / max((distance * counted).sum(), 1e-300), 0.0, 1.0))
        else:
            a = float(shrinkage)
        return (1 - a) * estimate + a * target, a
