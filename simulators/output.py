"""Where blocks of snapshots go: an array in memory, or a file that survives a kill.

A file is written under ``<out>.part`` and renamed to its final name when complete, so a file under the final
name is always whole. Beside it ``<out>.part.state.npz`` holds what is needed to continue: the member states and
stream positions after the last complete block. The order of writing makes a kill harmless at any moment: first
the block goes into the part file, which is then closed; then the checkpoint is replaced atomically. A kill
in between repeats the block and writes the same numbers over themselves.

The netCDF variable has a fixed size and contiguous storage, allocated when the file is created. Later blocks
then change raw data only, never HDF5's metadata, and a file interrupted in a write still opens.
"""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from simulators.errors import OutputError, OutputExistsError, ResumeError, SimulatorError
from simulators.schema import Schema
from simulators.streams import dump_streams, load_streams

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Checkpoint", "FileSink", "MemorySink", "Sink", "check_target", "load_checkpoint", "part_path"]

State = tuple[NDArray[Any], ...]


@dataclass(frozen=True)
class Checkpoint:
    """The run after `done` save intervals (spin-up included): one state and one stream per member."""

    done: int
    entropy: int
    config: dict[str, Any]
    states: list[State]
    streams: list[np.random.Generator]


class Sink(Protocol):
    """Destination of blocks; the engine asks for room, fills it, and commits it."""

    def room(self, start: int, stop: int) -> NDArray[Any]:
        """Return an array (member, stop - start, *state) to fill; contiguous for each member."""
        ...

    def commit(self, start: int, block: NDArray[Any] | None, checkpoint: Checkpoint) -> None:
        """Keep a filled block (None during the spin-up) and the state that follows it."""
        ...

    def finish(self) -> "xr.Dataset":
        """Return the whole trajectory."""
        ...

    def advice(self) -> str | None:
        """Return how to continue after an interruption, if that is possible."""
        ...


class MemorySink:
    """Keep the trajectory in one array.

    Parameters
    ----------
    schema : Schema
        Labels and size.

    Raises
    ------
    SimulatorError
        If it is larger than the memory of this machine.
    """

    def __init__(self, schema: Schema) -> None:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        if schema.n_bytes > memory:
            raise SimulatorError(
                f"the trajectory takes {schema.n_bytes / 1e9:.1f} GB, this machine has "
                f"{memory / 1e9:.1f} GB of memory: pass out='run.nc' to stream it to disk, or save less often"
            )
        self._schema = schema
        self._data = np.empty(schema.shape, dtype=schema.dtype)

    def room(self, start: int, stop: int) -> NDArray[Any]:
        """Return a view of the final array: nothing is copied."""
        return self._data[:, start:stop]

    def commit(self, start: int, block: NDArray[Any] | None, checkpoint: Checkpoint) -> None:
        """Do nothing: the block is already in place."""

    def finish(self) -> "xr.Dataset":
        """Return the trajectory in memory."""
        return self._schema.dataset(self._data)

    def advice(self) -> str | None:
        """Return None: what was in memory is lost."""
        return None


class FileSink:
    """Stream blocks to a netCDF file.

    Parameters
    ----------
    path : Path
        Final name, already checked by `check_target`.
    schema : Schema
        Labels and size.
    fresh : bool
        Create the part file; False continues the one on disk.
    """

    def __init__(self, path: Path, schema: Schema, *, fresh: bool) -> None:
        self._path = path
        self._schema = schema
        self._buffer: NDArray[Any] | None = None
        if fresh:
            state_path(path).unlink(missing_ok=True)  # first: an old checkpoint must never meet a new part file
            part_path(path).unlink(missing_ok=True)
            _create(part_path(path), schema)

    def room(self, start: int, stop: int) -> NDArray[Any]:
        """Return the block buffer, allocated once at the length of the first block."""
        n_members, state = self._schema.shape[0], self._schema.shape[2:]
        if self._buffer is None or self._buffer.shape[1] < stop - start:
            self._buffer = np.empty((n_members, stop - start, *state), dtype=self._schema.dtype)
        return self._buffer[:, : stop - start]

    def commit(self, start: int, block: NDArray[Any] | None, checkpoint: Checkpoint) -> None:
        """Write the block, close the file, then replace the checkpoint."""
        import netCDF4

        if block is not None:
            # opened and closed for each block: a few milliseconds, and no dirty library buffers to lose in a kill
            try:
                with netCDF4.Dataset(part_path(self._path), "r+") as file:
                    file.variables[self._schema.variable][:, start : start + block.shape[1]] = block
            except (OSError, RuntimeError) as error:  # RuntimeError is how netCDF4 reports HDF5 failures
                raise OutputError(
                    f"cannot write a block to {part_path(self._path)} ({error}): expected room and access until the "
                    "end; mend that and run the same command with resume"
                ) from error
        _save_checkpoint(state_path(self._path), checkpoint)

    def finish(self) -> "xr.Dataset":
        """Give the file its final name and open it lazily."""
        import xarray as xr

        os.replace(part_path(self._path), self._path)
        state_path(self._path).unlink(missing_ok=True)
        return xr.open_dataset(self._path, engine="netcdf4")

    def advice(self) -> str | None:
        """Return how to continue."""
        return f"the blocks so far are in {part_path(self._path)}; run the same command with resume to continue"


