"""The states a network learns from, as batches of anomalies on its device.

A record that fits is normalised once and stays on the device. A larger one is left where it is (a map of a file on
disk, see :mod:`gfdt.record`, or the host's memory beside a smaller GPU): each batch is read and normalised when it is
drawn. Both give the same numbers. The share of one of several processes (:mod:`gfdt.shares`) is nobody else's, and is
normalised in its place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from gfdt.processes import local_size
from gfdt.record import MEMORY_SHARE, memory_limit, state_batches

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gfdt.diffusion.units import Units

__all__ = ["States", "device_limit"]


class States:
    """Anomalies of some states of a record, in float32.

    Parameters
    ----------
    record : ndarray of shape (n, *state)
        In the units of the data.
    index : ndarray of int, or None
        Which of them. None: all, and the array may be overwritten.
    units : Units
        Mean and scale.
    device : torch.device
        Where the batches are wanted.
    """

    def __init__(
        self, record: NDArray[Any], index: NDArray[np.int64] | None, units: Units, device: torch.device
    ) -> None:
        self._index = np.arange(len(record)) if index is None else index
        self._record, self._units, self._device = record, units, device
        values = 4 * self._index.size * int(np.prod(record.shape[1:]))
        self._resident: Tensor | None = None
        if values > device_limit(device):
            return
        if index is None:
            self._record = np.empty((0, *record.shape[1:]), dtype=record.dtype)  # lets go of the memory
        overwritten = index is None and record.dtype == np.float32 and not isinstance(record, np.memmap)
        anomalies = _in_place(record, units) if overwritten else _read(record, self._index, units)
        self._resident = torch.from_numpy(anomalies).to(device)

    def __len__(self) -> int:
        return self._index.size

    def __getitem__(self, chosen: Tensor) -> Tensor:
        """Return the anomalies (n, *state) of ``chosen``, numbers from 0 to ``len(self) - 1`` on the CPU."""
        if self._resident is not None:
            return self._resident[chosen.to(self._device)]
        batch = torch.from_numpy(_read(self._record, self._index[chosen.numpy()], self._units))
        if self._device.type == "cuda":
            return batch.pin_memory().to(self._device, non_blocking=True)
        return batch

    @property
    def nbytes(self) -> int:
        """What stays on the device, in bytes; 0 where batches are read when they are drawn."""
        return 0 if self._resident is None else self._resident.nbytes


def _read(record: NDArray[Any], index: NDArray[np.int64], units: Units) -> NDArray[np.float32]:
    out = np.empty((index.size, *record.shape[1:]), dtype=np.float32)
    for part in state_batches(out.shape):
        out[part] = units.anomalies(record[index[part]])
    return out


def _in_place(record: NDArray[np.float32], units: Units) -> NDArray[np.float32]:
    for part in state_batches(record.shape):
        record[part] = units.anomalies(record[part])
    return record


def device_limit(device: torch.device) -> int:
    """Return how many bytes of states may stay on a device.

    ``MEMORY_SHARE`` of what a GPU has free; of the memory of a machine, for all of its processes together.
    """
    if device.type == "cuda":
        return int(MEMORY_SHARE * torch.cuda.mem_get_info(device)[0])
    return memory_limit() // local_size()
