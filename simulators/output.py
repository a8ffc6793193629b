"""Where blocks of snapshots go: an array in memory, or a file that survives a kill.

A file is written under ``<out>.part`` and renamed to its final name when complete, so a file under the final
name is always whole. Beside it ``<out>.part.state.npz`` holds what is needed to continue: the member states and
stream positions after the last complete block. The order of writing makes a kill harmless at any moment: first
the block goes into the part file, which is then closed; then the checkpoint is replaced atomically. A kill
in between repeats the block and writes the same numbers over themselves.

The netCDF variable has a fixed size and contiguous storage, allocated when the file is created. Later blocks
then change raw data only, never HDF5's metadata, and a file interrupted in a write still opens.
"""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from simulators.checkpoint import Checkpoint, save_checkpoint
from simulators.errors import OutputError, ResumeError
from simulators.schema import Schema
from simulators.target import part_path, remove_leftovers, state_path

if TYPE_CHECKING:
    import netCDF4
    import xarray as xr

__all__ = ["Block", "FileSink", "MemorySink", "Sink", "read_config_json"]

# One array for each variable.
Block = list[NDArray[Any]]


class Sink(Protocol):
    """Destination of blocks; the engine asks for room, fills it, and commits it."""

    def label(self, schema: Schema) -> None:
        """Take other attributes, before the first block."""
        ...

    def room(self, start: int, stop: int) -> Block:
        """Return an array (member, stop - start, *state) to fill for each variable; contiguous for each member."""
        ...

    def commit(self, start: int, block: Block | None, checkpoint: Checkpoint) -> None:
        """Keep a filled block (None during the spin-up) and the state that follows it."""
        ...

    def finish(self) -> None:
        """Make the trajectory, which is complete now, available."""
        ...

    def dataset(self) -> "xr.Dataset":
        """Return the finished trajectory."""
        ...

    def abandon(self, *, hopeless: bool) -> str | None:
        """Return how to continue after a failure; keep nothing if that is `hopeless` or impossible."""
        ...