def part_path(path: Path) -> Path:
    """Return the name of the unfinished file."""
    return path.with_name(path.name + ".part")


def state_path(path: Path) -> Path:
    """Return the name of the checkpoint beside the unfinished file."""
    return path.with_name(path.name + ".part.state.npz")


def check_target(out: Any, *, overwrite: bool, resume: bool, n_bytes: int) -> Path:
    """Check, before any simulation, that the output can be written.

    Parameters
    ----------
    out : path-like
        Final name.
    overwrite : bool
        An existing file may be replaced.
    resume : bool
        An unfinished part file may be continued, so it is not counted as missing room.
    n_bytes : int
        Size of the data.

    Returns
    -------
    Path

    Raises
    ------
    OutputError
        If the directory is missing or not writable, or the disk too full.
    OutputExistsError
        If the file exists and `overwrite` is false.
    """
    try:
        path = Path(out)
    except TypeError as error:
        raise OutputError(f"out = {out!r}: expected a file name; pass for example out='run.nc'") from error
    if path.is_dir():
        raise OutputError(f"out = {path} is a directory: expected a file name; pass out='{path / 'run.nc'}'")
    if path.exists() and not overwrite:
        raise OutputExistsError(f"{path} exists: pass overwrite=True (--overwrite) to replace it, or another out")
    if not path.parent.is_dir():
        raise OutputError(f"{path.parent} is not a directory: expected a place for {path.name}; create it first")
    part = part_path(path)
    existed = part.exists()
    try:
        # Opening for append is the only test that also knows about read-only mounts and full quotas.
        with open(part, "ab"):
            pass
    except OSError as error:
        raise OutputError(
            f"cannot write {part} ({error.strerror}): expected a writable directory; choose another out"
        ) from error
    if not existed:
        part.unlink()
    free = shutil.disk_usage(path.parent).free
    if n_bytes > free and not (resume and existed):
        raise OutputError(
            f"{path} needs {n_bytes / 1e9:.2f} GB, {free / 1e9:.2f} GB are free in {path.parent}: "
            "save less often, use dtype='float32', or choose another disk"
        )
    return path


def load_checkpoint(path: Path) -> Checkpoint | None:
    """Return the checkpoint beside the unfinished file of `path`, or None if there is nothing to continue.

    Raises
    ------
    ResumeError
        If there is one and it cannot be read.
    """
    if not part_path(path).exists() or not state_path(path).exists():
        return None
    try:
        with np.load(state_path(path), allow_pickle=False) as saved:
            record = json.loads(str(saved["record"]))
            columns = [saved[f"state_{index}"] for index in range(record["n_arrays"])]
            streams = load_streams(str(saved["streams"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ResumeError(
            f"{state_path(path)} cannot be read ({error}): expected the checkpoint of an interrupted run; "
            "delete it, or start again without resume"
        ) from error
    states = [tuple(column[member].copy() for column in columns) for member in range(len(streams))]
    return Checkpoint(record["done"], record["entropy"], record["config"], states, streams)


def _save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    columns = [np.stack(arrays) for arrays in zip(*checkpoint.states, strict=True)]
    record = {
        "done": checkpoint.done,
        "entropy": checkpoint.entropy,
        "config": checkpoint.config,
        "n_arrays": len(columns),
    }
    arrays: dict[str, Any] = {f"state_{index}": column for index, column in enumerate(columns)}
    arrays |= {"record": np.array(json.dumps(record)), "streams": np.array(dump_streams(checkpoint.streams))}
    temporary = path.with_name(path.name + ".tmp")
    with open(temporary, "wb") as file:
        np.savez(file, **arrays)
    os.replace(temporary, path)


def _create(path: Path, schema: Schema) -> None:
    """Write the whole file except the numbers, and allocate their room."""
    import netCDF4

    with netCDF4.Dataset(path, "w", format="NETCDF4") as file:
        file.setncatts(schema.attrs)
        for name, (values, attrs) in schema.coordinates.items():
            file.createDimension(name, len(values))
            coordinate = file.createVariable(name, values.dtype, (name,), fill_value=False, contiguous=True)
            coordinate.setncatts(attrs)
            coordinate[:] = values
        variable = file.createVariable(schema.variable, schema.dtype, schema.dims, fill_value=False, contiguous=True)
        variable.setncatts(schema.variable_attrs)
        # HDF5 allocates contiguous storage at the first write; this one makes it happen now
        variable[(-1,) * len(schema.shape)] = 0
