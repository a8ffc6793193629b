"""Files that are parts of one run: the same configuration but for the members, which are together 0 ... n - 1."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gfdt.errors import InputError

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Part", "Run", "announce", "gather", "in_words", "spans"]


@dataclass(frozen=True)
class Part:
    """A file with some members of a run, in the order of the file."""

    file: Path
    members: list[int]


@dataclass(frozen=True)
class Run:
    """The files of one run, in the order of their first members; no member is in two of them."""

    parts: list[Part]
    config: dict[str, Any]

    @property
    def members(self) -> list[int]:
        """All members."""
        return sorted(member for part in self.parts for member in part.members)

    @property
    def missing(self) -> list[range]:
        """Members up to the last one that are in no file."""
        there = spans(self.members)
        ends = [0, *(span.stop for span in there)]
        return [range(end, span.start) for end, span in zip(ends, there, strict=False) if end < span.start]

    @property
    def config_json(self) -> str:
        """Configuration of the run, with the number of members that are there."""
        return json.dumps(self.config | {"simulate": {"n_members": len(self.members)} | self.config["simulate"]})


def gather(files: Sequence[Path], data: Collection[Path]) -> list[Run | Path]:
    """Put the parts of each run together; what is no part, or the only one, stays a file.

    Parameters
    ----------
    files : sequence of Path
        In the order asked for.
    data : collection of Path
        Those of them that are netCDF or zarr.

    Returns
    -------
    list of Run or Path
        In the order of their first files.

    Raises
    ------
    InputError
        If two parts of a run hold the same member, or a file cannot be read.
    """
    from gfdt.reading import open_dataset

    groups: dict[Any, list[Part]] = {}
    configs: dict[Any, dict[str, Any]] = {}
    for number, file in enumerate(files):
        key: Any = number
        members: list[int] = []
        if file in data:
            with open_dataset(file) as dataset:
                config = _config(dataset)
                if config is not None:
                    key, members = _key(dataset, config), dataset["member"].values.tolist()
                    configs[key] = config
        groups.setdefault(key, []).append(Part(file, members))
    return [_run(parts, configs[key]) if len(parts) > 1 else parts[0].file for key, parts in groups.items()]


def _config(dataset: xr.Dataset) -> dict[str, Any] | None:
    """Return the configuration of a trajectory without its members, or None if it is none of the simulators'."""
    import numpy as np

    if not {"member", "time"} <= set(dataset.coords) or dataset["member"].dims != ("member",):
        return None
    if not dataset.sizes["member"] or not np.issubdtype(dataset["member"].dtype, np.integer):
        return None
    try:
        config = json.loads(str(dataset.attrs["config_json"]))
        request = {key: item for key, item in config["simulate"].items() if key not in ("n_members", "first_member")}
        return {**config, "simulate": request}
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return None


def _key(dataset: xr.Dataset, config: dict[str, Any]) -> str:
    """Return what the parts of a run have in common: the configuration, and the rest of their shape."""
    shapes = {
        str(name): [str(variable.dtype), *((str(dim), size) for dim, size in variable.sizes.items() if dim != "member")]
        for name, variable in dataset.variables.items()
        if name != "member"
    }
    return json.dumps([config, shapes], sort_keys=True)


def _run(parts: list[Part], config: dict[str, Any]) -> Run:
    """Return the run of some parts, if no member is in two."""
    holder: dict[int, Part] = {}
    for part in sorted(parts, key=lambda part: min(part.members)):
        for member in part.members:
            other = holder.setdefault(member, part)
            if other is not part:
                both = sorted(set(part.members) & set(other.members))
                raise InputError(
                    f"{other.file} and {part.file} both hold {in_words(spans(both))} of one run: leave one of the "
                    "files out."
                )
        if len(set(part.members)) < len(part.members):
            raise InputError(f"{part.file} holds a member twice: write the file again.")
    return Run(sorted(parts, key=lambda part: min(part.members)), config)


def announce(files: Sequence[Path]) -> None:
    """Say what is read where it is more than one file, with the members of a run that are in none of them."""
    if len(files) < 2:
        return
    from gfdt.cli.options import say

    found = gather(files, set(files))
    say(f"reading {len(files)} files")
    for run in (each for each in found if isinstance(each, Run) and each.missing):
        say(f"of the run of {run.parts[0].file}, {in_words(run.missing)} are in no file")


def spans(members: Sequence[int]) -> list[range]:
    """Return sorted members as ranges without gaps.

    Examples
    --------
    >>> spans([0, 1, 2, 7])
    [range(0, 3), range(7, 8)]
    """
    found: list[range] = []
    for member in members:
        if found and member == found[-1].stop:
            found[-1] = range(found[-1].start, member + 1)
        else:
            found.append(range(member, member + 1))
    return found


def in_words(members: Sequence[range]) -> str:
    """Write ranges of members as text.

    Examples
    --------
    >>> in_words([range(0, 3), range(7, 8)])
    'members 0 to 2, 7'
    """
    text = ", ".join(str(span.start) if len(span) == 1 else f"{span.start} to {span.stop - 1}" for span in members)
    return f"member{'s' if sum(map(len, members)) > 1 else ''} {text}"
