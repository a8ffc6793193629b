"""Where blocks of snapshots go: an array in memory, or a file that survives a kill.

A file is written under ``<out>.part`` and renamed to its final name when complete, so a file under the final
name is always whole. Beside it ``<out>.part.state.npz`` holds what is needed to continue: the member states and
stream positions after the last complete block. The order of writing makes a kill harmless at any moment: first
the block goes into the part file, which is then closed; then the checkpoint is replaced atomically. A kill
in between repeats the block and writes the same numbers over themselves.

The netCDF variable has a fixed size and contiguous storage, allocated when the file is created. Later blocks
then change raw data only, never HDF5's metadata, and a file interrupted in a write still opens.
"""

import io
import json
import os
import shutil
import stat
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from simulators.checks import require_integer, show
from simulators.errors import OutputError, OutputExistsError, ResumeError
from simulators.schema import Schema
from simulators.streams import dump_streams, load_streams

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Checkpoint", "FileSink", "MemorySink", "Sink", "check_target", "load_checkpoint", "part_path"]

# Of a checkpoint whose size is not known beforehand.
_MAX_BYTES = 2**30

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
            _remove(path)
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
            _save_checkpoint(state_path(self._path), checkpoint)
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
        _remove(self._path)
        return xr.open_dataset(self._path, engine="netcdf4")

    def abandon(self, *, hopeless: bool) -> str | None:
        """Return how to continue, or remove the part file where there is nothing to continue."""
        if hopeless or not state_path(self._path).exists():
            _remove(self._path)
            return None
        return f"the blocks so far are in {part_path(self._path)}; run the same command with resume to continue"


def part_path(path: Path) -> Path:
    """Return the name of the unfinished file."""
    return path.with_name(path.name + ".part")


def state_path(path: Path) -> Path:
    """Return the name of the checkpoint beside the unfinished file."""
    return path.with_name(path.name + ".part.state.npz")


def temporary_path(path: Path) -> Path:
    """Return the name under which the next checkpoint is written; the longest of the four."""
    return path.with_name(path.name + ".part.state.npz.tmp")


def _remove(path: Path) -> None:
    """Remove all that is beside the final name; the checkpoint first, it must never meet another part file."""
    for stray in (state_path(path), temporary_path(path), part_path(path)):
        stray.unlink(missing_ok=True)


def check_target(out: Any, *, overwrite: bool, resume: bool, n_bytes: int) -> Path:
    """Check, before any simulation, that the output can be written.

    Parameters
    ----------
    out : path-like
        Final name; through a symbolic link its target is written.
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
        If it is or leads to anything but a regular file, the directory is missing or not writable, or the disk too
        full.
    OutputExistsError
        If the file exists and `overwrite` is false, or an interrupted run is there and neither it nor `resume` is true.
    """
    try:
        path = Path(os.path.realpath(Path(out)))
    except (TypeError, ValueError) as error:  # ValueError: a NUL character
        raise OutputError(f"out = {show(out)}: expected a file name; pass for example out='run.nc'") from error
    kind = _kind(path)
    if kind == "a directory":
        raise OutputError(f"out = {path} is a directory: expected a file name; pass out='{path / 'run.nc'}'")
    for name in (path, part_path(path), state_path(path), temporary_path(path)):
        if _kind(name) not in (None, "a regular file"):
            raise OutputError(
                f"{name} is {_kind(name)}: expected a regular file or a new name; choose another out, or remove it"
            )
    if kind is not None and not overwrite:
        raise OutputExistsError(f"{path} exists: pass overwrite=True (--overwrite) to replace it, or another out")
    if state_path(path).exists() and not (resume or overwrite):
        raise OutputExistsError(
            f"{part_path(path)} is an interrupted run of {path.name}: pass resume=True (--resume) to continue it, or "
            "overwrite=True (--overwrite) to start again"
        )
    if not path.parent.is_dir():
        raise OutputError(f"{path.parent} is not a directory: expected a place for {path.name}; create it first")
    part = part_path(path)
    existed = part.exists()
    for name in (part, temporary_path(path)):
        known = name.exists()
        try:
            # Opening for append is the only test that also knows about read-only mounts and full quotas.
            with open(name, "ab"):
                pass
        except OSError as error:
            raise OutputError(
                f"cannot write {name} ({error.strerror}): expected a writable directory; choose another out"
            ) from error
        if not known:
            name.unlink()
    free = shutil.disk_usage(path.parent).free
    if n_bytes > free and not (resume and existed):
        raise OutputError(
            f"{path} needs {n_bytes / 1e9:.2f} GB, {free / 1e9:.2f} GB are free in {path.parent}: "
            "save less often, use dtype='float32', or choose another disk"
        )
    return path


def _kind(path: Path) -> str | None:
    """Say what is at `path` itself, or None if nothing is."""
    try:
        mode = os.lstat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise OutputError(
            f"cannot look at {path} ({error.strerror}): expected a file name; choose another out"
        ) from error
    names = {
        stat.S_IFREG: "a regular file",
        stat.S_IFDIR: "a directory",
        stat.S_IFLNK: "a symbolic link",
        stat.S_IFIFO: "a named pipe",
        stat.S_IFSOCK: "a socket",
    }
    return names.get(stat.S_IFMT(mode), "a device")


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
    return Checkpoint(done, entropy, config, states, streams)


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
    try:
        with open(temporary, "wb") as file:
            np.savez(file, **arrays)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


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
