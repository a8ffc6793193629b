"""Score files: one safetensors file with the arrays and a JSON header; no code is ever read from it.

A file may come from a stranger. Nothing in it is believed before it is checked: size, format tag, JSON
schema, names and shapes of the arrays, finiteness, and a digest that shows an altered or damaged file.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gfdt._version import __version__
from gfdt.errors import CheckpointError, InputError, MissingFileError
from gfdt.output import atomic_path
from gfdt.processes import is_first, wait_for_all
from gfdt.scores.labels import checked_labels

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gfdt.scores.base import Score

__all__ = ["KINDS", "check_description", "describe", "read_score_file", "save_score", "short"]

FORMAT = "gfdt-score"
FORMAT_VERSION = "2"
MAX_FILE_BYTES = 8 * 2**30
MAX_STATE_SIZE = 2**26
KINDS = ("DSMScore", "GaussianScore", "KDEScore", "KGMMScore", "KernelScore", "PolishedScore")


def save_score(score: Score, path: str | Path, *, overwrite: bool = False) -> Path:
    """Write a fitted score under ``path``: complete, or not at all. See :meth:`gfdt.scores.Score.save`."""
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    config, arrays = score._pack()
    config = {**describe(score), **config}
    # Shapes of scalars and memory order would not survive the round trip; store plain C order.
    arrays = {name: np.ascontiguousarray(value) for name, value in arrays.items()}
    text = json.dumps(config, sort_keys=True, allow_nan=False)
    header = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "gfdt_version": __version__,
        "config": text,
        "digest": _digest(text, arrays),
    }
    if is_first():
        with atomic_path(path, overwrite=overwrite) as temporary:
            try:
                save_file(arrays, temporary, metadata=header)
            except SafetensorError as error:
                raise OSError(str(error)) from error
    wait_for_all()
    return Path(path)


def describe(score: Score) -> dict[str, Any]:
    """Return what a file says of every score, whatever its class."""
    return {
        "class": type(score).__name__,
        "state_dims": list(score.state_dims_),
        "state_shape": list(score.state_shape_),
        "state_labels": {dim: list(names) for dim, names in score.state_labels_.items()},
        "noise_level": np.asarray(score.noise_level_, dtype=np.float64).tolist(),
        "fingerprint": score.fingerprint_,
        "certificate": None if score.certificate_ is None else score.certificate_.pack(),
    }


def read_score_file(path: str | Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Return the checked description and arrays of a score file; raises as :func:`gfdt.load_score`."""
    if not isinstance(path, str | os.PathLike):
        raise InputError(f"the score file is given as a {type(path).__name__}: pass its path.")
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(
            f"there is no score file {path}: check the path, or write one with score.save(path) or gfdt train."
        )
    if os.path.getsize(path) > MAX_FILE_BYTES:
        raise CheckpointError(f"{path} is larger than {MAX_FILE_BYTES // 2**30} GiB, too large for a score file.")
    header, arrays = _read(path)
    config = _checked_config(path, header)
    if header.get("digest") != _digest(header["config"], arrays):
        raise CheckpointError(
            f"the contents of {path} do not match its digest: it was altered or damaged; copy it anew."
        )
    for name, value in arrays.items():
        if not np.isfinite(value).all():
            raise CheckpointError(f"{path} holds NaN or inf in {name!r}: the score is useless; fit it anew.")
    return config, arrays


def _read(path: Path) -> tuple[dict[str, str], dict[str, NDArray[Any]]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            header = file.metadata() or {}
            if header.get("format") == FORMAT:
                return header, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, TypeError, ValueError, KeyError, AttributeError) as error:
        raise CheckpointError(
            f"{path} is not a readable safetensors file ({short(error)}): pass a score written by "
            "score.save(path) or gfdt train."
        ) from error
    raise CheckpointError(f"{path} is not a gfdt score: pass a file written by score.save(path).")


def _checked_config(path: Path, header: dict[str, str]) -> dict[str, Any]:
    if header.get("format_version") != FORMAT_VERSION:
        raise CheckpointError(
            f"{path} has score format {header.get('format_version')!r}, this gfdt {__version__} reads "
            f"{FORMAT_VERSION!r}: use the gfdt that wrote it ({header.get('gfdt_version', 'unknown')}) or fit anew."
        )
    try:
        return check_description(json.loads(header["config"]))
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise CheckpointError(f"{path} has no valid description of its score: it was altered; fit it anew.") from error


def check_description(config: dict[str, Any]) -> dict[str, Any]:
    """Return the description of a score, checked, with its noise level as a number or an array.

    Raises
    ------
    ValueError, KeyError, TypeError, OverflowError
        If it is not one.
    """
    dims, shape, noise = config["state_dims"], config["state_shape"], config["noise_level"]
    valid = (
        config["class"] in KINDS
        and isinstance(dims, list)
        and isinstance(shape, list)
        and len(dims) == len(shape) == len(set(dims))
        and all(isinstance(name, str) and name for name in dims)
        and all(type(size) is int and size > 0 for size in shape)
        and math.prod(shape) <= MAX_STATE_SIZE
        and _is_noise_level(noise, shape)
        and isinstance(config["fingerprint"], str | None)
    )
    if not valid:
        raise ValueError("the description of the score is not one")
    labels = checked_labels(config.get("state_labels", {}), dims, shape)
    return {
        **config,
        "state_labels": labels,
        "noise_level": np.array(noise, dtype=np.float64) if isinstance(noise, list) else float(noise),
    }


def _is_noise_level(noise: Any, shape: list[int]) -> bool:
    """Whether it is one level, or nested lists that broadcast to the state's shape."""
    levels = np.asarray(noise)
    return (
        levels.dtype.kind in "if"
        and (not levels.ndim or levels.ndim == len(shape))
        and all(have in (1, size) for have, size in zip(levels.shape, shape, strict=False))
        and bool(np.isfinite(levels).all() and (levels >= 0).all() and (levels <= 1e150).all())
    )


def short(error: BaseException) -> str:
    """Return an error's text on one line, cut to a length that fits a sentence."""
    text = " ".join(str(error).split())
    return text if len(text) <= 120 else text[:120] + " ..."


def _digest(config: str, arrays: dict[str, NDArray[Any]]) -> str:
    digest = hashlib.sha256(config.encode())
    for name in sorted(arrays):
        value = np.ascontiguousarray(arrays[name])
        digest.update(f"{name}:{value.dtype.str}:{value.shape}".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()
