"""The run of a training: steps, and between them what process 0 shows and writes and what all of them decide."""

from __future__ import annotations

import sys
import warnings
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from gfdt.diffusion.interruption import Interruption
from gfdt.diffusion.log import TrainingLog
from gfdt.diffusion.resume import save
from gfdt.errors import ReliabilityWarning

if TYPE_CHECKING:
    from gfdt.diffusion.checkpoint import Checkpoint
    from gfdt.diffusion.selection import Selection, Selector
    from gfdt.diffusion.training import StepRecord, Training

__all__ = ["Outputs", "run"]

_BAR = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}"
_BAR_UNITS = 1000


@dataclass(frozen=True)
class Outputs:
    """What a training shows and writes on the way; see :class:`gfdt.DSMScore`."""

    progress: bool | None = None
    checkpoint: str | Path | None = None
    checkpoint_minutes: float = 5.0
    log: str | Path | None = None


def run(training: Training, selector: Selector, outputs: Outputs, checkpoint: Checkpoint | None = None) -> Selection:
    """Drive a training to its end and return what was selected.

    Parameters
    ----------
    training : Training
        Its steps.
    selector : Selector
        Looks at them and keeps the best weights.
    outputs : Outputs
        Progress bar and log.
    checkpoint : Checkpoint, optional
        Written when it is due, at Ctrl-C and at the end.

    Warns
    -----
    ReliabilityWarning
        If training ended because of a loss that is not finite, or by Ctrl-C.
    """
    selection, processes = selector.selection, training.processes
    hidden = not processes.first or not (sys.stderr.isatty() if outputs.progress is None else outputs.progress)
    record: StepRecord | None = None
    with ExitStack() as stack:
        interruption = stack.enter_context(Interruption(also_termination=checkpoint is not None))
        log = stack.enter_context(TrainingLog(outputs.log if processes.first else None, training.step))
        bar = stack.enter_context(tqdm(total=_BAR_UNITS, desc="training", disable=hidden, bar_format=_BAR))
        for record in training if not selection.stopped else ():
            evaluated = selector.observe(record)
            log.write(record, selection.history[-1] if evaluated else None)
            bar.update(int(_BAR_UNITS * record.progress) - bar.n)
            if evaluated:
                bar.set_postfix_str(f"held-out loss {selection.history[-1]['held_out']:.4f} of the Gaussian start's")
            stop, interrupted, write = (
                bool(choice)
                for choice in processes.agree(
                    bool(selection.stopped), bool(interruption), checkpoint is not None and checkpoint.due()
                )
            )
            if stop and not selection.stopped:
                selection.stopped = "ended"
            if checkpoint is not None and (stop or interrupted or write):
                save(checkpoint, training, selector)
            if interrupted and not stop:
                selection.stopped = "interrupted"
            if stop or interrupted:
                break
    if not selection.stopped:
        selection.stopped = "budget"  # before the first step: measuring what is fastest took all of it
    if processes.first and selection.stopped in ("interrupted", "not finite"):
        _warn(selection, record, checkpoint)
    return selection


def _warn(selection: Selection, record: StepRecord | None, checkpoint: Checkpoint | None) -> None:
    kept = "the Gaussian start was" if selection.step is None else f"the weights of step {selection.step} were"
    if selection.stopped == "interrupted":
        advice = f"; the same call goes on from {checkpoint.path}" if checkpoint is not None else ""
        text = f"training was interrupted: {kept} kept{advice}."
    else:
        where = f" at step {record.step}" if record is not None else ""
        text = (
            f"the loss was no longer finite{where}: {kept} kept; train again with a smaller learning_rate or another "
            "seed."
        )
    warnings.warn(text, ReliabilityWarning, stacklevel=6)
