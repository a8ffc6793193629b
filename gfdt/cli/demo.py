"""``gfdt demo``: the whole way once, on real simulated data, in about three minutes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gfdt.cli.options import Config, Device, DryRun, Overwrite, Seed
from gfdt.cli.reproduce import reproduce


def demo(
    out: Annotated[Path, typer.Option("--out", help="Directory for the results.")] = Path("demo-output"),
    seed: Seed = 0,
    device: Device = "auto",
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    config: Config = None,
) -> None:
    """Reproduce the Allen-Cahn field of the PRL: the Gaussian estimate fails there, the learned score does not.

    The same as ``gfdt reproduce allen-cahn --preset quick``: simulates a stochastic Allen-Cahn field, learns its score,
    and compares the responses with those of twin experiments. Writes everything and one figure to --out, and prints the
    table of errors.
    """
    reproduce("allen-cahn", "quick", out, seed, device, False, overwrite, dry_run, config)
