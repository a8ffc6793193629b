"""``gfdt plot``: pictures of trajectories and responses."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from gfdt.cli.options import Config, Out, Overwrite, Var
from gfdt.errors import InputError

FORMATS = (".png", ".pdf", ".svg")
MAX_PANELS = 8


def plot(
    files: Annotated[list[str], typer.Argument(help="One trajectory, or responses as PATH or NAME=PATH.")],
    out: Out = None,
    against: Annotated[str, typer.Option("--against", help="Dim on the horizontal axis: lag, dx, ...")] = "lag",
    at: Annotated[str | None, typer.Option("--at", help="Where in the other dims, e.g. dy=0,dx=1.")] = None,
    times: Annotated[str, typer.Option("--times", help="Indices of the snapshots of a trajectory.")] = "0",
    var: Var = None,
    overwrite: Overwrite = False,
    config: Config = None,
) -> None:
    """Draw responses on the same axes, or snapshots of a trajectory, to a PNG, PDF or SVG file."""
    del config  # read by its callback
    import xarray as xr
    from matplotlib.figure import Figure

    from gfdt.cli.compare import read_named
    from gfdt.output import atomic_path, check_output
    from gfdt.plotting.responses import plot_responses
    from gfdt.plotting.snapshots import plot_snapshots
    from gfdt.reading import open_dataset

    first = files[0].partition("=")[2] or files[0]
    inputs = [item.partition("=")[2] or item for item in files]
    target = check_output(out or Path(first).with_suffix(".png"), overwrite=overwrite, inputs=inputs)
    if target.suffix.lower() not in FORMATS:
        raise InputError(f"--out {target} has no known picture format: end it with {', '.join(FORMATS)}.")
    with open_dataset(first) as dataset:
        is_response = "response" in dataset
    figure = Figure(figsize=(5.0, 3.4), layout="constrained")
    if is_response:
        named: dict[str, xr.Dataset] = read_named(files)
        plot_responses(named, against=against, at=_point(at), ax=figure.subplots())
    elif len(files) > 1:
        raise InputError(f"{first} is a trajectory: draw one trajectory at a time, or give response files only.")
    else:
        indices = _indices(times)
        figure.set_size_inches(3.4 * len(indices) + 0.6, 3.2)
        axes = list(figure.subplots(1, len(indices), squeeze=False)[0])
        plot_snapshots(first, times=indices, ax=axes, var=var)
    with atomic_path(target, overwrite=overwrite) as temporary:
        figure.savefig(temporary, dpi=160, format=target.suffix[1:].lower())
    typer.echo(target)


def _point(text: str | None) -> dict[str, Any]:
    if text is None:
        return {}
    try:
        pairs = [part.split("=") for part in text.split(",")]
        return {name.strip(): _number_or_label(value.strip()) for name, value in pairs}
    except ValueError as error:
        raise InputError(f"--at {text} is not of the form dy=0,dx=1: give a value for each dim.") from error


def _number_or_label(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


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
