"""Runs described in a TOML file.

::

    system = "ou"           # optional: checked against the subcommand

    [parameters]            # of the system
    n = 32

    [simulate]              # arguments of simulate()
    n_members = 8           # or members = "64:128" for a part of an ensemble
    duration = 100.0
    save_every = 1.0
"""

import tomllib
from pathlib import Path
from typing import Any

from simulators.checks import show
from simulators.errors import ParameterError
from simulators.registry import check_keys

__all__ = ["read_config"]

# A run is a few hundred bytes, a large drift matrix a few hundred thousand; more is the wrong file.
_MAX_BYTES = 2**20


def read_config(path: str | Path, system: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the parameters and the simulate arguments in a TOML file.

    Values are checked later, by the records they are for.

    Parameters
    ----------
    path : path-like
        At most 1 MiB.
    system : str
        Name of the system the file should be for.

    Returns
    -------
    parameters, simulate : dict

    Raises
    ------
    ParameterError
        If the file cannot be read, is not TOML, is for another system, or has an unknown section.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            raw = file.read(_MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL character
        reason = getattr(error, "strerror", None) or error
        raise ParameterError(f"cannot read config {path} ({reason}): pass the name of a TOML file") from error
    if len(raw) > _MAX_BYTES:
        raise ParameterError(f"config {path} is larger than {_MAX_BYTES} bytes: expected a short TOML file")
    try:
        content = tomllib.loads(raw.decode("utf-8"))
    except ValueError as error:  # not TOML, not UTF-8, or an integer of thousands of digits
        raise ParameterError(f"config {path} is not TOML ({error}): correct that line") from error
    except RecursionError as error:
        raise ParameterError(
            f"config {path} is nested too deeply: expected a matrix [[...], [...]] at most; remove the extra brackets"
        ) from error
    check_keys(content, ("system", "parameters", "simulate"), f"key in {path}")
    found = content.get("system", system)
    if found != system:
        raise ParameterError(f"config {path} is for system {show(found)}: expected {system!r}; use that subcommand")
    for section in ("parameters", "simulate"):
        if not isinstance(content.get(section, {}), dict):
            raise ParameterError(f"{section} in {path} is a value: expected a table; write it as [{section}]")
    return content.get("parameters", {}), content.get("simulate", {})
