"""``gfdt step``: the response to a forcing that is switched on and kept."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gfdt.cli.options import Config, DryRun, Out, Overwrite, say


def step(
    response: Annotated[Path, typer.Argument(help="Response file written by gfdt respond.")],
    out: Out = None,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    config: Config = None,
) -> None:
    """Integrate a response over its lags: the change under a unit forcing switched on at t = 0 and kept.

    By default the result goes beside the response, e.g. run-response.nc -> run-response-step.nc.
    """
    del config  # read by its callback
    from gfdt.forcing.reading import read_response as read_parts
    from gfdt.forcing.step import step_response
    from gfdt.output import check_output, write_dataset
    from gfdt.reading import read_response

    target = check_output(out or response.with_name(f"{response.stem}-step.nc"), overwrite=overwrite, inputs=[response])
    R = read_response(response)
    parts = read_parts(R, str(response))
    if dry_run:
        say(f"would integrate the response over {parts.lags.size} lags up to {parts.lags[-1]:g} and write {target}")
        return
    result = step_response(R)
    result.attrs["history"] = f"gfdt step {response.name}"
    write_dataset(result, target, overwrite=overwrite)
    say(f"two quadrature rules differ by {100 * result.attrs['quadrature_error']:.2g} %")
    typer.echo(target)
