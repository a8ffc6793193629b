"""One training on several processes: each has a part of every batch, and all take the same step.

With n_r of the n states of a batch on process r, the gradient of the mean loss is

    g = sum_r (n_r/n) g_r,

one sum over the processes of a flat buffer that carries the loss along. Every process starts from the same weights,
keeps its own share of the states (:mod:`gfdt.shares`), and draws its own order of them and its own noise. Each looks
at its share of the held-out states, and all decide by the same sums; process 0 alone writes. On CPUs a sum goes through
gloo, on GPUs (one per process) through NCCL. Start the same script, or the command line, with ::

    torchrun --standalone --nproc-per-node=2 -m gfdt train run.nc

or on several machines as ``docs/howto/train.md`` says. Where a process is lost the others end with a sentence, at once
or after the time of :func:`gfdt.processes.timeout`.
"""

from __future__ import annotations

import atexit
import datetime
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from gfdt.processes import in_contact, launched, timeout

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Processes", "local_device"]


@dataclass(frozen=True)
class Processes:
    """The processes that share a training; by itself, one.

    Attributes
    ----------
    rank : number of this process
    size : how many there are
    device : where this process computes
    """

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @classmethod
    def join(cls, device: str) -> Self:
        """Return this process among those ``torchrun`` started, connecting to the others at the first call.

        ``device`` is "cpu" or "cuda"; of several GPUs each process takes the one of its ``LOCAL_RANK``.

        Raises
        ------
        ProcessesError
            If they do not all come.
        """
        if not launched():
            return cls(device=torch.device(device))
        place = local_device(device)
        if not dist.is_initialized():
            wait = datetime.timedelta(seconds=timeout())
            with in_contact():
                if device == "cuda":
                    dist.init_process_group("nccl", device_id=place, timeout=wait)
                else:
                    dist.init_process_group("gloo", timeout=wait)
            atexit.register(_leave)
        return cls(dist.get_rank(), dist.get_world_size(), place)

    @property
    def first(self) -> bool:
        """Whether this process shows and writes."""
        return self.rank == 0

    def part(self, count: int) -> int:
        """Return how many of ``count`` things are this process's."""
        return count // self.size + (self.rank < count % self.size)

    def sum_(self, tensors: Sequence[Tensor]) -> None:
        """Replace every tensor by its sum over the processes, in one exchange."""
        if self.size == 1:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        with in_contact():
            dist.all_reduce(flat)
        for tensor, values in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(values.reshape(tensor.shape))

    def total(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return the sum of an array over the processes, in its own precision: the same bits on all of them."""
        if self.size == 1:
            return values
        real = np.ascontiguousarray(values)
        real = real.view(np.float64) if np.iscomplexobj(real) else real.copy()
        numbers = torch.from_numpy(real).to(self.device)
        self.sum_([numbers])
        return numbers.cpu().numpy().view(values.dtype).reshape(values.shape)

    def agree(self, *numbers: float) -> tuple[float, ...]:
        """Return the numbers of process 0."""
        if self.size == 1:
            return numbers
        values = torch.tensor(numbers, dtype=torch.float64, device=self.device)
        with in_contact():
            dist.broadcast(values, 0)
        return tuple(values.tolist())

    def every(self, number: float) -> list[float]:
        """Return the numbers of all processes, in their order."""
        values: list[float] = self.gather(torch.tensor([number], dtype=torch.float64))[:, 0].tolist()
        return values

    def copy_from_first_(self, tensors: Sequence[Tensor]) -> None:
        """Replace every tensor by that of process 0."""
        if self.size > 1:
            for tensor in tensors:
                values = tensor.detach().contiguous().to(self.device)
                with in_contact():
                    dist.broadcast(values, 0)
                tensor.detach().copy_(values)

    def gather(self, values: Tensor) -> Tensor:
        """Return the tensors of all processes, stacked, on the CPU."""
        if self.size == 1:
            return values.cpu()[None]
        every = [torch.empty_like(values, device=self.device) for _ in range(self.size)]
        with in_contact():
            dist.all_gather(every, values.to(self.device))
        return torch.stack(every).cpu()


def local_device(device: str) -> torch.device:
    """Return where this process computes: on "cuda" of several processes each has the GPU of its ``LOCAL_RANK``."""
    if device == "cuda" and launched():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    return torch.device(device)


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()
