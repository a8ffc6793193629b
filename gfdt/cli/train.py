"""``gfdt train``: learn the score of a trajectory."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from gfdt.cli.inputs import beside, files_of
from gfdt.cli.options import (
    Config,
    Device,
    DryRun,
    Homogeneous,
    Out,
    Overwrite,
    Seed,
    Var,
    say,
    split_names,
    variable_names,
)
from gfdt.errors import InputError

KINDS = ("dsm", "gaussian", "kde", "kernel", "kgmm")


def train(
    trajectory: Annotated[
        Path, typer.Argument(help='netCDF or zarr file with a stationary trajectory; parts of one: "run_*.nc".')
    ],
    out: Out = None,
    score: Annotated[str, typer.Option("--score", help="dsm (learned), gaussian, kde, kernel or kgmm.")] = "dsm",
    network: Annotated[
        str,
        typer.Option(
            "--network",
            help="auto, mlp (vectors), resnet or unet (periodic fields). Here and of objective, precondition and sigma "
            "several may be given, e.g. resnet,unet: the best by held-out likelihood is kept.",
        ),
    ] = "auto",
    objective: Annotated[str | None, typer.Option("--objective", help="dsm (default), ssm or fd-ssm.")] = None,
    precondition: Annotated[str | None, typer.Option("--precondition", help="gaussian (default), edm or none.")] = None,
    energy: Annotated[bool, typer.Option("--energy", help="Learn the score as the gradient of a scalar.")] = False,
    symmetries: Annotated[
        str | None, typer.Option("--symmetries", help="What the density is symmetric under, e.g. sign,reflect_x.")
    ] = None,
    sigma: Annotated[
        str | None,
        typer.Option("--sigma", help="Noise level in data units (default: 0.05 of each standard deviation)."),
    ] = None,
    noise_range: Annotated[
        str | None,
        typer.Option("--noise-range", help="all (default: can be sampled and certified) or local (about sigma only)."),
    ] = None,
    homogeneous: Homogeneous = None,
    shrinkage: Annotated[
        str,
        typer.Option("--shrinkage", help="Weight in [0, 1) of diag(C), if C is singular, or ledoit-wolf."),
    ] = "0",
    max_steps: Annotated[int | None, typer.Option("--max-steps", help="Default: 1500 (mlp), else 2500.")] = None,
    max_minutes: Annotated[float | None, typer.Option("--max-minutes", help="Default: no limit.")] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", help="Network evaluations per step.")] = None,
    learning_rate: Annotated[float | None, typer.Option("--learning-rate", help="The largest of the schedule.")] = None,
    patience: Annotated[
        int | None, typer.Option("--patience", help="Evaluations, of 20, that may get worse (default 5).")
    ] = None,
    precision: Annotated[str | None, typer.Option("--precision", help="auto (default), float32 or bf16.")] = None,
    polish: Annotated[
        bool, typer.Option("--polish", help="Remove what the Stein identity shows of the score's error.")
    ] = False,
    compile_network: Annotated[
        bool | None, typer.Option("--compile/--no-compile", help="torch.compile (default: on GPUs, if faster).")
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option("--checkpoint", help="File to go on from after an interruption.")
    ] = None,
    log: Annotated[
        Path | None, typer.Option("--log", "--log-file", help=".csv file, or a directory for TensorBoard.")
    ] = None,
    var: Var = None,
    seed: Seed = 0,
    device: Device = "auto",
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    config: Config = None,
) -> None:
    """Learn the score s(x) = grad log rho(x) from a stationary trajectory.

    Writes a safetensors file, by default beside the trajectory, e.g. run.nc -> run-dsm.safetensors. With --checkpoint
    the same command goes on where it was stopped. Several processes share the work, and the record, under
    torchrun --standalone --nproc-per-node=2 -m gfdt train run.nc
    """
    del config  # read by its callback
    from gfdt.cli.runs import announce
    from gfdt.output import check_output
    from gfdt.processes import is_first, launched
    from gfdt.shares import open_unread
    from gfdt.trajectory import load_trajectory, state_dims

    if score not in KINDS:
        raise InputError(f"--score {score} is not known: choose among {', '.join(KINDS)}.")
    if is_first():
        announce(files_of(trajectory))
    if launched():
        array = open_unread(trajectory, var=variable_names(var))  # each process will read its share
    else:
        array = load_trajectory(trajectory, var=variable_names(var), needs_time=False, gaps=True)
    target = check_output(
        out or beside(trajectory, f"{score}.safetensors"),
        # Only a learned score is waited for: another may be there before the last process looks.
        overwrite=overwrite or not (is_first() or score == "dsm"),
        inputs=files_of(trajectory),
    )
    estimator = _estimator(
        score,
        homogeneous=split_names(homogeneous),
        shrinkage=_number_or_name(shrinkage),
        network=_one_or_several(network),
        objective=_one_or_several(objective),
        precondition=_one_or_several(precondition),
        energy=energy or None,
        symmetries=split_names(symmetries),
        sigma=_levels(sigma),
        noise_range=noise_range,
        max_steps=max_steps,
        max_minutes=max_minutes,
        batch_size=batch_size,
        learning_rate=learning_rate,
        patience=patience,
        precision=precision,
        compile=compile_network,
        checkpoint=checkpoint,
        log=log,
        device=device,
        seed=seed,
    )
    if polish:
        from gfdt.scores.polished import PolishedScore

        estimator = PolishedScore(estimator, seed=seed)
    estimator.validate(state_dims(array))
    if dry_run:
        sizes = ", ".join(f"{dim} {array.sizes[dim]}" for dim in array.dims)
        if is_first():
            say(f"would fit {type(estimator).__name__} on {sizes} (state dims {state_dims(array)}) and write {target}")
        return
    estimator.fit(array)
    estimator.save(target, overwrite=overwrite)
    if is_first():
        say(_said(estimator))
        typer.echo(target)
    if getattr(getattr(estimator, "score", estimator), "interrupted_", False):
        say(f"the best weights so far are in {target}" + (f"; {checkpoint} goes on" if checkpoint else ""))
        raise KeyboardInterrupt


def _one_or_several(text: str | None) -> Any:
    """Turn ``"resnet"`` into itself and ``"resnet,unet"`` into a list."""
    names = split_names(text)
    return list(names) if names and len(names) > 1 else text


def _levels(text: str | None) -> Any:
    """Turn ``"0.1"`` into a number and ``"0.1,0.2"`` into a list of them."""
    try:
        levels = [float(part) for part in split_names(text) or ()]
    except ValueError as error:
        raise InputError(f"--sigma {text} is not a number, nor a list of them: give e.g. 0.05, or 0.05,0.1.") from error
    return None if text is None else levels if len(levels) > 1 else levels[0] if levels else []


def _number_or_name(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _estimator(kind: str, *, homogeneous: tuple[str, ...] | None, shrinkage: float | str, **options: Any) -> Any:
    if kind == "gaussian":
        from gfdt.scores.gaussian import GaussianScore

        _refuse_unused(kind, {name: value for name, value in options.items() if name != "seed"}, ())
        return GaussianScore(homogeneous, shrinkage=shrinkage)
    if kind in ("kde", "kernel", "kgmm"):
        return _low_dimensional(kind, homogeneous=homogeneous, shrinkage=shrinkage or None, **options)
    from gfdt.scores.dsm import DSMScore

    given = {name: value for name, value in options.items() if value is not None}
    return DSMScore(homogeneous=homogeneous, shrinkage=shrinkage, **given)


def _low_dimensional(kind: str, *, seed: int, **options: Any) -> Any:
    """Return an estimator for few components, refusing the options it has no use for."""
    import gfdt

    estimator, known = {
        "kde": (gfdt.KDEScore, ()),
        "kernel": (gfdt.KernelScore, ("seed",)),
        "kgmm": (gfdt.KGMMScore, ("max_steps", "seed")),
    }[kind]
    given = _refuse_unused(kind, options, known)
    given["seed"] = seed
    return estimator(**{name: given[name] for name in known if name in given})


def _said(estimator: Any) -> str:
    if hasattr(estimator, "change_"):
        share = f"polished by {100 * estimator.change_:.2g} %, {100 * estimator.kept_:.0f} % of its coefficients kept"
        return f"{_said(estimator.score)}; {share}"
    text = repr(estimator).strip("<>")
    if hasattr(estimator, "selected_"):
        text += f", selected: {estimator.selected_}, {estimator.training_seconds_:.0f} s of training"
        text += f" ({estimator.execution_}; ended by {estimator.stopped_})"
    for row in getattr(estimator, "choices_", ()):
        what = ", ".join(f"{name} {value}" for name, value in row.items() if isinstance(value, str))
        level = "" if row["sigma"] is None else f", sigma {row['sigma']:.3g}"
        text += f"\n  {what}{level}: {row['elbo']:.5g} nats a state, {row['difference']:.3g} +- {row['error']:.2g}"
    return text


def _refuse_unused(kind: str, options: dict[str, Any], known: tuple[str, ...]) -> dict[str, Any]:
    """Return the options that were given, if the estimator has a use for all of them."""
    given = {name: value for name, value in options.items() if value not in (None, "auto")}
    unused = sorted(given.keys() - set(known))
    if unused:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in unused)
        raise InputError(f"--score {kind} has no use for {names}: leave out what belongs to --score dsm.")
    return given
