"""What the data look like: snapshots of fields, time series of vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gfdt.errors import InputError
from gfdt.plotting.style import new_axes
from gfdt.trajectory import Source, load_trajectory, state_dims

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
    times: Sequence[int] = (0,),
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
    times : sequence of int
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
    for name, index in (("member", member), *(("time", time) for time in times)):
        if not -array.sizes[name] <= index < array.sizes[name]:
            raise InputError(f"{name} index {index} does not exist: there are {array.sizes[name]}, counted from 0.")
    if len(state_dims(array)) != 2:
        return _plot_series(array.isel(member=member), new_axes(_first(ax)))
    axes = _axes(ax, len(times))
    fields = array.isel(member=member, time=list(times))
    low, high = float(fields.min()), float(fields.max())
    image: Any = None
    for panel, index in zip(axes, range(len(times)), strict=True):
        field = fields.isel(time=index)
        y, x = state_dims(array)
        image = panel.pcolormesh(
            field[x].values, field[y].values, field.values, cmap="cividis", vmin=low, vmax=high, shading="nearest"
        )
        panel.set(xlabel=x, ylabel=y, aspect="equal", title=f"time {float(field['time']):g}")
    bar = axes[0].figure.colorbar(image, ax=list(axes), shrink=0.85)
    bar.set_label(str(array.attrs.get("long_name", array.name or "field")))
    return axes[0] if len(times) == 1 else axes


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
    for component in range(min(flat.shape[1], _MAX_SERIES)):
        ax.plot(time[:_MAX_TIMES], flat[:_MAX_TIMES, component], linewidth=0.8, label=f"component {component}")
    units = series["time"].attrs.get("units", "1")
    ax.set_xlabel("time" if units == "1" else f"time ({units})")
    ax.set_ylabel(str(series.attrs.get("long_name", series.name or "state")))
    if flat.shape[1] > 1:
        ax.legend(frameon=False, fontsize="small")
    return ax
