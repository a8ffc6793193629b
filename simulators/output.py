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
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from simulators.checkpoint import Checkpoint, save_checkpoint
from simulators.errors import OutputError, ResumeError
from simulators.schema import Schema
from simulators.target import part_path, remove_leftovers, state_path

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["FileSink", "MemorySink", "Sink"]


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

    def abandon(self, *, hopeless: bool) -> str | None:
        """Return how to continue after a failure; keep nothing if that is `hopeless` or impossible."""
        ...


class MemorySink:
    """Keep the trajectory in one array.

    Parameters
    ----------
    schema : Schema
        Labels and size.
    """

    def __init__(self, schema: Schema) -> None:
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

    def abandon(self, *, hopeless: bool) -> str | None:  # noqa: ARG002
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

    Raises
    ------
    OutputError
        If the part file cannot be created.
    ResumeError
        If the one on disk is not the beginning of this run.
    """

    def __init__(self, path: Path, schema: Schema, *, fresh: bool) -> None:
        self._path = path
        self._schema = schema
        self._buffer: NDArray[Any] | None = None
        if fresh:
            remove_leftovers(path)
            _create(part_path(path), schema)
        else:
            _check_part(part_path(path), schema)

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
        try:
            save_checkpoint(state_path(self._path), checkpoint)
        except OSError as error:
            raise OutputError(
                f"cannot write {state_path(self._path)} ({error.strerror}): expected room and access until the end; "
                "mend that and run the same command with resume"
            ) from error

    def finish(self) -> "xr.Dataset":
        """Give the file its final name and open it lazily."""
        import xarray as xr

        try:
            os.replace(part_path(self._path), self._path)
        except OSError as error:
            raise OutputError(
                f"cannot rename {part_path(self._path)} to {self._path} ({error.strerror}): the part file is "
                "complete; rename it by hand"
            ) from error
        remove_leftovers(self._path)
        return xr.open_dataset(self._path, engine="netcdf4")

    def abandon(self, *, hopeless: bool) -> str | None:
        """Return how to continue, or remove the part file where there is nothing to continue."""
        if hopeless or not state_path(self._path).exists():
            remove_leftovers(self._path)
            return None
        return f"the blocks so far are in {part_path(self._path)}; run the same command with resume to continue"


def _create(path: Path, schema: Schema) -> None:
    """Write the whole file except the numbers, and allocate their room."""
    import netCDF4

    try:
        with netCDF4.Dataset(path, "w", format="NETCDF4") as file:
            file.setncatts(schema.attrs)
            for name, (values, attrs) in schema.coordinates.items():
                file.createDimension(name, len(values))
                coordinate = file.createVariable(name, values.dtype, (name,), fill_value=False, contiguous=True)
                coordinate.setncatts(attrs)
                coordinate[:] = values
            variable = file.createVariable(
                schema.variable, schema.dtype, schema.dims, fill_value=False, contiguous=True
            )
            variable.setncatts(schema.variable_attrs)
            # HDF5 allocates contiguous storage at the first write; this one makes it happen now
            variable[(-1,) * len(schema.shape)] = 0
    except BaseException as error:
        path.unlink(missing_ok=True)
        if isinstance(error, OSError | RuntimeError):  # RuntimeError is how netCDF4 reports HDF5 failures
            raise OutputError(
                f"cannot create {path} ({error}): expected room for {schema.n_bytes / 1e9:.3g} GB; free some, raise "
                "the quota or choose another out"
            ) from error
        raise


def _check_part(path: Path, schema: Schema) -> None:
    """Refuse to write into a file that does not have the layout and the configuration of the run."""
    import netCDF4

    try:
        with netCDF4.Dataset(path, "r") as file:
            variable = file.variables[schema.variable]
            found = (variable.shape, variable.dtype, json.loads(file.getncattr("config_json")))
    except (OSError, RuntimeError, LookupError, AttributeError, TypeError, ValueError) as error:
        raise ResumeError(
            f"{path} cannot be read ({error}): expected the blocks of an interrupted run; delete it, or start again "
            "without resume"
        ) from error
    if found != (schema.shape, np.dtype(schema.dtype), json.loads(schema.attrs["config_json"])):
        raise ResumeError(
            f"{path} holds {schema.variable} of shape {found[0]} and type {found[1]} with its configuration, expected "
            f"{schema.shape} and {schema.dtype} with the one of its checkpoint; start again without resume"
        )
