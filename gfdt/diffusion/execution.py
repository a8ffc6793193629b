"""How a network is run in training: number format, memory layout, compilation.

None of them changes what is trained: the weights stay float32, and the Gaussian part, the target and the loss are
computed in float32 around the network. bf16 rounds inside the network's products to 8 bits; the other choices agree
with the plain one up to the order of summation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from gfdt.diffusion.preconditioning import Denoiser
from gfdt.errors import CheckpointError

__all__ = ["PLAIN", "Execution", "accelerated"]


@dataclass(frozen=True)
class Execution:
    """One way to run a network.

    Attributes
    ----------
    precision : "float32" or "bf16"
    channels_last : whether convolution weights and inputs (two-dimensional fields) have the channel fastest in memory
    compile : whether ``torch.compile`` fuses it
    """

    precision: str = "float32"
    channels_last: bool = False
    compile: bool = False

    @classmethod
    def from_json(cls, values: Any) -> Self:
        """Rebuild what ``dataclasses.asdict`` gave, from a file that may hold anything; raises CheckpointError."""
        wanted = {"precision", "channels_last", "compile"}
        if (
            not isinstance(values, dict)
            or set(values) != wanted
            or values["precision"] not in ("float32", "bf16")
            or not isinstance(values["channels_last"], bool)
            or not isinstance(values["compile"], bool)
        ):
            raise CheckpointError("the file does not say how its network was run: it was altered; fit the score anew.")
        return cls(**values)

    def __str__(self) -> str:
        extras = ["channels_last"] * self.channels_last + ["compile"] * self.compile
        return " + ".join([self.precision, *extras])


PLAIN = Execution()


def accelerated(denoiser: Denoiser, execution: Execution) -> Denoiser:
    """Return the denoiser with the same weights, run in this way; the plain way returns it as it is."""
    if execution == PLAIN:
        return denoiser
    return denoiser.with_network(_Accelerated(denoiser.network, execution))


class _Accelerated(nn.Module):
    """A network called under another execution; its weights are those of the wrapped one."""

    def __init__(self, network: nn.Module, execution: Execution) -> None:
        super().__init__()
        if execution.channels_last:
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.network = network
        self.run: Any = torch.compile(network, dynamic=False) if execution.compile else network
        self.execution = execution

    def forward(self, x: Tensor, c_noise: Tensor) -> Tensor:
        if self.execution.channels_last and x.ndim == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.execution.precision == "bf16"):
            value: Tensor = self.run(x, c_noise)
        return value.float()
