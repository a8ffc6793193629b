"""What of a run goes into its checkpoint, and back: weights, optimizer, averages, best so far, random numbers, clocks.

Called by all processes of a training together; process 0 writes, and all read the same file.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gfdt.diffusion.checkpoint import Checkpoint, Stored
from gfdt.diffusion.selection import EVALUATIONS, STOPPED, check_history
from gfdt.errors import CheckpointError, InputError
from gfdt.validation import integer, number, one_of

if TYPE_CHECKING:
    from gfdt.diffusion.preconditioning import Denoiser
    from gfdt.diffusion.selection import Selector
    from gfdt.diffusion.settings import Settings
    from gfdt.diffusion.training import Training

__all__ = ["identify", "restore", "save"]

_MOST_STEPS = 10**9


def identify(settings: Settings, data: str, denoiser: Denoiser, processes: int) -> dict[str, Any]:
    """Return what must be the same for a training to go on: settings, data, weights, number of processes."""
    weights = {name: [str(v.dtype), *v.shape] for name, v in denoiser.network.state_dict().items()}
    return {**settings.as_json(), "data": data, "processes": processes, "weights": weights}


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
    expected, optional = _expected(training, selector)
    if "best" in tensors:
        pieces = torch.zeros(selector.n_pieces, dtype=torch.float64)
        expected["best"] = pieces if selector.n_pieces else tensors["best"]  # another process looks at it
    checkpoint.check(tensors, expected, optional)
    try:
        _check_numbers(numbers, len(training.states))
        if (numbers["selection"]["selected"] is None) != (not any(name in tensors for name in optional)):
            raise InputError("weights without a step")
        training.restore(tensors, numbers["training"])
        selector.restore(tensors, numbers["selection"])
    except (InputError, KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise CheckpointError(
            f"the checkpoint {checkpoint.path} does not describe a state of this training ({type(error).__name__}): "
            "it was altered; remove it to start anew."
        ) from error


def _expected(training: Training, selector: Selector) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return tensors of the names, types and shapes that must be there, and those that may be."""
    tensors, _ = training.state()
    tensors |= selector.state()[0]
    optional = {f"selected.{name}": value for name, value in selector.average.module.state_dict().items()}
    return tensors, optional


def _check_numbers(numbers: dict[str, Any], n_states: int) -> None:
    training, selection = numbers["training"], numbers["selection"]
    integer("step", training["step"], 0, _MOST_STEPS)
    integer("position", training["position"], 0, n_states)
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
