r"""Gaussian posterior of a linear inverse problem with white noise: data = L f + unit noise, f_j ~ N(0, p^2).

With L = U diag(s) V' and c = U' data, the direction v_i of source space is determined to the share
g_i = p^2 s_i^2 / (1 + p^2 s_i^2):

    <f> = V diag(g_i / s_i) c,      resolution_j = sum_i V_ji^2 g_i,      variance_j = p^2 (1 - resolution_j).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gfdt.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Posterior"]

_DROP = 1.92  # half of the 95 % point of chi^2 with one degree of freedom


@dataclass(frozen=True)
class Posterior:
    """Solution of the whitened problem.

    Attributes
    ----------
    mean, variance, resolution : (source,)
    prior_std : float
        p, as given or found.
    directions : (source, source)
        Rows v_i, best determined first.
    gains : (source,)
        g_i.
    chi_square : float
        Of the residual.
    """

    mean: NDArray[np.float64]
    variance: NDArray[np.float64]
    resolution: NDArray[np.float64]
    prior_std: float
    directions: NDArray[np.float64]
    gains: NDArray[np.float64]
    chi_square: float

    @classmethod
    def solve(cls, matrix: NDArray[np.float64], data: NDArray[np.float64], prior_std: float | None) -> Posterior:
        """Solve for L (data, source) and data (data,); without ``prior_std`` with the largest not rejected."""
        # all of source space is wanted, the null space too, but not all of data space
        left, strengths, right = np.linalg.svd(matrix, full_matrices=matrix.shape[0] < matrix.shape[1])
        strengths = np.concatenate([strengths, np.zeros(right.shape[0] - strengths.size)])
        projected = np.zeros(strengths.size)
        rank = min(matrix.shape)
        projected[:rank] = left[:, :rank].T @ data
        p = prior_std if prior_std is not None else _largest_spread(strengths[:rank], projected[:rank])
        square = (p * strengths) ** 2
        gains = square / (1 + square)
        mean = right.T @ (np.divide(gains, strengths, out=np.zeros_like(gains), where=strengths > 0) * projected)
        resolution = (right**2 * gains[:, None]).sum(axis=0)
        residual = data - matrix @ mean
        return cls(mean, p**2 * (1 - resolution), resolution, p, right, gains, float(residual @ residual))


def _largest_spread(strengths: NDArray[np.float64], projected: NDArray[np.float64]) -> float:
    """The largest p whose evidence prod N(c_i; 0, 1 + p^2 s_i^2) is within a likelihood-ratio test of the best."""
    used = strengths > 1e-10 * strengths.max(initial=0.0)
    if not used.any():
        raise InputError("the step response is zero: no forcing of these directions changes these observables.")
    s, c = strengths[used], projected[used]
    # from "invisible in the best direction" to well beyond what any direction asks for
    top = 1e3 * max(float(np.abs(c).max()), 1.0) / float(s.min())
    p = np.geomspace(1e-2 / float(s.max()), top, 1000)
    variance = 1 + (p[:, None] * s) ** 2
    log_evidence = -0.5 * (np.log(variance) + c**2 / variance).sum(axis=1)
    return float(p[np.flatnonzero(log_evidence >= log_evidence.max() - _DROP)[-1]])
