"""What of a run goes into its checkpoint, and back: weights, optimizer, averages, best so far, random numbers, clocks.

Called by all processes of a training together; process 0 writes, and all read the same file. Their number may be
another one than before: then everything goes on but the random numbers, which begin anew
(:mod:`gfdt.diffusion.streams`).
"""

from __future__ import annotations

import dataclasses
import logging
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gfdt.diffusion.checkpoint import Checkpoint, Stored
from gfdt.diffusion.selection import EVALUATIONS, STOPPED, check_history
from gfdt.errors import CheckpointError, InputError
from gfdt.validation import integer, number, one_of

if TYPE_CHECKING:
    from gfdt.diffusion.distributed import Processes
    from gfdt.diffusion.preconditioning import Denoiser
    from gfdt.diffusion.selection import Selector
    from gfdt.diffusion.settings import Settings
    from gfdt.diffusion.training import Training

__all__ = ["identify", "read", "restore", "save"]

_MOST_STEPS = 10**9
_MOST_PROCESSES = 10**5
_MOST_STATES = 10**12
_LOG = logging.getLogger("gfdt")


def identify(settings: Settings, data: str, denoiser: Denoiser) -> dict[str, Any]:
    """Return what must be the same for a training to go on: settings, data, weights."""
    weights = {name: [str(v.dtype), *v.shape] for name, v in denoiser.network.state_dict().items()}
    return {**settings.as_json(), "data": data, "weights": weights}


def read(checkpoint: Checkpoint, processes: Processes) -> Stored | None:
    """Return what is in the file, the same for all processes; None if there is none.

    Raises
    ------
    CheckpointError
        As :meth:`gfdt.diffusion.checkpoint.Checkpoint.read`, or if not all processes see the same file.
    """
    stored = checkpoint.read()
    step = -1 if stored is None else _step_of(stored)
    if len(set(processes.every(step))) > 1:
        raise CheckpointError(
            f"the processes do not see the same checkpoint {checkpoint.path}: name a file that all machines share, or "
            "copy it to each of them."
        )
    return stored


def _step_of(stored: Stored) -> float:
    """Return the step of a state that is not checked yet; -2 if it has none."""
    try:
        return float(stored[1]["training"]["step"])
    except (KeyError, TypeError, ValueError, OverflowError):
        return -2.0


def save(checkpoint: Checkpoint, training: Training, selector: Selector) -> None:
    """Write the state after the last step."""
    tensors, numbers = training.state()
    if not training.processes.first:
        return
    kept, more = selector.state()
    execution = dataclasses.asdict(training.execution)
    checkpoint.write(tensors | kept, {"training": numbers, "selection": more, "execution": execution})


def restore(checkpoint: Checkpoint, stored: Stored, training: Training, selector: Selector) -> None:
    """Put a training and its selector where the checkpoint left them.

    Raises
    ------
    CheckpointError
        If what it holds cannot be theirs.
    """
    tensors, numbers = stored
    expected, optional = _expected(training, selector, _processes_of(numbers))
    if "best" in tensors:
        expected["best"] = torch.zeros(selector.held_out.n_pieces, dtype=torch.float64)
    checkpoint.check(tensors, expected, optional)
    try:
        _check_numbers(numbers, len(training.states), training.processes.size)
        if (numbers["selection"]["selected"] is None) != (not any(name in tensors for name in optional)):
            raise InputError("weights without a step")
        training.restore(tensors, numbers["training"])
        selector.restore(tensors, numbers["selection"])
    except (InputError, KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise CheckpointError(
            f"the checkpoint {checkpoint.path} does not describe a state of this training ({type(error).__name__}): "
            "it was altered; remove it to start anew."
        ) from error
    before, now = len(numbers["training"]["positions"]), training.processes.size
    if before != now and training.processes.first:
        _LOG.info(
            "%s was written by %d process%s and goes on with %d at step %d: with other random numbers, all else as it "
            "was",
            *(checkpoint.path, before, "es" * (before > 1), now, training.step),
        )


def _expected(training: Training, selector: Selector, before: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return tensors of the names, types and shapes that must be there, and those that may be."""
    tensors, _ = training.state()
    for name in ("random.noise", "random.order"):
        tensors[name] = tensors[name][:1].expand(before, -1)
    tensors |= selector.state()[0]
    optional = {f"selected.{name}": value for name, value in selector.average.module.state_dict().items()}
    return tensors, optional


def _processes_of(numbers: dict[str, Any]) -> int:
    """Return how many processes wrote a state that is not checked yet; 1 if it does not say."""
    training = numbers.get("training")
    positions = training.get("positions") if isinstance(training, dict) else None
    return len(positions) if isinstance(positions, list) and 0 < len(positions) <= _MOST_PROCESSES else 1


def _check_numbers(numbers: dict[str, Any], n_states: int, size: int) -> None:
    training, selection = numbers["training"], numbers["selection"]
    integer("step", training["step"], 0, _MOST_STEPS)
    if not isinstance(training["positions"], list) or not 0 < len(training["positions"]) <= _MOST_PROCESSES:
        raise InputError("no positions")
    # Shares of another number of processes are of another size.
    most = n_states + 1 if len(training["positions"]) == size else _MOST_STATES
    for position in training["positions"]:
        integer("position", position, 0, most)
    number("seconds", training["seconds"], low=0.0, closed=True)
    integer("selected", selection["selected"], 1, _MOST_STEPS, optional=True)
    one_of("stopped", selection["stopped"], ("", *STOPPED))
    integer("evaluations", selection["evaluations"], 0, EVALUATIONS)
    integer("worse", selection["worse"], 0, EVALUATIONS)
    check_history(selection["history"])
    for name in ("losses", "best_loss"):
        total, squares, count = selection[name]
        number(name, total, low=float("-inf"))
        number(name, squares, low=0.0, closed=True)
        integer(name, count, 0, _MOST_STEPS)
