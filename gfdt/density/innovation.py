r"""The Kalman update of a Gaussian posterior by observations, at one noise level.

With the notation of :mod:`gfdt.density.family`: given the noisy X, a has the covariance V = C v (C + v)⁻¹ (C at
v = ∞). Observations y = H a + ε, ε ~ N(0, R), turn its mean D into D + K (y - H D), with

    K = V Hᵀ S⁻¹,      S = H V Hᵀ + R,

S the covariance of the innovation y - H D. V is applied in the eigenbasis of C; S is factored (Cholesky) for up to 4096
observations, and solved with by conjugate gradients beyond, preconditioned where C has no eigenvalue 0 by

    M = N⁻¹ H (V + r)⁻¹ Hᵀ N⁻¹,      N the diagonal of H Hᵀ,   r the mean of R N⁻¹,

which is S⁻¹ where all is observed.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.linalg

from gfdt.errors import ReliabilityWarning

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gfdt.density.family import Family
    from gfdt.density.observations import Observation

__all__ = ["Innovation"]

_DENSE = 4096  # observations: S then takes 128 MiB, and its factor a second or so
# Part of the mean variance of what is observed that is added to it: observations may be dependent (more than C has
# rank). It falls with the level, so that what is known is met all the same in the end.
_ROUNDING = 1e-10
_ROUNDING_ITERATED = 1e-6
_TOLERANCE = 1e-6  # of conjugate gradients: the residual relative to the right-hand side
_ITERATIONS = 2000  # 64 x 64 cells, three quarters seen, C_k ~ 1/(4 + k²)²: 43 at the top, 1138 without M
_BATCH_VALUES = 2**20


@dataclass(frozen=True)
class Innovation:
    """S and K at one level.

    Attributes
    ----------
    family : Family
    observation : Observation
        Of a.
    level : float
        σ; inf for the prior of a.
    """

    family: Family
    observation: Observation
    level: float

    def posterior(self, c: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return V as a function of the eigenvalues of C."""
        return c if math.isinf(self.level) else c * self.level**2 / (c + self.level**2)

    def gain(self, r: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return K r, (batch, *state), for r (batch, m)."""
        return self.family.filtered(self.observation.transpose(self.solve(r)), self.posterior)

    def solve(self, r: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return S⁻¹ r for r (batch, m)."""
        if self.observation.values.size <= _DENSE:
            return np.asarray(scipy.linalg.cho_solve(self._factor, r.T, check_finite=False).T)
        return self._conjugate_gradients(r)

    def _covariance(self, r: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return S r for r (batch, m)."""
        spread = self.family.filtered(self.observation.transpose(r), self.posterior)
        return self.observation.forward(spread) + self.observation.variance * r

    @cached_property
    def _factor(self) -> Any:
        m = self.observation.values.size
        matrix = np.empty((m, m))
        rows = max(1, _BATCH_VALUES // self.family.size)
        for start in range(0, m, rows):
            unit = np.zeros((min(rows, m - start), m))
            unit[np.arange(len(unit)), start + np.arange(len(unit))] = 1.0
            matrix[start : start + rows] = self._covariance(unit)
        # The smallest positive number keeps S regular where all that is observed is constant.
        matrix[np.diag_indices(m)] += _ROUNDING * matrix.trace() / m + np.finfo(np.float64).tiny
        return scipy.linalg.cho_factor(matrix, lower=True, overwrite_a=True, check_finite=False)

    def _conjugate_gradients(self, r: NDArray[np.float64]) -> NDArray[np.float64]:
        """Solve for every row of r by itself."""
        x, left = np.zeros_like(r), r.copy()
        along = self._preconditioned(left).copy()
        product = (left * along).sum(axis=1)
        enough = _TOLERANCE**2 * (r**2).sum(axis=1)
        for _ in range(_ITERATIONS):
            rows = np.flatnonzero((left**2).sum(axis=1) > enough)
            if not rows.size:
                return x
            image = self._covariance(along[rows]) + self._rounding * along[rows]
            step = (product[rows] / (along[rows] * image).sum(axis=1))[:, None]
            x[rows] += step * along[rows]
            left[rows] -= step * image
            steepest = self._preconditioned(left[rows])
            now = (left[rows] * steepest).sum(axis=1)
            along[rows] = steepest + (now / product[rows])[:, None] * along[rows]
            product[rows] = now
        warnings.warn(
            f"the {r.shape[1]} observations are so nearly dependent that {_ITERATIONS} iterations of conjugate "
            "gradients were not enough: what is known may not be met. Pass fewer observations, or a stderr.",
            ReliabilityWarning,
            stacklevel=7,
        )
        return x

    @cached_property
    def _rounding(self) -> float:
        """What conjugate gradients add to the diagonal of S, whose mean one vector of random signs estimates."""
        signs = np.random.default_rng(0).choice([-1.0, 1.0], (1, self.observation.values.size))
        mean = float((signs * self._covariance(signs)).mean())
        return _ROUNDING_ITERATED * mean + float(np.finfo(np.float64).tiny)

    @cached_property
    def _norms(self) -> NDArray[np.float64]:
        """N, if H Hᵀ is diagonal."""
        one = np.ones((1, self.observation.values.size))
        return self.observation.forward(self.observation.transpose(one))[0]

    def _preconditioned(self, r: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return M r for r (batch, m)."""
        if self.family.covariance.eigenvalues.min() == 0 or self._norms.min() <= 0:
            return r
        noise = float(((self.observation.variance + self._rounding) / self._norms).mean())
        inward = self.family.filtered(
            self.observation.transpose(r / self._norms), lambda c: 1 / (self.posterior(c) + noise)
        )
        return self.observation.forward(inward) / self._norms
