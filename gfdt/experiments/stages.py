r"""A chain of long steps that can be interrupted, and of which none is done twice.

A stage makes files from the files of other stages and from settings. What it was made from is kept in ``stages.json``
beside them: a digest of its settings and of the files it read. A stage is run again only if that digest, or a file it
made, has changed (of files above 16 MiB, pieces of 64 KiB at equal distances are compared). Other settings, or another
version of gfdt, than those of an earlier run are refused unless they are to replace it; what follows from a stage that
was run again is run again without asking, unless its files came out the same to the byte (time stamps are part of
them). What an interrupted stage left behind is gone on from with the same settings, and removed with others.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from gfdt._version import __version__
from gfdt.errors import InputError, OutputError
from gfdt.output import atomic_path
from gfdt.validation import shown

__all__ = ["Stage", "machine", "run_stages"]

LEDGER = "stages.json"
_MOST_LEDGER_BYTES = 2**20
_BLOCK, _BLOCKS = 2**16, 256  # of a large file, so many pieces go into its fingerprint

Log = Callable[[str], None]


@dataclass(frozen=True)
class Stage:
    """One step.

    Attributes
    ----------
    name : str
        As in the ledger and the log.
    makes : sequence of str
        Names of the files it writes, in the directory of the run.
    run : callable
        Writes them, given the directory.
    needs : sequence of Stage
        Whose files it reads.
    partial : sequence of str
        Patterns of what it leaves behind when it is interrupted.
    settings : mapping
        Everything else that decides what is in its files; plain data.
    """

    name: str
    makes: tuple[str, ...]
    run: Callable[[Path], None]
    needs: tuple[Stage, ...] = ()
    partial: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)


class _Entry(BaseModel):
    """What is kept of a stage that was done."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    settings: dict[str, Any]
    version: str
    key: str
    files: dict[str, str]
    seconds: float
    machine: str
    finished: str


