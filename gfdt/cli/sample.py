"""``gfdt sample``: states drawn from the density that a score stands for."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from gfdt.cli.options import Config, Device, DryRun, Out, Overwrite, Seed, say
from gfdt.errors import InputError


def sample(
    score: Annotated[Path, typer.Argument(help="Score file written by gfdt train.")],
    n: Annotated[int, typer.Option("--n", min=1, help="Number of samples.")] = 1000,
    method: Annotated[
        str,
        typer.Option("--method", help="heun (sde), ode, euler (euler-maruyama), predictor-corrector or langevin."),
    ] = "heun",
    lam: Annotated[
        float | None,
        typer.Option("--lam", help="Member of the reverse family, at most 1: 0 is the SDE, 1 the probability flow."),
    ] = None,
    n_steps: Annotated[int | None, typer.Option("--steps", min=1, help="Steps (default: by method).")] = None,
    schedule: Annotated[str, typer.Option("--schedule", help="Where the noise levels are: edm, ve or vp.")] = "edm",
    blurred: Annotated[
        bool, typer.Option("--blurred", help="Leave the noise of the score's own level in the samples.")
    ] = False,
    out: Out = None,
    seed: Seed = 0,
    device: Device = "auto",
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    config: Config = None,
) -> None:
    """Draw independent states and write them to netCDF, by default beside the score: a.safetensors -> a-samples.nc."""
    del config  # read by its callback
    import numpy as np

    from gfdt._version import __version__
    from gfdt.certificate.stamp import attributes
    from gfdt.output import check_output, write_dataset
    from gfdt.scores.loading import load_score

    if device not in ("auto", "cpu", "cuda"):
        raise InputError(f"--device {device} is not known: choose auto, cpu or cuda.")
    target = check_output(out or score.with_name(f"{score.stem}-samples.nc"), overwrite=overwrite, inputs=[score])
    estimator = load_score(score)
    if hasattr(estimator, "device"):
        estimator.device = device
    if dry_run:
        say(f"would draw {n} states of {estimator!r} with {method} and write {target}")
        return
    states = estimator.sample(
        n, method=method, lam=lam, n_steps=n_steps, schedule=schedule, decode=not blurred, seed=seed
    )
    options = {"n": n, "method": method, "lam": lam, "n_steps": n_steps, "schedule": schedule, "decode": not blurred}
    result = states.assign_attrs(long_name="state drawn from the density of the score").to_dataset(name="state")
    result["sample"].attrs.update(long_name="number of the sample", units="1")
    result = result.assign_attrs(
        title="samples of a learned stationary density",
        Conventions="CF-1.11",
        source=f"gfdt {__version__}",
        references="Huang, Lim & Courville, arXiv:2106.02808",
        history=f"gfdt sample {score.name}",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        estimator=estimator.label,
        noise_level=np.ravel(np.asarray(estimator.noise_level_, dtype=np.float64)),
        score_fingerprint=estimator.fingerprint_ or "none",
        config_json=json.dumps(options),
        seed_entropy=str(seed),
        **attributes(estimator),
    )
    write_dataset(result, target, overwrite=overwrite)
    typer.echo(target)
