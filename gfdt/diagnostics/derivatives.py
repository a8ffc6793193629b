r"""The derivative J = grad s of a score: is it symmetric, as that of a gradient must be?

In the basis in which the record is white (:mod:`gfdt.diagnostics.sample`) J becomes W = C^(1/2) J C^(1/2), near -I for
data near a Gaussian. Its trace enters the score-matching loss; its antisymmetric part is the curl of s, measured by

    curl = (<|W - W'|^2> / (4 <|W|^2>))^(1/2),        0 for a gradient, 1 for a pure rotation,

with |.| the Frobenius norm and < > the mean over states. For up to 16 components W is computed entry by entry from
products J v. Beyond that two random vectors v, w of unit variance per direction serve every state:

    <v'Wv> = tr W,      <(v'Ww)^2> = |W|^2,      <(v'Ww - w'Wv)^2> = |W - W'|^2,

and the trace takes the Gaussian's, known exactly, as a control variate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gfdt.covariance import Covariance, CrossSpectralCovariance, DenseCovariance, SpectralCovariance
from gfdt.covariance.spectral import half_plane_weights
from gfdt.diagnostics.sample import root
from gfdt.scores.base import Score

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Derivatives", "differentiate", "minus_inverse", "trace_of_gaussian"]

_BATCH = 1024  # states at a time
_EXACT_SIZE = 16  # components up to which W is computed in full, d products J v a state


@dataclass(frozen=True)
class Derivatives:
    """What is needed of W at each of n states.

    Attributes
    ----------
    trace : (n,), tr W
    antisymmetric : (n,), |W - W'|^2/4, or an unbiased estimate
    norm : (n,), |W|^2, or an unbiased estimate
    """

    trace: NDArray[np.float64]
    antisymmetric: NDArray[np.float64]
    norm: NDArray[np.float64]

    @property
    def curl(self) -> float:
        """Root of the mean antisymmetric part over the mean of the whole."""
        return float(np.sqrt(self.antisymmetric.mean() / max(self.norm.mean(), 1e-300)))


def differentiate(
    score: Score,
    states: NDArray[np.float64],
    covariance: Covariance,
    blurred: Covariance,
    rng: np.random.Generator,
    spread: NDArray[np.float64] | float = 1.0,
) -> Derivatives:
    """Differentiate a score at states of shape (n, *state).

    Parameters
    ----------
    covariance, blurred : covariance operators
        C, and C + sigma^2, whose Gaussian score is the control variate, of x/spread.
    spread : (*state)
        The unit of each component in these operators. Default 1: that of the data.
    """
    n, shape = len(states), states.shape[1:]
    size = int(np.prod(shape, dtype=np.int64))
    if size <= _EXACT_SIZE:
        columns = root(covariance, np.eye(size).reshape(size, *shape))
        products = np.stack([_product(score, states, column, spread).reshape(n, size) for column in columns], axis=-1)
        white = np.einsum("ia,naj->nij", columns.reshape(size, size), products)
        odd = white - np.swapaxes(white, 1, 2)
        return Derivatives(
            np.trace(white, axis1=1, axis2=2), (odd**2).sum(axis=(1, 2)) / 4, (white**2).sum(axis=(1, 2))
        )
    v, w = (root(covariance, np.sign(rng.standard_normal(states.shape))) for _ in range(2))
    jv, jw = _product(score, states, v, spread), _product(score, states, w, spread)
    rest = [_dot(u, ju) - _dot(u, blurred.apply(u, minus_inverse)) for u, ju in ((v, jv), (w, jw))]
    one, other = _dot(v, jw), _dot(w, jv)
    return Derivatives(
        trace=(rest[0] + rest[1]) / 2 + trace_of_gaussian(covariance, blurred),
        antisymmetric=(one - other) ** 2 / 4,
        norm=(one**2 + other**2) / 2,
    )


def _product(
    score: Score, states: NDArray[np.float64], v: NDArray[np.float64], spread: NDArray[np.float64] | float
) -> NDArray[np.float64]:
    """J' v for x/spread: the score then is that of x times spread. J' serves as well as J, and costs networks less."""
    out = np.empty(states.shape)
    for start in range(0, len(states), _BATCH):
        part = slice(start, start + _BATCH)
        out[part] = score._transposed_jvp(states[part], np.broadcast_to(spread * v, states.shape)[part])
    return spread * out


def trace_of_gaussian(covariance: Covariance, blurred: Covariance) -> float:
    """Return tr(C J) = -tr(C B^-1) of the score -B^-1 (x - m)."""
    if isinstance(covariance, CrossSpectralCovariance):
        assert isinstance(blurred, CrossSpectralCovariance)
        overlap = np.abs(np.einsum("ai...,aj...->ij...", blurred.eigenvectors.conj(), covariance.eigenvectors)) ** 2
        product = np.einsum("i...,ij...,j...->...", minus_inverse(blurred.eigenvalues), overlap, covariance.eigenvalues)
        return float((product * half_plane_weights(covariance.shape)).sum() * np.prod(covariance.shape))
    if isinstance(covariance, SpectralCovariance):
        weights = half_plane_weights(covariance.shape) * np.prod(covariance.shape)
        return float((covariance.eigenvalues * minus_inverse(blurred.eigenvalues) * weights).sum())
    assert isinstance(blurred, DenseCovariance)
    overlap = blurred.eigenvectors.T @ (covariance.eigenvectors * np.sqrt(covariance.eigenvalues))
    return float((overlap**2 * minus_inverse(blurred.eigenvalues)[:, None]).sum())


def minus_inverse(eigenvalues: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return -1/c, and 0 where there is no variance."""
    return np.divide(-1.0, eigenvalues, out=np.zeros_like(eigenvalues), where=eigenvalues > 0)


def _dot(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    return np.einsum("ni,ni->n", a.reshape(len(a), -1), b.reshape(len(b), -1))
