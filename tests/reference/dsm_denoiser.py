"""Slow, obvious twins of the Gaussian preconditioner: dense matrices in float64, one state at a time."""

import numpy as np


def circulant(eigenvalues, shape):
    """The d x d covariance matrix of a homogeneous field with these rfftn eigenvalues, column by column."""
    size = int(np.prod(shape))
    columns = []
    for site in range(size):
        unit = np.zeros(size)
        unit[site] = 1.0
        spectrum = np.fft.rfftn(unit.reshape(shape)) * eigenvalues
        columns.append(np.fft.irfftn(spectrum, s=shape, axes=range(len(shape))).ravel())
    return np.array(columns).T


def denoise(y, mean, covariance, sigma, network_output):
    """D(y) = m + C (C + σ²)⁻¹ (y - m) + c_out F for one flat state y."""
    d = y.size
    blurred = covariance + sigma**2 * np.eye(d)
    c_out = np.sqrt(np.trace(covariance @ np.linalg.inv(blurred)) * sigma**2 / d)
    return mean + covariance @ np.linalg.solve(blurred, y - mean) + c_out * network_output
