r"""The samples that are there, a subsample of them, and the basis in which the record is white.

Averages run over the whole record, block by block. Derivatives of a score cost many evaluations, so they are taken at
some thousand states only, the same number in every resampling unit. A score learned at noise level sigma is the
gradient of the density of y = x + sigma z, so its states get that noise. Quantities are measured in the basis in which
the record is white: with v = C^(1/2) z and z white, every direction with variance counts the same, whatever its unit,
and directions without variance do not count. All operators are those of x/sd, sd the spread of each component (of each
variable of a homogeneous field), so that units as far apart as pascal and kg/kg cost no digits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gfdt.covariance import Covariance, CrossSpectralCovariance, DenseCovariance, SpectralCovariance
from gfdt.covariance.spectral import half_plane_weights
from gfdt.record import time_blocks
from gfdt.responses.layout import FullMatrix
from gfdt.responses.prepare import Prepared
from gfdt.responses.units import Unit

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "Sample",
    "blocks_of",
    "blurred_covariance",
    "covariance_of",
    "draw_sample",
    "present_ranks",
    "rank",
    "root",
    "spread_of",
    "times_there",
]

_STATES = 4096  # the loss of a unit-size error is then known to about 2 %
_VALUES = 2**18  # numbers in all these states, each of which says something: bounds the time for large fields
_FEWEST = 128


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


def blocks_of(ready: Prepared, unit: Unit) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Yield x - m and B - <B>, both (n, *state), of a unit's samples that are there, a bounded number at a time."""
    for _, part in time_blocks((1, unit.stop - unit.start, *ready.layout.shape)):
        times = slice(unit.start + part.start, unit.start + part.stop)
        centred, source = ready.centred(unit.member, times), ready.source(unit.member, times)
        if ready.there is not None:
            here = ready.there[unit.member, times]
            centred, source = centred[here], source[here]
        if len(centred):
            yield centred, source


def times_there(ready: Prepared, member: int, start: int, stop: int) -> NDArray[np.int64]:
    """Return the times from start to stop at which a member has a sample."""
    if ready.there is None:
        return np.arange(start, stop)
    return start + np.flatnonzero(ready.there[member, start:stop])


def draw_sample(ready: Prepared, rng: np.random.Generator) -> Sample:
    """Take states evenly from every resampling unit."""
    wanted = int(np.clip(_VALUES // max(ready.layout.size, 1), _FEWEST, _STATES))
    each = -(-wanted // len(ready.units))
    states, owner = [], []
    for index, unit in enumerate(ready.units):
        times = times_there(ready, unit.member, unit.start, unit.stop)
        if not times.size:
            continue
        times = times[np.unique(np.linspace(0, times.size - 1, min(each, times.size)).astype(np.int64))]
        states.append(ready.trajectory.values[unit.member, times])
        owner.append(np.full(times.size, index))
    clean = np.concatenate(states).astype(np.float64)
    return Sample(clean, rng.standard_normal(clean.shape), np.concatenate(owner))


def spread_of(ready: Prepared) -> NDArray[np.float64]:
    """Return the standard deviation of every component, (*state); of a homogeneous field that over all sites."""
    layout, covariance = ready.layout, ready.covariance
    if layout.dense:
        return np.sqrt(np.diagonal(covariance)).reshape(layout.shape)
    diagonal = np.diagonal(covariance, axis1=-2, axis2=-1) if layout.several else covariance[:, None]
    variance = half_plane_weights(layout.grid).ravel() @ diagonal.real
    sites = np.sqrt(variance).reshape(-1, *[1] * len(layout.grid))
    return np.broadcast_to(sites if layout.several else sites[0], layout.shape)


def blurred_covariance(ready: Prepared, covariance: NDArray[Any], level: float | NDArray[np.float64]) -> NDArray[Any]:
    """Return C + sigma^2 in the layout's basis."""
    levels = np.broadcast_to(level, ready.layout.shape)
    if ready.layout.dense:
        return covariance + np.diag(levels.ravel() ** 2)
    each = levels.reshape(ready.layout.n_variables, -1)[:, 0]
    return covariance + (np.diag(each**2) if ready.layout.several else each[0] ** 2)


def covariance_of(ready: Prepared, covariance: NDArray[Any]) -> Covariance:
    """Return the operator of a covariance in the layout's basis, of states in units of the record's spread.

    It is exactly 0 off the support; its mean is zero.
    """
    layout, spread = ready.layout, spread_of(ready)
    if isinstance(layout, FullMatrix):
        matrix = covariance / np.outer(spread, spread)
        algebra = layout.algebra(matrix)
        if algebra.support is not None:
            matrix = algebra.identity @ matrix @ algebra.identity
        values, vectors = np.linalg.eigh(matrix)
        values[: values.size - algebra.n_present] = 0.0
        return DenseCovariance(np.zeros(values.size), np.maximum(values, 0.0), vectors)
    if not layout.several:
        power = covariance.real / spread.flat[0] ** 2
        power = np.where(layout.algebra(power).identity > 0, power, 0.0)
        return SpectralCovariance(0.0, power.reshape(layout.half), layout.grid)
    each = spread.reshape(layout.n_variables, -1)[:, 0]
    blocks = covariance / np.outer(each, each)
    identity = layout.algebra(blocks).identity
    values, vectors = np.linalg.eigh(identity @ blocks @ identity)
    values = np.where(present_ranks(identity), np.maximum(values, 0.0), 0.0)
    return CrossSpectralCovariance(
        np.zeros(layout.n_variables),
        np.moveaxis(values, -1, 0).reshape(-1, *layout.half),
        np.moveaxis(vectors, 0, -1).reshape(layout.n_variables, layout.n_variables, *layout.half),
        layout.grid,
    )


def present_ranks(projectors: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which eigenvalues, ascending, belong to the support, (n_modes, v), given its projectors per wavenumber."""
    ranks = np.rint(np.trace(projectors, axis1=-2, axis2=-1).real)
    n_variables = projectors.shape[-1]
    return np.arange(n_variables) >= n_variables - ranks[:, None]


def root(covariance: Covariance, z: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return C^(1/2) z for z of shape (n, *state)."""
    return covariance.apply(z, np.sqrt)


def rank(covariance: Covariance) -> int:
    """Return the number of directions with variance."""
    return round(covariance.trace(lambda eigenvalues: (eigenvalues > 0).astype(np.float64)))
