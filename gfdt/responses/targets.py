r"""What the response is at t = 0 for an exact score: <w . grad A>, or 1/2 <M : grad grad A> for a change of the noise.

Integration by parts of <A B> with B = -[div w + w . s] gives the first, twice with B = 1/2 [M : grad s + s' M s] the
second. For A = x and a kick e_j it is R(0) = I. The average is over the record, as that of R(0) is, so that much of
the sampling noise of both is the same. Where A is a function of x - m the errors of m are in those of the target.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gfdt.responses.bound import Bound
from gfdt.responses.correction import Correction
from gfdt.responses.perturbations import Amplitude, NoiseChange
from gfdt.responses.prepare import Prepared
from gfdt.responses.sums import UnitSums

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["amplitude_target", "kick_target"]

_STEP = 1e-4  # of a difference quotient along w, in standard deviations


@dataclass(frozen=True)
class Target:
    """What R(0) is known to be.

    Attributes
    ----------
    mean : (...), its average over the record
    influence : (unit, ...), each unit's contribution to the error of that
    """

    mean: NDArray[Any]
    influence: NDArray[Any]


def kick_target(ready: Prepared, observable: Bound, correction: Correction, columns: slice) -> Target | None:
    """Return <dA_i/dx_j> in the layout's basis; None where no derivative is known."""
    if observable.pointwise is None or not observable.differentiable:
        return None
    layout: Any = ready.layout
    identity = correction.algebra.identity
    parts, curves = [], []
    for unit in ready.units:
        kept = ready.present(unit.member)[unit.start : unit.stop]
        centred = ready.centred(unit.member, slice(unit.start, unit.stop))[kept]
        orders = (1, 2) if observable.follows_mean else (1,)
        if not kept.any():
            # A stretch after the end of a shorter member.
            parts.append(np.zeros(columns.stop - columns.start if layout.dense else layout.n_variables))
            continue
        slope, *curve = (_sums(ready, observable, centred, np.ones(1), columns, order) for order in orders)
        parts.append(slope)
        curves += curve
    units = UnitSums(np.stack(parts), ready.conjugate_units.counts)
    influence = units.influence()
    if curves:
        influence = influence - _shifts(ready, observable, columns) * np.sum(curves, axis=0) / ready.n_samples
    return Target(*(_as_matrix(item, layout, identity, observable, columns) for item in (units.mean(), influence)))


