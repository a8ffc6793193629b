"""What the data look like: snapshots of fields, time series of vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gfdt.errors import InputError
from gfdt.plotting.style import new_axes
from gfdt.trajectory import Source, load_trajectory, state_dims, time_unit

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes

__all__ = ["plot_snapshots"]

_MAX_SERIES = 6  # lines that can be told apart in one panel
_MAX_TIMES = 2000


def plot_snapshots(
    trajectory: Source,
    *,
    member: int = 0,
    times: int | Sequence[int] = (0,),
    ax: Axes | Sequence[Axes] | None = None,
    var: str | None = None,
    dims: Sequence[str] | None = None,
    dt: float | None = None,
) -> Any:
    """Draw snapshots of a 2-D field as images on one colour scale, or the time series of other states.

    Parameters
    ----------
    trajectory, var, dims, dt
        As in :func:`gfdt.load_trajectory`.
    member : int
        Which member. Default the first.
    times : int or sequence of int
        Indices of the snapshots, one axes each. Default the first.
    ax : Axes or sequence of Axes, optional
        As many as ``times``. Default: a new figure.

    Returns
    -------
    Axes, or list of Axes if several times were asked for

    Raises
    ------
    InputError
        If a member or time does not exist, or ``ax`` and ``times`` differ in number.
    """
    array = load_trajectory(trajectory, var=var, dims=dims, dt=dt, needs_time=False)
    indices = (int(times),) if isinstance(times, int | np.integer) else tuple(times)
    if not indices:
        raise InputError("times is empty: name at least one snapshot by its index, e.g. times=(0,).")
    for name, index in (("member", member), *(("time", time) for time in indices)):
        if not -array.sizes[name] <= index < array.sizes[name]:
            raise InputError(f"{name} index {index} does not exist: there are {array.sizes[name]}, counted from 0.")
    if len(state_dims(array)) != 2:
        return _plot_series(array.isel(member=member), new_axes(_first(ax)))
    axes = _axes(ax, len(indices))
    fields = array.isel(member=member, time=list(indices))
    low, high = float(fields.min()), float(fields.max())
    image: Any = None
    for panel, index in zip(axes, range(len(indices)), strict=True):
        field = fields.isel(time=index)
        y, x = state_dims(array)
        image = panel.pcolormesh(
            field[x].values, field[y].values, field.values, cmap="cividis", vmin=low, vmax=high, shading="nearest"
        )
        panel.set(xlabel=x, ylabel=y, aspect="equal", title=f"time {float(field['time']):g}")
    bar = axes[0].figure.colorbar(image, ax=list(axes), shrink=0.85)
    bar.set_label(_quantity(array))
    return axes[0] if len(indices) == 1 else axes


def _quantity(array: xr.DataArray) -> str:
    name, unit = str(array.attrs.get("long_name", array.name or "state")), str(array.attrs.get("units", "1"))
    return name if unit == "1" else f"{name} ({unit})"


def _first(ax: Axes | Sequence[Axes] | None) -> Axes | None:
    if ax is None or not isinstance(ax, Sequence | np.ndarray):
        return ax
    return next(iter(ax))


def _axes(ax: Axes | Sequence[Axes] | None, count: int) -> list[Axes]:
    if ax is None:
        import matplotlib.pyplot as plt

        return list(plt.subplots(1, count, figsize=(3.4 * count, 3.2), layout="constrained", squeeze=False)[1][0])
    axes = list(ax) if isinstance(ax, Sequence | np.ndarray) else [ax]
    if len(axes) != count:
        raise InputError(f"{len(axes)} axes were given for {count} times: give one for each.")
    return axes


def _plot_series(series: xr.DataArray, ax: Axes) -> Axes:
    flat = series.values.reshape(series.sizes["time"], -1)
    time = series["time"].values
    names = state_dims(series)
    labels = (
        [str(label) for label in series[names[0]].values] if len(names) == 1 else [str(i) for i in range(flat.shape[1])]
    )
    for component in range(min(flat.shape[1], _MAX_SERIES)):
        ax.plot(time[:_MAX_TIMES], flat[:_MAX_TIMES, component], linewidth=0.8, label=labels[component])
    unit = time_unit(series)
    ax.set_xlabel("time" if unit == "time units" else f"time ({unit})")
    ax.set_ylabel(_quantity(series))
    if flat.shape[1] > 1:
        # Above the axes: lines that fill the panel leave no room inside.
        ax.legend(frameon=False, fontsize="small", ncols=len(ax.lines), loc="lower left", bbox_to_anchor=(0, 1))
    return ax
