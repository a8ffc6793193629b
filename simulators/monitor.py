"""What ``spinup="auto"`` watches: a few scalars of every member at every save interval, in bounded memory.

For a state of components these are up to eight components and their squares, for a field the spatial means of u, u^2
and u^4 and the value at one point (which sees the phase of every wavenumber, as averages do not), in the first 1024
members. `simulators.stationarity` states what is done with them.
"""

import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulators.schema import Layout
from simulators.stationarity import Finding, compare_windows, expectation, z_limit

__all__ = ["Monitor", "SpinupResult", "diagnostic_names", "measure"]

_MAX_WATCHED = 1024
_MAX_COMPONENTS = 8
# When so many bins are full neighbours are merged, so that memory stays bounded.
_MAX_BINS = 512
# Relative to the size of the state: a spatial mean that is conserved still moves by rounding.
_ROUNDING = 1e-12
# Numbers in a temporary array.
_CHUNK = 2**18


def diagnostic_names(layout: Layout) -> list[str]:
    """Return the names of the diagnostics of a state."""
    if layout.dims == ("component",):
        picked = [f"component {index}" for index in _picked(layout)]
        return picked + [f"{name} squared" for name in picked]
    return ["mean", "mean square", "mean fourth power", "value at one point"]


def measure(layout: Layout, record: NDArray[Any]) -> NDArray[np.float64]:
    """Return the diagnostics of one member, shape (diagnostic, time), of its snapshots (time, *state)."""
    values = np.empty((len(diagnostic_names(layout)), len(record)))
    rows = max(1, _CHUNK // math.prod(layout.shape))
    with np.errstate(over="ignore"):  # an infinite diagnostic of a finite state never passes
        for start in range(0, len(record), rows):
            flat = record[start : start + rows].reshape(-1, math.prod(layout.shape)).astype(np.float64, copy=False)
            part = values[:, start : start + rows]
            if layout.dims == ("component",):
                picked = flat[:, _picked(layout)].T
                part[:] = np.concatenate([picked, picked**2])
            else:
                square = flat * flat
                part[0], part[1] = flat.mean(axis=1), square.mean(axis=1)
                part[2], part[3] = (square * square).mean(axis=1), flat[:, 0]
    return values


def _picked(layout: Layout) -> NDArray[np.int64]:
    """Return up to eight components, the first and the last among them."""
    (d,) = layout.shape
    return np.linspace(0, d - 1, min(d, _MAX_COMPONENTS)).round().astype(np.int64)


def _powers(layout: Layout) -> list[int]:
    """Return the power of the state in each diagnostic."""
    if layout.dims == ("component",):
        n_picked = len(_picked(layout))
        return [1] * n_picked + [2] * n_picked
    return [1, 2, 4, 1]


@dataclass(frozen=True)
class SpinupResult:
    """How long the spin-up took, in save intervals, and the figures that ended it, as JSON text."""

    n_spinup: int
    check: str

    def attrs(self, save_every: float) -> dict[str, str]:
        """Return the attributes of the result."""
        return {"spinup_time": str(self.n_spinup * save_every), "spinup_check": self.check}


class Monitor:
    """The diagnostics of a run so far, in at most 511 bins of equal length, and the verdict on them.

    Bins hold sums over 1, 2, 4, ... save intervals. Intervals are added one by one, so that the numbers do not depend
    on how a run is divided into blocks.

    Parameters
    ----------
    layout : Layout
        Labels of the state.
    n_members : int
        Of the run; the first 1024 are watched.
    done : int
        Save intervals already seen.
    sums : ndarray, optional
        What `sums` was then.
    """

    def __init__(self, layout: Layout, n_members: int, done: int = 0, sums: NDArray[np.float64] | None = None) -> None:
        self.names = diagnostic_names(layout)
        self.n_watched = min(n_members, _MAX_WATCHED)
        self.done = done
        self._powers = _powers(layout)
        self._sums = np.zeros((_MAX_BINS + 1, len(self.names), self.n_watched))
        if sums is not None:
            self._sums[: len(sums)] = sums

    @staticmethod
    def bins(done: int) -> tuple[int, int]:
        """Return the length of a bin after `done` intervals, and how many are full."""
        length = 1
        while done // length >= _MAX_BINS:
            length *= 2
        return length, done // length

    @property
    def sums(self) -> NDArray[np.float64]:
        """Sums over the full bins and, last, the one being filled; shape (bin, diagnostic, member)."""
        return self._sums[: self.bins(self.done)[1] + 1]

    def add(self, values: NDArray[np.float64]) -> None:
        """Add the diagnostics of further intervals, shape (member, diagnostic, time)."""
        for index in range(values.shape[2]):
            length, full = self.bins(self.done)
            self._sums[full] += values[:, :, index].T
            self.done += 1
            if self.bins(self.done)[0] > length:
                self._sums[: _MAX_BINS // 2] = self._sums[0:_MAX_BINS:2] + self._sums[1:_MAX_BINS:2]
                self._sums[_MAX_BINS // 2 :] = 0

    def findings(self, save_every: float) -> list[Finding]:
        """Return what the check finds now."""
        length, full = self.bins(self.done)
        series = self._sums[:full] / length
        with np.errstate(invalid="ignore", over="ignore"):
            size = np.sqrt(max(np.mean(series[:, i]) for i, power in enumerate(self._powers) if power == 2))
            return [
                compare_windows(name, series[:, i].T, length * save_every, float(_ROUNDING * size**power))
                for i, (name, power) in enumerate(zip(self.names, self._powers, strict=True))
            ]

    @staticmethod
    def max_bytes(layout: Layout, n_members: int) -> int:
        """Return the largest size of `sums`."""
        return 8 * (_MAX_BINS + 1) * len(diagnostic_names(layout)) * min(n_members, _MAX_WATCHED)

    def passes(self, findings: list[Finding], time: float) -> bool:
        """Tell whether the run is stationary after `time`."""
        return all(finding.passes(time, z_limit(len(findings))) for finding in findings)

    def expectation(self, time: float) -> str:
        """Return what the findings should be after `time`, for a message."""
        return expectation(time, len(self.names))

    def report(self, findings: list[Finding], time: float) -> str:
        """Return the findings after `time` as JSON text."""
        entries = [
            {
                "diagnostic": f.name,
                "mean": f.mean,
                "sd": f.sd,
                "tau": f.tau,
                "tau_error": f.tau_error,
                "drift": f.drift,
                "drift_z": f.z,
            }
            for f in findings
        ]
        content = {"time": time, "members": self.n_watched, "z_limit": z_limit(len(findings))}
        return json.dumps(content | {"diagnostics": entries})
