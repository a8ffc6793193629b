"""The final name of a result, the names beside it while it is unfinished, and whether it can be written."""

import os
import shutil
import stat
from pathlib import Path
from typing import Any

from simulators.checks import show
from simulators.errors import OutputError, OutputExistsError

__all__ = ["check_target", "part_path", "remove_leftovers", "state_path", "temporary_path"]


def part_path(path: Path) -> Path:
    """Return the name of the unfinished file."""
    return path.with_name(path.name + ".part")


def state_path(path: Path) -> Path:
    """Return the name of the checkpoint beside the unfinished file."""
    return path.with_name(path.name + ".part.state.npz")


def temporary_path(path: Path) -> Path:
    """Return the name under which the next checkpoint is written; the longest of the four."""
    return path.with_name(path.name + ".part.state.npz.tmp")


def remove_leftovers(path: Path) -> None:
    """Remove all that is beside the final name; the checkpoint first, it must never meet another part file."""
    for stray in (state_path(path), temporary_path(path), part_path(path)):
        stray.unlink(missing_ok=True)


def check_target(out: Any, *, overwrite: bool, resume: bool, n_bytes: int) -> Path:
    """Check, before any simulation, that the output can be written.

    Parameters
    ----------
    out : path-like
        Final name; through a symbolic link its target is written.
    overwrite : bool
        An existing file may be replaced.
    resume : bool
        An unfinished part file may be continued, so it is not counted as missing room.
    n_bytes : int
        Size of the data.

    Returns
    -------
    Path

    Raises
    ------
    OutputError
        If it is or leads to anything but a regular file, the directory is missing or not writable, or the disk too
        full.
    OutputExistsError
        If the file exists and `overwrite` is false, or an interrupted run is there and neither it nor `resume` is true.
    """
    try:
        path = Path(os.path.realpath(Path(out)))
    except (TypeError, ValueError) as error:  # ValueError: a NUL character
        raise OutputError(f"out = {show(out)}: expected a file name; pass for example out='run.nc'") from error
    kind = _kind(path)
    if kind == "a directory":
        raise OutputError(f"out = {path} is a directory: expected a file name; pass out='{path / 'run.nc'}'")
    for name in (path, part_path(path), state_path(path), temporary_path(path)):
        if _kind(name) not in (None, "a regular file"):
            raise OutputError(
                f"{name} is {_kind(name)}: expected a regular file or a new name; choose another out, or remove it"
            )
    if kind is not None and not overwrite:
        raise OutputExistsError(f"{path} exists: pass overwrite=True (--overwrite) to replace it, or another out")
    if state_path(path).exists() and not (resume or overwrite):
        raise OutputExistsError(
            f"{part_path(path)} is an interrupted run of {path.name}: pass resume=True (--resume) to continue it, or "
            "overwrite=True (--overwrite) to start again"
        )
    if not path.parent.is_dir():
        raise OutputError(f"{path.parent} is not a directory: expected a place for {path.name}; create it first")
    part = part_path(path)
    existed = part.exists()
    for name in (part, temporary_path(path)):
        known = name.exists()
        try:
            # Opening for append is the only test that also knows about read-only mounts and full quotas.
            with open(name, "ab"):
                pass
        except OSError as error:
            raise OutputError(
                f"cannot write {name} ({error.strerror}): expected a writable directory; choose another out"
            ) from error
        if not known:
            name.unlink()
    free = shutil.disk_usage(path.parent).free
    if n_bytes > free and not (resume and existed):
        raise OutputError(
            f"{path} needs {n_bytes / 1e9:.2f} GB, {free / 1e9:.2f} GB are free in {path.parent}: "
            "save less often, use dtype='float32', or choose another disk"
        )
    return path


def _kind(path: Path) -> str | None:
    """Say what is at `path` itself, or None if nothing is."""
    try:
        mode = os.lstat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise OutputError(
            f"cannot look at {path} ({error.strerror}): expected a file name; choose another out"
        ) from error
    names = {
        stat.S_IFREG: "a regular file",
        stat.S_IFDIR: "a directory",
        stat.S_IFLNK: "a symbolic link",
        stat.S_IFIFO: "a named pipe",
        stat.S_IFSOCK: "a socket",
    }
    return names.get(stat.S_IFMT(mode), "a device")
