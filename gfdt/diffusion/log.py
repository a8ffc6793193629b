"""Records of a training as they are made: one line per step in a CSV file, or curves for TensorBoard.

The columns are those of :class:`gfdt.diffusion.training.StepRecord` (the loss relative to the Gaussian start, and in
the quarters of the noise levels from low to high) and, on the lines of an evaluation, the held-out loss, the gain and
its standard error.
"""

from __future__ import annotations

import csv
import math
import os
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from gfdt.diffusion.training import LEVEL_BINS
from gfdt.errors import InputError, OutputError

if TYPE_CHECKING:
    from gfdt.diffusion.training import StepRecord

__all__ = ["TrainingLog", "check_log"]

_QUARTERS = [f"loss_{number}" for number in range(1, LEVEL_BINS + 1)]
_EVALUATION = ["held_out", "gain", "gain_error"]
COLUMNS = [
    "step", "seconds", "loss", *_QUARTERS, "gradient_norm", "learning_rate", "samples_per_second", "progress",
    *_EVALUATION,
]  # fmt: skip


def check_log(path: str | Path) -> None:
    """Refuse, before any work, a log that could not be written.

    Raises
    ------
    InputError
        If it is neither a .csv file nor a directory, or a directory and there is no tensorboard.
    OutputError
        If its directory is missing, or the file there is no such log.
    """
    path = Path(path)
    if path.is_dir():
        _summary_writer()
        return
    if path.suffix != ".csv":
        raise InputError(f"log={str(path)!r} is neither a .csv file nor an existing directory (for TensorBoard).")
    if not path.parent.is_dir():
        raise OutputError(f"the directory {path.parent} does not exist: create it first (mkdir -p {path.parent}).")
    if path.exists() and path.stat().st_size and _first_line(path) != ",".join(COLUMNS):
        raise OutputError(f"{path} exists and is no log of a training: name another file for log=.")


class TrainingLog:
    """Writes records until it is closed; without a path it does nothing.

    Parameters
    ----------
    path : path or None
        See :func:`check_log`.
    resume_after : int
        The step after which the training goes on: lines up to it are kept, 0 starts anew.
    """

    def __init__(self, path: str | Path | None, resume_after: int = 0) -> None:
        self._stream: Any = None
        self._events: Any = None
        if path is None:
            return
        path = Path(path)
        if path.is_dir():
            self._events = _summary_writer()(os.fspath(path), purge_step=resume_after + 1)
            return
        kept = _lines_up_to(path, resume_after) if resume_after and path.exists() else []
        try:
            self._stream = path.open("w", newline="", encoding="utf-8")
        except OSError as error:
            raise OutputError(f"the log {path} cannot be written ({error.strerror}): name another file.") from error
        self._writer = csv.writer(self._stream, lineterminator="\n")
        self._writer.writerow(COLUMNS)
        self._writer.writerows(kept)
        self._stream.flush()

    def write(self, record: StepRecord, evaluation: dict[str, float] | None) -> None:
        """Add one step, and the evaluation that followed it."""
        found = {name: (evaluation or {}).get(name, "") for name in _EVALUATION}
        quarters = dict(zip(_QUARTERS, record.loss_by_level, strict=True))
        values: dict[str, Any] = record._asdict() | quarters | found
        if self._stream is not None:
            self._writer.writerow([_text(values[name]) for name in COLUMNS])
            self._stream.flush()
        if self._events is not None:
            for name in COLUMNS[1:]:
                if values[name] != "" and math.isfinite(values[name]):
                    self._events.add_scalar(f"training/{name}", values[name], record.step)
            self._events.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._stream is not None:
            self._stream.close()
        if self._events is not None:
            self._events.close()


def _text(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _first_line(path: Path) -> str:
    with path.open(encoding="utf-8", errors="replace") as stream:
        return stream.readline(4096).strip()


def _lines_up_to(path: Path, step: int) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8", errors="replace") as stream:
        lines = list(csv.reader(stream))[1:]
    return [line for line in lines if len(line) == len(COLUMNS) and line[0].isdigit() and int(line[0]) <= step]


def _summary_writer() -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise InputError(
            "log= names a directory, for TensorBoard, and the tensorboard package is not installed: run pip install "
            "tensorboard, or name a .csv file."
        ) from error
    return SummaryWriter
