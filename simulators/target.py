"""The final name of a result, the names beside it while it is unfinished, and whether it can be written.

A run holds an advisory lock (``flock``) as long as it writes, so that two runs never share a part file. The system
releases it when the process ends, however it ends; the lock file that a kill leaves behind means nothing. On a network
file system the lock of a node that has gone may last until the server gives it up.
"""

import contextlib
import errno
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from simulators.checks import show
from simulators.errors import OutputBusyError, OutputError, OutputExistsError

__all__ = [
    "check_target",
    "claim_target",
    "lock_path",
    "part_path",
    "remove_leftovers",
    "state_path",
    "target_path",
    "temporary_path",
]


def part_path(path: Path) -> Path:
    """Return the name of the unfinished file."""
    return path.with_name(path.name + ".part")


def state_path(path: Path) -> Path:
    """Return the name of the checkpoint beside the unfinished file."""
    return path.with_name(path.name + ".part.state.npz")


def temporary_path(path: Path) -> Path:
    """Return the name under which the next checkpoint is written."""
    return path.with_name(path.name + ".part.state.npz.tmp")


def lock_path(path: Path) -> Path:
    """Return the name of the file that is locked while a run writes; the longest of all, so it tests their length."""
    return path.with_name(path.name + ".part.state.npz.lock")


def remove_leftovers(path: Path) -> None:
    """Remove all that is beside the final name; the checkpoint first, it must never meet another part file."""
    for stray in (state_path(path), temporary_path(path), part_path(path)):
        stray.unlink(missing_ok=True)


def check_target(out: Any, *, overwrite: bool, resume: bool, n_bytes: int) -> None:
    """Check as `claim_target` does, without holding the place."""
    with claim_target(out, overwrite=overwrite, resume=resume, n_bytes=n_bytes):
        pass


@contextlib.contextmanager
def claim_target(out: Any, *, overwrite: bool, resume: bool, n_bytes: int) -> Iterator[Path]:
    """Check, before any simulation, that the output can be written, and keep other runs away from it.

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

    Yields
    ------
    Path
        The final name; locked until the context is left.

    Raises
    ------
    OutputError
        If it is or leads to anything but a regular file, the directory is missing or not writable, another run is
        writing there (`OutputBusyError`), or the disk is too full.
    OutputExistsError
        If the file exists and `overwrite` is false, or an interrupted run is there and neither it nor `resume` is true.
    """
    path = target_path(out)
    with _lock(path):
        _check_files(path, overwrite=overwrite, resume=resume)
        _check_room(path, resume=resume, n_bytes=n_bytes)
        yield path


def target_path(out: Any) -> Path:
    """Return the final name, links followed, in a directory that is there.

    Raises
    ------
    OutputError
        If it is or leads to anything but a regular file or a new name, or the directory is missing.
    """
    try:
        path = Path(os.path.realpath(Path(out)))
    except (TypeError, ValueError) as error:  # ValueError: a NUL character
        raise OutputError(f"out = {show(out)}: expected a file name; pass for example out='run.nc'") from error
    kind = _kind(path)
    if kind == "a directory":
        raise OutputError(f"out = {path} is a directory: expected a file name; pass out='{path / 'run.nc'}'")
    if not path.parent.is_dir():
        raise OutputError(f"{path.parent} is not a directory: expected a place for {path.name}; create it first")
    for name in (path, part_path(path), state_path(path), temporary_path(path), lock_path(path)):
        if _kind(name) not in (None, "a regular file"):
            raise OutputError(
                f"{name} is {_kind(name)}: expected a regular file or a new name; choose another out, or remove it"
            )
    return path


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Hold the lock of `path`; the file goes when the lock does."""
    import fcntl  # not on every platform, and no run without a file needs it

    name = lock_path(path)
    held = False
    while not held:
        try:
            descriptor = os.open(name, os.O_RDWR | os.O_CREAT)
        except OSError as error:
            raise OutputError(
                f"cannot write {part_path(path)} ({error.strerror}): expected a writable directory; choose another out"
            ) from error
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno in (errno.EAGAIN, errno.EACCES):
                    raise OutputBusyError(
                        f"{part_path(path)} is being written by another run: expected to be alone; wait for its end, "
                        "or choose another out"
                    ) from error
                # a file system without locks: go on without
            # if the run before has removed the file between opening and locking, this lock is worth nothing: once more
            with contextlib.suppress(FileNotFoundError):
                held = os.path.samestat(os.stat(name), os.fstat(descriptor))
            if held:
                try:
                    yield
                finally:
                    name.unlink(missing_ok=True)
        finally:
            os.close(descriptor)


def _check_files(path: Path, *, overwrite: bool, resume: bool) -> None:
    """Refuse to replace what was not meant to be replaced."""
    if path.exists() and not overwrite:
        raise OutputExistsError(f"{path} exists: pass overwrite=True (--overwrite) to replace it, or another out")
    if state_path(path).exists() and not (resume or overwrite):
        raise OutputExistsError(
            f"{part_path(path)} is an interrupted run of {path.name}: pass resume=True (--resume) to continue it, or "
            "overwrite=True (--overwrite) to start again"
        )


def _check_room(path: Path, *, resume: bool, n_bytes: int) -> None:
    """Refuse a file that cannot be written, or has no room."""
    part = part_path(path)
    existed = part.exists()
    try:
        # Opening for append is the only test that also knows about read-only mounts and full quotas.
        with open(part, "ab"):
            pass
    except OSError as error:
        raise OutputError(
            f"cannot write {part} ({error.strerror}): expected a writable directory; choose another out"
        ) from error
    if not existed:
        part.unlink()
    free = shutil.disk_usage(path.parent).free
    if n_bytes > free and not (resume and existed):
        raise OutputError(
            f"{path} needs {n_bytes / 1e9:.2f} GB, {free / 1e9:.2f} GB are free in {path.parent}: "
            "save less often, use dtype='float32', or choose another disk"
        )


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
