"""One record in several parts: which sources belong together, and what their members have in common."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from gfdt.errors import InputError, MissingFileError
from gfdt.reading import open_dataset
from gfdt.time_axis import UNIFORM_RTOL, time_step, time_unit

if TYPE_CHECKING:
    from gfdt.trajectory import Source

__all__ = ["check_alike", "check_parts", "clock_of", "expand_pattern"]


def expand_pattern(source: Source) -> Source:
    """Return the files that a path with ``*``, ``?`` or ``[`` stands for, sorted by name; anything else as it is."""
    if not isinstance(source, str | Path) or not glob.has_magic(str(source)) or os.path.exists(source):
        return source
    found = sorted(glob.glob(str(source)))
    if not found:
        raise MissingFileError(f"no file matches {source}: check the pattern (it is relative to {Path.cwd()}).")
    return list(found)


def check_parts(parts: Sequence[Any]) -> None:
    """Refuse a list of sources that cannot be the members of one record."""
    if not parts:
        raise InputError("the list of trajectories is empty: pass at least one.")
    if any(isinstance(part, list | tuple) for part in parts):
        raise InputError("the list of trajectories holds lists: pass one flat list.")
    if all(np.isscalar(part) and not isinstance(part, str) for part in parts):
        raise InputError(
            "a trajectory cannot be a list of numbers: pass an xarray DataArray, or np.array(...) with dims= and dt=."
        )
    _refuse_twice([part for part in parts if isinstance(part, str | Path)])


def _refuse_twice(paths: Sequence[str | Path]) -> None:
    """Refuse files of one run that hold the same members: they would count twice."""
    seen: dict[tuple[str, int], int] = {}
    for number, path in enumerate(paths):
        with open_dataset(path) as dataset:
            run, members = dataset.attrs.get("seed_entropy"), dataset.coords.get("member")
            if run is None or members is None or "config_json" not in dataset.attrs:
                continue
            system = str(dataset.attrs["config_json"]).partition('"simulate"')[0]
            for member in members.values.tolist():
                other = seen.setdefault((f"{system} {run}", member), number)
                if other != number:
                    raise InputError(
                        f"{paths[other]} and {path} both hold member {member} of the run with seed {run}: leave one "
                        "out, or its members would count twice."
                    )


def check_alike(records: Sequence[xr.DataArray], sources: Sequence[Any]) -> None:
    """Refuse records whose states or time steps differ, naming the sources, which are in the same order."""
    first, reference = records[0], _named(sources, 0)
    for index, record in enumerate(records[1:], 1):
        if record.dims != first.dims or record.shape[2:] != first.shape[2:]:
            raise InputError(
                f"{_named(sources, index)} has dims {dict(record.sizes)}, {reference} {dict(first.sizes)}: all must "
                "have the same state."
            )
        if abs(time_step(record) - time_step(first)) > UNIFORM_RTOL * time_step(first):
            raise InputError(
                f"{_named(sources, index)} has the time step {time_step(record):g}, {reference} "
                f"{time_step(first):g}: bring them to one."
            )


def _named(sources: Sequence[Any], index: int) -> str:
    """Return the path of a source, or its place in the list."""
    source = sources[index]
    if isinstance(source, str | Path):
        return str(source)
    return f"trajectory {index} of the list" if index else "the first"


def clock_of(record: xr.DataArray, times: int) -> xr.DataArray:
    """Return the time coordinate of so many samples from zero, in the steps and the unit of a record."""
    return xr.DataArray(time_step(record) * np.arange(times), dims="time", attrs={"units": time_unit(record)})
