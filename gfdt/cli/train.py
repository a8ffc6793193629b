"""``gfdt train``: learn the score of a trajectory."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from gfdt.cli.options import Config, Device, DryRun, Homogeneous, Out, Overwrite, Seed, Var, say, split_names
from gfdt.errors import InputError

KINDS = ("dsm", "gaussian")


def train(
    trajectory: Annotated[Path, typer.Argument(help="netCDF or zarr file with a stationary trajectory.")],
    out: Out = None,
    score: Annotated[str, typer.Option("--score", help="dsm (learned) or gaussian.")] = "dsm",
    network: Annotated[str, typer.Option("--network", help="auto, mlp (vectors) or resnet (fields).")] = "auto",
    sigma: Annotated[
        float | None,
        typer.Option("--sigma", help="Noise level in data units (default: 0.05 rms)."),
    ] = None,
    homogeneous: Homogeneous = None,
    shrinkage: Annotated[
        float,
        typer.Option("--shrinkage", help="Weight in [0, 1) of diag(C), if C is singular."),
    ] = 0.0,
    max_steps: Annotated[int | None, typer.Option("--max-steps", help="Default: 1500 (mlp), 400 (resnet).")] = None,
    max_minutes: Annotated[float | None, typer.Option("--max-minutes", help="Default: no limit.")] = None,
    var: Var = None,
    seed: Seed = 0,
    device: Device = "auto",
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    config: Config = None,
) -> None:
    """Learn the score s(x) = grad log rho(x) from a stationary trajectory.

    Writes a safetensors file, by default beside the trajectory, e.g. run.nc -> run-dsm.safetensors.
    """
    del config  # read by its callback
    from gfdt.output import check_output
    from gfdt.trajectory import load_trajectory, state_dims

    if score not in KINDS:
        raise InputError(f"--score {score} is not known: choose among {', '.join(KINDS)}.")
    array = load_trajectory(trajectory, var=var, needs_time=False)
    target = check_output(
        out or trajectory.with_name(f"{trajectory.stem}-{score}.safetensors"), overwrite=overwrite, inputs=[trajectory]
    )
    estimator = _estimator(
        score,
        homogeneous=split_names(homogeneous),
        shrinkage=shrinkage,
        network=network,
        sigma=sigma,
        max_steps=max_steps,
        max_minutes=max_minutes,
        device=device,
        seed=seed,
    )
    estimator.validate(state_dims(array))
    if dry_run:
        sizes = ", ".join(f"{dim} {array.sizes[dim]}" for dim in array.dims)
        say(f"would fit {type(estimator).__name__} on {sizes} (state dims {state_dims(array)}) and write {target}")
        return
    estimator.fit(array)
    estimator.save(target, overwrite=overwrite)
    say(_said(estimator))
    typer.echo(target)
    if getattr(estimator, "interrupted_", False):
        say(f"the best weights so far are in {target}")
        raise KeyboardInterrupt


def _estimator(kind: str, *, homogeneous: tuple[str, ...] | None, shrinkage: float, **options: Any) -> Any:
    if kind == "gaussian":
        from gfdt.scores.gaussian import GaussianScore

        return GaussianScore(homogeneous, shrinkage=shrinkage)
    from gfdt.scores.dsm import DSMScore

    return DSMScore(homogeneous=homogeneous, shrinkage=shrinkage, **options)


def _said(estimator: Any) -> str:
    text = repr(estimator).strip("<>")
    if hasattr(estimator, "selected_"):
        text += f", selected: {estimator.selected_}, {estimator.training_seconds_:.0f} s of training"
    return text
