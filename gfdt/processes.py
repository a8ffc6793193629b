"""Several processes running the same script under ``torchrun``: which of them may write, and how long they wait.

``torchrun`` gives every process its number in ``RANK`` and their count in ``WORLD_SIZE``, on one machine or on many; of
those on one machine ``LOCAL_RANK`` and ``LOCAL_WORLD_SIZE`` say the same. All compute; process 0 alone writes files.
A process that waits for the others longer than ``GFDT_PROCESS_TIMEOUT`` seconds (default 600) gives up.

This module reads the environment only, so that it costs no import of torch; the exchange of numbers is in
:mod:`gfdt.diffusion.distributed`.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from gfdt.errors import InputError, ProcessesError

__all__ = ["TIMEOUT", "in_contact", "is_first", "launched", "local_size", "timeout", "wait_for_all"]

TIMEOUT = "GFDT_PROCESS_TIMEOUT"
_NEEDED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_DEFAULT = 600.0  # the longest that processes wait for each other is for the writing of a file: minutes at most


def launched() -> bool:
    """Whether this process is one of several started by ``torchrun``, or has joined others by itself."""
    group = _group()
    if group is not None:
        return bool(group.get_world_size() > 1)
    return all(name in os.environ for name in _NEEDED) and int(os.environ["WORLD_SIZE"]) > 1


def is_first() -> bool:
    """Whether this process writes the files: the only one, or number 0 of several."""
    group = _group()
    if group is not None:
        return bool(group.get_rank() == 0)
    return not launched() or int(os.environ["RANK"]) == 0


def local_size() -> int:
    """Return how many of the processes share the memory of this machine, as far as the environment says."""
    return max(1, int(os.environ.get("LOCAL_WORLD_SIZE", "1"))) if launched() else 1


def timeout() -> float:
    """Return how many seconds a process waits for the others.

    Raises
    ------
    InputError
        If ``GFDT_PROCESS_TIMEOUT`` is not a positive number.
    """
    text = os.environ.get(TIMEOUT)
    try:
        seconds = _DEFAULT if text is None else float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise InputError(f"{TIMEOUT}={text} is not a time: give a positive number of seconds, e.g. {_DEFAULT:g}.")
    return seconds


def wait_for_all() -> None:
    """Return when every process has come here; at once where no process group is at work.

    Raises
    ------
    ProcessesError
        If one of them does not come.
    """
    group = _group()
    if group is not None:
        with in_contact():
            group.barrier()


@contextmanager
def in_contact() -> Iterator[None]:
    """Turn what the library says of a lost process into one sentence; for the exchange of numbers, and nothing else.

    Raises
    ------
    ProcessesError
        Where the exchange failed.
    """
    try:
        yield
    except RuntimeError as error:
        said = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        rank, size = (os.environ.get(name, "?") for name in ("RANK", "WORLD_SIZE"))
        raise ProcessesError(
            f"process {rank} of {size} lost another one, which ended or did not answer for {timeout():g} s: what that "
            "one said last tells why. Start all of them again (with checkpoint= training goes on); if one is only "
            f"slow, set {TIMEOUT} to more seconds. ({said})"
        ) from error


def _group() -> Any:
    """Return ``torch.distributed`` if a process group is at work in it, else None."""
    distributed: Any = sys.modules.get("torch.distributed")
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return None
    return distributed
