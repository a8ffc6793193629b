"""The point from which an interrupted run continues, bit for bit, and the small file that keeps it.

The file may have been damaged, or come from elsewhere: sizes, types, ranges and streams are checked, and nothing in it
is ever executed.
"""

import io
import json
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulators.checks import require_integer, show
from simulators.errors import ResumeError
from simulators.monitor import SpinupResult
from simulators.streams import dump_streams, load_streams
from simulators.target import part_path, state_path

__all__ = ["Checkpoint", "State", "load_checkpoint", "save_checkpoint"]

# Of a checkpoint whose size is not known beforehand.
_MAX_BYTES = 2**30

State = tuple[NDArray[Any], ...]


@dataclass(frozen=True)
class Checkpoint:
    """The run after `done` save intervals (spin-up included): one state and one stream per member.

    With ``spinup="auto"`` also what its monitor has seen (`sums`) until the spin-up is over, its result (`spinup`) from
    then on.
    """

    done: int
    entropy: int
    config: dict[str, Any]
    states: list[State]
    streams: list[np.random.Generator]
    sums: NDArray[np.float64] | None = None
    spinup: SpinupResult | None = None


def load_checkpoint(path: Path, max_bytes: int = _MAX_BYTES) -> Checkpoint | None:
    """Return the checkpoint beside the unfinished file of `path`, or None if there is nothing to continue.

    Parameters
    ----------
    path : Path
        Final name.
    max_bytes : int
        A larger checkpoint is refused unread.

    Returns
    -------
    Checkpoint or None
        Consistent in itself; whether it fits the run is for the engine to say.

    Raises
    ------
    ResumeError
        If there is one and it cannot be read.
    """
    if not part_path(path).exists() or not state_path(path).exists():
        return None
    try:
        with open(state_path(path), "rb") as file:
            raw = file.read(max_bytes + 1)
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:  # a small archive can hold much
            size = max(len(raw), sum(entry.file_size for entry in archive.infolist()))
        if size > max_bytes:
            raise ValueError(f"it holds {size} bytes or more, expected at most {max_bytes}")
        with np.load(io.BytesIO(raw), allow_pickle=False) as saved:
            return _checkpoint(saved)
    except Exception as error:  # damaged bytes can raise anything, and whatever it is the answer is the same
        raise ResumeError(
            f"{state_path(path)} cannot be read ({type(error).__name__}: {show(str(error))}): expected the checkpoint "
            "of an interrupted run; delete it, or start again without resume"
        ) from error


def _checkpoint(saved: Any) -> Checkpoint:
    """Return the checkpoint in the arrays of a file; raises where they are not one."""
    record = json.loads(str(saved["record"]))
    done, entropy, config, n_arrays = (record[key] for key in ("done", "entropy", "config", "n_arrays"))
    for name, value, least in (("done", done, 1), ("entropy", entropy, 0), ("n_arrays", n_arrays, 1)):
        require_integer(name, value, at_least=least)
    sections = {"system": str, "parameters": dict, "simulate": dict}
    if not isinstance(config, dict) or not all(isinstance(config.get(key), sections[key]) for key in sections):
        raise ValueError(f"config is {show(config)}")
    if config["simulate"].get("seed") != entropy:
        raise ValueError(f"entropy is {entropy}, the seed is {show(config['simulate'].get('seed'))}")
    columns = [saved[f"state_{index}"] for index in range(n_arrays)]
    streams = load_streams(str(saved["streams"]))
    if any(column.ndim < 1 or len(column) != len(streams) for column in columns):
        raise ValueError(f"states of shapes {[column.shape for column in columns]} for {len(streams)} members")
    states = [tuple(column[member].copy() for column in columns) for member in range(len(streams))]
    spinup = None
    if record.get("spinup") is not None:
        n_spinup, check = record["spinup"]
        spinup = SpinupResult(require_integer("n_spinup", n_spinup, at_least=0), str(check))
    return Checkpoint(done, entropy, config, states, streams, saved.get("sums"), spinup)


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Replace the checkpoint beside the unfinished file of `path`, atomically.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    columns = [np.stack(arrays) for arrays in zip(*checkpoint.states, strict=True)]
    record = {
        "done": checkpoint.done,
        "entropy": checkpoint.entropy,
        "config": checkpoint.config,
        "n_arrays": len(columns),
        "spinup": None if checkpoint.spinup is None else [checkpoint.spinup.n_spinup, checkpoint.spinup.check],
    }
    arrays: dict[str, Any] = {f"state_{index}": column for index, column in enumerate(columns)}
    arrays |= {"record": np.array(json.dumps(record)), "streams": np.array(dump_streams(checkpoint.streams))}
    if checkpoint.sums is not None:
        arrays["sums"] = checkpoint.sums
    temporary = path.with_name(path.name + ".tmp")
    try:
        with open(temporary, "wb") as file:
            np.savez(file, **arrays)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