class _Ledger(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    stages: dict[str, _Entry] = {}
    started: dict[str, dict[str, Any]] = {}


def run_stages(
    stages: Sequence[Stage], directory: Path, *, overwrite: bool = False, dry_run: bool = False, log: Log = print
) -> dict[str, float]:
    """Do what has not been done yet, in the order given; return the seconds each stage took, when it was done.

    Parameters
    ----------
    stages : sequence of Stage
        Each after those it needs.
    directory : Path
        Made if missing. One run at a time works in it.
    overwrite : bool
        Replace what was made with other settings. Default False.
    dry_run : bool
        Only say what would be done.
    log : callable
        Takes each line of progress.

    Raises
    ------
    OutputError
        If the directory cannot be written, is in use, or holds what was made with other settings.
    InputError
        If its ledger cannot be read.
    """
    if dry_run:
        ledger = _read(directory)
        if not overwrite:
            _refuse_others(stages, ledger, directory)
        stale: set[str] = set()
        for stage in stages:
            done = _is_done(stage, directory, ledger) and not stale & {item.name for item in stage.needs}
            if not done:
                stale.add(stage.name)
            log(f"{stage.name}: {'done already' if done else 'would write'} {', '.join(stage.makes)}")
        return {}
    with _alone_in(directory):
        ledger = _read(directory)
        if not overwrite:
            _refuse_others(stages, ledger, directory)
        for stage in stages:
            if _is_done(stage, directory, ledger):
                log(f"{stage.name}: done already, in {ledger.stages[stage.name].seconds:.0f} s")
                continue
            log(f"{stage.name}: started")
            if ledger.started.get(stage.name) != _plain(stage.settings):
                for left in (path for pattern in stage.partial for path in directory.glob(pattern)):
                    left.unlink()
            ledger.started[stage.name] = _plain(stage.settings)
            _write(ledger, directory)
            begin = time.perf_counter()
            stage.run(directory)
            seconds = time.perf_counter() - begin
            log(f"{stage.name}: {seconds:.0f} s")
            ledger.stages[stage.name] = _Entry(
                settings=_plain(stage.settings),
                version=__version__,
                key=_key(stage, directory),
                files={name: _fingerprint(directory / name) for name in stage.makes},
                seconds=round(seconds, 2),
                machine=machine(),
                finished=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            )
            del ledger.started[stage.name]
            _write(ledger, directory)
    return {stage.name: ledger.stages[stage.name].seconds for stage in stages}


def machine() -> str:
    """Return what the numbers were computed on: processor, cores that may be used, system."""
    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                name = line.split(":", 1)[1].strip()
                break
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name}, {cores} cores, {platform.system()}, Python {platform.python_version()}"


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as JSON gives them back, so that they can be compared with those of the ledger."""
    return dict(json.loads(json.dumps(dict(settings))))


def _read(directory: Path) -> _Ledger:
    path = directory / LEDGER
    if not path.is_file():
        return _Ledger()
    raw = path.read_bytes()[: _MOST_LEDGER_BYTES + 1]
    try:
        if len(raw) > _MOST_LEDGER_BYTES:
            raise ValueError
        return _Ledger.model_validate_json(raw)
    except (ValidationError, ValueError) as error:
        raise InputError(
            f"{path} is not a ledger of stages (or not of this version): remove it to run every stage again."
        ) from error


def _is_done(stage: Stage, directory: Path, ledger: _Ledger) -> bool:
    entry = ledger.stages.get(stage.name)
    if entry is None or set(entry.files) != set(stage.makes):
        return False
    made = {name: directory / name for name in stage.makes}
    if not all(path.is_file() and _fingerprint(path) == entry.files[name] for name, path in made.items()):
        return False
    needed = (directory / name for item in stage.needs for name in item.makes)
    return all(path.is_file() for path in needed) and _key(stage, directory) == entry.key


def _write(ledger: _Ledger, directory: Path) -> None:
    with atomic_path(directory / LEDGER, overwrite=True) as temporary:
        temporary.write_text(ledger.model_dump_json(indent=1))


def _refuse_others(stages: Sequence[Stage], ledger: _Ledger, directory: Path) -> None:
    """Refuse settings or a version that differ from those of what is there, or was begun."""
    for stage in stages:
        entry = ledger.stages.get(stage.name)
        if entry is not None:
            old = {**entry.settings, "version of gfdt": entry.version}
            _refuse_other_settings(stage, old, {**_plain(stage.settings), "version of gfdt": __version__}, directory)
        elif stage.name in ledger.started:
            _refuse_other_settings(stage, ledger.started[stage.name], _plain(stage.settings), directory)


def _refuse_other_settings(stage: Stage, before: Mapping[str, Any], now: Mapping[str, Any], directory: Path) -> None:
    for name in sorted({*now, *before}):
        old, new = before.get(name), now.get(name)
        if old != new:
            raise OutputError(
                f"{directory} holds results of {stage.name!r} with {name} = {shown(old)}, now {shown(new)} is asked "
                "for: choose another --out, or pass overwrite (--overwrite) to replace them."
            )


def _key(stage: Stage, directory: Path) -> str:
    inputs = {name: _fingerprint(directory / name) for item in stage.needs for name in item.makes}
    said = {"stage": stage.name, "settings": _plain(stage.settings), "inputs": inputs}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _fingerprint(path: Path) -> str:
    """Size and SHA-256 of a file; of a large one, of pieces of it at equal distances and of its end."""
    size = path.stat().st_size
    digest = hashlib.sha256()
    with path.open("rb") as file:
        if size <= _BLOCK * _BLOCKS:
            digest.update(file.read())
        else:
            for index in range(_BLOCKS):
                file.seek(index * (size - _BLOCK) // (_BLOCKS - 1))
                digest.update(file.read(_BLOCK))
    return f"{size}:{digest.hexdigest()}"


@contextlib.contextmanager
def _alone_in(directory: Path) -> Iterator[None]:
    """Hold the directory, so that a second run does not write the same files."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = (directory / ".lock").open("w")
    except OSError as error:
        raise OutputError(f"{directory} cannot be written ({error.strerror}): choose another --out.") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise OutputError(
                f"another run is working in {directory}: wait for it, or choose another --out."
            ) from error
        yield
