"""``gfdt info``: what is in a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gfdt.cli.plot import kind_of

if TYPE_CHECKING:
    import xarray as xr

_SHOWN = 200  # characters of an attribute
_SHOWN_LEVELS = 8  # of a score with one noise level per component


def info(
    file: Annotated[Path, typer.Argument(help="A trajectory, response, prediction, susceptibility or score file.")],
) -> None:
    """Describe a trajectory, a response (or what was made of one) or a score file, on stdout."""
    from gfdt.errors import CheckpointError, MissingFileError
    from gfdt.reading import open_dataset

    if not file.exists():
        raise MissingFileError(f"there is no file {file}: check the path.")
    if file.is_file() and not _is_netcdf(file):
        try:
            typer.echo(_score_text(file))
        except CheckpointError as error:
            raise CheckpointError(f"{file} is neither netCDF nor a usable score file ({error})") from error
        return
    with open_dataset(file) as dataset:
        typer.echo(_dataset_text(file, dataset))


def _is_netcdf(file: Path) -> bool:
    with file.open("rb") as stream:
        magic = stream.read(8)
    return magic.startswith((b"\x89HDF", b"CDF")) or file.suffix in (".nc", ".nc4", ".h5")


def _score_text(file: Path) -> str:
    import numpy as np

    from gfdt.scores.loading import load_score

    score = load_score(file)
    state = ", ".join(f"{dim} {size}" for dim, size in zip(score.state_dims_, score.state_shape_, strict=True))
    return "\n".join(
        [
            f"{file}: {type(score).__name__} ({score.label})",
            f"  state        {state or 'scalar'}",
            f"  noise level  {', '.join(f'{level:.6g}' for level in np.ravel(score.noise_level_)[:_SHOWN_LEVELS])}",
        ]
    )


def _dataset_text(file: Path, dataset: xr.Dataset) -> str:
    kind = kind_of(dataset)
    kind = "dataset" if kind == "trajectory" and "time" not in dataset.dims else kind
    lines = [f"{file}: {kind}, {file.stat().st_size / 2**20:.2f} MiB"]
    lines += [f"  {name:<12} {_variable_text(variable)}" for name, variable in dataset.data_vars.items()]
    for name, coordinate in dataset.coords.items():
        if coordinate.ndim == 1 and coordinate.size:
            ends = f"{coordinate.values[0]!s} ... {coordinate.values[-1]!s}"
            units = coordinate.attrs.get("units", "")
            lines.append(f"  {name!s:<12} {coordinate.size} from {ends} {units}".rstrip())
    for key, value in dataset.attrs.items():
        text = str(value)
        lines.append(f"  {key}: {text if len(text) <= _SHOWN else text[:_SHOWN] + ' ...'}")
    # A file may hold anything: no terminal codes, no line breaks of its own.
    return "\n".join("".join(c if c.isprintable() else "?" for c in line) for line in lines)


def _variable_text(variable: xr.DataArray) -> str:
    sizes = ", ".join(f"{dim} {size}" for dim, size in variable.sizes.items())
    return f"({sizes}) {variable.dtype}"
