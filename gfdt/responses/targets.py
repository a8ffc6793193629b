r"""What the response is at t = 0 for an exact score: <w . grad A>, or 1/2 <M : grad grad A> for a change of the noise.

Integration by parts of <A B> with B = -[div w + w . s] gives the first, twice with B = 1/2 [M : grad s + s' M s] the
second. For A = x and a kick e_j it is R(0) = I. The average is over the record, as that of R(0) is, so that much of
the sampling noise of both is the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gfdt.responses.correction import Correction
from gfdt.responses.observables import Bound
from gfdt.responses.perturbations import Amplitude, _NoiseChange
from gfdt.responses.prepare import Prepared
from gfdt.responses.sums import UnitSums

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["amplitude_target", "kick_target"]

_STEP = 1e-4  # of a difference quotient along w, in standard deviations


def kick_target(ready: Prepared, observable: Bound, correction: Correction, columns: slice) -> UnitSums | None:
    """Return per-unit sums of <dA_i/dx_j> in the layout's basis; None where no derivative is known."""
    if observable.pointwise is None or not observable.differentiable:
        return None
    layout, identity = ready.layout, correction.algebra.identity
    sums = []
    for unit in ready.units:
        kept = ready.present(unit.member)[unit.start : unit.stop]
        centred = ready.centred(unit.member, slice(unit.start, unit.stop))[kept]
        if layout.dense:
            n, size = observable.n_extra, columns.stop - columns.start
            slope = observable.columns(centred, columns.start, columns.stop, order=1).sum(axis=0)
            total = np.zeros((size, layout.size))
            total[np.arange(size), np.arange(columns.start, columns.stop) // n] = slope
            sums.append(total @ identity if correction.algebra.support is not None else total)
        else:
            slope = observable.field(centred, columns.start, order=1)
            per_variable = slope.reshape(len(centred), layout.n_variables, -1).mean(axis=2).sum(axis=0)
            sums.append(per_variable[:, None] * identity if layout.several else per_variable * identity)
    total = np.stack(sums)
    return UnitSums(total, ready.conjugate_units.counts.reshape(-1, *[1] * (total.ndim - 1)))


def amplitude_target(
    ready: Prepared, observable: Bound, member: int, amplitudes: list[Amplitude], columns: slice
) -> NDArray[np.float64] | None:
    """Return the sums over each unit of a member, (unit, column, amplitude); None where no derivative is known."""
    if not observable.differentiable:
        return None
    out = []
    for index in ready.of_member(member):
        unit = ready.units[index]
        kept = ready.present(member)[unit.start : unit.stop]
        centred = ready.centred(member, slice(unit.start, unit.stop))[kept]
        parts = [_slope(ready, observable, centred, amplitude, columns) for amplitude in amplitudes]
        if any(part is None for part in parts):
            return None
        out.append(np.stack(parts, axis=-1))  # type: ignore[arg-type]
    return np.stack(out)


def _slope(
    ready: Prepared, observable: Bound, centred: NDArray[np.float64], amplitude: Amplitude, columns: slice
) -> NDArray[np.float64] | None:
    """Sum over states of w . grad A (or 1/2 M : grad grad A), for some columns."""
    if isinstance(amplitude, _NoiseChange):
        if observable.pointwise is None:
            return None
        return _sum_of_columns(ready, observable, centred, 0.5 * amplitude.diagonal, columns, order=2)
    w = amplitude.direction(centred + ready.mean)
    if observable.pointwise is not None:
        return _sum_of_columns(ready, observable, centred, w, columns, order=1)
    spread = np.where(centred.std(axis=0) > 0, centred.std(axis=0), 1.0)
    size = np.abs(w / spread).reshape(len(w), -1).max(axis=1)
    step = (_STEP / np.where(size > 0, size, 1.0)).reshape(-1, *[1] * (centred.ndim - 1))
    ahead, behind = (observable.columns(centred + sign * step * w, columns.start, columns.stop) for sign in (1, -1))
    return ((ahead - behind) / (2 * step.reshape(-1, 1))).sum(axis=0)


def _sum_of_columns(
    ready: Prepared,
    observable: Bound,
    centred: NDArray[np.float64],
    factor: NDArray[np.float64],
    columns: slice,
    order: int,
) -> NDArray[np.float64]:
    layout: Any = ready.layout
    factor = np.broadcast_to(factor, centred.shape)
    out = np.empty(columns.stop - columns.start)
    if layout.dense:
        for column in range(columns.start, columns.stop):
            component = column // observable.n_extra
            slope = observable.columns(centred, column, column + 1, order=order)[:, 0]
            out[column - columns.start] = slope @ factor.reshape(len(factor), -1)[:, component]
        return out
    for column in range(columns.start, columns.stop):
        variable, extra = divmod(column, observable.n_extra)
        slope = observable.field(centred, extra, order=order) * factor
        out[column - columns.start] = slope.reshape(len(slope), layout.n_variables, -1)[:, variable].mean(axis=1).sum()
    return out
