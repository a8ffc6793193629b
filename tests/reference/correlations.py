"""Slow, obvious twins of the correlation kernels: one loop for each sum in the formula."""

import numpy as np


def lagged_outer(a, b, lag):
    """Mean over t of A(t + lag) B(t)^T, members apart: (member, time, p), (member, time, q) -> (p, q)."""
    total, count = np.zeros((a.shape[2], b.shape[2])), 0
    for member in range(a.shape[0]):
        for t in range(a.shape[1] - lag):
            total += np.outer(a[member, t + lag], b[member, t])
            count += 1
    return total / count


def displacement_average(matrix, shape):
    """Average a full matrix response (n_sites, n_sites) over kicks: (dy, dx) with dy, dx centred."""
    ny, nx = shape
    full = matrix.reshape(ny, nx, ny, nx)
    out = np.zeros(shape)
    for i, dy in enumerate(range(-(ny // 2), ny - ny // 2)):
        for j, dx in enumerate(range(-(nx // 2), nx - nx // 2)):
            out[i, j] = np.mean([full[(y + dy) % ny, (x + dx) % nx, y, x] for y in range(ny) for x in range(nx)])
    return out


def _pairs(unit, lag, times):
    return [(t, t + lag) for t in range(unit.start, unit.stop) if t + lag < times]


def lagged_sums(a, b, units, lags):
    """Sum over t in u, t + l < T of a(t + l) b(t)^T: (time, p), (time, q) -> (unit, lag, p, q)."""
    out = np.zeros((len(units), len(lags), a.shape[1], b.shape[1]))
    for u, unit in enumerate(units):
        for i, lag in enumerate(lags):
            for start, later in _pairs(unit, lag, len(a)):
                out[u, i] += np.outer(a[later], b[start])
    return out


def spectral_lagged_sums(a, b, units, lags):
    """Sum of a_kv(t + l) b_kw(t)^*: (time, mode, V), (time, mode, W) -> (unit, lag, mode, V, W)."""
    out = np.zeros((len(units), len(lags), a.shape[1], a.shape[2], b.shape[2]), dtype=complex)
    for u, unit in enumerate(units):
        for i, lag in enumerate(lags):
            for start, later in _pairs(unit, lag, len(a)):
                for k in range(a.shape[1]):
                    out[u, i, k] += np.outer(a[later, k], b[start, k].conj())
    return out


def valid_pairs(valid, units, lags):
    """Number of pairs of which both samples are there: (unit, lag)."""
    counts = [[sum(valid[s] and valid[t] for s, t in _pairs(unit, lag, len(valid))) for lag in lags] for unit in units]
    return np.array(counts, dtype=float)


def window_sums(values, valid, units, lags, which):
    """Sum of A(t + l) over pairs whose t is there, or of B(t) over those whose t + l is there: (unit, lag, p)."""
    out = np.zeros((len(units), len(lags), values.shape[1]), dtype=values.dtype)
    for u, unit in enumerate(units):
        for i, lag in enumerate(lags):
            for start, later in _pairs(unit, lag, len(values)):
                out[u, i] += valid[start] * values[later] if which == "observed" else valid[later] * values[start]
    return out
