"""Series of an observable, (time, column): what is correlated with the conjugate variables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gfdt.record import time_blocks
from gfdt.responses.bound import Bound
from gfdt.responses.prepare import Prepared

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gfdt.responses.layout import Homogeneous

__all__ = ["n_columns", "per_variable", "series_of", "site_averages", "slope_series"]


def n_columns(observable: Bound, ready: Prepared) -> int:
    """Number of values of an observable, one for all sites of a homogeneous field."""
    if ready.layout.dense or not observable.local:
        return observable.size
    return ready.layout.n_variables * observable.n_extra


def series_of(ready: Prepared, observable: Bound, member: int, columns: slice) -> NDArray[np.float64]:
    """Values of a member, (time, column), zero where a sample is missing."""
    there = ready.present(member)
    out = np.zeros((len(there), columns.stop - columns.start))
    for _, times in time_blocks((1, *ready.trajectory.shape[1:])):
        kept = there[times]
        if not kept.any():
            continue
        centred = ready.centred(member, times)[kept]
        rows = np.flatnonzero(kept) + times.start
        if observable.local and not ready.layout.dense and observable.size != n_columns(observable, ready):
            out[rows] = site_averages(ready, observable, centred, columns)
        else:
            out[rows] = observable.columns(centred, columns.start, columns.stop)
    return out


def site_averages(
    ready: Prepared, observable: Bound, centred: NDArray[np.float64], columns: slice, order: int = 0
) -> NDArray[np.float64]:
    """A local observable averaged over sites: columns (variable, extra)."""
    layout: Homogeneous = ready.layout  # type: ignore[assignment]
    out = np.empty((len(centred), columns.stop - columns.start))
    for column in range(columns.start, columns.stop):
        variable, extra = divmod(column, observable.n_extra)
        out[:, column - columns.start] = per_variable(observable.field(centred, extra, order), layout)[:, variable]
    return out


def per_variable(values: NDArray[np.float64], layout: Homogeneous) -> NDArray[np.float64]:
    """Average over sites, (time, variable)."""
    return values.reshape(len(values), layout.n_variables, -1).mean(axis=2)


def slope_series(ready: Prepared, observable: Bound, member: int, columns: slice) -> NDArray[np.float64]:
    """Series g of which the effect of the mean is made, (time, column)."""
    out = []
    for _, times in time_blocks((1, *ready.trajectory.shape[1:])):
        centred = ready.centred(member, times)
        if observable.local and not ready.layout.dense:
            values = site_averages(ready, observable, centred, columns, order=1)
        else:
            values = observable.shift_series(centred, columns.start, columns.stop)
        values[~ready.present(member)[times]] = 0.0
        out.append(values)
    return np.concatenate(out)
