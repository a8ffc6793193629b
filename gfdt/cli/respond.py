"""``gfdt respond``: from a trajectory and a score to the response function."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from gfdt.cli.options import Config, Device, DryRun, Homogeneous, Out, Overwrite, Var, say, split_names
from gfdt.errors import InputError


def respond(
    trajectory: Annotated[Path, typer.Argument(help="netCDF or zarr file with the unperturbed trajectory.")],
    score: Annotated[str, typer.Argument(help="Score file written by gfdt train, or the word gaussian.")],
    max_lag: Annotated[float, typer.Option("--max-lag", help="Largest lag, in the trajectory's time unit.")],
    out: Out = None,
    lag_stride: Annotated[int, typer.Option("--lag-stride", help="Every how many samples a lag is computed.")] = 1,
    observable: Annotated[str | None, typer.Option("--observable", help="mean, second_moment, variance, ...")] = None,
    homogeneous: Homogeneous = None,
    correction: Annotated[
        str, typer.Option("--correction", help="Use of R(0) = I: auto, stein (divide), none.")
    ] = "auto",
    confidence: Annotated[float, typer.Option("--confidence", help="Level of the band.")] = 0.95,
    var: Var = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    config: Config = None,
) -> None:
    """Estimate the response function R(t) = -<x(t) s(x(0))>, with error bars, and write it to netCDF.

    By default the result goes beside the trajectory, e.g. run.nc -> run-response-gaussian.nc.
    """
    del config  # read by its callback
    from gfdt.output import check_output, write_dataset
    from gfdt.responses.estimate import check_request, response
    from gfdt.scores.dsm import DSMScore
    from gfdt.scores.gaussian import GaussianScore
    from gfdt.scores.loading import load_score
    from gfdt.trajectory import load_trajectory

    if device not in ("auto", "cpu", "cuda"):
        raise InputError(f"--device {device} is not known: choose auto, cpu or cuda.")
    periodic = split_names(homogeneous)
    label = "gaussian" if score == "gaussian" else Path(score).stem
    target = check_output(
        out or trajectory.with_name(f"{trajectory.stem}-response-{label}.nc"),
        overwrite=overwrite,
        inputs=[trajectory, score],
    )
    array = load_trajectory(trajectory, var=var)
    estimator = GaussianScore(periodic).fit(array) if score == "gaussian" else load_score(score)
    if isinstance(estimator, DSMScore):
        estimator.device = device
        estimator.validate(estimator.state_dims_)
    options: dict[str, Any] = {
        "max_lag": max_lag,
        "lag_stride": lag_stride,
        "observable": observable,
        "homogeneous": periodic,
        "correction": correction,
        "confidence": confidence,
    }
    check_request(array, estimator, **options)
    if dry_run:
        say(f"would compute the {estimator.label} response up to lag {max_lag:g} and write {target}")
        return
    say(f"evaluating the score on {array.sizes['member'] * array.sizes['time']} states")
    result = response(array, estimator, **options)
    result.attrs["history"] = f"gfdt respond {trajectory.name} {Path(score).name}"
    write_dataset(result, target, overwrite=overwrite)
    say(f"error bars from {result.attrs['resampling']}; {result.attrs['correction_summary']}")
    typer.echo(target)
