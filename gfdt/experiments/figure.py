"""The figure of the PRL: what the system looks like, four responses along the advection, and their errors.

One row for each system, or two rows for a single one: a snapshot; R(dy = 0, dx) at a few lags, with bands; rms and
maximum error over the field against lag, with bands.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from gfdt.plotting.responses import plot_responses
from gfdt.plotting.snapshots import plot_snapshots
from gfdt.plotting.style import legend_with_room, style_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from gfdt.experiments.recipes import Recipe

__all__ = ["draw"]

# Drawn from the back to the front: the reference is broad and pale.
_ORDER = ("dynamical", "exact", "analytical", "gaussian", "generative", "polished")
_MOST_PICTURED = 3


def draw(results: Sequence[tuple[Recipe, Path]]) -> Figure:
    """Return the figure of one or several systems, from the files of their directories.

    Parameters
    ----------
    results : sequence of (Recipe, Path)
        With ``record.nc``, ``response-*.nc`` and ``errors.nc`` in the directory.
    """
    from matplotlib.figure import Figure

    if len(results) == 1:
        figure = Figure(figsize=(12.0, 7.0), layout="constrained")
        above, below = figure.subplots(2, _MOST_PICTURED)
        _draw_system(*results[0], snapshot=above[0], lags=below, errors=(above[1], above[2]))
        figure.suptitle(results[0][0].title)
        return figure
    figure = Figure(figsize=(20.0, 3.5 * len(results)), layout="constrained")
    rows = figure.subplots(len(results), _MOST_PICTURED + 3, squeeze=False)
    for row, (recipe, directory) in zip(rows, results, strict=True):
        _draw_system(recipe, directory, snapshot=row[0], lags=row[1:-2], errors=row[-2:])
        row[0].set_title(recipe.title)
    return figure


def _draw_system(recipe: Recipe, directory: Path, *, snapshot: Axes, lags: Any, errors: Any) -> None:
    with xr.open_dataset(directory / "record.nc") as record:
        first = str(recipe.system.layout().variable)
        plot_snapshots(record[[first]].isel(member=slice(0, 1), time=slice(0, 8)).load(), ax=snapshot)
    snapshot.set_title("one snapshot")
    responses = {}
    # What is exact needs no twins in the picture, but they are what errors are taken against.
    for name in _ORDER:
        path = directory / f"response-{name}.nc"
        if path.is_file():
            with xr.open_dataset(path) as data:
                responses[name] = data[[v for v in ("response", "lower", "upper") if v in data]].load()
    for panel, lag in zip(lags, recipe.pictured[:_MOST_PICTURED], strict=False):
        plot_responses(responses, against="dx", at={"lag": lag, "dy": 0}, ax=panel)
        _zoom_along_x(panel, responses["dynamical"], lag)
        panel.set(title=f"response at lag {lag:g}", xlabel="dx (cells from the kick)", ylabel="R(dy = 0)")
        if panel is lags[0]:
            legend_with_room(panel)
        else:
            panel.get_legend().remove()
    with xr.open_dataset(directory / "errors.nc") as data:
        table = data.load()
    for panel, metric in zip(errors, ("rms", "max"), strict=True):
        _draw_errors(table, metric, panel)


def _zoom_along_x(panel: Axes, dynamical: xr.Dataset, lag: float) -> None:
    """Leave a tenth of room around the curve of the twins, so that noise elsewhere does not set the scale."""
    line = dynamical["response"].sel(lag=lag, method="nearest").sel(dy=0)
    low, high = float(line.min()), float(line.max())
    room = 0.25 * (high - low)
    bottom, top = panel.get_ylim()
    panel.set_ylim(max(bottom, low - 2 * room), min(top, high + 2 * room))


def _draw_errors(table: xr.Dataset, metric: str, panel: Axes) -> None:
    smallest = np.inf
    for index, name in enumerate(map(str, table["estimator"].values)):
        if "+" in name:
            continue
        line = table.sel(estimator=name, metric=metric)
        # At lag 0 most estimates are right by construction, and a logarithm has no room for that.
        line = line.isel(lag=slice(1, None))
        style = style_of(name, index)
        label = "twins' own noise" if name == "dynamical" else name
        panel.plot(line["lag"].values, line["value"].values, label=label, **style)
        panel.fill_between(
            line["lag"].values, line["lower"].values, line["upper"].values, color=style["color"], alpha=0.2, lw=0
        )
        smallest = min(smallest, float(line["value"].min()))
    panel.set_yscale("log")
    panel.set_ylim(bottom=smallest / 1.6)
    word = "rms" if metric == "rms" else "largest"
    panel.set(xlabel="lag", ylabel=f"{word} error over the field", title=f"{word} error against the twins")
