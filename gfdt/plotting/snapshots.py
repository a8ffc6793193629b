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
    var: str | Sequence[str] | None = None,
    dims: Sequence[str] | None = None,
    dt: float | None = None,
) -> Any:
    """Draw snapshots of a 2-D field as images on one colour scale, or the time series of other states.

    A field of several variables, ``(variable, y, x)``, has one row of images for each, with its own colour scale.
    Samples may be missing: lines are broken there, images empty.

    Parameters
    ----------
    trajectory, var, dims, dt
        As in :func:`gfdt.load_trajectory`; several names in ``var`` make one state of several variables.
    member : int
        Which member. Default the first.
    times : int or sequence of int
        Indices of the snapshots, one axes each. Default the first.
    ax : Axes or sequence of Axes, optional
        As many as ``times``, for several variables row by row that many for each. Default: a new figure.

    Returns
    -------
    Axes, or list of Axes if there are several

    Raises
    ------
    InputError
        If a member or time does not exist or nothing is there, or ``ax`` has another number of axes than is drawn.
    """
    array = load_trajectory(trajectory, var=var, dims=dims, dt=dt, needs_time=False, gaps=True)
    indices = (int(times),) if isinstance(times, int | np.integer) else tuple(times)
    if not indices:
        raise InputError("times is empty: name at least one snapshot by its index, e.g. times=(0,).")
    for name, index in (("member", member), *(("time", time) for time in indices)):
        if not isinstance(index, int | np.integer) or not -array.sizes[name] <= index < array.sizes[name]:
            raise InputError(f"{name} index {index} does not exist: there are {array.sizes[name]}, counted from 0.")
    rows, columns = panel_grid(array, len(indices))
    chosen = array.isel(member=member)
    if not is_field(array):
        return _plot_series(chosen, new_axes(_first(ax)))
    axes = _axes(ax, rows, columns)
    fields = chosen.isel(time=list(indices))
    for row in range(rows):
        item = fields.isel(variable=row) if "variable" in fields.dims else fields
        _plot_row(item, axes[row * columns : (row + 1) * columns], time_unit(array))
    return axes[0] if len(axes) == 1 else axes


def is_field(array: xr.DataArray) -> bool:
    """Whether a trajectory is drawn as images: two dims of space, and perhaps variables."""
    return len([dim for dim in state_dims(array) if dim != "variable"]) == 2


def panel_grid(array: xr.DataArray, n_times: int) -> tuple[int, int]:
    """Rows and columns of panels that a trajectory needs."""
    return (array.sizes.get("variable", 1), n_times) if is_field(array) else (1, 1)


def _plot_row(fields: xr.DataArray, axes: list[Axes], unit: str) -> None:
    """Images of one variable, (time, y, x), on one colour scale."""
    name = "" if "variable" not in fields.coords else f"{fields['variable'].item()} "
    if not np.isfinite(fields.values).any():
        times = ", ".join(f"{time:g}" for time in fields["time"].values)
        raise InputError(
            f"there are no samples at time {times}: all are missing; choose other times or another member."
        )
    low, high = float(fields.min()), float(fields.max())
    y, x = (str(dim) for dim in fields.dims if dim != "time")
    image: Any = None
    for panel, field in zip(axes, fields, strict=True):
        image = panel.pcolormesh(
            field[x].values, field[y].values, field.values, cmap="cividis", vmin=low, vmax=high, shading="nearest"
        )
        stamp = f"{float(field['time']):g}" + ("" if unit == "time units" else f" {unit}")
        panel.set(xlabel=x, ylabel=y, aspect="equal")
        # In the words of a wide panel it would run into its neighbour's.
        panel.set_title(f"time {stamp}" if len(stamp) <= 14 else stamp, fontsize="medium")
    bar = axes[0].figure.colorbar(image, ax=list(axes), shrink=0.85)
    bar.set_label(name.strip() or _quantity(fields))


def _quantity(array: xr.DataArray) -> str:
    name, unit = str(array.attrs.get("long_name", array.name or "state")), str(array.attrs.get("units", "1"))
    return name if unit == "1" else f"{name} ({unit})"


def _first(ax: Axes | Sequence[Axes] | None) -> Axes | None:
    if ax is None or not isinstance(ax, Sequence | np.ndarray):
        return ax
    return next(iter(ax))


def _axes(ax: Axes | Sequence[Axes] | None, rows: int, columns: int) -> list[Axes]:
    """The panels, row by row."""
    if ax is None:
        import matplotlib.pyplot as plt

        size = (3.4 * columns, 3.2 * rows)
        return list(plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False)[1].ravel())
    axes = list(np.ravel(np.asarray(ax, dtype=object)))
    if len(axes) != rows * columns:
        several = f" of {rows} variables" if rows > 1 else ""
        raise InputError(f"{len(axes)} axes were given for {columns} times{several}: give one for each.")
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
