"""``gfdt check``: is a score any good, on a trajectory."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gfdt.cli.options import Config, Homogeneous, Overwrite, Seed, Var, split_names, variable_names
from gfdt.cli.plot import FORMATS
from gfdt.errors import InputError


def check(
    trajectory: Annotated[Path, typer.Argument(help="netCDF or zarr file with a stationary trajectory.")],
    score: Annotated[str, typer.Argument(help="Score file written by gfdt train, or the word gaussian.")],
    homogeneous: Homogeneous = None,
    observables: Annotated[
        str, typer.Option("--observables", help="Which <A s> to look at besides the state, e.g. variance,moment3.")
    ] = "variance,moment3",
    plot: Annotated[Path | None, typer.Option("--plot", help="PNG, PDF or SVG file to draw the report to.")] = None,
    seed: Seed = 0,
    var: Var = None,
    overwrite: Overwrite = False,
    config: Config = None,
) -> None:
    """Test a score against the identities every exact score satisfies; prints green, amber or red with the numbers.

    Best on a part of the data the score was not trained on. Exit code 1 if it is red.
    """
    del config  # read by its callback
    from gfdt.cli.inputs import files_of
    from gfdt.cli.runs import announce
    from gfdt.diagnostics.check import check_score
    from gfdt.output import atomic_path, check_output
    from gfdt.scores.gaussian import GaussianScore
    from gfdt.scores.loading import load_score
    from gfdt.trajectory import load_trajectory

    if plot is not None:
        check_output(plot, overwrite=overwrite, inputs=[*files_of(trajectory), score])
        if plot.suffix.lower() not in FORMATS:
            raise InputError(f"--plot {plot} has no known picture format: end it with {', '.join(FORMATS)}.")
    announce(files_of(trajectory))
    array = load_trajectory(trajectory, var=variable_names(var), gaps=True)
    periodic = split_names(homogeneous)
    estimator = GaussianScore(periodic).fit(array) if score == "gaussian" else load_score(score)
    names = split_names(observables) or ()
    report = check_score(array, estimator, homogeneous=periodic, observables=names, seed=seed)
    typer.echo(report)
    if plot is not None:
        from matplotlib.figure import Figure

        figure = report.plot(Figure(figsize=(10, 7), layout="constrained"))
        with atomic_path(plot, overwrite=overwrite) as temporary:
            figure.savefig(temporary, dpi=160, format=plot.suffix[1:].lower())
    if not report.ok:
        raise typer.Exit(1)
