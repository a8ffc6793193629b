"""Several processes running the same script under ``torchrun``: which of them may write.

``torchrun`` gives every process its number in ``RANK`` and their count in ``WORLD_SIZE``. All compute; process 0 alone
writes files. This module reads the environment only, so that it costs no import of torch; the exchange of numbers is in
:mod:`gfdt.diffusion.distributed`.
"""

from __future__ import annotations

import os
import sys
from typing import Any

__all__ = ["is_first", "launched", "wait_for_all"]

_NEEDED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


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


def wait_for_all() -> None:
    """Return when every process has come here; at once where no process group is at work."""
    group = _group()
    if group is not None:
        group.barrier()


def _group() -> Any:
    """Return ``torch.distributed`` if a process group is at work in it, else None."""
    distributed: Any = sys.modules.get("torch.distributed")
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return None
    return distributed
