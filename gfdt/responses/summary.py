"""What responses are made of once the series of a record have been summed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from gfdt.responses.algebra import Algebra
from gfdt.responses.layout import Layout
from gfdt.responses.sums import UnitSums
from gfdt.responses.units import Unit
from gfdt.scores.base import Score

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

__all__ = ["Request", "Summary"]


@dataclass(frozen=True)
class Request:
    """Validated arguments: what is to be computed from what.

    Attributes
    ----------
    trajectory : the record (member, time, *state), its dims ordered as the score's
    score : Score
    layout : FullMatrix or Homogeneous
    lags : (n_lags,) in samples
    """

    trajectory: xr.DataArray
    score: Score
    layout: Layout
    lags: NDArray[np.int64]


@dataclass(frozen=True)
class Summary:
    """Everything about a record that no longer needs its values.

    Attributes
    ----------
    trajectory : the record (member, time, *state), its dims ordered as the score's; here only its labels matter
    score : Score
    layout : FullMatrix or Homogeneous
    lags : (n_lags,) in samples
    stein : UnitSums of M, (unit, ...)
    conjugate_units : UnitSums of B itself, (unit, d)
    mean_errors : (unit, d), each unit's contribution to the error of m
    units : the resampling units
    mean : m
    covariance : C, in the layout's basis
    fitted_here : whether the score was fitted on this very record, which ties its errors to the record's
    unit_text : how the units were chosen
    """

    trajectory: xr.DataArray
    score: Score
    layout: Layout
    lags: NDArray[np.int64]
    stein: UnitSums
    conjugate_units: UnitSums
    mean_errors: NDArray[np.float64]
    units: list[Unit]
    mean: NDArray[np.float64]
    covariance: NDArray[Any]
    fitted_here: bool
    unit_text: str

    @cached_property
    def algebra(self) -> Algebra:
        """Of the layout, on the support of C."""
        return self.layout.algebra(self.covariance)

    @cached_property
    def parametric(self) -> NDArray[Any]:
        """P = C (C + sigma^2)^-1."""
        return self.layout.parametric(self.covariance, self.score.noise_level_)

    @property
    def conjugate_mean(self) -> NDArray[np.float64]:
        """<B>, which is zero for an exact score; one number for all sites of a homogeneous field."""
        mean = self.conjugate_units.mean().reshape(self.layout.shape)
        return self.layout.site_mean(mean)

    @property
    def n_samples(self) -> int:
        """Number of states there are."""
        return int(self.conjugate_units.counts.sum())

    def spread(self) -> NDArray[np.float64]:
        """Return the standard deviation of each component, (*state); of all sites alike, for a homogeneous field."""
        layout: Any = self.layout
        if layout.dense:
            return np.sqrt(np.diagonal(self.covariance)).reshape(layout.shape)
        variance = layout.to_physical(self.covariance)
        centre = tuple(n // 2 for n in layout.grid)
        sites = np.sqrt(np.diagonal(variance[:, *centre]) if layout.several else variance[centre])
        lead = (-1, *[1] * len(layout.grid))[0 if layout.several else 1 :]
        return np.broadcast_to(np.reshape(sites, lead), layout.shape)

    def fingerprint(self) -> str:
        """Return the digest of the record's values."""
        raise NotImplementedError

    def memory(self, modes: NDArray[np.int64]) -> NDArray[Any]:
        """Return C(t)/C(0) of some wavenumbers of a homogeneous field of one variable, (lag, mode)."""
        raise NotImplementedError
