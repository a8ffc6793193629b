"""``gfdt certify``: does a score stand for the density of a trajectory?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gfdt.cli.options import Config, Device, Homogeneous, Overwrite, Seed, Var, say, split_names, variable_names
from gfdt.cli.plot import FORMATS
from gfdt.errors import InputError


def certify(
    trajectory: Annotated[Path, typer.Argument(help="netCDF or zarr file with a stationary trajectory.")],
    score: Annotated[Path, typer.Argument(help="Score file written by gfdt train.")],
    html: Annotated[Path | None, typer.Option("--html", help="HTML file to write the report to.")] = None,
    plot: Annotated[Path | None, typer.Option("--plot", help="PNG, PDF or SVG file to draw the report to.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Score file to write, with the certificate in it for gfdt respond.")
    ] = None,
    n_samples: Annotated[
        int | None, typer.Option("--samples", min=64, help="Samples to draw (default: 256 to 8192).")
    ] = None,
    homogeneous: Homogeneous = None,
    seed: Seed = 0,
    var: Var = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
    config: Config = None,
) -> None:
    """Judge a score as a model of the density, by identities, samples and likelihood; prints green, amber or red.

    On a part of the data the score was not trained on. Exit code 1 if it is red.
    """
    del config  # read by its callback
    from gfdt.certificate.certify import certify as judge
    from gfdt.cli.inputs import files_of
    from gfdt.cli.runs import announce
    from gfdt.output import atomic_path, check_output
    from gfdt.scores.loading import load_score
    from gfdt.trajectory import load_trajectory

    if device not in ("auto", "cpu", "cuda"):
        raise InputError(f"--device {device} is not known: choose auto, cpu or cuda.")
    for target in (html, plot, out):
        if target is not None:
            check_output(target, overwrite=overwrite, inputs=[*files_of(trajectory), score])
    if plot is not None and plot.suffix.lower() not in FORMATS:
        raise InputError(f"--plot {plot} has no known picture format: end it with {', '.join(FORMATS)}.")
    estimator = load_score(score)
    if hasattr(estimator, "device"):
        estimator.device = device
    announce(files_of(trajectory))
    array = load_trajectory(trajectory, var=variable_names(var), gaps=True)
    found = judge(
        estimator, array, n_samples=n_samples, seed=seed, homogeneous=split_names(homogeneous), out=html,
        overwrite=overwrite,
    )  # fmt: skip
    typer.echo(found)
    if plot is not None:
        from matplotlib.figure import Figure

        figure = found.plot(Figure(figsize=(13, 7.5), layout="constrained"))
        with atomic_path(plot, overwrite=overwrite) as temporary:
            figure.savefig(temporary, dpi=160, format=plot.suffix[1:].lower())
    if out is not None:
        say(f"the score and its certificate are in {estimator.save(out, overwrite=overwrite)}")
    if not found.ok:
        raise typer.Exit(1)
