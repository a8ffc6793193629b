"""The figure of the PRL: what the system looks like, four responses along the advection, and their errors.

One row for each system, or two rows for a single one: a snapshot; R(dy = 0, dx) at a few lags, with bands; rms and
maximum error over the field against lag, with bands.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from gfdt.plotting.responses import plot_responses
from gfdt.plotting.snapshots import plot_snapshots
from gfdt.plotting.style import style_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from gfdt.experiments.recipes import Recipe

__all__ = ["draw"]

# Drawn from the back to the front: the reference is broad and pale.
# "exact", where there is one, lies on "dynamical": twins of a linear system are exact.
_ORDER = ("dynamical", "analytical", "gaussian", "generative", "polished")
_CELLS = 9  # shown to either side of the peak of the response
_ROUNDING = 1e-6


def draw(results: Sequence[tuple[Recipe, Path]]) -> Figure:
    """Return the figure of one or several systems, from the files of their directories.

    Parameters
    ----------
    results : sequence of (Recipe, Path)
        With ``record.nc``, ``response-*.nc`` and ``errors.nc`` in the directory.
    """
    from matplotlib.figure import Figure

    alone = len(results) == 1
    shape = (2, 3) if alone else (len(results), 6)
    figure = Figure(figsize=(4.0 * shape[1], 3.4 * shape[0]), layout="constrained")
    rows = figure.subplots(*shape, squeeze=False).reshape(len(results), 6)
    drawn: dict[str, Any] = {}
    for row, (recipe, directory) in zip(rows, results, strict=True):
        # Alone: the errors beside the snapshot, the responses below; several: one row from the system to the errors.
        snapshot, errors, lags = (row[0], row[1:3], row[3:]) if alone else (row[0], row[4:], row[1:4])
        _draw_snapshot(recipe, directory, snapshot)
        _draw_responses(recipe, directory, lags)
        for panel, metric in zip(errors, ("rms", "max"), strict=True):
            _draw_errors(_read(directory / "errors.nc"), metric, panel)
        for panel in row:
            lines, labels = panel.get_legend_handles_labels()
            drawn |= {label: line for label, line in zip(labels, lines, strict=True) if label not in drawn}
    names = [name for name in _ORDER if name in drawn]
    figure.legend([drawn[name] for name in names], names, loc="outside upper center", ncols=len(names), frameon=False)
    return figure


def _read(path: Path) -> xr.Dataset:
    with xr.open_dataset(path) as data:
        return data.load()


def _draw_snapshot(recipe: Recipe, directory: Path, panel: Axes) -> None:
    with xr.open_dataset(directory / "record.nc") as record:
        first = str(recipe.system.layout().variable)
        plot_snapshots(record[[first]].isel(member=slice(0, 1), time=slice(0, 8)).load(), ax=panel)
    panel.set_title(recipe.title, fontsize="medium")


def _draw_responses(recipe: Recipe, directory: Path, panels: Iterable[Axes]) -> None:
    """R(dy = 0) along x, so far from the kick as there is anything to see."""
    found = {name: directory / f"response-{name}.nc" for name in _ORDER}
    responses = {name: _read(path)[["response"]] for name, path in found.items() if path.is_file()}
    for panel, lag in zip(panels, recipe.pictured, strict=True):
        plot_responses(responses, against="dx", at={"lag": lag, "dy": 0}, ax=panel)
        line = responses["dynamical"]["response"].sel(lag=lag, method="nearest").sel(dy=0)
        peak = int(line["dx"].values[np.abs(line.values).argmax()])
        panel.set_xlim(max(peak - _CELLS, int(line["dx"].min())), min(peak + _CELLS, int(line["dx"].max())))
        panel.set(xlabel="dx (cells from the kick)", ylabel="R(dy = 0)")
        panel.set_title(f"response at lag {lag:g}", fontsize="medium")
        legend = panel.get_legend()
        if legend is not None:
            legend.remove()


def _draw_errors(table: xr.Dataset, metric: str, panel: Axes) -> None:
    line = table["value"].sel(metric=metric)
    # At lag 0 most estimates are right by construction, and a logarithm has no room for that.
    table, line = table.isel(lag=slice(1, None)), line.isel(lag=slice(1, None))
    names = [str(name) for name in table["estimator"].values if "+" not in str(name)]
    exact = float(line.sel(estimator="dynamical").max()) < _ROUNDING * float(line.sel(estimator="gaussian").max())
    smallest = np.inf
    for index, name in enumerate(names):
        if name == "exact" or (exact and name == "dynamical"):
            continue  # rounding
        style = style_of(name, index)
        lag, value = table["lag"].values, line.sel(estimator=name).values
        panel.plot(lag, value, label="_" + name if name == "dynamical" else name, **style)
        low, high = (table[end].sel(metric=metric, estimator=name).values for end in ("lower", "upper"))
        panel.fill_between(lag, low, high, color=style["color"], alpha=0.2, lw=0)
        smallest = min(smallest, float(value.min()))
    panel.set_yscale("log")
    panel.set_ylim(bottom=smallest / 1.6)
    word = "rms" if metric == "rms" else "largest"
    panel.set(xlabel="lag", ylabel=f"{word} error over the field")
    panel.set_title(f"{word} error" + ("" if exact else " (grey: noise of the twins)"), fontsize="medium")
