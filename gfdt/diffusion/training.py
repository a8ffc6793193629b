"""The training loop, as a generator of one small record per step.

Adam, with gradient clipping; the learning rate warms up over the first 5 % of the budget and falls to zero along
half a cosine, the budget being steps, wall-clock time or both (the nearer end counts). What to do
between steps (averaging, evaluation, progress, stopping) is up to the caller's ``for``::

    for record in train(denoiser, anomalies, objective, ..., generator=generator):
        average.update_parameters(denoiser.network)
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gfdt.diffusion.preconditioning import Denoiser

__all__ = ["StepRecord", "average_weights", "train"]

_WARM_UP = 0.05
_CLIP = 1.0  # gradient norm; 0.01 to 0.3 is normal with targets of unit variance, so only accidents are cut
_STEPS_WITHOUT_LIMIT = 10**9

_Tensors = tuple[Tensor, ...] | list[Tensor]
Objective = Callable[[Denoiser, Tensor, torch.Generator], Tensor]


class StepRecord(NamedTuple):
    """What happened in one step of training.

    Attributes
    ----------
    step : int
        From 1.
    loss : float
        The objective on this step's batch, before the step.
    gradient_norm : float
        Before clipping.
    learning_rate : float
        Used in this step.
    samples_per_second : float
        Network evaluations (two for every state, +z and -z) per second of this step.
    progress : float
        Share of the budget used, 1 at the last step.
    """

    step: int
    loss: float
    gradient_norm: float
    learning_rate: float
    samples_per_second: float
    progress: float


def train(
    denoiser: Denoiser,
    anomalies: Tensor,
    objective: Objective,
    *,
    batch_size: int,
    learning_rate: float,
    max_steps: int | None,
    max_seconds: float | None,
    generator: torch.Generator,
) -> Iterator[StepRecord]:
    """Train ``denoiser.network`` in place, yielding after every step.

    Parameters
    ----------
    denoiser : Denoiser
        On the device to train on.
    anomalies : Tensor of shape (n, *state)
        Training states less their mean, in units of ``denoiser.scale``, on that device.
    objective : callable
        ``objective(denoiser, batch, generator)`` returns the scalar to minimise.
    batch_size : int
        Network evaluations per step, two for each state.
    learning_rate : float
        The largest, reached after the warm-up.
    max_steps, max_seconds : optional
        The budget; at least one is needed.
    generator : Generator
        The only source of randomness, on the device of the states.

    Yields
    ------
    StepRecord
        A loss that is not finite is yielded without stepping: the weights are still those before it.
    """
    parameters = [p for p in denoiser.network.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=learning_rate, betas=(0.9, 0.99), fused=True)
    states = min(len(anomalies), max(1, batch_size // 2))
    batches = _shuffled(len(anomalies), states, generator)
    limit = _STEPS_WITHOUT_LIMIT if max_steps is None else max_steps
    denoiser.train()
    start = before = time.perf_counter()
    for step in range(1, limit + 1):
        spent = 0.0 if max_seconds is None else (before - start) / max_seconds
        rate = learning_rate * _schedule(max((step - 1) / limit, spent))
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = objective(denoiser, anomalies[next(batches)], generator)
        optimizer.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(parameters, _CLIP)
        value, gradient_norm = loss.item(), norm.item()
        if math.isfinite(value) and math.isfinite(gradient_norm):
            optimizer.step()
        now = time.perf_counter()
        spent = 0.0 if max_seconds is None else (now - start) / max_seconds
        progress = min(1.0, max(step / limit, spent))
        yield StepRecord(step, value, gradient_norm, rate, 2 * states / (now - before), progress)
        if progress >= 1:
            return
        # The caller's work between steps is part of the budget but not of the speed.
        before = time.perf_counter()


def average_weights(network: nn.Module, decay: float) -> torch.optim.swa_utils.AveragedModel:
    """Return an exponential moving average of the weights, updated with ``.update_parameters(network)``.

    The decay at update t is min(decay, (1 + t)/(10 + t)), so that short runs do not stay at their start.
    """

    def mix(averages: _Tensors, current: _Tensors, count: Tensor | int) -> None:
        t = float(count)
        torch._foreach_lerp_(averages, current, 1 - min(decay, (1 + t) / (10 + t)))

    return torch.optim.swa_utils.AveragedModel(network, multi_avg_fn=mix)


def _shuffled(count: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield indices, ``size`` at a time, for ever: all in a new random order in each pass.

    Drawing with replacement instead would add the noise of a bootstrap to every pass.
    """
    while True:
        order = torch.randperm(count, generator=generator, device=generator.device)
        yield from order[: count - count % size].split(size)


def _schedule(progress: float) -> float:
    warm_up = min(1.0, (progress + 1e-3) / _WARM_UP)
    return warm_up * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