class MemorySink:
    """Keep the trajectory in one array for each variable.

    Parameters
    ----------
    schema : Schema
        Labels and size.
    """

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._data = [np.empty(schema.shape, dtype=schema.dtype) for _ in schema.variables]

    def label(self, schema: Schema) -> None:
        """Take other attributes."""
        self._schema = schema

    def room(self, start: int, stop: int) -> Block:
        """Return views of the final arrays: nothing is copied."""
        return [values[:, start:stop] for values in self._data]

    def commit(self, start: int, block: Block | None, checkpoint: Checkpoint) -> None:
        """Do nothing: the block is already in place."""

    def finish(self) -> None:
        """Do nothing: all blocks are already in place."""

    def dataset(self) -> "xr.Dataset":
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
        Final name, already claimed (`simulators.target.claim_target`).
    schema : Schema
        Labels and size.
    fresh : bool
        Remove what is there; False continues the run on disk.
    written : bool
        That run has written blocks; if not, its part file holds nothing and is created anew.

    Raises
    ------
    OutputError
        If the part file cannot be created.
    ResumeError
        If the one on disk is not the beginning of this run.
    """

    def __init__(self, path: Path, schema: Schema, *, fresh: bool, written: bool) -> None:
        self._path = path
        self._schema = schema
        self._buffer: Block = []
        if fresh:
            remove_leftovers(path)
            try:
                _create(part_path(path), schema)
            except BaseException:
                part_path(path).unlink(missing_ok=True)
                raise
        elif written:
            _check_part(part_path(path), schema)
        else:
            _create(part_path(path), schema)

    def label(self, schema: Schema) -> None:
        """Create the file anew: attributes of one that holds blocks are never touched, a kill could spoil them."""
        self._schema = schema
        _create(part_path(self._path), schema)

    def room(self, start: int, stop: int) -> Block:
        """Return the block buffer, allocated once at the length of the first block."""
        n_members, state = self._schema.shape[0], self._schema.shape[2:]
        if not self._buffer or self._buffer[0].shape[1] < stop - start:
            shape = (n_members, stop - start, *state)
            self._buffer = [np.empty(shape, dtype=self._schema.dtype) for _ in self._schema.variables]
        return [values[:, : stop - start] for values in self._buffer]

    def commit(self, start: int, block: Block | None, checkpoint: Checkpoint) -> None:
        """Write the block, close the file, then replace the checkpoint."""
        if block is not None:
            # opened and closed for each block: a few milliseconds, and no dirty library buffers to lose in a kill
            try:
                with _opened(part_path(self._path), "r+") as file:
                    for name, values in zip(self._schema.variables, block, strict=True):
                        file.variables[name][:, start : start + values.shape[1]] = values
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

    def finish(self) -> None:
        """Give the file its final name."""
        try:
            os.replace(part_path(self._path), self._path)
        except OSError as error:
            raise OutputError(
                f"cannot rename {part_path(self._path)} to {self._path} ({error.strerror}): the part file is "
                "complete; rename it by hand"
            ) from error
        remove_leftovers(self._path)

    def dataset(self) -> "xr.Dataset":
        """Open the file lazily."""
        import xarray as xr

        return xr.open_dataset(self._path, engine="netcdf4")

    def abandon(self, *, hopeless: bool) -> str | None:
        """Return how to continue, or remove the part file where there is nothing to continue."""
        if hopeless or not state_path(self._path).exists():
            remove_leftovers(self._path)
            return None
        return f"the blocks so far are in {part_path(self._path)}; run the same command with resume to continue"


@contextlib.contextmanager
def _opened(path: Path, mode: Literal["r", "r+", "w"]) -> Iterator["netCDF4.Dataset"]:
    """Open a file with netCDF4, which is not thread-safe: under the lock that xarray holds when it reads."""
    import netCDF4
    from xarray.backends.netCDF4_ import NETCDF4_PYTHON_LOCK

    with NETCDF4_PYTHON_LOCK:
        file = netCDF4.Dataset(path, mode, format="NETCDF4")
        try:
            yield file
        finally:
            try:
                file.close()
            except (OSError, RuntimeError):
                with contextlib.suppress(OSError, RuntimeError):
                    _let_go(path)
                    file.close()
                raise


def _let_go(path: Path) -> None:
    """Take a file away from HDF5, which cannot close it: what it still wants to write goes nowhere.

    As long as the disk is full HDF5 cannot write its last buffer, and without that it does not close. The file would
    stay open and locked until the process ends; if it were opened again, to resume, it would be the same open file to
    HDF5. Nothing is lost: the block that failed is not in the checkpoint.
    """
    import fcntl

    place = os.stat(path)
    nowhere = os.open(os.devnull, os.O_RDWR)
    try:
        for descriptor in map(int, os.listdir("/dev/fd")):
            with contextlib.suppress(OSError):  # the one that listed them is closed by now
                writes = fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDWR
                if writes and os.path.samestat(os.fstat(descriptor), place):
                    os.dup2(nowhere, descriptor, inheritable=False)
    finally:
        os.close(nowhere)


def read_config_json(path: Path) -> Any:
    """Return what ``config_json`` in a file of a run says.

    Raises
    ------
    OSError, RuntimeError, AttributeError, TypeError, ValueError
        If it cannot be read, or says nothing.
    """
    with _opened(path, "r") as file:
        return json.loads(file.getncattr("config_json"))


def _create(path: Path, schema: Schema) -> None:
    """Write the whole file except the numbers, and allocate their room."""
    try:
        with _opened(path, "w") as file:
            file.setncatts(schema.attrs)
            for name, (values, attrs) in schema.coordinates.items():
                file.createDimension(name, len(values))
                coordinate = file.createVariable(name, values.dtype, (name,), fill_value=False, contiguous=True)
                coordinate.setncatts(attrs)
                coordinate[:] = values
            for name, (dims, values, attrs) in schema.constants.items():
                for dim, size in zip(dims, values.shape, strict=True):
                    if dim not in file.dimensions:
                        file.createDimension(dim, size)
                constant = file.createVariable(name, values.dtype, dims, fill_value=False, contiguous=True)
                constant.setncatts(attrs)
                constant[:] = values
            for name, attrs in schema.variables.items():
                variable = file.createVariable(name, schema.dtype, schema.dims, fill_value=False, contiguous=True)
                variable.setncatts(attrs)
                # HDF5 allocates contiguous storage at the first write; this one makes it happen now
                variable[(-1,) * len(schema.shape)] = 0
    except (OSError, RuntimeError) as error:  # RuntimeError is how netCDF4 reports HDF5 failures
        raise OutputError(
            f"cannot create {path} ({error}): expected room for {schema.n_bytes / 1e9:.3g} GB; free some, raise "
            "the quota or choose another out"
        ) from error


def _check_part(path: Path, schema: Schema) -> None:
    """Refuse to write into a file that does not have the layout and the configuration of the run."""
    try:
        with _opened(path, "r") as file:
            found = {name: (file.variables[name].shape, file.variables[name].dtype) for name in schema.variables}
            config = json.loads(file.getncattr("config_json"))
    except (OSError, RuntimeError, LookupError, AttributeError, TypeError, ValueError) as error:
        raise ResumeError(
            f"{path} cannot be read ({error}): expected the blocks of an interrupted run; delete it, or start again "
            "without resume"
        ) from error
    expected = dict.fromkeys(schema.variables, (schema.shape, np.dtype(schema.dtype)))
    if found != expected or config != json.loads(schema.attrs["config_json"]):
        held = ", ".join(f"{name} of shape {shape} and type {dtype}" for name, (shape, dtype) in found.items())
        raise ResumeError(
            f"{path} holds {held} with its configuration, expected {schema.shape} and {schema.dtype} with the one of "
            "its checkpoint; start again without resume"
        )
