"""Predicted changes in time, susceptibilities in frequency."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from gfdt.errors import InputError
from gfdt.plotting.style import legend_with_room, new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_prediction", "plot_susceptibility"]

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe-Ito
_DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (6, 2, 1.5, 2)), (0, (1, 1.2)), (0, (3, 1)), (0, (8, 2)))
_MAX_LINES = 6  # lines that can be told apart in one panel
_COMPARABLE = 30.0  # ratio of natural standard deviations up to which lines are seen on one axis in their own units
_MARKS = 24  # of a true line


def plot_prediction(
    prediction: xr.Dataset,
    truth: xr.Dataset | xr.DataArray | None = None,
    *,
    at: Mapping[str, Any] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw a predicted change with its band, and, dotted in the same colour, what really happened if that is known.

    Where the natural standard deviations of the observables that are drawn differ by more than a factor of 30, each
    change is drawn in units of its own (``observable_std`` of the prediction), which the label says.

    Parameters
    ----------
    prediction : Dataset
        What ``gfdt.predict`` returned.
    truth : Dataset with ``response`` or ``prediction``, or DataArray over ``time``, optional
        The change in a perturbed simulation (with its band, if it has one), or an exact one.
    at : mapping, optional
        Labels of observed dims or sites to draw, nearest for numbers, e.g. ``{"component": 0}``. Default: everything,
        up to six lines.
    ax : Axes, optional
        Where to draw. Default: a new figure.

    Returns
    -------
    Axes

    Raises
    ------
    InputError
        If it is not a prediction, the truth has other dims, or there are too many lines.
    """
    if not isinstance(prediction, xr.Dataset) or "prediction" not in prediction:
        raise InputError("plot_prediction draws what gfdt.predict returned: pass gfdt.predict(R, forcing).")
    ax = new_axes(ax)
    lines = _lines(prediction, "prediction", "time", at)
    scales = _scales(lines)
    if truth is not None:
        dataset = truth if isinstance(truth, xr.Dataset) else truth.to_dataset(name="prediction")
        name = "prediction" if "prediction" in dataset else "response"
        if name not in dataset or "time" not in dataset[name].dims:
            raise InputError(
                f"the truth has no change over 'time' (found {list(map(str, dataset.data_vars))}): pass one."
            )
        order = [dim for dim in prediction["prediction"].dims if dim in dataset[name].dims]
        _draw_truth(ax, _lines(dataset.transpose(*order, ...), name, "time", at), name, lines, scales)
    for index, (label, item) in enumerate(lines):
        colour, scale = _COLOURS[index], scales[index]
        text = f"predicted, {label}" if label else "predicted"
        ax.plot(
            item["time"].values,
            item["prediction"].values / scale,
            color=colour,
            linestyle=_DASHES[index],
            linewidth=1.6,
            label=text,
        )
        _band(ax, item, "time", colour, scale=scale)
    ax.axhline(0.0, color="0.7", linewidth=0.6, zorder=0)
    ax.set_xlabel(_with_unit("time", prediction["time"]))
    standard = any(scale != 1 for scale in scales)
    ax.set_ylabel(
        "change in natural standard deviations"
        if standard
        else _with_unit("change of the mean", prediction["prediction"])
    )
    outside = prediction.attrs.get("linear_range") == "outside"
    if outside:
        ax.set_title("beyond the linear range", fontsize="medium", color="#D55E00")
    legend_with_room(ax)
    return ax


def _scales(lines: list[tuple[str, xr.Dataset]]) -> list[float]:
    """What each line is divided by: its natural standard deviation where these are far apart, otherwise 1."""
    plain = [1.0] * len(lines)
    if any("observable_std" not in item or item["observable_std"].ndim for _, item in lines):
        return plain
    spreads = [float(item["observable_std"]) for _, item in lines]
    if not all(np.isfinite(spread) and spread > 0 for spread in spreads) or max(spreads) <= _COMPARABLE * min(spreads):
        return plain
    return spreads


