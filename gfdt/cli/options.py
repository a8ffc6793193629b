"""Options that several commands share, and the TOML file that can give any of them.

``--config run.toml`` holds option names as keys (dashes or underscores), e.g. ``max-lag = 20.0``; what is given on
the command line wins.
"""

from __future__ import annotations

import sys
import tomllib
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

import typer

from gfdt.errors import InputError, MissingFileError

__all__ = [
    "Config",
    "Device",
    "DryRun",
    "Homogeneous",
    "Out",
    "Overwrite",
    "Seed",
    "Var",
    "say",
    "split_names",
]

_MAX_CONFIG_BYTES = 2**20


def _read_config(context: typer.Context, path: Path | None) -> Path | None:
    if path is None:
        return None
    if not path.is_file():
        raise MissingFileError(f"there is no config file {path}: check the path.")
    raw = path.read_bytes()[: _MAX_CONFIG_BYTES + 1]
    if len(raw) > _MAX_CONFIG_BYTES:
        raise InputError(f"the config {path} is larger than 1 MiB: pass a short TOML file.")
    try:
        content = tomllib.loads(raw.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"the config {path} is not TOML ({error}): correct that line.") from error
    allowed = {str(parameter.name): parameter for parameter in context.command.params if parameter.name != "config"}
    found: dict[str, Any] = {}
    for key, value in content.items():
        name = key.replace("-", "_")
        if name not in allowed:
            close = get_close_matches(name, allowed, n=2, cutoff=0.5) or sorted(allowed)
            raise InputError(f"the config {path} has an unknown key {key!r}: did you mean {' or '.join(close)}?")
        if isinstance(value, dict):
            raise InputError(f"the config {path} gives a table for {key!r}: write one value, e.g. {key} = 1.")
        found[name] = value
    context.default_map = {**(context.default_map or {}), **found}
    return path


Config = Annotated[
    Path | None,
    typer.Option("--config", callback=_read_config, is_eager=True, help="TOML file with values for any option."),
]
Out = Annotated[Path | None, typer.Option("--out", help="File to write.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check the input and say what would be done.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Root of the random numbers.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")]
Var = Annotated[str | None, typer.Option("--var", help="Variable of the file, where there are several.")]
Homogeneous = Annotated[
    str | None,
    typer.Option(
        "--homogeneous", help="State dims along which the field is periodic and the same everywhere, e.g. y,x."
    ),
]


def split_names(text: str | None) -> tuple[str, ...] | None:
    """Turn ``"y,x"`` into ``("y", "x")``."""
    if text is None:
        return None
    return tuple(part.strip() for part in text.split(",") if part.strip())


def say(message: str) -> None:
    """Tell the user something that is not a result: on stderr."""
    print(message, file=sys.stderr, flush=True)
