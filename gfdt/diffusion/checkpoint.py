"""Checkpoints of a training: everything the next steps depend on, in one safetensors file with a JSON header.

A file may come from a stranger, or from another run. Nothing in it is believed before it is checked: size, format,
digest, the settings and data it belongs to, and the name, type and shape of every array. It is written under a
temporary name and then renamed, so that a kill leaves the one before.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from gfdt._version import __version__
from gfdt.errors import CheckpointError
from gfdt.output import atomic_path, check_output
from gfdt.scores.storage import MAX_FILE_BYTES, short
from gfdt.validation import shown

__all__ = ["Checkpoint", "Stored"]

_FORMAT = "gfdt-training"
_VERSION = "2"

Stored = tuple[dict[str, Tensor], dict[str, Any]]


class Checkpoint:
    """The checkpoint file of one run.

    Parameters
    ----------
    path : path
        The file; it need not exist.
    minutes : float
        Time between two writes.
    identity : dict
        What the run is: settings and data, as plain values. A file with another one is refused.

    Raises
    ------
    OutputError
        If a file could not be written there.
    """

    def __init__(self, path: str | Path, minutes: float, identity: dict[str, Any]) -> None:
        self.path = check_output(path, overwrite=True)
        self._seconds = 60 * minutes
        self._identity = json.loads(json.dumps(identity))
        self._written = time.perf_counter()

    def due(self) -> bool:
        """Whether it is time to write."""
        return time.perf_counter() - self._written >= self._seconds

    def write(self, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
        """Replace the file by this state."""
        tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        text = json.dumps({"identity": self._identity, "numbers": numbers}, allow_nan=False)
        header = {
            "format": _FORMAT,
            "format_version": _VERSION,
            "gfdt_version": __version__,
            "content": text,
            "digest": _digest(text, tensors),
        }
        # Averages may share memory with nothing else in the file; safetensors refuses aliases.
        with atomic_path(self.path, overwrite=True) as temporary:
            save_file({name: value.clone() for name, value in tensors.items()}, temporary, metadata=header)
        self._written = time.perf_counter()

    def read(self) -> Stored | None:
        """Return the state in the file, or None if there is no file.

        Raises
        ------
        CheckpointError
            If it is foreign, damaged, altered, or of another run.
        """
        if not self.path.exists():
            return None
        if os.path.getsize(self.path) > MAX_FILE_BYTES:
            raise CheckpointError(f"{self.path} is larger than {MAX_FILE_BYTES // 2**30} GiB: it is no checkpoint.")
        header, tensors = self._load()
        try:
            content = json.loads(header["content"])
            identity, numbers = content["identity"], content["numbers"]
            valid = isinstance(identity, dict) and isinstance(numbers, dict)
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise self._refused("has no valid description") from error
        if not valid or header.get("digest") != _digest(header["content"], tensors):
            raise self._refused("does not match its digest")
        self._compare(identity)
        return tensors, numbers

    def _load(self) -> tuple[dict[str, str], dict[str, Tensor]]:
        try:
            with safe_open(self.path, framework="pt") as file:
                header = file.metadata() or {}
                if header.get("format") == _FORMAT and header.get("format_version") == _VERSION:
                    return header, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError, TypeError, ValueError, KeyError, AttributeError) as error:
            raise self._refused(f"cannot be read ({short(error)})") from error
        if header.get("format") == _FORMAT:
            raise CheckpointError(
                f"the checkpoint {self.path} was written by gfdt {header.get('gfdt_version', '?')[:20]} in another "
                f"format than {_VERSION}: finish the training with that, or remove the file to start anew."
            )
        raise CheckpointError(
            f"{self.path} exists and is no checkpoint of a training (format {_VERSION}): name another file for "
            "checkpoint=."
        )

    def _compare(self, found: dict[str, Any]) -> None:
        wanted = self._identity
        differing = [name for name in {**wanted, **found} if wanted.get(name) != found.get(name)]
        if not differing:
            return
        name = differing[0]
        what = "other data" if name == "data" else f"{name} {shown(found.get(name))}, not {shown(wanted.get(name))}"
        raise CheckpointError(
            f"the checkpoint {self.path} belongs to another run, with {what}: use the settings it was started with, "
            "or remove it or name another file to start anew."
        )

    def _refused(self, what: str) -> CheckpointError:
        return CheckpointError(
            f"the checkpoint {self.path} {what}: it was damaged or altered; remove it to start anew."
        )

    def check(self, tensors: dict[str, Tensor], expected: dict[str, Tensor], optional: dict[str, Tensor]) -> None:
        """Refuse arrays whose names, types or shapes are not those expected; of ``optional`` all or none are there.

        Raises
        ------
        CheckpointError
            Naming the first that does not fit.
        """
        if any(name in tensors for name in optional):
            expected = expected | optional
        wanted = {name: (value.dtype, tuple(value.shape)) for name, value in expected.items()}
        found = {name: (value.dtype, tuple(value.shape)) for name, value in tensors.items()}
        wrong = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
        if wrong:
            raise self._refused(f"holds {len(wrong)} arrays that do not fit this training (the first is {wrong[0]!r})")
        for name, value in tensors.items():
            if value.is_floating_point() and not bool(torch.isfinite(value).all()):
                raise self._refused(f"holds NaN or inf in {name!r}")


def _digest(text: str, tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(f"{name}:{value.dtype}:{tuple(value.shape)}".encode())
        digest.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
