"""``gfdt predict``: the change under a small forcing, from a file or described in a word."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from gfdt.cli.inputs import path_of, read_variable
from gfdt.cli.options import Config, DryRun, Out, Overwrite, say
from gfdt.errors import InputError


def predict(
    response: Annotated[Path, typer.Argument(help="Response file written by gfdt respond.")],
    forcing: Annotated[
        str,
        typer.Argument(
            help="FILE[:VARIABLE] with the forcing over time (and the perturbed dims); or step:A, ramp:A (from 0 to A "
            "at the end), sine:A:PERIOD: switched on at t = 0."
        ),
    ],
    out: Out = None,
    duration: Annotated[
        float | None,
        typer.Option("--duration", help="How long to predict (default: the longest lag, or the times of FILE)."),
    ] = None,
    dt: Annotated[
        float | None, typer.Option("--dt", help="Time step of the result (default: that of the lags).")
    ] = None,
    at: Annotated[
        str | None,
        typer.Option("--at", help="Which direction step, ramp or sine push, e.g. component_src=0 or y=0,x=3."),
    ] = None,
    pattern: Annotated[
        str | None,
        typer.Option("--pattern", help="FILE[:VARIABLE] with how strongly they push each direction, instead of --at."),
    ] = None,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    config: Config = None,
) -> None:
    """Predict the change of the observables under a small forcing, with its band, and write it to netCDF.

    By default the result goes beside the response, e.g. run-response.nc -> run-response-prediction-step.nc. Says
    whether the forcing is small enough for a linear prediction.
    """
    del config  # read by its callback
    from gfdt.cli.forcings import check_unit, course, directions, output_times, pushed, read_word, source_named
    from gfdt.forcing.drive import read_forcing
    from gfdt.forcing.predict import predict as predict_change
    from gfdt.forcing.reading import read_response as read_parts
    from gfdt.output import check_output, write_dataset
    from gfdt.reading import read_response

    word, times = read_word(forcing), None
    files = [path_of(item) for item in (None if word else forcing, pattern) if item]
    name = word[0] if word else path_of(forcing).stem
    target = check_output(
        out or response.with_name(f"{response.stem}-prediction-{name}.nc"),
        overwrite=overwrite,
        inputs=[response, *files],
    )
    R = read_response(response)
    parts = read_parts(R, str(response))
    if word:
        times = output_times(parts, 0.0, duration, dt)
        drive: Any = pushed(course(word, float(times[-1])), directions(parts, at, pattern))
    else:
        if at or pattern:
            raise InputError("--at and --pattern belong to step, ramp and sine: a forcing from a file has dims.")
        drive = source_named(read_variable(forcing), parts)
        check_unit(drive, parts)
        start = float(drive["time"].values[0]) if "time" in drive.coords and drive.sizes["time"] else 0.0
        times = output_times(parts, start, duration, dt) if (duration, dt) != (None, None) else None
    read_forcing(drive, parts)
    if dry_run:
        say(f"would predict the change under {forcing} from {response} and write {target}")
        return
    result = predict_change(R, drive, times)
    result.attrs["history"] = f"gfdt predict {response.name} {name}"
    write_dataset(result, target, overwrite=overwrite)
    say(
        f"linear range: {result.attrs['linear_range']}; missing beyond the longest lag: "
        f"{100 * result.attrs['truncated_tail']:.2g} % of the largest change"
    )
    typer.echo(target)
