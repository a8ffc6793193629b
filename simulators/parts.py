"""A run in several files, one for each range of members: their names, which of them are there, and all of them as one.

The parts of ``run.nc`` are ``run_000000-000015.nc``, ``run_000016-000031.nc`` and so on, first and last member in the
name. A part is a run like any other (`simulators.output`), with ``first_member`` in its ``config_json``, and under its
final name it is complete.
"""

import json
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simulators.errors import OutputError, OutputExistsError, ParameterError
from simulators.finished import differences_of_file
from simulators.members import first_and_number, words
from simulators.plan import Plan
from simulators.target import part_path, target_path

if TYPE_CHECKING:
    import xarray as xr

    from simulators.system import System

__all__ = ["check_room", "divide", "is_complete", "open_parts", "part_file", "place_of_parts"]


def place_of_parts(out: Any) -> Path:
    """Return the absolute name `out` of a run that is written in parts beside it.

    Symbolic links are left in it: on another machine they may lead elsewhere.

    Raises
    ------
    ParameterError
        If it is None.
    OutputError
        If it cannot be the name of a file.
    """
    if out is None:
        raise ParameterError(
            "out = None with a client: expected a file name in a directory that all machines share; pass for example "
            "out='/shared/run.nc'"
        )
    target_path(out)
    return Path(os.path.abspath(Path(out)))


def part_file(place: Path, members: range) -> Path:
    """Return the name of the part of the run `place` that has these members."""
    return place.with_name(f"{place.stem}_{members.start:06d}-{members.stop - 1:06d}{place.suffix}")


def divide(place: Path, members: range, size: int) -> list[range]:
    """Divide the members of a run into ranges of at most `size`, one for each part.

    Ranges that are there from before, complete or interrupted, are kept as they are, whatever `size` was then.

    Parameters
    ----------
    place : Path
        As `place_of_parts` returns it.
    members : range
        Of the whole run.
    size : int
        Members of a part.

    Returns
    -------
    list of range
        In order, without gaps.

    Raises
    ------
    ParameterError
        If a file is there that holds some of `members` and others beside them, or two that share members.
    """
    parts: list[range] = []
    begin = members.start
    for there in _ranges_there(place, members):
        if there.start < begin or there.stop > members.stop:
            clash = next((part for part in parts if part.stop > there.start), None)
            found = f"{words(members)} were asked for" if clash is None else f"as is {part_file(place, clash).name}"
            raise ParameterError(
                f"{part_file(place, there)} is for {words(there)}, {found}: expected files that fit side by side; "
                "remove it, choose another out, or ask for the members of whole files"
            )
        parts += [*_pieces(begin, there.start, size), there]
        begin = there.stop
    return parts + _pieces(begin, members.stop, size)


def _pieces(begin: int, end: int, size: int) -> list[range]:
    return [range(first, min(first + size, end)) for first in range(begin, end, size)]


def _ranges_there(place: Path, members: range) -> list[range]:
    """Return the ranges of finished and interrupted parts that hold any of `members`, in order."""
    pattern = re.compile(
        rf"{re.escape(place.stem)}_(\d{{6,15}})-(\d{{6,15}}){re.escape(place.suffix)}(\.part\.state\.npz)?"
    )
    found = (pattern.fullmatch(name) for name in os.listdir(place.parent))
    ranges = {range(int(match[1]), int(match[2]) + 1) for match in found if match}
    touching = (each for each in ranges if each and each.start < members.stop and each.stop > members.start)
    return sorted(touching, key=lambda each: (each.start, each.stop))


def is_complete(path: Path, config: dict[str, Any], *, overwrite: bool) -> bool:
    """Tell whether `path` is the complete file of a part.

    Parameters
    ----------
    path : Path
        Final name.
    config : dict
        What ``config_json`` of the part has to say.
    overwrite : bool
        A file of another run counts as none.

    Raises
    ------
    OutputExistsError
        If there is a file of another run, or a damaged one, and `overwrite` is false.
    """
    if not path.exists():
        return False
    differ = differences_of_file(config, path)
    if differ and not overwrite:
        raise OutputExistsError(
            f"{path} is not a part of this run, {'; '.join(differ)}: expected one of it, or no file; pass "
            "overwrite=True (--overwrite) to replace it, or another out"
        )
    return not differ


def check_room(system: "System", plan: Plan, place: Path, todo: Sequence[range]) -> None:
    """Refuse a run that has no room for all its parts `todo`: each by itself would only look for its own.

    Raises
    ------
    OutputError
        With the size needed and the room there.
    """
    begun = {part for part in todo if part_path(part_file(place, part)).exists()}
    n_bytes = sum(replace(plan, members=part).n_bytes(system.record_layout(plan)) for part in set(todo) - begun)
    free = shutil.disk_usage(place.parent).free
    if n_bytes > free:
        raise OutputError(
            f"{len(todo) - len(begun)} parts of {place} need {n_bytes / 1e9:.2f} GB, {free / 1e9:.2f} GB are free in "
            f"{place.parent}: save less often, use dtype='float32', or choose another disk"
        )


def open_parts(paths: Sequence[Path], members: range) -> "xr.Dataset":
    """Open the parts of a run lazily as one Dataset with dask arrays.

    Parameters
    ----------
    paths : sequence of Path
        In the order of the members.
    members : range
        Of the whole run.

    Returns
    -------
    xarray.Dataset
        Attributes of the first part, but ``config_json`` is that of the whole run. ``encoding["parts"]`` are the paths.
    """
    import xarray as xr

    whole = xr.open_mfdataset(
        paths,
        engine="netcdf4",
        combine="nested",
        concat_dim="member",
        data_vars="minimal",
        coords="minimal",
        compat="override",
        join="exact",
        combine_attrs="override",
        chunks="auto",
    )
    config = json.loads(whole.attrs["config_json"])
    request = {key: value for key, value in config["simulate"].items() if key not in ("n_members", "first_member")}
    config["simulate"] = first_and_number(members) | request
    whole.attrs["config_json"] = json.dumps(config)
    whole.encoding["parts"] = [str(path) for path in paths]
    return whole
