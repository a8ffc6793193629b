"""Files appear under their final name complete, or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gfdt.errors import GfdtError, OutputError

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["atomic_path", "check_output", "write_dataset"]


def check_output(path: str | Path, *, overwrite: bool, inputs: Sequence[str | Path] = ()) -> Path:
    """Refuse, before any long work, an output that could not or should not be written after it.

    Parameters
    ----------
    path : path
        Where the result is to go; a symbolic link is followed.
    overwrite : bool
        Whether an existing file may be replaced.
    inputs : sequence of path
        Files the result is made from, which are never replaced.

    Returns
    -------
    Path
        The path as it was given.

    Raises
    ------
    OutputError
        If the file exists (without ``overwrite``), is an input, a directory or a device, or its directory is missing or
        not writable.
    """
    if not isinstance(path, str | os.PathLike):
        raise OutputError(f"the output path is a {type(path).__name__}: pass a file name.")
    path = Path(path)
    real = Path(os.path.realpath(path))
    if real.is_dir():
        raise OutputError(f"{path} is a directory: name a file in it, e.g. {path / 'result.nc'}.")
    if os.path.lexists(real):
        if not real.is_file():
            raise OutputError(f"{path} is not a regular file but a device, pipe or socket: name a file.")
        if any(os.path.realpath(item) == str(real) for item in inputs):
            raise OutputError(f"{path} is the input of this command: choose another name for the result.")
        if not overwrite:
            raise OutputError(f"{path} exists already: pass overwrite (--overwrite) to replace it, or another name.")
    if not real.parent.is_dir():
        raise OutputError(f"the directory {real.parent} does not exist: create it first (mkdir -p {real.parent}).")
    try:
        with tempfile.TemporaryFile(dir=real.parent):
            pass
    except OSError as error:
        raise OutputError(
            f"{real.parent} is not writable ({error.strerror}): choose another place for {path.name}."
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
    real = Path(os.path.realpath(path))
    temporary = real.with_name(f".{real.name}.{os.getpid()}.part")
    try:
        temporary.touch()
        mode = temporary.stat().st_mode  # what the user's umask asks for; some writers make private files
        yield temporary
        temporary.chmod(mode)
        os.replace(temporary, real)
    except GfdtError:
        raise
    # netCDF reports a full disk as RuntimeError.
    except (OSError, RuntimeError) as error:
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