def _draw_truth(
    ax: Axes,
    truths: list[tuple[str, xr.Dataset]],
    name: str,
    lines: list[tuple[str, xr.Dataset]],
    scales: list[float],
) -> None:
    """Dots on a thin line, in the colour (and the scale) of the predicted line with the same label."""
    labels = [label for label, _ in lines]
    for position, (label, item) in enumerate(truths):
        index = labels.index(label) if label in labels else position
        colour, scale = (_COLOURS[index], scales[index]) if index < len(lines) else ("0.55", 1.0)
        ax.plot(
            item["time"].values,
            item[name].values / scale,
            color=colour,
            linewidth=0.8,
            marker="o",
            markersize=3.5,
            markevery=max(item.sizes["time"] // _MARKS, 1),
            label="truth" if len(truths) == 1 else "_truth",
            zorder=1.5,
        )
        _band(ax, item, "time", colour, scale=scale)
    if len(truths) > 1:
        # One entry for all, in no component's colour.
        ax.plot([], [], color="0.2", linewidth=0.8, marker="o", markersize=3.5, label="truth")


def plot_susceptibility(
    chi: xr.Dataset,
    *,
    parts: tuple[str, ...] = ("real", "imag"),
    at: Mapping[str, Any] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw real and imaginary part of a susceptibility against frequency, with their bands.

    Parameters
    ----------
    chi : Dataset
        What ``gfdt.susceptibility`` or ``gfdt.green_function`` returned.
    parts : tuple of "real", "imag", "amplitude", "phase"
        What to draw. Default the first two. The phase is in radians: give it its own axes.
    at : mapping, optional
        Labels of the other dims, nearest for numbers, e.g. ``{"component": 0, "component_src": 1}`` or
        ``{"ky": 0, "kx": 2}``. Default: zero, where that is a label, or the first.
    ax : Axes, optional
        Where to draw. Default: a new figure.

    Returns
    -------
    Axes

    Raises
    ------
    InputError
        If it is not a spectrum or a part is not known.
    """
    known = ("real", "imag", "amplitude", "phase")
    if not isinstance(chi, xr.Dataset) or not {"real", "imag"} <= set(chi.data_vars) or "frequency" not in chi.dims:
        raise InputError("plot_susceptibility draws what gfdt.susceptibility returned: pass gfdt.susceptibility(R).")
    unknown = [part for part in parts if part not in known]
    if unknown or not parts:
        raise InputError(f"parts={parts!r} are not known: choose among {', '.join(known)}.")
    ax = new_axes(ax)
    point = dict(at or {})
    for dim in map(str, chi["real"].dims):
        if dim != "frequency" and dim not in point:
            labels = chi[dim].values
            point[dim] = 0 if np.issubdtype(labels.dtype, np.number) and 0 in labels else labels[0]
    ((_, item),) = _lines(chi, "real", "frequency", point)
    names = {"real": "Re χ", "imag": "Im χ", "amplitude": "|χ|", "phase": "arg χ"}
    dashes: dict[str, Any] = {
        "real": "-",
        "imag": (0, (5, 2)),
        "amplitude": (0, (6, 2, 1.5, 2)),
        "phase": (0, (1, 1.2)),
    }
    for part in parts:
        colour = _COLOURS[known.index(part)]
        ax.plot(
            item["frequency"].values,
            item[part].values,
            color=colour,
            linestyle=dashes[part],
            linewidth=1.6,
            label=names[part],
        )
        _band(ax, item, "frequency", colour, prefix=f"{part}_")
    ax.axhline(0.0, color="0.7", linewidth=0.6, zorder=0)
    ax.set_xlabel(_with_unit("angular frequency ω", chi["frequency"]))
    several = [f"{dim} = {label}" for dim, label in point.items() if chi.sizes[dim] > 1]
    ax.set_ylabel("arg χ (rad)" if parts == ("phase",) else "susceptibility χ(ω)")
    if several:
        ax.set_title(", ".join(several), fontsize="medium")
    ax.legend(frameon=False, fontsize="small")
    return ax


def _lines(dataset: xr.Dataset, name: str, against: str, at: Mapping[str, Any] | None) -> list[tuple[str, xr.Dataset]]:
    """The lines to draw: everything selected by ``at``, one for each entry of the dims that are left."""
    keep = [key for key in dataset.data_vars if "influence" not in str(key)]
    chosen = dataset[keep]
    dims = dataset[name].dims
    for dim, label in (at or {}).items():
        if dim not in dims:
            raise InputError(
                f"there is no dim {dim!r}: choose among {', '.join(str(d) for d in dims if d != against)}."
            )
        numeric = dim in chosen.coords and np.issubdtype(chosen[dim].dtype, np.number)
        try:
            if dim not in chosen.coords:
                chosen = chosen.isel({dim: label})
            else:
                chosen = chosen.sel({dim: label}, method="nearest" if numeric else None)
        except (KeyError, IndexError, TypeError) as error:
            raise InputError(f"{dim} = {label!r} is not there: choose a label of that dim.") from error
    rest = [str(dim) for dim in chosen[name].dims if dim != against]
    if not rest:
        return [("", chosen)]
    sizes = [chosen.sizes[dim] for dim in rest]
    count = int(np.prod(sizes))
    if count > _MAX_LINES:
        raise InputError(
            f"there are {count} lines over {', '.join(rest)}, at most {_MAX_LINES} can be told apart: choose with "
            f"at=, e.g. at={{{rest[0]!r}: 0}}."
        )
    out = []
    for index in np.ndindex(*sizes):
        point = dict(zip(rest, index, strict=True))
        labels = [_entry(chosen, dim, k) for dim, k in point.items()]
        out.append((", ".join(labels), chosen.isel(point)))
    return out


def _entry(dataset: xr.Dataset, dim: str, index: int) -> str:
    """The words for an entry of a dim: a name alone, a number with its dim."""
    label = dataset[dim].values[index] if dim in dataset.coords else index
    return str(label) if isinstance(label, str) else f"{dim} {label}"


def _band(ax: Axes, item: xr.Dataset, against: str, colour: str, prefix: str = "", scale: float = 1.0) -> None:
    low, high = f"{prefix}lower", f"{prefix}upper"
    if low in item and high in item and item[low].dims == (against,):
        ends = (item[low].values / scale, item[high].values / scale)
        ax.fill_between(item[against].values, *ends, color=colour, alpha=0.2, lw=0)


def _with_unit(name: str, array: xr.DataArray) -> str:
    unit = str(array.attrs.get("units", "1"))
    if unit in ("1", "time units"):
        return name
    return f"{name} ({unit})"
