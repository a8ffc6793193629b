"""Slow, obvious twins of the preconditioned denoiser: dense matrices in float64, one flat state at a time."""

import numpy as np


def matrix_of(covariance, shape):
    """The d x d matrix of a covariance, column by column."""
    d = int(np.prod(shape))
    columns = covariance.apply(np.eye(d).reshape(d, *shape), lambda c: c)
    return columns.reshape(d, d).T


def flat(matrix):
    """tr C/d on the diagonal."""
    return np.trace(matrix) / len(matrix) * np.eye(len(matrix))


def projector(matrix):
    """The orthogonal projector on the directions with variance."""
    return matrix @ np.linalg.pinv(matrix, rcond=1e-8, hermitian=True)


def precision(matrix, sigma):
    """(C + σ²)⁻¹, the pseudo-inverse if that is singular."""
    return np.linalg.pinv(matrix + sigma**2 * np.eye(len(matrix)), rcond=1e-12, hermitian=True)


def output_scale(matrix, sigma):
    """q = sqrt(tr[C (C + σ²)⁻²]/d)."""
    inverse = precision(matrix, sigma)
    return np.sqrt(np.trace(matrix @ inverse @ inverse) / len(matrix))


def posterior_scale(matrix, sigma):
    """c_out = sqrt(tr[C σ² (C + σ²)⁻¹]/d)."""
    return np.sqrt(np.trace(matrix @ precision(matrix, sigma)) * sigma**2 / len(matrix))


def score(y, data, linear, sigma, network):
    """s(y) for the covariance of the data and that of the linear part, None for no linear part."""
    support = projector(data)
    if linear is None:
        return support @ network(support @ y) / sigma
    c_in = 1 / np.sqrt(np.trace(data) / len(data) + sigma**2)
    return -precision(linear, sigma) @ y + output_scale(linear, sigma) * support @ network(c_in * support @ y)


def target(a, z, data, linear, sigma):
    """What the network should be at a + σ z, by the difference of the two scores."""
    if linear is None:
        return -projector(data) @ z
    difference = -z / sigma + precision(linear, sigma) @ (a + sigma * z)
    return projector(data) @ difference / output_scale(linear, sigma)
