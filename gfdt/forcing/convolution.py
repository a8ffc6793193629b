r"""The convolution int R(tau) f(t - tau) dtau, as weights on the R(t_l).

    K(t, l, j) = int_0^min(T, t - t_0) c_l(tau) f_j(t - tau) dtau,       delta<A_i>(t) = sum_lj R_ij(t_l) K(t, l, j),

c_l the cardinal splines of the lags, t_0 when the forcing sets in. The integral is taken panel by panel between all
points where the integrand is not smooth: the lags, and t minus the sample times of f. For a sampled f, linear between
its samples, a Gauss rule of three points is then exact, whatever the two grids are. For a callable each lag interval
is cut into equal panels with four points each, and these are halved until K changes by less than 1e-8.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse
from scipy.interpolate import BSpline, make_interp_spline

from gfdt.forcing.drive import Drive

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Kernel"]

_EXACT_POINTS = 3  # exact to degree 5: a cubic times a line has degree 4
_CALLABLE_POINTS = 4
_TOLERANCE = 1e-8
_MAX_HALVINGS = 6
_CHUNK = 4_000_000  # numbers in the forcing at the quadrature points of one chunk of times


@dataclass(frozen=True)
class Kernel:
    """K(t, l, j) for one forcing, in chunks of output times.

    Parameters
    ----------
    lags : (n_lags,)
    drive : Drive
        The forcing.
    window : (float, float)
        The lags integrated over. Default all: 0 to T.
    panels : int
        Panels for each lag interval, for a drive that is not exact.
    """

    lags: NDArray[np.float64]
    drive: Drive
    window: tuple[float, float] = (0.0, math.inf)
    panels: int = 1

    def chunks(self, times: NDArray[np.float64], width: int) -> Iterator[tuple[slice, NDArray[Any]]]:
        """Yield slices of ``times`` and K (n_times of the slice, n_lags, n); ``width`` columns set the memory."""
        splines = make_interp_spline(self.lags, np.eye(self.lags.size), k=min(3, self.lags.size - 1))
        to_values = np.ascontiguousarray(splines.c.T)  # (lag, spline): f's weights on B-splines -> on R(t_l)
        points: list[tuple[NDArray[np.float64], NDArray[np.float64]]] = []
        start, load = 0, 0
        for index, time in enumerate(times):
            points.append(self._points(float(time)))
            load += (points[-1][0].size + 2 * self.lags.size) * width
            if load > _CHUNK or index == times.size - 1:
                yield slice(start, index + 1), self._kernel(times[start : index + 1], points, splines, to_values)
                points, start, load = [], index + 1, 0

    def _points(self, time: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Quadrature points tau and weights for one output time."""
        low = max(self.window[0], time - self.drive.end)
        high = min(self.window[1], float(self.lags[-1]), time - self.drive.start)
        if high <= low:
            return np.empty(0), np.empty(0)
        lags = self.lags
        if self.panels > 1:
            steps = np.diff(lags)[:, None] * (np.arange(self.panels) / self.panels)
            lags = np.append((lags[:-1, None] + steps).ravel(), lags[-1])
        breaks = self.drive.breaks
        first, last = np.searchsorted(breaks, [time - high, time - low])
        inner = np.concatenate([lags[(lags > low) & (lags < high)], time - breaks[first:last]])
        edges = np.unique(np.concatenate([[low], inner[(inner > low) & (inner < high)], [high]]))
        s, w = np.polynomial.legendre.leggauss(_EXACT_POINTS if self.drive.exact else _CALLABLE_POINTS)
        half = np.diff(edges)[:, None] / 2
        return (edges[:-1, None] + half * (1 + s)).ravel(), (half * w).ravel()

    def _kernel(
        self,
        times: NDArray[np.float64],
        points: list[tuple[NDArray[np.float64], NDArray[np.float64]]],
        splines: BSpline,
        to_values: NDArray[np.float64],
    ) -> NDArray[Any]:
        n_lags = self.lags.size
        tau = np.concatenate([item[0] for item in points])
        rows = np.repeat(np.arange(times.size), [item[0].size for item in points])
        forced = self.drive.at(times[rows] - tau)
        if tau.size == 0:
            return np.zeros((times.size, n_lags, forced.shape[1]), dtype=forced.dtype)
        design = BSpline.design_matrix(tau, splines.t, splines.k).tocoo()
        weights = design.data * np.concatenate([item[1] for item in points])[design.row]
        sums = scipy.sparse.csr_matrix(
            (weights, (rows[design.row] * n_lags + design.col, design.row)), shape=(times.size * n_lags, tau.size)
        )
        return np.matmul(to_values, (sums @ forced).reshape(times.size, n_lags, -1))

    def resolved(self, times: NDArray[np.float64], width: int) -> tuple[Kernel, float]:
        """Return the kernel with panels fine enough, and the relative change that the last halving made.

        Judged at up to 16 of the output times. An exact drive is returned as it is, with error 0.
        """
        if self.drive.exact:
            return self, 0.0
        probes = times[np.unique(np.linspace(0, times.size - 1, min(16, times.size)).astype(int))]
        kernel, error = self, math.inf
        coarse = self._whole(probes, width)
        for _ in range(_MAX_HALVINGS):
            kernel = Kernel(self.lags, self.drive, self.window, 2 * kernel.panels)
            fine = kernel._whole(probes, width)
            size = np.abs(fine).max()
            error = float(np.abs(fine - coarse).max() / size) if size > 0 else 0.0
            if error < _TOLERANCE:
                break
            coarse = fine
        return kernel, error

    def _whole(self, times: NDArray[np.float64], width: int) -> NDArray[Any]:
        return np.concatenate([part for _, part in self.chunks(times, width)])
