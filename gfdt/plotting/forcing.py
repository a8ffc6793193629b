"""Predicted changes in time, susceptibilities in frequency."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from gfdt.errors import InputError
from gfdt.plotting.style import new_axes, style_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_prediction", "plot_susceptibility"]

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe-Ito
_DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (6, 2, 1.5, 2)), (0, (1, 1.2)), (0, (3, 1)), (0, (8, 2)))
_MAX_LINES = 6  # lines that can be told apart in one panel


def plot_prediction(
    prediction: xr.Dataset,
    truth: xr.Dataset | xr.DataArray | None = None,
    *,
    at: Mapping[str, Any] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw a predicted change with its band, and what really happened if that is known.

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
    style = style_of("exact", 0)
    if truth is not None:
        dataset = truth if isinstance(truth, xr.Dataset) else truth.to_dataset(name="prediction")
        name = "prediction" if "prediction" in dataset else "response"
        if name not in dataset or "time" not in dataset[name].dims:
            raise InputError(
                f"the truth has no change over 'time' (found {list(map(str, dataset.data_vars))}): pass one."
            )
        for index, (_, item) in enumerate(_lines(dataset, name, "time", at)):
            label = "truth" if index == 0 else "_truth"
            ax.plot(item["time"].values, item[name].values, **style | {"label": label, "zorder": 1})
            _band(ax, item, "time", str(style["color"]))
    for index, (label, item) in enumerate(lines):
        colour = _COLOURS[index]
        text = f"predicted, {label}" if label else "predicted"
        ax.plot(
            item["time"].values,
            item["prediction"].values,
            color=colour,
            linestyle=_DASHES[index],
            linewidth=1.6,
            label=text,
        )
        _band(ax, item, "time", colour)
    ax.axhline(0.0, color="0.7", linewidth=0.6, zorder=0)
    ax.set_xlabel(_with_unit("time", prediction["time"]))
    ax.set_ylabel(_with_unit("change of the mean", prediction["prediction"]))
    outside = prediction.attrs.get("linear_range") == "outside"
    if outside:
        ax.set_title("beyond the linear range", fontsize="medium", color="#D55E00")
    ax.legend(frameon=False, fontsize="small")
    return ax


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
        labels = [f"{dim} {chosen[dim].values[k] if dim in chosen.coords else k}" for dim, k in point.items()]
        out.append((", ".join(labels), chosen.isel(point)))
    return out


def _band(ax: Axes, item: xr.Dataset, against: str, colour: str, prefix: str = "") -> None:
    low, high = f"{prefix}lower", f"{prefix}upper"
    if low in item and high in item and item[low].dims == (against,):
        ax.fill_between(item[against].values, item[low].values, item[high].values, color=colour, alpha=0.2, lw=0)


def _with_unit(name: str, array: xr.DataArray) -> str:
    unit = str(array.attrs.get("units", "1"))
    if unit in ("1", "time units"):
        return name
    return f"{name} ({unit})"
