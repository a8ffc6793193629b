"""Arguments that are more than a word or a number: files with one array in them, and points in named dims."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gfdt.errors import InputError

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["beside", "files_of", "path_of", "read_point", "read_variable"]


def files_of(trajectory: Path) -> list[Path]:
    """Return the files that an argument names: one, or all that match a pattern."""
    from gfdt.parts import expand_pattern

    found = expand_pattern(trajectory)
    return [Path(str(item)) for item in found] if isinstance(found, list) else [trajectory]


def beside(trajectory: Path, ending: str) -> Path:
    """Return the default name of a result: ``run.nc`` and "response.nc" give ``run-response.nc``, ``run_*.nc`` too."""
    stem = trajectory.stem if trajectory.exists() else re.split(r"[*?\[]", trajectory.stem)[0].rstrip("_-.")
    return trajectory.with_name(f"{stem or 'run'}-{ending}")


def path_of(text: str) -> Path:
    """Return the path in ``FILE[:VARIABLE]``."""
    return Path(_parts(text)[0])


def read_variable(text: str) -> xr.DataArray:
    """Read the array named by ``FILE[:VARIABLE]`` from netCDF or zarr.

    Raises
    ------
    InputError
        If the file cannot be read, or holds no such variable, or several and none is named.
    """
    from gfdt.reading import first_line, open_dataset

    path, name = _parts(text)
    with open_dataset(path) as dataset:
        found = [str(key) for key in dataset.data_vars]
        if name is None and len(found) != 1:
            choice = f"name one, e.g. {path}:{found[0]}" if found else "pass a file with one"
            raise InputError(f"{path} holds {len(found)} variables ({', '.join(found) or 'none'}): {choice}.")
        if name is not None and name not in found:
            raise InputError(f"{path} holds no variable {name!r}: choose among {', '.join(found) or '(none)'}.")
        try:
            return dataset[name or found[0]].load()
        except Exception as error:
            raise InputError(f"{path} cannot be read ({first_line(error)}): write or copy it again.") from error


def _parts(text: str) -> tuple[str, str | None]:
    """Path and variable; a colon that belongs to the path of an existing file is left in it."""
    path, separator, name = text.rpartition(":")
    return (text, None) if not separator or Path(text).exists() else (path, name)


def read_point(text: str | None) -> dict[str, Any]:
    """Turn ``"dy=0,dx=1"`` into ``{"dy": 0.0, "dx": 1.0}``; what is no number is a label."""
    if text is None:
        return {}
    try:
        pairs = [part.split("=") for part in text.split(",")]
        return {name.strip(): _number_or_label(value.strip()) for name, value in pairs}
    except ValueError as error:
        raise InputError(f"--at {text} is not of the form dy=0,dx=1: give a value for each dim.") from error


def _number_or_label(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text
