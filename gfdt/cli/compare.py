"""``gfdt compare``: errors of responses against a reference."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gfdt.cli.options import Config, Out, Overwrite, say
from gfdt.errors import InputError

if TYPE_CHECKING:
    import xarray as xr


def compare(
    reference: Annotated[Path, typer.Argument(help="Response file taken for true (exact, or twin ensembles).")],
    responses: Annotated[list[str], typer.Argument(help="Response files, as PATH or NAME=PATH.")],
    out: Out = None,
    overwrite: Overwrite = False,
    config: Config = None,
) -> None:
    """Print rms and max errors of responses against a reference; --out writes them per lag to netCDF."""
    del config  # read by its callback
    from gfdt.diagnostics.compare import compare as compare_responses
    from gfdt.output import check_output, write_dataset
    from gfdt.reading import read_response

    if out is not None:
        check_output(
            out, overwrite=overwrite, inputs=[reference, *(item.partition("=")[2] or item for item in responses)]
        )
    truth = read_response(reference)
    result = compare_responses(truth, read_named(responses))
    say(table(result))
    if out is not None:
        typer.echo(write_dataset(result, out, overwrite=overwrite))


def read_named(items: list[str]) -> dict[str, xr.Dataset]:
    """Read ``PATH`` or ``NAME=PATH`` items; the default name is the file's estimator, or its stem."""
    from gfdt.reading import read_response

    found: dict[str, xr.Dataset] = {}
    for item in items:
        name, separator, path = item.partition("=")
        if not separator:
            name, path = "", item
        dataset = read_response(path)
        name = name or str(dataset.attrs.get("estimator", Path(path).stem))
        if name in found:
            raise InputError(f"two responses are called {name!r}: name them, e.g. first={path}.")
        found[name] = dataset
    return found


def table(comparison: xr.Dataset) -> str:
    """Return the overall errors as a text table."""
    rows = [f"{'estimator':<14} {'rms error':>10} {'max error':>10} {'relative':>9} {'in band':>8}"]
    for name in comparison["estimator"].values:
        row = comparison.sel(estimator=name)
        coverage = float(row["coverage"])
        inside = f"{100 * coverage:7.1f}%" if coverage == coverage else "      --"
        rows.append(
            f"{name!s:<14} {float(row['rms_overall']):10.3e} {float(row['max_overall']):10.3e} "
            f"{float(row['relative']):9.4f} {inside}"
        )
    return "\n".join(rows)
