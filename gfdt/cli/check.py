"""``gfdt check``: is a score any good, on a trajectory."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gfdt.cli.options import Config, Homogeneous, Var, split_names


def check(
    trajectory: Annotated[Path, typer.Argument(help="netCDF or zarr file with a stationary trajectory.")],
    score: Annotated[str, typer.Argument(help="Score file written by gfdt train, or the word gaussian.")],
    homogeneous: Homogeneous = None,
    var: Var = None,
    config: Config = None,
) -> None:
    """Test a score against the identities every exact score satisfies; prints green, amber or red with the numbers.

    Exit code 1 if it is red.
    """
    del config  # read by its callback
    from gfdt.diagnostics.check import check_score
    from gfdt.scores.gaussian import GaussianScore
    from gfdt.scores.loading import load_score
    from gfdt.trajectory import load_trajectory

    array = load_trajectory(trajectory, var=var)
    periodic = split_names(homogeneous)
    estimator = GaussianScore(periodic).fit(array) if score == "gaussian" else load_score(score)
    report = check_score(array, estimator, homogeneous=periodic)
    typer.echo(report)
    if not report.ok:
        raise typer.Exit(1)
