"""Whether a file under its final name, where no unfinished one ever is, is the one that a run would write."""

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simulators.errors import OutputExistsError
from simulators.output import read_config_json
from simulators.resume import differences

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["differences_of_file", "open_finished"]

_LOG = logging.getLogger(__name__)


def differences_of_file(config: dict[str, Any], path: Path) -> list[str]:
    """Return what differs between the configuration of a run and that of a file, for a message.

    A seed of None asks for no particular stream; a file that cannot be read differs.
    """
    try:
        theirs = read_config_json(path)
        if config["simulate"].get("seed") is None:
            theirs = theirs | {"simulate": theirs["simulate"] | {"seed": None}}
        return differences(json.loads(json.dumps(config)), theirs)
    except (OSError, RuntimeError, LookupError, AttributeError, TypeError, ValueError) as error:
        return [f"it cannot be read ({error})"]


def open_finished(out: Any, config: dict[str, Any]) -> "xr.Dataset | None":
    """Return the trajectory, opened lazily, if `out` is the complete file of a run; None if there is no file.

    Raises
    ------
    OutputExistsError
        If there is a file, and it is not of this run.
    """
    import xarray as xr

    try:
        path = Path(out)
    except TypeError:  # refused, with the remedy, by whoever claims the target
        return None
    if not path.is_file():
        return None
    differ = differences_of_file(config, path)
    if differ:
        raise OutputExistsError(
            f"{path} exists and is not of this run, {'; '.join(differ)}: pass overwrite=True (--overwrite) to replace "
            "it, or another out"
        )
    _LOG.info("%s is the complete file of this run: nothing to do", path)
    return xr.open_dataset(path, engine="netcdf4")
