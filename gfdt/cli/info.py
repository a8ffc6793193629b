"""``gfdt info``: what is in a file, or in the files of one run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gfdt.cli.plot import kind_of

if TYPE_CHECKING:
    import xarray as xr

    from gfdt.cli.runs import Run

_SHOWN = 200  # characters of an attribute
_SHOWN_LEVELS = 8  # of a score with one noise level per component


def info(
    files: Annotated[
        list[Path], typer.Argument(help="Trajectory, response, prediction, susceptibility or score files.")
    ],
) -> None:
    """Describe a trajectory, a response (or what was made of one) or a score file, on stdout.

    Several files that are parts of one run, of different members, are described as one.
    """
    from gfdt.cli.inputs import files_of
    from gfdt.errors import MissingFileError

    files = [found for file in files for found in files_of(file)]
    for file in files:
        if not file.exists():
            raise MissingFileError(f"there is no file {file}: check the path.")
    if len(files) == 1:
        typer.echo(_file_text(files[0]))
        return
    from gfdt.cli.runs import Run, gather

    for found in gather(files, {file for file in files if _is_data(file)}):
        typer.echo(_run_text(found) if isinstance(found, Run) else _file_text(found))


def _is_data(file: Path) -> bool:
    return not file.is_file() or _is_netcdf(file)


def _file_text(file: Path) -> str:
    from gfdt.errors import CheckpointError
    from gfdt.reading import open_dataset

    if not _is_data(file):
        try:
            return _score_text(file)
        except CheckpointError as error:
            raise CheckpointError(f"{file} is neither netCDF nor a usable score file ({error})") from error
    with open_dataset(file) as dataset:
        kind = kind_of(dataset)
        kind = "dataset" if kind == "trajectory" and "time" not in dataset.dims else kind
        return _printable([f"{file}: {kind}, {file.stat().st_size / 2**20:.2f} MiB", *_contents(dataset)])


def _run_text(run: Run) -> str:
    from gfdt.cli.runs import in_words, spans
    from gfdt.reading import open_dataset

    size = sum(part.file.stat().st_size for part in run.parts) / 2**20
    lines = [f"{len(run.parts)} files of one run: trajectory, {size:.2f} MiB"]
    lines += [f"  {part.file}: {in_words(spans(sorted(part.members)))}" for part in run.parts]
    if run.missing:
        lines.append(f"  missing: {in_words(run.missing)}")
    with open_dataset(run.parts[0].file) as dataset:
        rest = dataset.drop_vars("member").assign_attrs(config_json=run.config_json)
        return _printable([*lines, *_contents(rest, {"member": len(run.members)})])


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


def _contents(dataset: xr.Dataset, sizes: Mapping[Any, int] | None = None) -> list[str]:
    """Return a line for each variable, coordinate and attribute; `sizes` are those of dims cut into several files."""
    lines = [f"  {name:<12} {_variable_text(variable, sizes or {})}" for name, variable in dataset.data_vars.items()]
    for name, coordinate in dataset.coords.items():
        if coordinate.ndim == 1 and coordinate.size:
            ends = f"{coordinate.values[0]!s} ... {coordinate.values[-1]!s}"
            units = coordinate.attrs.get("units", "")
            lines.append(f"  {name!s:<12} {coordinate.size} from {ends} {units}".rstrip())
    for key, value in dataset.attrs.items():
        text = str(value)
        lines.append(f"  {key}: {text if len(text) <= _SHOWN else text[:_SHOWN] + ' ...'}")
    return lines


def _printable(lines: list[str]) -> str:
    # A file may hold anything: no terminal codes, no line breaks of its own.
    return "\n".join("".join(c if c.isprintable() else "?" for c in line) for line in lines)


def _variable_text(variable: xr.DataArray, sizes: Mapping[Any, int]) -> str:
    shape = ", ".join(f"{dim} {sizes.get(dim, size)}" for dim, size in variable.sizes.items())
    return f"({shape}) {variable.dtype}"
