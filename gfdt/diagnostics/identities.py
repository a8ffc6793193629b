r"""Identities at t = 0 that every exact score satisfies, beyond the Stein identity.

For B = -s(x), a pointwise observable A(x') of the centred state x' = x - m and P as in
:mod:`gfdt.responses.correction`, integrating by parts gives

    <B_j> = 0,        <A(x_i') B_j> = <A'(x_i')> delta_ij,

so <x'^2 B> = 2 <x'> = 0 ("variance") and <x'^3 B> = 3 <x'^2> ("moment3"). A Gaussian fit satisfies the Stein identity
(A = x') on its own record whatever the data; it satisfies the one of the variance only without skewness and that of
the third moment only with the kurtosis of a Gaussian. For a score learned at noise level sigma B is replaced by P^-1 B,
its equal for Gaussian data. Each departure is made a pure number by

    D_ij = (<A_i B_j> - <A_i'> delta_ij) sd_j / (sd_i <|A_i'|>),

which for the third moment is <x'^3 B>/(3 <x'^2>) - 1. For up to 16 components all pairs are looked at, otherwise i = j
only; for homogeneous fields i = j too, averaged over sites, once for each variable.

:mod:`gfdt.diagnostics.modes` looks at the third moment of single large-scale modes, :mod:`gfdt.diagnostics.mean` at
<B> itself.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gfdt.covariance.spectral import half_plane_weights
from gfdt.diagnostics.sample import blocks_of, spread_of
from gfdt.responses.departure import Departure, departure_of
from gfdt.responses.observables import find_observable
from gfdt.responses.prepare import Prepared
from gfdt.responses.sums import UnitSums

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["observable_departures"]

_PAIRS = 16  # components up to which all pairs are looked at: sums of d^2 numbers a unit
_STEP = 1e-4  # of the central difference A', in standard deviations: exact to 1e-8 for polynomials


def observable_departures(ready: Prepared, names: Sequence[str]) -> dict[str, Departure]:
    """Return the departure from <A B> = <A'> for each named observable.

    The measured array is (d, d) or (d,); for a homogeneous field, whose sites are alike, (1,), or (v,) with several
    variables. The excess is that of the whole row of D, so that it does not shrink with the number of pairs, and of
    several variables that of the worst.
    """
    return {name: _departure(ready, name) for name in names}


def _departure(ready: Prepared, name: str) -> Departure:
    layout = ready.layout
    spread = spread_of(ready).ravel()
    pairs = layout.dense and spread.size <= _PAIRS
    target = ready.algebra.identity if pairs else np.ones(1)
    product, slope, size = _unit_sums(ready, name, pairs)
    total = ready.conjugate_units.counts
    typical = size.sum(axis=0) / total.sum()
    if pairs:
        scale = spread[None, :] / (spread * typical)[:, None]
        deviation = (ready.algebra.divide(product, ready.parametric) - slope[:, :, None] * target) * scale
        identity = target * spread[None, :] / spread[:, None]
    else:
        deviation = (product / _pointwise(ready) - slope) / typical
        identity = np.ones(deviation.shape[1:])
    units = UnitSums(deviation, total.reshape(-1, *[1] * (deviation.ndim - 1)))
    # A' may be zero on average (the variance): D + identity is then 1 or 0 for every observable, like the Stein matrix.
    found = departure_of(units.mean() + identity, units.influence(), identity)
    if pairs:
        return dataclasses.replace(found, excess=found.excess * np.sqrt(spread.size))
    if layout.dense or not layout.several:
        return found
    beyond = np.abs(found.measured - identity) ** 2 - found.stderr**2
    return dataclasses.replace(found, excess=float(np.sqrt(max(beyond.max(), 0.0))))


def _unit_sums(ready: Prepared, name: str, pairs: bool) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Sums over each unit of A B, A' and |A'|, (unit, ...): of pairs, of components, or of variables."""
    layout, function = ready.layout, find_observable(name)[1]
    spread, mean = spread_of(ready).ravel(), ready.mean.ravel()
    n_kinds = spread.size if layout.dense else layout.n_variables
    each = spread.size // n_kinds  # sites that are alike

    def per_kind(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return values.sum(axis=0).reshape(n_kinds, each).mean(axis=1)

    products = np.zeros((len(ready.units), n_kinds, n_kinds) if pairs else (len(ready.units), n_kinds))
    slopes, sizes = np.zeros((2, len(ready.units), n_kinds))
    for index, unit in enumerate(ready.units):
        for states, source in blocks_of(ready, unit):
            x, b = states.reshape(-1, spread.size), source.reshape(-1, spread.size)
            value = function(x, mean)
            products[index] += value.T @ b if pairs else per_kind(value * b)
            slope = function(x + _STEP * spread, mean)
            slope = (slope - function(x - _STEP * spread, mean)) / (2 * _STEP * spread)
            slopes[index] += per_kind(slope)
            sizes[index] += per_kind(np.abs(slope))
    return products, slopes, sizes


def _pointwise(ready: Prepared) -> NDArray[np.float64]:
    """P_ii: the diagonal of P, or its value at displacement zero for each variable."""
    layout, parametric = ready.layout, ready.parametric
    if layout.dense:
        return np.diagonal(parametric)
    diagonal = np.diagonal(parametric, axis1=-2, axis2=-1) if layout.several else parametric[:, None]
    return half_plane_weights(layout.grid).ravel() @ diagonal.real
