"""Which way of running a network is the fastest here: a few timed steps of each.

One thing is changed at a time, and kept if it makes a step at least 5 % faster: memory layout, number format,
compilation. The steps are those of real trainings, on a copy of the weights and with random numbers drawn
anew, so that measuring changes nothing but the time. Compilation takes from half a minute to minutes and is tried
only where the rest of the training would take ten.

Of several processes each measures its own part of the batch by itself, without the exchange of gradients, which is the
same for all candidates; the slowest decides, and what fails on one of them is used by none.

The log (``logging.getLogger("gfdt")``) gets one line with the milliseconds of every candidate.
"""

from __future__ import annotations

import copy
import dataclasses
import logging
import math
import statistics
import time
from typing import TYPE_CHECKING, Any

import torch

from gfdt.diffusion.distributed import Processes
from gfdt.diffusion.execution import Execution
from gfdt.diffusion.training import Training

if TYPE_CHECKING:
    from gfdt.diffusion.objectives import Objective
    from gfdt.diffusion.preconditioning import Denoiser
    from gfdt.diffusion.settings import Settings
    from gfdt.diffusion.states import States

__all__ = ["choose_execution"]

_WARM_UP, _TIMED = 2, 5
_WORTH = 0.95  # of the time of the best so far
_COMPILE_FROM = 600.0  # seconds that training would take without
_LOG = logging.getLogger("gfdt")


def choose_execution(
    denoiser: Denoiser, states: States, objective: Objective, settings: Settings, processes: Processes
) -> Execution:
    """Return how to run the network: as the settings say, and what they leave open as measured.

    Nothing is measured on a CPU unless ``settings.tune`` asks for it, and what is left open is then the plain way.
    """
    fixed = Execution(
        "float32" if settings.precision == "auto" else settings.precision,
        bool(settings.channels_last),
        bool(settings.compile),
    )
    on_gpu = processes.device.type == "cuda"
    if settings.tune is False or (settings.tune is None and not on_gpu):
        return fixed
    timing = _Timing(denoiser, states, objective, settings, processes)
    best, best_time = fixed, timing(fixed)
    trials: list[dict[str, Any]] = []
    if settings.channels_last is None and settings.n_grid == 2:
        trials.append({"channels_last": True})
    if settings.precision == "auto" and settings.objective != "fd-ssm" and _all_have_bf16(processes):
        trials.append({"precision": "bf16"})
    for change in trials:
        candidate = dataclasses.replace(best, **change)
        duration = timing(candidate)
        if duration < _WORTH * best_time:
            best, best_time = candidate, duration
    twice = settings.architecture.energy or settings.objective == "ssm"
    remaining = min(settings.max_steps or 10**9, (settings.max_seconds or 10**18) / best_time)
    if settings.compile is None and not twice and best_time * remaining > _COMPILE_FROM:
        candidate = dataclasses.replace(best, compile=True)
        began = time.perf_counter()
        duration = timing(candidate)
        spent = max(processes.every(time.perf_counter() - began))
        if spent + duration * remaining < _WORTH * best_time * remaining:
            best = candidate
    if processes.first:
        _LOG.info("training step: %s; chosen: %s", timing.table(), best)
    return best


def _all_have_bf16(processes: Processes) -> bool:
    return all(processes.every(processes.device.type != "cuda" or torch.cuda.is_bf16_supported()))


class _Timing:
    """Seconds of a step under an execution, the median of a few; what fails takes for ever."""

    def __init__(self, denoiser: Denoiser, *rest: Any) -> None:
        self._denoiser = denoiser
        self._states, self._objective, self._settings, self._processes = rest
        self._found: dict[Execution, float] = {}

    def __call__(self, execution: Execution) -> float:
        processes = self._processes
        try:
            duration = self._measure(execution)
        except RuntimeError as error:  # a compiler that is missing or gives up
            _LOG.info("%s cannot be used here: %s", execution, (str(error).splitlines() or [""])[0])
            duration = math.inf
        self._found[execution] = max(processes.every(duration))
        return self._found[execution]

    def _measure(self, execution: Execution) -> float:
        """Return the seconds of a step of this process by itself, with its part of the batch."""
        settings, each = self._settings, self._objective.evaluations_per_state
        states_per_step = max(1, settings.batch_size // each)
        training = Training(
            copy.deepcopy(self._denoiser),
            self._states,
            self._objective,
            batch_size=each * max(1, self._processes.part(states_per_step)),
            learning_rate=settings.learning_rate,
            max_steps=_WARM_UP + _TIMED,
            max_seconds=None,
            seed=settings.seed,
            execution=execution,
            processes=Processes(device=self._processes.device),
        )
        times = [1 / record.samples_per_second for record in training][_WARM_UP:]
        return statistics.median(times) * each * training.states_per_step

    def table(self) -> str:
        return ", ".join(f"{execution} {1e3 * seconds:.3g} ms" for execution, seconds in self._found.items())