def _as_matrix(
    values: NDArray[Any], layout: Any, identity: NDArray[Any], observable: Bound, columns: slice
) -> NDArray[Any]:
    """A pointwise observable of one component feels the kick of that component alone: (..., column) to the basis."""
    if layout.dense:
        size = columns.stop - columns.start
        out = np.zeros((*values.shape, layout.size))
        out[..., np.arange(size), np.arange(columns.start, columns.stop) // observable.n_extra] = values
        return out @ identity
    if layout.several:
        return values[..., None, :, None] * identity
    return values * identity


def _shifts(ready: Prepared, observable: Bound, columns: slice) -> NDArray[np.float64]:
    """Errors of m of the component that each column belongs to, (unit, column)."""
    layout: Any = ready.layout
    errors = ready.mean_errors
    if layout.dense:
        return errors[:, np.arange(columns.start, columns.stop) // observable.n_extra]
    return errors.reshape(len(errors), layout.n_variables, -1)[:, :, 0]


def amplitude_target(ready: Prepared, observable: Bound, amplitudes: list[Amplitude], columns: slice) -> Target | None:
    """Return <w . grad A> of each amplitude, (column, amplitude); None where no derivative is known."""
    noise = any(isinstance(amplitude, NoiseChange) for amplitude in amplitudes)
    if not observable.differentiable or (observable.pointwise is None and (noise or observable.follows_mean)):
        return None
    layout: Any = ready.layout
    parts, curves = [], []
    for unit in ready.units:
        kept = ready.present(unit.member)[unit.start : unit.stop]
        centred = ready.centred(unit.member, slice(unit.start, unit.stop))[kept]
        if not kept.any():
            # The user's functions are not asked about no states.
            parts.append(np.zeros((columns.stop - columns.start, len(amplitudes))))
            continue
        each = [_slope(ready, observable, centred, amplitude, columns) for amplitude in amplitudes]
        parts.append(np.stack([slope for slope, _ in each], axis=-1))
        if observable.follows_mean:
            curves.append(np.stack([curve for _, curve in each], axis=-1))
    units = UnitSums(np.stack(parts), ready.conjugate_units.counts[:, :, None])
    influence = units.influence()
    if curves:
        at = np.arange(columns.start, columns.stop) // observable.n_extra
        errors = ready.mean_errors
        shifts = errors[:, at] if layout.dense else errors.reshape(len(errors), layout.n_variables, -1)[:, at, 0]
        influence = influence - shifts[:, :, None] * np.sum(curves, axis=0) / ready.n_samples
    return Target(units.mean(), influence)


def _slope(
    ready: Prepared, observable: Bound, centred: NDArray[np.float64], amplitude: Amplitude, columns: slice
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sum over states of w . grad A (or 1/2 M : grad grad A) and of its derivative with respect to x - m."""
    if isinstance(amplitude, NoiseChange):
        factor, order = 0.5 * amplitude.diagonal, 2
    else:
        factor, order = amplitude.direction(centred + ready.mean), 1
    if observable.pointwise is not None:
        orders = (order, order + 1) if observable.follows_mean else (order,)
        sums = [_sums(ready, observable, centred, factor, columns, each) for each in orders]
        slope, *curve = (_of_columns(item, ready, observable, columns) for item in sums)
        return slope, curve[0] if curve else slope
    w, spread = factor, np.where(centred.std(axis=0) > 0, centred.std(axis=0), 1.0)
    size = np.abs(w / spread).reshape(len(w), -1).max(axis=1)
    step = (_STEP / np.where(size > 0, size, 1.0)).reshape(-1, *[1] * (centred.ndim - 1))
    ahead, behind = (_values(ready, observable, centred + sign * step * w, columns) for sign in (1, -1))
    slope = ((ahead - behind) / (2 * step.reshape(-1, 1))).sum(axis=0)
    return slope, slope


def _values(ready: Prepared, observable: Bound, centred: NDArray[np.float64], columns: slice) -> NDArray[np.float64]:
    """Return A, (time, column); a local observable of a homogeneous field averaged over its sites."""
    layout: Any = ready.layout
    if layout.dense or not observable.local:
        return observable.columns(centred, columns.start, columns.stop)
    # A function of the user's has one value for each component.
    field = observable.field(centred, 0)
    return field.reshape(len(field), layout.n_variables, -1).mean(axis=2)[:, columns]


def _of_columns(values: NDArray[np.float64], ready: Prepared, observable: Bound, columns: slice) -> NDArray[np.float64]:
    """Pick the columns (variable, extra) of a tile from what ``_sums`` returns for all variables of a field."""
    layout: Any = ready.layout
    if layout.dense:
        return values
    variable, extra = np.divmod(np.arange(columns.start, columns.stop), observable.n_extra)
    return values.reshape(layout.n_variables, -1)[variable, np.searchsorted(np.unique(extra), extra)]


def _sums(
    ready: Prepared,
    observable: Bound,
    centred: NDArray[np.float64],
    factor: NDArray[np.float64],
    columns: slice,
    order: int,
) -> NDArray[np.float64]:
    """Sum over states of a derivative times a factor (*state), averaged over the sites of a homogeneous field.

    Of a field the sums for all variables, (variable, extra), of the extra indices that occur in the columns.
    """
    layout: Any = ready.layout
    if layout.dense:
        n = observable.n_extra
        values = observable.columns(centred, columns.start, columns.stop, order=order)
        if factor.size > 1:
            flat = np.broadcast_to(factor, centred.shape).reshape(len(centred), -1)
            values = values * flat[:, np.arange(columns.start, columns.stop) // n]
        return values.sum(axis=0) * (factor.ravel()[0] if factor.size == 1 else 1.0)
    field_sums = []
    for extra in sorted({column % observable.n_extra for column in range(columns.start, columns.stop)}):
        values = observable.field(centred, extra, order=order) * factor
        per_variable = values.reshape(len(values), layout.n_variables, -1).mean(axis=2).sum(axis=0)
        field_sums.append(per_variable)
    return np.stack(field_sums, axis=-1).ravel()
