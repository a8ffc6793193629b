r"""Identities at t = 0 that every exact score satisfies, beyond the Stein identity.

For B = -s(x), a pointwise observable A(x') of the centred state x' = x - m and P as in
:mod:`gfdt.responses.correction`, integrating by parts gives

    <B_j> = 0,        <A(x_i') B_j> = <A'(x_i')> delta_ij,

so <x'^2 B> = 2 <x'> = 0 ("variance") and <x'^3 B> = 3 <x'^2> ("moment3"). A Gaussian fit satisfies the Stein identity
(A = x') on its own record whatever the data; it satisfies the one of the variance only without skewness and that of
the third moment only with the kurtosis of a Gaussian. For a score learned at noise level sigma B is replaced by P^-1 B,
its equal for Gaussian data. Each departure is made a pure number by

    D_ij = (<A_i B_j> - <A_i'> delta_ij) sd_j / (sd_i <|A_i'|>),

which for the third moment is <x'^3 B>/(3 <x'^2>) - 1. For up to 16 components all pairs are looked at; otherwise, and
for homogeneous fields, i = j only.

The sites of a field may look Gaussian to a score that is wrong about a single large-scale mode, so the third moment is
also taken of each principal component (of the components in units of their sd) or wavenumber z_a, real or complex:

    K_a = <|z_a|^2 z_a B_a*>/(n_a <|z_a|^2>) = <z_a B_a*>,        n_a = 3 (real), 2 (complex),

both sides being 1 for an exact score: as a difference it is not troubled by what the Stein identity sees anyway, nor by
components that were made from few states.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gfdt.responses.departure import Departure, departure_of
from gfdt.responses.observables import find_observable
from gfdt.responses.prepare import Prepared
from gfdt.responses.sums import UnitSums, significance_threshold, standard_error

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["drift_of_the_mean", "mean_score", "mode_departure", "observable_departures"]

_PAIRS = 16  # components up to which all pairs are looked at: sums of d^2 numbers a unit
_STEP = 1e-4  # of the central difference A', in standard deviations: exact to 1e-8 for polynomials


def observable_departures(ready: Prepared, names: Sequence[str]) -> dict[str, Departure]:
    """Return the departure from <A B> = <A'> for each named observable.

    The measured array is (d, d) or (d,), or one number for a homogeneous field, whose sites are alike; the excess is
    that of the whole row of D, so that it does not shrink with the number of pairs.
    """
    return {name: _departure(ready, name) for name in names}


def _departure(ready: Prepared, name: str) -> Departure:
    x, layout = ready.trajectory.values, ready.layout
    function = find_observable(name)[1]
    spread = np.sqrt(_per_component((x - ready.mean) ** 2))
    if not layout.dense:
        spread = np.full_like(spread, np.sqrt((spread**2).mean()))
    size = spread.size
    pairs = layout.dense and size <= _PAIRS
    algebra = layout.algebra(ready.covariance)
    parametric = layout.parametric(ready.covariance, ready.score.noise_level_)
    target = algebra.identity if pairs else np.ones(size)
    mean = ready.mean.ravel()
    products, slopes, sizes, counts = [], [], [], []
    for unit in ready.units:
        part = slice(unit.start, unit.stop)
        centred = x[unit.member, part].reshape(-1, size) - mean
        b = ready.conjugate[unit.member, part].reshape(-1, size) - ready.conjugate_mean.ravel()
        slope = (function(centred + _STEP * spread, mean) - function(centred - _STEP * spread, mean)) / (
            2 * _STEP * spread
        )
        value = function(centred, mean)
        products.append(value.T @ b if pairs else (value * b).sum(axis=0))
        slopes.append(slope.sum(axis=0))
        sizes.append(np.abs(slope).sum(axis=0))
        counts.append(float(len(centred)))
    product, slope, total = np.array(products), np.array(slopes), np.array(counts)
    typical = np.sum(sizes, axis=0) / total.sum()
    if pairs:
        scale = spread[None, :] / (spread * typical)[:, None]
        deviation = (algebra.divide(product, parametric) - slope[:, :, None] * target) * scale
    else:
        deviation = (product / _pointwise(ready, parametric) - slope) / typical
    if not layout.dense:
        deviation = deviation.mean(axis=1, keepdims=True)
    units = UnitSums(deviation, total.reshape(-1, *[1] * (deviation.ndim - 1)))
    identity = target * spread[None, :] / spread[:, None] if pairs else np.ones(deviation.shape[1:])
    # A' may be zero on average (the variance): D + identity is then 1 or 0 for every observable, like the Stein matrix.
    found = departure_of(units.mean() + identity, units.influence(), identity)
    return dataclasses.replace(found, excess=found.excess * np.sqrt(size)) if pairs else found


def mode_departure(ready: Prepared) -> Departure:
    """Return K_a - <z_a B_a*> + 1 against 1, for every principal component or wavenumber with variance."""
    layout = ready.layout
    algebra = layout.algebra(ready.covariance)
    if layout.dense:
        sd = np.sqrt(np.diagonal(ready.covariance))
        vectors = np.linalg.eigh(ready.covariance / np.outer(sd, sd))[1][:, sd.size - algebra.n_present :]
        # z = basis' x and B = dual' B: a change of coordinates turns x and B by inverse matrices.
        basis, dual = vectors / sd[:, None], vectors * sd[:, None]
        degree = np.full(algebra.n_present, 3.0)
    else:
        present = algebra.identity > 0
        degree = np.where(_self_conjugate(layout.shape), 3.0, 2.0)[present]
    fourth, second, product, counts = [], [], [], []
    for unit in ready.units:
        part = slice(unit.start, unit.stop)
        state = layout.transform(ready.trajectory.values[unit.member, part] - ready.mean)
        source = layout.transform(ready.conjugate[unit.member, part] - ready.conjugate_mean)
        state, source = (state @ basis, source @ dual) if layout.dense else (state[:, present], source[:, present])
        power, cross = np.abs(state) ** 2, state * source.conj()
        fourth.append((power * cross).sum(axis=0) / degree)
        second.append(power.sum(axis=0))
        product.append(cross.sum(axis=0))
        counts.append([float(len(state))])
    total = np.array(counts)
    typical = np.sum(second, axis=0) / total.sum()
    ratio = np.sum(fourth, axis=0) / total.sum() / typical
    # The last two terms add to zero; they carry the error of <|z|^2> into that of the ratio.
    sums = np.array(fourth) / typical - np.array(product) - ratio * (np.array(second) / typical - total)
    units = UnitSums(sums, total)
    ones = np.ones(typical.size)
    return departure_of(units.mean() + ones, units.influence(), ones)


def _self_conjugate(shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Which wavenumbers of the half plane have real amplitudes: those with k = -k on the grid."""
    waves = [np.arange(size) for size in (*shape[:-1], shape[-1] // 2 + 1)]
    real = [(2 * wave) % size == 0 for wave, size in zip(waves, shape, strict=True)]
    return np.logical_and.reduce(np.meshgrid(*real, indexing="ij")).ravel()


def _per_component(values: NDArray[Any]) -> NDArray[np.float64]:
    return values.mean(axis=(0, 1), dtype=np.float64).ravel()


def _pointwise(ready: Prepared, parametric: NDArray[Any]) -> float | NDArray[np.float64]:
    """P_ii: the diagonal of P, or its value at displacement zero."""
    if ready.layout.dense:
        return np.diagonal(parametric)
    kernel = ready.layout.to_physical(parametric)
    return float(kernel[tuple(size // 2 for size in kernel.shape)])


def mean_score(ready: Prepared) -> tuple[float, float, bool]:
    """Return the largest |<s_j>| over the rms of s_j, the same in standard errors, and whether it is significant."""
    units = ready.conjugate_units
    stderr = standard_error(units.influence())
    mean = np.abs(units.mean())
    rms = np.sqrt(_per_component(ready.conjugate.astype(np.float64) ** 2))
    z = mean / np.maximum(stderr, 1e-300)
    share = float((mean / np.maximum(rms, 1e-300)).max())
    return share, float(z.max()), bool(z.max() > significance_threshold(z.size, len(ready.units)))


def drift_of_the_mean(ready: Prepared) -> tuple[float, bool]:
    """Return the largest change of the mean between the halves of the record in standard errors; is it significant?"""
    x = ready.trajectory.values
    times = x.shape[1]
    if len(ready.units) == x.shape[0]:
        halves = [x[:, : times // 2].mean(axis=1), x[:, times // 2 :].mean(axis=1)]
        change = (halves[1] - halves[0]).reshape(x.shape[0], -1).astype(np.float64)
        stderr = change.std(axis=0, ddof=1) / np.sqrt(x.shape[0])
        z = np.abs(change.mean(axis=0)) / np.maximum(stderr, 1e-300)
        return float(z.max()), bool(z.max() > significance_threshold(z.size, x.shape[0]))
    means = np.array([x[u.member, u.start : u.stop].mean(axis=0).ravel() for u in ready.units], dtype=np.float64)
    late = np.array([u.start + u.stop > times for u in ready.units])
    change = means[late].mean(axis=0) - means[~late].mean(axis=0)
    stderr = np.sqrt(sum(means[part].var(axis=0, ddof=1) / part.sum() for part in (late, ~late)))
    z = np.abs(change) / np.maximum(stderr, 1e-300)
    return float(z.max()), bool(z.max() > significance_threshold(z.size, len(ready.units) - 1))
