r"""Integrals over the cubic spline through R(t_l), as weights on the R(t_l).

With the cardinal splines c_l (c_l(t_m) = delta_lm, not-a-knot ends; a parabola through three lags, a line through two)

    int_0^t R dt' = sum_l W(t, l) R(t_l),                      W(t, l) = int_0^t c_l(t') dt',
    int_0^T e^{i omega t} R dt = sum_l W(omega, l) R(t_l),     W(omega, l) = int_0^T e^{i omega t} c_l(t) dt.

R has a kink at t = 0 (it is zero before), but is smooth on [0, T], where the spline errs by O(h^4). Both weights are
exact for the spline: for the Fourier integral each interval contributes its four moments int_0^h s^k e^{i omega s} ds
in closed form (Filon's idea), so that high frequencies are as right as low ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.interpolate import CubicSpline

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["apply_to_lags", "fourier_sums", "fourier_weights", "integral_weights", "spline_pieces"]

# The upward recursion of the moments loses digits like 1/theta^3; below this theta = omega h a Gauss rule of 20 points
# is exact to rounding instead.
_RECURSION_FROM = 6.0
_NODES, _GAUSS = np.polynomial.legendre.leggauss(20)
_CHUNK = 500_000  # complex numbers in one block of phases


def integral_weights(lags: NDArray[np.float64], ends: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
    """Return W(t, l) at ``ends`` (default: at the lags), shape (n_ends, n_lags)."""
    cardinal = CubicSpline(lags, np.eye(lags.size))
    return cardinal.antiderivative()(lags if ends is None else ends)


def apply_to_lags(weights: NDArray[Any], batch: NDArray[Any]) -> NDArray[Any]:
    """Return sum_l weights(m, l) batch(b, l, ...) for weights (m, l): shape (b, m, ...)."""
    flat = batch.reshape(batch.shape[0], batch.shape[1], -1)
    return np.matmul(weights, flat).reshape(batch.shape[0], weights.shape[0], *batch.shape[2:])


def spline_pieces(lags: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the coefficients of (t - t_i)^k in each interval, for values (n_lags, m): shape (4, n_intervals, m)."""
    pieces = CubicSpline(lags, values).c[::-1]
    padded = np.zeros((4, *pieces.shape[1:]))
    padded[: pieces.shape[0]] = pieces
    return padded


def fourier_weights(lags: NDArray[np.float64], omega: NDArray[np.float64]) -> NDArray[np.complex128]:
    """Return W(omega, l), shape (n_omega, n_lags)."""
    return fourier_sums(lags, spline_pieces(lags, np.eye(lags.size)), omega)


def fourier_sums(
    lags: NDArray[np.float64], pieces: NDArray[np.float64], omega: NDArray[np.float64]
) -> NDArray[np.complex128]:
    """Return int_0^T e^{i omega t} p(t) dt of piecewise cubics given by their pieces: shape (n_omega, m)."""
    steps = np.diff(lags)
    # Equal intervals share their moments, the costly part.
    widths = steps[:1] if np.allclose(steps, steps[0], rtol=1e-9, atol=0.0) else steps
    powers = widths ** np.arange(1, 5)[:, None]
    out = np.zeros((omega.size, pieces.shape[-1]), dtype=np.complex128)
    rows = max(_CHUNK // steps.size, 1)
    for start in range(0, omega.size, rows):
        part = slice(start, start + rows)
        phases = np.exp(1j * omega[part, None] * lags[:-1])
        moments = _moments(omega[part, None] * widths)
        for k in range(4):
            out[part] += (phases * (moments[k] * powers[k])) @ pieces[k]
    return out


def _moments(theta: NDArray[np.float64]) -> NDArray[np.complex128]:
    """Return int_0^1 s^k e^{i theta s} ds for k = 0 .. 3: shape (4, *theta.shape)."""
    out = np.empty((4, *theta.shape), dtype=np.complex128)
    small = np.abs(theta) < _RECURSION_FROM
    s, weights = (_NODES + 1) / 2, _GAUSS / 2
    waves = np.exp(1j * theta[small][:, None] * s)
    for k in range(4):
        out[k][small] = waves @ (weights * s**k)
    large = theta[~small]
    end = np.exp(1j * large)
    moment = (end - 1) / (1j * large)
    out[0][~small] = moment
    for k in range(1, 4):
        moment = (end - k * moment) / (1j * large)
        out[k][~small] = moment
    return out
