"""``gfdt plot``: pictures of trajectories, responses, predictions and susceptibilities."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gfdt.cli.inputs import read_point
from gfdt.cli.options import Config, Out, Overwrite, Var, variable_names
from gfdt.errors import InputError

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes

FORMATS = (".png", ".pdf", ".svg")
MAX_PANELS = 8


def plot(
    files: Annotated[
        list[str],
        typer.Argument(
            help="One trajectory; responses as PATH or NAME=PATH; one susceptibility; or one prediction, after it the "
            "change that a perturbed simulation shows."
        ),
    ],
    out: Out = None,
    against: Annotated[
        str | None,
        typer.Option("--against", help="Dim on the horizontal axis: lag, dx, ... Default: value, if there is, or lag."),
    ] = None,
    at: Annotated[str | None, typer.Option("--at", help="Where in the other dims, e.g. dy=0,dx=1.")] = None,
    times: Annotated[str, typer.Option("--times", help="Indices of the snapshots of a trajectory.")] = "0",
    var: Var = None,
    overwrite: Overwrite = False,
    config: Config = None,
) -> None:
    """Draw responses, a prediction, a susceptibility or snapshots of a trajectory to a PNG, PDF or SVG file."""
    del config  # read by its callback
    from matplotlib.figure import Figure

    from gfdt.cli.compare import read_named
    from gfdt.output import atomic_path, check_output
    from gfdt.plotting.responses import plot_responses
    from gfdt.plotting.snapshots import panel_grid, plot_snapshots
    from gfdt.reading import open_dataset
    from gfdt.trajectory import load_trajectory

    first = files[0].partition("=")[2] or files[0]
    inputs = [item.partition("=")[2] or item for item in files]
    target = check_output(out or Path(first).with_suffix(".png"), overwrite=overwrite, inputs=inputs)
    if target.suffix.lower() not in FORMATS:
        raise InputError(f"--out {target} has no known picture format: end it with {', '.join(FORMATS)}.")
    with open_dataset(first) as dataset:
        kind = kind_of(dataset)
    figure = Figure(figsize=(5.0, 3.4), layout="constrained")
    if kind == "response":
        plot_responses(read_named(files), against=against, at=read_point(at), ax=figure.subplots())
    elif kind != "trajectory":
        if against not in (None, "lag"):
            raise InputError(f"{first} is a {kind}, it has one horizontal axis: leave --against out.")
        _draw(kind, inputs, at, figure.subplots())
    elif len(files) > 1:
        raise InputError(f"{first} is a trajectory: draw one trajectory at a time, or give response files only.")
    else:
        indices = _indices(times)
        trajectory = load_trajectory(first, var=variable_names(var), needs_time=False, gaps=True)
        rows, columns = panel_grid(trajectory, len(indices))
        figure.set_size_inches(3.4 * columns + 0.6, 3.2 * rows)
        plot_snapshots(trajectory, times=indices, ax=list(figure.subplots(rows, columns, squeeze=False).flat))
    with atomic_path(target, overwrite=overwrite) as temporary:
        figure.savefig(temporary, dpi=160, format=target.suffix[1:].lower())
    typer.echo(target)


def kind_of(dataset: xr.Dataset) -> str:
    """What a file holds, by its variables."""
    if {"real", "imag"} <= set(dataset.data_vars) and "frequency" in dataset.dims:
        return "susceptibility"
    return next((name for name in ("prediction", "response") if name in dataset), "trajectory")


def _draw(kind: str, files: list[str], at: str | None, ax: Axes) -> None:
    """Draw a susceptibility, or a prediction with what really happened."""
    from gfdt.plotting.forcing import plot_prediction, plot_susceptibility
    from gfdt.reading import open_dataset

    most = 2 if kind == "prediction" else 1
    if len(files) > most:
        raise InputError(
            f"{files[0]} is a {kind}: draw one at a time"
            + (", with at most one file of what really happened." if most == 2 else ".")
        )
    datasets = []
    for file in files:
        with open_dataset(file) as dataset:
            datasets.append(dataset.load())
    point = read_point(at)
    if kind == "susceptibility":
        plot_susceptibility(datasets[0], at=point, ax=ax)
    else:
        plot_prediction(*datasets, at=point, ax=ax)


def _indices(text: str) -> list[int]:
    try:
        indices = [int(part) for part in text.split(",")]
        if len(indices) > MAX_PANELS:
            raise InputError(f"--times asks for {len(indices)} panels: {MAX_PANELS} is the most one figure can show.")
        return indices
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"--times {text} is not a list of whole numbers: write e.g. 0,100,200.") from error
