"""One task of a run on a cluster: a range of members, on a worker (`simulators.cluster`).

A task can be repeated at any time. Where its file is complete it returns at once; otherwise it goes on from the
checkpoint of whoever was there before: a worker that died, or the same command of yesterday.
"""

import socket
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from simulators.errors import OutputBusyError, OutputError, OutputExistsError, ResumeError, SimulatorError
from simulators.members import words
from simulators.parts import is_complete
from simulators.plan import Plan
from simulators.target import state_path

if TYPE_CHECKING:
    from simulators.system import System

__all__ = ["write_part"]

# Seconds until a new file must be seen on another machine, and to wait for a lock while the checkpoint does not move.
_SIGHT = 5.0
_PATIENCE = 120.0


def write_part(plan: Plan, path: Path, *, system: "System", overwrite: bool, beacon: Path) -> Path | SimulatorError:
    """Bring the file of a part to its end, whatever is there of it already.

    Parameters
    ----------
    plan : Plan
        Of the members of this part.
    path : Path
        Final name.
    system : System
        To simulate.
    overwrite : bool
        Replace a finished or interrupted file of another run.
    beacon : Path
        File that is there as long as somebody waits for the result.

    Returns
    -------
    Path or SimulatorError
        `path`; an error of this package is returned, not raised: Dask would try again, and the same would happen.
    """
    try:
        _find(beacon)
        _complete(plan, path, system=system, overwrite=overwrite, beacon=beacon)
    except SimulatorError as error:
        error.add_note(f"on {socket.gethostname()}, in the part with {words(plan.members)}")
        return error
    return path


def _find(beacon: Path) -> None:
    """Refuse to simulate where the result would not be seen."""
    deadline = time.monotonic() + _SIGHT
    while not beacon.is_file():
        if time.monotonic() > deadline:
            raise OutputError(
                f"{beacon.parent} on the worker {socket.gethostname()} is not the directory of this name where the run "
                "was started: expected one that all machines share; choose another out"
            )
        time.sleep(0.1)


def _complete(plan: Plan, path: Path, *, system: "System", overwrite: bool, beacon: Path) -> None:
    """Simulate until the file is complete, once nobody else is at it."""

    def check_wanted() -> None:
        if not beacon.is_file():
            raise OutputError(
                f"{path} is not finished, as {beacon} has gone: expected it until the end; run the same command again, "
                "which goes on where this one stopped"
            )

    config = system.record_config(plan)
    stamp, since = None, time.monotonic()
    while not is_complete(path, config, overwrite=overwrite):
        write = partial(system.carry_out, plan, out=path, overwrite=overwrite, progress=False, after_block=check_wanted)
        try:
            try:
                write(resume=True)
            except ResumeError:
                if not overwrite:
                    raise
                write(resume=False)
        except OutputExistsError:  # somebody has finished it since it was looked for
            if not is_complete(path, config, overwrite=overwrite):
                raise
        except OutputBusyError as error:
            check_wanted()
            found = _written(state_path(path))
            if found != stamp:
                stamp, since = found, time.monotonic()
            elif time.monotonic() - since > _PATIENCE:
                raise OutputBusyError(
                    f"{error} (its checkpoint has not moved for {_PATIENCE:g} s; a network file system gives up the "
                    "lock of a machine that died after a while: then run the same command again)"
                ) from error
            time.sleep(0.5)


def _written(path: Path) -> int | None:
    """Return when `path` was last written, in nanoseconds, or None if it is not there."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return None
