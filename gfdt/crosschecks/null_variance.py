r"""Sampling variance of C(l) C(0)^-1 between components that have nothing to do with each other.

For N pairs of independent AR(1) series of unit variance, lag-1 autocorrelations a = phi_i and b = phi_j, the
fluctuations d_l of C(l) enter to first order as R_ij(l) = d_l,ij - a^l d_0,ij: the mean over time of y_i x_j, with
y_i(t) = x_i(t + l) - a^l x_i(t) the part of x_i that the last l steps have brought. Its autocovariance is a^k - a^(2l -
k) for k < l and 0 from l on, so that

    N var R_ij(l) = (1 - a^(2l)) + 2 sum_{k=1}^{l-1} (a^k - a^(2l-k)) b^k,                              i != j,     (1)
    N var R_ii(l) = (1 + a^2)(1 - a^(2l))/(1 - a^2) - 2 l a^(2l)                        (Bartlett),                 (2)

and a mean of 0 off the diagonal, on it (Marriott & Pope, Biometrika 41, 390 (1954))

    <R_ii(l)> = a^l - [(1 + a)(1 - a^l)/(1 - a) + 2 l a^l]/N.                                                       (3)

Multiply by (sd_i/sd_j)^2 for other variances. Exact for N -> infinity; the inverse of C(0) adds a relative O(d/N_eff).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["autocorrelation_mean", "null_variance"]


def null_variance(phi: NDArray[np.float64], lags: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return N var R_ij(l) by eqs. 1 and 2, shape (n_lags, d, d), for phi of shape (d,) with |phi| < 1."""
    a, b = np.broadcast_arrays(phi[:, None], phi[None, :])
    out = np.empty((lags.size, phi.size, phi.size))
    # The two sums of eq. 1, carried from lag to lag: g = sum (ab)^k, u = sum a^(l-k) b^k, both over 0 < k < l.
    done, g, u = 0, np.zeros(a.shape), np.zeros(a.shape)
    for i, lag in enumerate(lags):
        for reached in range(max(done, 1), lag):
            g, u = g + (a * b) ** reached, a * (u + b**reached)
        done = int(lag)
        out[i] = 1 - a ** (2 * lag) + 2 * (g - a**lag * u)
        own = (1 + phi**2) * (1 - phi ** (2 * lag)) / (1 - phi**2) - 2 * lag * phi ** (2 * lag)
        np.fill_diagonal(out[i], own)
    return np.maximum(out, 0.0)


def autocorrelation_mean(
    phi: NDArray[np.float64], lags: NDArray[np.int64], pairs: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the expected autocorrelation of an AR(1) series with its sample mean removed, by eq. 3."""
    bias = (1 + phi) / (1 - phi) * (1 - phi**lags) + 2 * lags * phi**lags
    return np.asarray(phi**lags - bias / pairs)
