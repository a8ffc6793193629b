"""Files appear under their final name complete, or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from gfdt.errors import OutputError

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["atomic_path", "check_output", "write_dataset"]


def check_output(path: str | Path, *, overwrite: bool) -> Path:
    """Refuse, before any long work, an output that could not be written after it.

    Raises
    ------
    OutputError
        If the file exists (without ``overwrite``), is a directory, or its directory is missing or not writable.
    """
    path = Path(path)
    if path.is_dir():
        raise OutputError(f"{path} is a directory: name a file in it, e.g. {path / 'result.nc'}.")
    if path.exists() and not overwrite:
        raise OutputError(f"{path} exists already: pass overwrite (--overwrite) to replace it, or another name.")
    parent = path.parent
    if not parent.is_dir():
        raise OutputError(f"the directory {parent} does not exist: create it first (mkdir -p {parent}).")
    try:
        with tempfile.TemporaryFile(dir=parent):
            pass
    except OSError as error:
        raise OutputError(
            f"{parent} is not writable ({error.strerror}): choose another place for {path.name}."
        ) from error
    return path


@contextlib.contextmanager
def atomic_path(path: str | Path, *, overwrite: bool) -> Iterator[Path]:
    """Give a temporary name beside ``path``; rename it to ``path`` on success, remove it on failure.

    Raises
    ------
    OutputError
        As :func:`check_output`, or if writing fails (disk full, permission).
    """
    path = check_output(path, overwrite=overwrite)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(f"{path} could not be written ({error}): check space and permissions.") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_dataset(dataset: xr.Dataset, path: str | Path, *, overwrite: bool = False) -> Path:
    """Write a dataset to netCDF under ``path``: complete, or not at all.

    Raises
    ------
    OutputError
        As :func:`atomic_path`.
    """
    encoding = {str(name): {"_FillValue": None} for name in dataset.variables}
    with atomic_path(path, overwrite=overwrite) as temporary:
        dataset.to_netcdf(temporary, engine="netcdf4", encoding=encoding)
    return Path(path)
