"""Whether a checkpoint belongs to the run that was asked to continue it; refusals name what differs or is damaged."""

from typing import Any

import numpy as np

from simulators.checkpoint import Checkpoint, State
from simulators.checks import show
from simulators.errors import ResumeError
from simulators.monitor import Monitor
from simulators.plan import Plan
from simulators.schema import Layout
from simulators.streams import member_stream, same_stream

__all__ = ["check_checkpoint", "differences"]


def check_checkpoint(
    checkpoint: Checkpoint, *, config: dict[str, Any], plan: Plan, layout: Layout, example: State
) -> None:
    """Refuse a checkpoint of another run, or one that no run of this plan can have written.

    Parameters
    ----------
    checkpoint : Checkpoint
        Consistent in itself.
    config : dict
        Of the run asked for.
    plan : Plan
        Of the run asked for.
    layout : Layout
        Labels of the state.
    example : tuple of ndarray
        The state of any member.

    Raises
    ------
    ResumeError
        Naming each parameter that differs, or what is damaged.
    """
    _check_same_run(checkpoint, config)
    _check_state(checkpoint, plan, example)
    _check_spinup(checkpoint, plan, layout)


def _check_same_run(checkpoint: Checkpoint, config: dict[str, Any]) -> None:
    """Refuse to continue a run with other parameters, naming each that differs."""
    theirs = checkpoint.config
    if config["simulate"].get("seed") is None:  # it continues whatever entropy the run began with
        theirs = theirs | {"simulate": theirs["simulate"] | {"seed": None}}
    differ = differences(config, theirs)
    if differ:
        raise ResumeError(
            f"cannot resume with {'; '.join(differ)}: expected the arguments of the interrupted run; "
            "repeat them, or start again without resume"
        )


def _check_state(checkpoint: Checkpoint, plan: Plan, example: State) -> None:
    """Refuse a checkpoint that no run of this plan can have written: it would finish a file with wrong numbers."""
    n_total = plan.n_spinup + plan.n_snapshots
    expected = [(array.shape, array.dtype) for array in example]
    if checkpoint.done > n_total:
        problem = f"{checkpoint.done} save intervals done, expected at most {n_total}"
    elif len(checkpoint.states) != plan.n_members:
        problem = f"{len(checkpoint.states)} members, expected {plan.n_members}"
    elif any([(array.shape, array.dtype) for array in state] != expected for state in checkpoint.states):
        problem = f"states {[(a.shape, str(a.dtype)) for a in checkpoint.states[0]]}, expected {expected}"
    elif not all(np.isfinite(array).all() for state in checkpoint.states for array in state):
        problem = "states that are not finite"
    elif not all(
        same_stream(stream, member_stream(checkpoint.entropy, member))
        for member, stream in zip(plan.members, checkpoint.streams, strict=True)
    ):
        problem = "random streams that do not belong to its seed"
    else:
        return
    raise ResumeError(f"the checkpoint is damaged, it has {problem}: delete it, or start again without resume")


def _check_spinup(checkpoint: Checkpoint, plan: Plan, layout: Layout) -> None:
    """Refuse a checkpoint whose "auto" spin-up is not one of this plan, or neither under way nor over."""
    sums, result = checkpoint.sums, checkpoint.spinup
    if not plan.spinup_checks:
        good = sums is None and result is None
    elif result is not None:
        good = sums is None and result.n_spinup in plan.spinup_checks and checkpoint.done >= result.n_spinup
    else:
        shape = Monitor(layout, plan.n_members, checkpoint.done).sums.shape
        good = sums is not None and checkpoint.done < plan.n_spinup and (sums.shape, sums.dtype) == (shape, np.float64)
    if not good:
        raise ResumeError(
            "the checkpoint is damaged, its spin-up is not one that these arguments lead to: delete it, or start again "
            "without resume"
        )


def differences(config: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Return what differs between the configuration of a run and that of a file, for a message."""
    ours, theirs = _flat(config), _flat(other)
    return [
        f"{key} = {show(ours.get(key))} (the file has {show(theirs.get(key))})"
        for key in sorted(ours.keys() | theirs.keys())
        if ours.get(key) != theirs.get(key)
    ]


def _flat(config: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {"system": config["system"]}
    for section in ("parameters", "simulate"):
        flat |= {f"{section}.{key}": value for key, value in config[section].items()}
    return flat
