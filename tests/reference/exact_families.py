"""Scores known at every noise level: mixtures of Gaussians, and Gaussians whose score is not left to their C alone."""

import dataclasses

import numpy as np

from gfdt.covariance import DenseCovariance
from gfdt.density.family import Diagonal, Family


class Mixture:
    """Weights (k,), centres (k, d) and variances (k, d), of axis-parallel Gaussians; moved to mean zero."""

    def __init__(self, weights, centres, variances):
        self.weights = np.asarray(weights, dtype=float) / np.sum(weights)
        self.centres = np.asarray(centres, dtype=float)
        self.centres = self.centres - self.weights @ self.centres
        self.variances = np.broadcast_to(np.asarray(variances, dtype=float), self.centres.shape)
        second = np.einsum("k,ki,kj->ij", self.weights, self.centres, self.centres)
        self.covariance = second + np.diag(self.weights @ self.variances)

    def sample(self, n, seed):
        rng = np.random.default_rng(seed)
        which = rng.choice(len(self.weights), n, p=self.weights)
        z = rng.standard_normal((n, self.centres.shape[1]))
        return self.centres[which] + np.sqrt(self.variances[which]) * z

    def _terms(self, a, level):
        """Logarithms of the terms of the density (n, k), their scores (n, k, d) and precisions (k, d)."""
        precision = 1 / (self.variances + level**2)
        offset = a[:, None] - self.centres
        logs = np.log(self.weights) + 0.5 * (np.log(precision / (2 * np.pi)) - precision * offset**2).sum(axis=-1)
        return logs, -precision * offset, precision

    def log_density(self, a, level=0.0):
        return np.logaddexp.reduce(self._terms(a, level)[0], axis=1)

    def score(self, a, level=0.0):
        share, each, _ = self._shares(a, level)
        return np.einsum("nk,nki->ni", share, each)

    def derivative(self, a, level, direction):
        """(∇s) u."""
        share, each, precision = self._shares(a, level)
        along = np.einsum("nki,ni->nk", each, direction)
        mean = np.einsum("nk,nki->ni", share, each)
        out = np.einsum("nk,nki,nk->ni", share, each, along) - mean * (mean * direction).sum(axis=1, keepdims=True)
        return out - (share @ precision) * direction

    def family(self, level=0.0, error=None):
        """The exact family, or one with ``error(a, level)`` added to its score, and no derivative."""
        d = len(self.covariance)

        def precision(level):
            return np.linalg.inv(self.covariance + level**2 * np.eye(d))

        def correction(a, level):
            f = self.score(a, level) + a @ precision(level)
            return f if error is None else f + error(a, level)

        def product(a, level, u):
            return self.derivative(a, level, u) + u @ precision(level)

        return Family(
            Diagonal(np.zeros(d), np.ones(d)),
            dense(self.covariance),
            (d,),
            level,
            correction,
            None if error else product,
        )

    def _shares(self, a, level):
        logs, each, precision = self._terms(a, level)
        return np.exp(logs - np.logaddexp.reduce(logs, axis=1)[:, None]), each, precision


def bimodal():
    """Two unequal peaks, 1.8 apart along the first component and 0.3 to 0.4 wide there."""
    return Mixture([0.6, 0.4], [[0.9, 0.3], [-0.9, -0.3]], [[0.09, 0.5], [0.16, 1.0]])


def three_peaks():
    """Three components, three peaks that no rotation makes independent."""
    return Mixture([0.3, 0.5, 0.2], [[1.5, 0, 1], [-1, 0.3, -1], [0, -1, 0.5]], [[0.05, 0.2, 0.1]] * 3)


def dense(matrix):
    """The covariance operator of a matrix."""
    eigenvalues, eigenvectors = np.linalg.eigh(matrix)
    return DenseCovariance(np.zeros(len(eigenvalues)), eigenvalues, eigenvectors)


def gaussian_family(covariance, shape, level=0.0):
    """The Gaussian of this covariance, all of its score in C."""
    return Family(Diagonal(np.zeros(()), np.ones(())), covariance, shape, level)


def corrected_family(covariance, used, shape, level=0.0):
    """The same density with another covariance for C: f makes up for all of the difference."""
    exact, start = (gaussian_family(each, shape, level) for each in (covariance, used))

    def correction(a, sigma):
        return exact.linear_score(a, sigma) - start.linear_score(a, sigma)

    return dataclasses.replace(start, correction=correction, product=lambda a, sigma, u: correction(u, sigma))
