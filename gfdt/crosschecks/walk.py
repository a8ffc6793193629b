r"""Perturbations carried along a record by the linearised drift: M_{n+1} = exp[h (J_n + J_{n+1})/2] M_n."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from gfdt.crosschecks.inputs import Record
from gfdt.crosschecks.linearised import Drift, exponential_action, exponentials

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Step = Callable[[int, NDArray[np.float64]], NDArray[np.float64]]
    Sums = tuple[NDArray[np.float64], NDArray[np.float64]]

__all__ = ["Walk"]

_CHUNK = 2**23  # numbers held at a time: 64 MiB
_HALVED_STARTS = 4096  # on which the error of the interval is measured: differences of pairs, so few suffice


class Walk:
    """Perturbations M that start as ``kick`` at many samples of the record.

    Parameters
    ----------
    record : Record
    flow : Drift
    kick : (d, p)
        The identity, or one pattern (p = 1).
    lags : (n_lags,) in samples, increasing from 0
    dense : bool
        Whether J is held as a matrix; else products J v only, for p = 1.
    """

    def __init__(
        self, record: Record, flow: Drift, kick: NDArray[np.float64], lags: NDArray[np.int64], *, dense: bool
    ) -> None:
        self.record, self.flow, self.dense, self.kick, self.lags = record, flow, dense, kick, lags
        spread = record.spread
        pattern = kick.shape[1] == 1
        # Pure numbers: M_ij sd_j / sd_i, and w_i / sd_i.
        self.scale = 1 / spread[:, None] if pattern else spread[None, :] / spread[:, None]
        self.size = float(np.linalg.norm(kick * self.scale))

    def sums(self, starts: NDArray[np.int64], units: NDArray[np.int64], stride: int = 1) -> Sums:
        """Sum M and |M|^2 over the starts of every unit.

        Parameters
        ----------
        starts : (n,), increasing
            In samples, all members one after the other.
        units : (n,), not decreasing
            Unit of each start, numbered from 0 without gaps.
        stride : int
            Use every ``stride``-th sample only, for the lags that are multiples of it.

        Returns
        -------
        (unit, n_lags, d, p) and (unit, n_lags), the second in pure numbers
        """
        lags, n_units = self.lags[self.lags % stride == 0], int(units[-1]) + 1
        total, square = np.zeros((n_units, lags.size, *self.kick.shape)), np.zeros((n_units, lags.size))
        for part in self._parts(starts):
            step = self._stepper(starts[part], stride)
            own, edges = np.unique(units[part], return_index=True)
            m = np.broadcast_to(self.kick, (part.stop - part.start, *self.kick.shape))
            done = 0
            for i, lag in enumerate(lags):
                for offset in range(done, int(lag), stride):
                    m = step(offset, m)
                done = int(lag)
                total[own, i] += np.add.reduceat(m, edges)
                square[own, i] += np.add.reduceat(((m * self.scale) ** 2).sum(axis=(1, 2)), edges)
        return total, square

    def interval_error(self, starts: NDArray[np.int64], longest: int) -> float:
        """Estimate the O(h^2) error of the mean: a third of what changes when every second sample is left out.

        Only lags up to ``longest`` (in samples) count.
        """
        even = (self.lags % 2 == 0) & (self.lags <= longest)
        if even.sum() < 2:
            return float("nan")
        some = starts[:: max(1, starts.size // _HALVED_STARTS)]
        fine, coarse = (self.sums(some, np.zeros_like(some), stride)[0][0] for stride in (1, 2))
        largest = float((np.abs(coarse[: even.sum()] - fine[even]) * self.scale).max() / (3 * some.size))
        return largest / self.size if self.kick.shape[1] == 1 else largest

    def _parts(self, starts: NDArray[np.int64]) -> list[slice]:
        """Cut starts into parts whose matrices fit into memory."""
        # Room for the matrices of all samples that a part sees, and for one M of every start.
        room = max(_CHUNK // max(self.record.spread.size ** (2 if self.dense else 1), self.kick.size), 1)
        span = max(room - int(self.lags[-1]), 1) if self.dense else starts[-1] + 1
        edges = [0, *(np.flatnonzero(np.diff((starts - starts[0]) // span)) + 1), starts.size]
        return [slice(i, min(i + room, b)) for a, b in pairwise(edges) for i in range(int(a), int(b), room)]

    def _stepper(self, starts: NDArray[np.int64], stride: int) -> Step:
        """Return the function that carries M from ``offset`` samples after the starts to ``offset + stride``."""
        x, h = self.record.series.reshape(-1, self.record.spread.size), self.record.step * stride

        def states(samples: NDArray[np.int64]) -> NDArray[np.float64]:
            return np.asarray(x[samples] + self.record.mean)

        def by_products(offset: int, m: NDArray[np.float64]) -> NDArray[np.float64]:
            now, then = states(starts + offset), states(starts + offset + stride)

            def product(v: NDArray[np.float64]) -> NDArray[np.float64]:
                return h / 2 * (self.flow.product(now, v) + self.flow.product(then, v))

            return exponential_action(product, m[..., 0])[..., None]

        def by_matrices(offset: int, m: NDArray[np.float64]) -> NDArray[np.float64]:
            now, then = (self.flow.matrices(states(starts + offset + k)) for k in (0, stride))
            return exponentials(h / 2 * (now + then)) @ m

        if not self.dense:
            return by_products
        first, last = int(starts[0]), int(starts[-1]) + int(self.lags[-1])
        if last - first > starts.size * int(self.lags[-1]) // stride:
            return by_matrices  # what the starts see hardly overlaps
        j = self.flow.matrices(states(np.arange(first, last + 1)))
        propagators = exponentials(h / 2 * (j[:-stride] + j[stride:]))
        return lambda offset, m: propagators[starts - first + offset] @ m
