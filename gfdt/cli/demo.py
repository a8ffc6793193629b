"""``gfdt demo``: the whole way once, on real simulated data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gfdt.cli.options import Config, Device, DryRun, Overwrite, Seed, say


def demo(
    out: Annotated[Path, typer.Option("--out", help="Directory for the results.")] = Path("demo-output"),
    seed: Seed = 0,
    device: Device = "auto",
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    config: Config = None,
) -> None:
    """Simulate two systems, learn their scores, and compare the responses with the exact ones.

    An Ornstein-Uhlenbeck field (Gaussian: the classical estimate is right) and a double well (it is not). Writes the
    trajectories, scores and responses and one figure to --out, and prints the table of errors.
    """
    del config  # read by its callback
    from gfdt.experiments.demo import run_demo

    result = run_demo(out, seed=seed, device=device, overwrite=overwrite, dry_run=dry_run, log=say)
    if result is not None:
        say(result.table)
        typer.echo(result.figure)
