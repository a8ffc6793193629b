"""The states a network learns from, as batches of anomalies on its device.

A record that fits is normalised once and stays on the device. A larger one is left where it is (a map of a file on
disk, see :mod:`gfdt.record`, or the host's memory beside a smaller GPU): each batch is read and normalised when it is
drawn. Both give the same numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from gfdt.record import MEMORY_SHARE, memory_limit

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
    index : ndarray of int
        Which of them.
    units : Units
        Mean and scale.
    device : torch.device
        Where the batches are wanted.
    """

    def __init__(self, record: NDArray[Any], index: NDArray[np.int64], units: Units, device: torch.device) -> None:
        self._index, self._record, self._units, self._device = index, record, units, device
        values = 4 * index.size * int(np.prod(record.shape[1:]))
        self._resident: Tensor | None = None
        if values <= device_limit(device):
            self._resident = torch.from_numpy(self._read(index)).to(device)

    def __len__(self) -> int:
        return self._index.size

    def __getitem__(self, chosen: Tensor) -> Tensor:
        """Return the anomalies (n, *state) of ``chosen``, numbers from 0 to ``len(self) - 1`` on the CPU."""
        if self._resident is not None:
            return self._resident[chosen.to(self._device)]
        batch = torch.from_numpy(self._read(self._index[chosen.numpy()]))
        if self._device.type == "cuda":
            return batch.pin_memory().to(self._device, non_blocking=True)
        return batch

    def _read(self, index: NDArray[np.int64]) -> NDArray[np.float32]:
        out = np.empty((index.size, *self._record.shape[1:]), dtype=np.float32)
        size = max(1, 2**22 // max(1, int(np.prod(self._record.shape[1:]))))
        for start in range(0, index.size, size):
            part = slice(start, start + size)
            out[part] = self._units.anomalies(self._record[index[part]])
        return out


def device_limit(device: torch.device) -> int:
    """Return how many bytes of states may stay on a device: ``MEMORY_SHARE`` of what it has, or has free (GPU)."""
    if device.type == "cuda":
        return int(MEMORY_SHARE * torch.cuda.mem_get_info(device)[0])
    return memory_limit()
