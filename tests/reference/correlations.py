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
