"""``gfdt simulate``: make a trajectory with one of the simulators."""

from __future__ import annotations

import typer


def simulate(context: typer.Context) -> None:
    """Simulate a system and write its trajectory (gfdt simulate --help lists systems and options)."""
    from simulators.__main__ import main as simulators_main

    raise typer.Exit(simulators_main(context.args, prog="gfdt simulate"))
