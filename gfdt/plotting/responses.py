"""Response functions and their errors, several estimators on the same axes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from gfdt.diagnostics.compare import response_variable
from gfdt.errors import InputError
from gfdt.plotting.style import new_axes, style_of
from gfdt.validation import is_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

__all__ = ["plot_errors", "plot_responses"]


def plot_responses(
    responses: xr.Dataset | xr.DataArray | Mapping[str, xr.Dataset | xr.DataArray],
    *,
    against: str | None = None,
    at: Mapping[str, Any] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw one line for each response, with its confidence band where it has one.

    Parameters
    ----------
    responses : Dataset, DataArray, or mapping of name to either
        What ``gfdt.response`` or ``exact_response`` returned. Names "exact", "dynamical", "analytical", "gaussian"
        and "generative" have their fixed styles.
    against : str, optional
        The dim on the horizontal axis: "lag", a displacement such as "dx", or the "value" of a density. Default:
        "value" where the response has that dim, at the lag (not 0) where it is largest; otherwise "lag".
    at : mapping, optional
        Coordinates of the other dims, nearest taken, e.g. ``{"dy": 0, "dx": 1}``. Default: displacement zero, or
        the first component's response to its own kick; lag 0 (but see ``against``).
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
    at = dict(at or {})
    first = None
    for index, (name, item) in enumerate(named.items()):
        value = response_variable(item, repr(name))
        if first is not None and set(value.dims) != set(first.dims):
            raise InputError(
                f"{name!r} has dims {tuple(map(str, value.dims))}, the first response "
                f"{tuple(map(str, first.dims))}: draw responses of one kind and state in one picture."
            )
        if first is None:
            first = value
            against = against or ("value" if "value" in value.dims and "value" not in at else "lag")
            if against == "value" and "lag" in value.dims and "lag" not in at:
                at["lag"] = _lag_of_largest(value, at)
        axis = str(against)
        point = _point(value, axis, at)
        line = _select(value, point)
        style = style_of(name, index)
        ax.plot(line[axis].values, line.values, label=name, **style)
        if isinstance(item, xr.Dataset) and "lower" in item and "upper" in item:
            low, high = (_select(item[end], point) for end in ("lower", "upper"))
            ax.fill_between(line[axis].values, low.values, high.values, color=style["color"], alpha=0.2, lw=0)
    if first is None:
        raise InputError('there is nothing to plot: pass responses by name, e.g. {"gaussian": R}.')
    ax.axhline(0.0, color="0.7", linewidth=0.6, zorder=0)
    ax.set_xlabel(_with_unit(axis, first[axis]))
    fixed = ", ".join(_said({dim: value for dim, value in point.items() if first.sizes[dim] > 1}))
    # A long list of coordinates would not fit beside the axis.
    what = "step response S" if all(_kind(item) == "step" for item in named.values()) else "response R"
    ax.set_ylabel(f"{what}({fixed})" if 0 < len(fixed) <= 20 else what)
    if len(fixed) > 20:
        ax.set_title(fixed, fontsize="medium")
    ax.legend(frameon=False, fontsize="small")
    return ax


def _lag_of_largest(value: xr.DataArray, at: Mapping[str, Any]) -> float:
    """The lag after 0 at which the response at that point is largest."""
    later = value.isel(lag=slice(1, None)) if value.sizes["lag"] > 1 else value
    line = _select(later, {dim: x for dim, x in _point(later, "value", at).items() if dim != "lag"})
    return float(abs(line).max(dim="value").idxmax("lag"))


def _kind(item: xr.Dataset | xr.DataArray) -> str:
    return str(item.attrs.get("kind", ""))


def _point(value: xr.DataArray, against: str, at: Mapping[str, Any]) -> dict[str, Any]:
    unknown = [name for name in (against, *at) if name not in value.dims]
    if unknown:
        raise InputError(f"the response has no dim {unknown[0]!r}: choose among {', '.join(map(str, value.dims))}.")
    point: dict[str, Any] = {}
    for dim in map(str, value.dims):
        if dim != against:
            labels = value[dim].values
            default = 0 if np.issubdtype(labels.dtype, np.number) and 0 in labels else labels[0]
            point[dim] = at.get(dim, default)
            _check_label(dim, labels, point[dim])
    return point


def _check_label(dim: str, labels: NDArray[Any], wanted: Any) -> None:
    numeric = np.issubdtype(labels.dtype, np.number)
    number = is_number(wanted)
    if numeric and number and labels.min() <= wanted <= labels.max():
        return
    if not numeric and wanted in labels.tolist():
        return
    shown_labels = f"{labels.min()} to {labels.max()}" if numeric else ", ".join(map(str, labels[:20]))
    raise InputError(f"{dim} = {wanted!r} is not in the response: choose among {shown_labels}.")


def _select(value: xr.DataArray, point: Mapping[str, Any]) -> xr.DataArray:
    """The line at a point: nearest where labels are numbers, exact where they are names."""
    numbers = {dim: at for dim, at in point.items() if np.issubdtype(value[dim].dtype, np.number)}
    names = {dim: at for dim, at in point.items() if dim not in numbers}
    return value.sel(names).sel(numbers, method="nearest")


def _with_unit(name: str, coordinate: xr.DataArray) -> str:
    unit = str(coordinate.attrs.get("units", "1"))
    return name if unit in ("1", "time units") else f"{name} ({unit})"


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
    if not isinstance(comparison, xr.Dataset) or "estimator" not in comparison.dims:
        raise InputError("plot_errors draws what gfdt.compare returned: pass gfdt.compare(reference, {...}).")
    if metric not in ("rms", "max"):
        raise InputError(f"metric={metric!r} is not known: choose 'rms' or 'max'.")
    ax = new_axes(ax)
    for index, name in enumerate(comparison["estimator"].values):
        error = comparison[metric].sel(estimator=name)
        # An error of rounding size (R(0) = 1 by construction) would stretch the axis over ten decades.
        shown = error.where(error > 1e-10)
        if not bool(shown.notnull().any()):
            continue
        ax.semilogy(error["lag"].values, shown.values, label=str(name), **style_of(str(name), index))
    ax.set_xlabel(_with_unit("lag", comparison["lag"]))
    ax.set_ylabel(f"{metric} error of the response")
    ax.legend(frameon=False, fontsize="small")
    return ax
