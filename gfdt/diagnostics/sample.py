r"""A subsample of the record, and the basis in which it is white.

Derivatives of a score cost many evaluations, so they are taken at some thousand states only, the same number in every
resampling unit. A score learned at noise level sigma is the gradient of the density of y = x + sigma z, so its states
get that noise. Quantities are measured in the basis in which the record is white: with v = C^(1/2) z and z white, every
direction with variance counts the same, whatever its unit, and directions without variance do not count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gfdt.covariance import DenseCovariance, SpectralCovariance
from gfdt.covariance.spectral import half_plane_weights
from gfdt.responses.layout import FullMatrix, Homogeneous
from gfdt.responses.prepare import Prepared

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Sample", "covariance_of", "draw_sample", "rank", "root"]

_STATES = 4096  # the loss of a unit-size error is then known to about 2 %
_VALUES = 2**20  # numbers in all these states: bounds the time for large fields
_FEWEST = 256


@dataclass(frozen=True)
class Sample:
    """States at which derivatives are taken.

    Attributes
    ----------
    clean : (n, *state), states of the record
    noise : (n, *state), white noise of unit variance, to be added times sigma
    unit : (n,) index of the resampling unit of each
    """

    clean: NDArray[np.float64]
    noise: NDArray[np.float64]
    unit: NDArray[np.int64]

    def blurred(self, noise_level: float | NDArray[np.float64]) -> NDArray[np.float64]:
        """Return x + sigma z."""
        return self.clean + np.asarray(noise_level) * self.noise


def draw_sample(ready: Prepared, rng: np.random.Generator) -> Sample:
    """Take states evenly from every resampling unit."""
    size = int(np.prod(ready.layout.shape, dtype=np.int64))
    wanted = int(np.clip(_VALUES // max(size, 1), _FEWEST, _STATES))
    each = -(-wanted // len(ready.units))
    states, owner = [], []
    for index, unit in enumerate(ready.units):
        times = np.unique(np.linspace(unit.start, unit.stop - 1, min(each, unit.stop - unit.start)).astype(np.int64))
        states.append(ready.trajectory.values[unit.member, times])
        owner.append(np.full(times.size, index))
    clean = np.concatenate(states).astype(np.float64)
    return Sample(clean, rng.standard_normal(clean.shape), np.concatenate(owner))


def covariance_of(
    layout: FullMatrix | Homogeneous, mean: NDArray[np.float64], covariance: NDArray[Any]
) -> DenseCovariance | SpectralCovariance:
    """Return the operator of a covariance in the layout's basis, exactly 0 off the support."""
    algebra = layout.algebra(covariance)
    if not layout.dense:
        half = (*layout.shape[:-1], layout.shape[-1] // 2 + 1)
        power = np.where(algebra.identity > 0, covariance.real, 0.0).reshape(half)
        return SpectralCovariance(float(mean.ravel()[0]), power, layout.shape)
    if algebra.support is not None:
        covariance = algebra.identity @ covariance @ algebra.identity
    values, vectors = np.linalg.eigh(covariance)
    values[: values.size - algebra.n_present] = 0.0
    return DenseCovariance(mean.ravel(), np.maximum(values, 0.0), vectors)


def root(covariance: DenseCovariance | SpectralCovariance, z: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return C^(1/2) z for z of shape (n, *state)."""
    return covariance.apply(z, np.sqrt)


def rank(covariance: DenseCovariance | SpectralCovariance) -> int:
    """Return the number of directions with variance."""
    if isinstance(covariance, DenseCovariance):
        return int(np.count_nonzero(covariance.eigenvalues))
    share = half_plane_weights(covariance.shape)[covariance.eigenvalues > 0].sum()
    return round(float(share * np.prod(covariance.shape)))
