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
from gfdt.validation import shown

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
    "variable_names",
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
    except (ValueError, RecursionError) as error:  # TOMLDecodeError and UnicodeDecodeError among them
        raise InputError(f"the config {path} is not TOML ({first_line(error)[:120]}): correct it.") from error
    allowed = {str(parameter.name): parameter for parameter in context.command.params if parameter.name != "config"}
    found: dict[str, Any] = {}
    for key, value in content.items():
        name = key.replace("-", "_")
        if name not in allowed:
            close = get_close_matches(name, allowed, n=2, cutoff=0.5)
            advice = f"did you mean {' or '.join(close)}" if close else f"choose among {', '.join(sorted(allowed))}"
            raise InputError(f"the config {path} has an unknown key {shown(key)}: {advice}.")
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            value = ",".join(value) if allowed[name].nargs == 1 else value
        is_flag = bool(getattr(allowed[name], "is_flag", False))
        if (isinstance(value, dict | list) and allowed[name].nargs == 1) or isinstance(value, bool) != is_flag:
            wanted = "true or false" if is_flag else "one number or text"
            raise InputError(f"the config {path} gives {shown(value)} for {key!r}: write {wanted}.")
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
Var = Annotated[
    str | None,
    typer.Option("--var", help="Variable of the file, where there are several; u,v: both, as one state."),
]
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


def variable_names(text: str | None) -> str | list[str] | None:
    """Turn ``"u"`` into ``"u"`` and ``"u,v"`` into ``["u", "v"]``, as :func:`gfdt.load_trajectory` takes them."""
    names = split_names(text)
    return list(names) if names and len(names) > 1 else text


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def say(message: str) -> None:
    """Tell the user something that is not a result: on stderr."""
    print(message, file=sys.stderr, flush=True)
