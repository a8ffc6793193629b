r"""Conjugate variables as series, and their sums with observables over the units of all members.

The sums are centred at the end, when the means are known: with S the sum over pairs of A(t + l) B(t), n their number,
a and b the sums of A and of B over the pairs,  sum (A - <A>)(B - <B>) = S - <A> b - (a - n <A>) <B>.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gfdt.record import time_blocks
from gfdt.responses.correction import Correction
from gfdt.responses.correlation import LaggedSums, valid_pairs, window_sums
from gfdt.responses.perturbations import Amplitude
from gfdt.responses.prepare import Prepared
from gfdt.responses.sums import UnitSums
from gfdt.responses.units import Unit

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Moments", "PairSums", "Source", "conjugates", "of_one_site"]

_BLOCK_VALUES = 2**22  # numbers of products of two series held at once
_ROUNDING = 1e-13  # of the spread: a mean that was taken off before


class Moments:
    """Mean and spread of the observable, over all members."""

    def __init__(self) -> None:
        self.count, self.total, self.squares = 0, np.zeros(1), np.zeros(1)

    def add(self, values: NDArray[np.float64], count: int) -> None:
        """Take in the values (time, column) of a member, zero where missing."""
        self.count += count
        self.total = self.total + values.sum(axis=0)
        self.squares = self.squares + np.einsum("tc,tc->c", values, values)

    @property
    def mean(self) -> NDArray[np.float64]:
        """<A>."""
        return self.total / self.count

    @property
    def spread(self) -> NDArray[np.float64]:
        """Standard deviation of A."""
        return np.sqrt(np.maximum(self.squares / self.count - self.mean**2, 0.0))


@dataclass(frozen=True)
class Source:
    """One member's series of conjugate variables, ready to be correlated with any observable.

    Attributes
    ----------
    sums : LaggedSums
    units : what its sums are for
    there : (time,) bool
    windows : (unit, lag, q), sums of B over the pairs
    total : (q,), sum of B; None where it is centred
    count : number of samples
    """

    sums: LaggedSums
    units: list[Unit]
    there: NDArray[np.bool_]
    windows: NDArray[np.float64]
    total: NDArray[np.float64] | None
    count: int

    @classmethod
    def of(
        cls,
        series: NDArray[np.float64],
        ready: Prepared,
        member: int,
        n_observed: int,
        *,
        centred: bool = True,
        whole: bool = False,
    ) -> Source:
        """Transform a series (time, q) of a member; ``whole``: as one unit."""
        units = [ready.units[index] for index in ready.of_member(member)]
        if whole:
            units = [Unit(member, 0, len(series))]
        there = ready.present(member)
        return cls(
            LaggedSums(series, units, ready.lags, n_observed=n_observed),
            units,
            there,
            window_sums(series, there, units, ready.lags, "source"),
            None if centred else series.sum(axis=0),
            int(there.sum()),
        )


class PairSums:
    """Sums over the units of all members, centred at the end."""

    def __init__(self, ready: Prepared) -> None:
        self.lags = ready.lags
        self.moments = Moments()
        self.sums: list[NDArray[np.float64]] = []
        self.counts: list[NDArray[np.float64]] = []
        self.windows: list[NDArray[np.float64]] = []
        self.observed: list[NDArray[np.float64]] = []
        self.total: NDArray[np.float64] | None = None

    def add(self, source: Source, observed: NDArray[np.float64]) -> None:
        """Take in a member, (time, column)."""
        self.moments.add(observed, source.count)
        self.sums.append(source.sums.against(observed))
        self.counts.append(valid_pairs(source.there, source.units, self.lags))
        self.windows.append(source.windows)
        if source.total is not None:
            self.observed.append(window_sums(observed, source.there, source.units, self.lags, "observed"))
            self.total = source.total if self.total is None else self.total + source.total

    def centred(self) -> UnitSums:
        """Return the sums of (A - <A>) (B - <B>)."""
        raw = self.sums[0] if len(self.sums) == 1 else np.concatenate(self.sums)
        counts, mean = np.concatenate(self.counts), self.moments.mean
        if np.abs(mean).max() > _ROUNDING * self.moments.spread.max():
            for sums, windows in zip(raw, np.concatenate(self.windows), strict=True):
                sums -= mean[:, None] * windows[:, None, :]
        if self.total is not None:
            seen = np.concatenate(self.observed) - counts[:, :, None] * mean
            raw -= seen[:, :, :, None] * (self.total / self.moments.count)
        return UnitSums(raw, counts[:, :, None, None])


def conjugates(
    ready: Prepared,
    member: int,
    amplitudes: list[Amplitude],
    correction: Correction,
    flat: NDArray[Any] | None,
    by_entry: bool,
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """B of every amplitude, (time, q), and what the errors of the score add to it, (time, q * n_error)."""
    layout, times, q = ready.layout, ready.trajectory.sizes["time"], len(amplitudes)
    there = ready.present(member)
    value = np.zeros((times, q))
    n_error = 0 if flat is None else flat.shape[1] if by_entry else flat.shape[0]
    error = np.zeros((times, q, n_error)) if n_error else None
    block = max(1, _BLOCK_VALUES // max(layout.size, 1 if flat is None else flat.shape[1]))
    for _, part in time_blocks((1, times, *layout.shape)):
        for start in range(part.start, part.stop, block):
            piece = np.arange(start, min(start + block, part.stop))
            piece = piece[there[piece]]
            if not piece.size:
                continue
            states = ready.trajectory.values[member, piece].astype(np.float64)
            score = -ready.conjugate[member, piece].astype(np.float64)
            for j, amplitude in enumerate(amplitudes):
                constant, terms = amplitude.terms(states, score)
                value[piece, j] = constant
                for term in terms:
                    right = correction.divide_series(layout.transform(term.right))
                    quadratic = callable(term.left)
                    # Both factors of s'M s are the corrected score, and both move with its errors.
                    left = layout.transform(term.left(layout.to_states(right)) if callable(term.left) else term.left)
                    value[piece, j] += term.factor * layout.inner(left, right)
                    if error is None or flat is None:
                        continue
                    cross = layout.cross(left, right)
                    entries = cross if by_entry else (cross @ flat.T).real
                    error[piece, j] += (2 if quadratic else 1) * term.factor * entries
    return value, None if error is None else error.reshape(times, -1)


def of_one_site(series: NDArray[Any], layout: Any) -> NDArray[np.float64]:
    """The kick of one site of any place: for a homogeneous field the average over sites, from wavenumber zero."""
    if layout.dense:
        return series
    return series[:, 0].reshape(len(series), -1).real / np.sqrt(layout.size / layout.n_variables)
