"""Reading netCDF and zarr files that may come from anywhere: times stay numbers, and damage is one clear sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from gfdt.errors import InputError, MissingFileError

__all__ = ["first_line", "open_dataset", "read_response"]


def open_dataset(path: str | Path) -> xr.Dataset:
    """Open a netCDF file or a zarr directory, values unread.

    Raises
    ------
    MissingFileError
        If there is nothing at ``path``.
    InputError
        If it cannot be read: truncated, another format, zarr without the zarr package.
    """
    path = Path(path)
    try:
        found = path.exists()
    except OSError as error:
        raise InputError(f"the path of {len(str(path))} characters cannot be used ({error.strerror}).") from error
    if not found:
        raise MissingFileError(f"there is no file {path}: check the path (it is relative to {Path.cwd()}).")
    # CF dates stay numbers in the file's own unit, and the lags come out in it.
    options: dict[str, Any] = {"decode_times": False, "engine": "zarr" if path.is_dir() else "netcdf4"}
    if path.is_dir():
        try:
            import zarr  # noqa: F401
        except ImportError as error:
            raise InputError(
                f"{path} is a directory and reading zarr stores needs the zarr package: run pip install zarr, "
                "or pass a netCDF file."
            ) from error
    if path.is_file() and _is_score(path):
        raise InputError(f"{path} is a score file, not netCDF: describe it with gfdt info, or pass a netCDF file.")
    try:
        return xr.open_dataset(path, **options)
    except Exception as error:
        raise InputError(
            f"{path} cannot be read as {options['engine']} ({first_line(error)}): it may be truncated or of "
            "another format; write it again or copy it anew."
        ) from error


def _is_score(path: Path) -> bool:
    with path.open("rb") as file:
        return b'"format":"gfdt-score"' in file.read(4096)


def read_response(path: str | Path) -> xr.Dataset:
    """Read a response file (netCDF with ``response``) into memory.

    Raises
    ------
    InputError
        As :func:`open_dataset`, or if it holds no response.
    """
    with open_dataset(path) as dataset:
        if "response" not in dataset or "lag" not in dataset["response"].dims:
            raise InputError(
                f"{path} holds no response (variables: {', '.join(map(str, dataset.data_vars)) or 'none'}): pass a "
                "file written by gfdt respond."
            )
        try:
            dataset = dataset.load()
        except Exception as error:
            raise InputError(f"{path} cannot be read ({first_line(error)}): write or copy it again.") from error
    _check_response(path, dataset)
    return dataset


def _check_response(path: str | Path, dataset: xr.Dataset) -> None:
    """Refuse a response file whose numbers could not be drawn or compared."""
    for name in ("lag", "response", "stderr", "lower", "upper"):
        if name in dataset and not np.issubdtype(dataset[name].dtype, np.number):
            raise InputError(f"{path} holds {dataset[name].dtype} values in {name!r}: write the response again.")
    if "lag" not in dataset.coords or not np.isfinite(dataset["lag"]).all() or np.any(np.diff(dataset["lag"]) <= 0):
        raise InputError(f"{path} has lags that do not increase or are missing: write the response again.")
    for name in ("lower", "upper"):
        if name in dataset and dataset[name].dims != dataset["response"].dims:
            raise InputError(f"{path} has a band of other dims than its response: write the response again.")


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, for use inside a sentence."""
    text = str(error).strip().splitlines()
    return text[0] if text else type(error).__name__
