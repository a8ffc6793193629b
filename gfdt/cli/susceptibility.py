"""``gfdt susceptibility``: the response in frequency."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gfdt.cli.options import Config, DryRun, Out, Overwrite, say, split_names
from gfdt.errors import InputError


def susceptibility(
    response: Annotated[Path, typer.Argument(help="Response file written by gfdt respond.")],
    out: Out = None,
    frequencies: Annotated[
        str | None,
        typer.Option("--frequencies", help="Angular frequencies, e.g. 0,0.1,1 (default: up to Nyquist's)."),
    ] = None,
    taper: Annotated[
        float, typer.Option("--taper", help="Part of the lags, at the end, over which R is brought down to zero.")
    ] = 0.0,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    config: Config = None,
) -> None:
    """Transform a response to frequency: chi(omega) = int exp(i omega t) R(t) dt, with error bars.

    By default the result goes beside the response, e.g. run-response.nc -> run-response-susceptibility.nc.
    """
    del config  # read by its callback
    from gfdt.forcing.reading import read_response as read_parts
    from gfdt.forcing.susceptibility import susceptibility as transform
    from gfdt.output import check_output, write_dataset
    from gfdt.reading import read_response
    from gfdt.validation import number

    target = check_output(
        out or response.with_name(f"{response.stem}-susceptibility.nc"), overwrite=overwrite, inputs=[response]
    )
    omega = _numbers(frequencies)
    number("taper", taper, low=0.0, high=1.0 + 1e-12, closed=True)
    R = read_response(response)
    parts = read_parts(R, str(response))
    if dry_run:
        count = parts.lags.size if omega is None else len(omega)
        say(f"would transform {parts.lags.size} lags up to {parts.lags[-1]:g} to {count} frequencies: {target}")
        return
    result = transform(R, omega, taper=taper)
    result.attrs["history"] = f"gfdt susceptibility {response.name}"
    write_dataset(result, target, overwrite=overwrite)
    say(
        f"missing beyond the longest lag: {100 * result.attrs['truncated_tail']:.2g} %; departure from the "
        f"Kramers-Kronig relation {result.attrs['kramers_kronig']:.2g}"
    )
    typer.echo(target)


def _numbers(text: str | None) -> list[float] | None:
    if text is None:
        return None
    try:
        return [float(part) for part in split_names(text) or ("",)]
    except ValueError as error:
        raise InputError(f"--frequencies {text} is not a list of numbers: write e.g. 0,0.1,1.") from error
