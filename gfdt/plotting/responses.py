"""Response functions and their errors, several estimators on the same axes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from gfdt.diagnostics.compare import response_variable
from gfdt.errors import InputError
from gfdt.plotting.style import new_axes, style_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_errors", "plot_responses"]


def plot_responses(
    responses: xr.Dataset | xr.DataArray | Mapping[str, xr.Dataset | xr.DataArray],
    *,
    against: str = "lag",
    at: Mapping[str, Any] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw one line for each response, with its confidence band where it has one.

    Parameters
    ----------
    responses : Dataset, DataArray, or mapping of name to either
        What ``gfdt.response`` or ``exact_response`` returned. Names "exact", "dynamical", "analytical", "gaussian"
        and "generative" have their fixed styles.
    against : str
        The dim on the horizontal axis: "lag" (default), or a displacement such as "dx".
    at : mapping, optional
        Coordinates of the other dims, nearest taken, e.g. ``{"dy": 0, "dx": 1}``. Default: displacement zero, or
        the first component's response to its own kick; lag 0.
    ax : Axes, optional
        Where to draw. Default: a new figure.

    Returns
    -------
    Axes

    Raises
    ------
    InputError
        If ``against`` or ``at`` name dims the response does not have.
    """
    named = responses if isinstance(responses, Mapping) and not isinstance(responses, xr.Dataset) else None
    if named is None:
        label = str(getattr(responses, "attrs", {}).get("estimator", "response"))
        named = {label: responses}  # type: ignore[dict-item]
    ax = new_axes(ax)
    point: dict[str, Any] = {}
    first = None
    for index, (name, item) in enumerate(named.items()):
        value = response_variable(item, repr(name))
        first = value if first is None else first
        point = _point(value, against, at or {})
        line = value.sel(point, method="nearest")
        style = style_of(name, index)
        ax.plot(line[against].values, line.values, label=name, **style)
        if isinstance(item, xr.Dataset) and "lower" in item and "upper" in item:
            low, high = (item[end].sel(point, method="nearest") for end in ("lower", "upper"))
            ax.fill_between(line[against].values, low.values, high.values, color=style["color"], alpha=0.2, lw=0)
    if first is None:
        raise InputError('there is nothing to plot: pass responses by name, e.g. {"gaussian": R}.')
    ax.axhline(0.0, color="0.7", linewidth=0.6, zorder=0)
    units = first[against].attrs.get("units", "1")
    ax.set_xlabel(against if units == "1" else f"{against} ({units})")
    fixed = _said({dim: value for dim, value in point.items() if first.sizes[dim] > 1})
    ax.set_ylabel(f"response R({', '.join(fixed)})" if fixed else "response R")
    ax.legend(frameon=False, fontsize="small")
    return ax


def _point(value: xr.DataArray, against: str, at: Mapping[str, Any]) -> dict[str, Any]:
    unknown = [name for name in (against, *at) if name not in value.dims]
    if unknown:
        raise InputError(f"the response has no dim {unknown[0]!r}: choose among {', '.join(map(str, value.dims))}.")
    point: dict[str, Any] = {}
    for dim in map(str, value.dims):
        if dim != against:
            default = 0 if 0 in value[dim].values else value[dim].values[0]
            point[dim] = at.get(dim, default)
    return point


def _said(point: Mapping[str, Any]) -> list[str]:
    return [
        f"{dim} = {value:g}" if isinstance(value, int | float | np.number) else str(value)
        for dim, value in point.items()
    ]


def plot_errors(comparison: xr.Dataset, *, metric: str = "rms", ax: Axes | None = None) -> Axes:
    """Draw the errors of :func:`gfdt.compare` against lag, on a logarithmic axis.

    Parameters
    ----------
    comparison : Dataset
        What ``gfdt.compare`` returned.
    metric : "rms" or "max"
    ax : Axes, optional
        Where to draw. Default: a new figure.
    """
    if metric not in ("rms", "max"):
        raise InputError(f"metric={metric!r} is not known: choose 'rms' or 'max'.")
    ax = new_axes(ax)
    for index, name in enumerate(comparison["estimator"].values):
        error = comparison[metric].sel(estimator=name)
        # An error of rounding size (R(0) = 1 by construction) would stretch the axis over ten decades.
        shown = error.where(error > 1e-10)
        ax.semilogy(error["lag"].values, shown.values, label=str(name), **style_of(str(name), index))
    units = comparison["lag"].attrs.get("units", "1")
    ax.set_xlabel("lag" if units == "1" else f"lag ({units})")
    ax.set_ylabel(f"{metric} error of the response")
    ax.legend(frameon=False, fontsize="small")
    return ax
