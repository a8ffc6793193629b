"""Two halves of a record for choosing a setting: neighbouring snapshots are nearly equal, so whole blocks of time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["evenly", "halves"]

_BLOCKS = 10  # of every member


def halves(n_members: int, n_times: int) -> NDArray[np.bool_]:
    """Return which samples of (member, time), flattened, are in the first half.

    Every member is cut into 10 blocks of time, which go to the two halves in turn, members starting in turn too.
    """
    block = np.arange(n_times) * _BLOCKS // n_times
    return ((block + np.arange(n_members)[:, None]) % 2 == 0).ravel()


def evenly(count: int, most: int) -> NDArray[np.int64]:
    """Return at most ``most`` indices below ``count``, evenly spaced."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))
