"""Sums over states of what Stein's identity is about, and the linear map for which it holds.

Notation: :mod:`gfdt.scores.polished`; g is the score in units of each component, per wavenumber for homogeneous fields.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

from gfdt.responses.sums import UnitSums, standard_error

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["SteinSums"]

_KEPT = 4.0  # squares of a standard error below which a coefficient is taken for noise
_FLOOR = 1e-8  # of the largest eigenvalue: what varies less is not used


class SteinSums(NamedTuple):
    """Sums over states, those of the identities for each unit.

    Attributes
    ----------
    gram : (modes, j, j), of φ φ^H over all
    cross : (unit, modes, v, j), of g φ^H + dφ/da
    counts : (unit,)
    squares : (modes,), of |g|^2
    """

    gram: NDArray[Any] = np.empty(0)
    cross: NDArray[Any] = np.empty(0)
    counts: NDArray[np.float64] = np.empty(0)
    squares: NDArray[np.float64] = np.zeros(1)

    @classmethod
    def zeros(cls, n_units: int, n_modes: int, n_variables: int, n_functions: int, dtype: Any) -> Self:
        """Return sums over no states."""
        return cls(
            np.zeros((n_modes, n_functions, n_functions), dtype),
            np.zeros((n_units, n_modes, n_variables, n_functions), dtype),
            np.zeros(n_units),
            np.zeros(n_modes),
        )

    def add(self, g: NDArray[Any], phi: NDArray[Any], slopes: NDArray[np.float64], owner: NDArray[np.int64]) -> None:
        """Add states: g (n, v, modes), phi (n, j, modes), slopes (n, degree, v), the unit of each."""
        by_mode = np.ascontiguousarray(np.moveaxis(phi, -1, 0))  # (modes, n, j)
        values = np.ascontiguousarray(np.moveaxis(g, -1, 0))
        self.gram[...] += np.swapaxes(by_mode, 1, 2) @ by_mode.conj()
        self.squares[...] += (np.abs(values) ** 2).sum(axis=(1, 2))
        n_variables = g.shape[1]
        for unit in np.unique(owner):
            mine = owner == unit
            self.cross[unit] += np.swapaxes(values[:, mine], 1, 2) @ by_mode[:, mine].conj()
            mean = slopes[mine].sum(axis=0)  # (degree, v)
            for order, slope in enumerate(mean):
                for variable in range(n_variables):
                    self.cross[unit, :, variable, order * n_variables + variable] += slope[variable]
            self.counts[unit] += mine.sum()

    def coefficients(self, weights: NDArray[np.float64]) -> tuple[NDArray[Any], float, float]:
        """Return A (modes, v, j), rms of A φ over that of g, and the mean share kept; ``weights`` of the modes."""
        total = self.counts.sum()
        power, vectors = np.linalg.eigh(self.gram / total)
        usable = power > _FLOOR * max(float(power.max()), 1e-300)
        root = np.where(usable, np.sqrt(np.where(usable, power, 1.0)), np.inf)[:, None, :]
        # With <φ φ^H> = V w V^H and b = <g φ^H> + <dφ/da>:  A = c w^-1/2 V^H,  c = -b V w^-1/2.
        units = UnitSums(self.cross @ vectors / root, self.counts.reshape(-1, 1, 1, 1))
        c = -units.mean()
        variance = standard_error(units.influence()) ** 2
        found = np.abs(c) ** 2
        share = np.where(found > _KEPT * variance, 1 - _KEPT * variance / np.where(found > 0, found, 1.0), 0.0)
        c = c * share
        a = (c / root) @ np.swapaxes(vectors, 1, 2).conj()
        change = np.sqrt(weights @ (np.abs(c) ** 2).sum(axis=(1, 2)) / max(weights @ self.squares / total, 1e-300))
        each = weights[:, None, None] * np.broadcast_to(usable[:, None, :], share.shape)
        return a, float(change), float((each * share).sum() / max(each.sum(), 1e-300))
