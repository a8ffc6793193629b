"""``gfdt reproduce``: the figure of the PRL for three systems, from simulation to errors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gfdt.cli.options import Config, Device, DryRun, Overwrite, Seed, say


def reproduce(
    system: Annotated[str, typer.Argument(help="ou, allen-cahn, navier-stokes or all.")],
    preset: Annotated[
        str,
        typer.Option("--preset", help="quick (minutes), cpu (half an hour a system on two cores) or paper (a GPU)."),
    ] = "cpu",
    out: Annotated[Path, typer.Option("--out", help="Directory for the results.")] = Path("reproduce-output"),
    seed: Seed = 0,
    device: Device = "auto",
    hidden: Annotated[
        bool, typer.Option("--hidden", help="Navier-Stokes: a second score, of vorticity and forcing together.")
    ] = False,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    config: Config = None,
) -> None:
    """Simulate, learn, certify, respond by four estimators, and compare with twin experiments.

    Every stage writes its files to --out; those that are there, made with the same settings, are not made again, and
    what was interrupted goes on. Prints the tables, and the path of the figure.
    """
    del config  # read by its callback
    from gfdt.experiments.reproduce import reproduce as run

    result = run(
        system,
        preset,
        out=out,
        seed=seed,
        device=device,
        hidden=hidden,
        overwrite=overwrite,
        dry_run=dry_run,
        log=say,
    )
    if result is not None:
        say(result.table)
        typer.echo(result.figures.get("all", next(iter(result.figures.values()))))
