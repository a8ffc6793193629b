"""All systems by name, and a run described by plain data: what the command lines share."""

from collections.abc import Mapping
from dataclasses import MISSING, fields
from difflib import get_close_matches
from inspect import signature
from typing import TYPE_CHECKING, Any

from simulators.allen_cahn import AllenCahn
from simulators.charney_devore import CharneyDeVore
from simulators.checks import show
from simulators.errors import ParameterError
from simulators.linear import LinearSDE
from simulators.lorenz96 import Lorenz96
from simulators.members import with_members
from simulators.navier_stokes import NavierStokes
from simulators.ou import OrnsteinUhlenbeck
from simulators.potential2d import Potential2D
from simulators.scalar import DoubleWell, ScalarClimate
from simulators.system import System
from simulators.triad import Triad

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["SYSTEMS", "build_system", "check_keys", "run", "simulate_arguments"]

#: Every system by its name in the shell.
SYSTEMS: dict[str, type[System]] = {
    system.name: system
    for system in (
        OrnsteinUhlenbeck,
        AllenCahn,
        NavierStokes,
        DoubleWell,
        ScalarClimate,
        LinearSDE,
        Potential2D,
        Triad,
        CharneyDeVore,
        Lorenz96,
    )
}


def run(
    name: str, parameters: Mapping[str, Any] | None = None, simulate: Mapping[str, Any] | None = None
) -> "xr.Dataset":
    """Build a system by name and simulate it.

    ``config_json`` of any result repeats it: ``run(config["system"], config["parameters"], config["simulate"])``.

    Parameters
    ----------
    name : str
        A key of `SYSTEMS`, for example "ou".
    parameters : mapping, optional
        Parameters of the system; missing ones keep their defaults.
    simulate : mapping, optional
        Arguments of `simulators.system.System.simulate`; ``members="64:128"`` is a range.

    Returns
    -------
    xarray.Dataset

    Raises
    ------
    ParameterError
        If the system or a key is unknown, or a value cannot be used.
    """
    arguments = with_members(simulate or {})
    check_keys(arguments, simulate_arguments(), "simulate argument")
    return build_system(name, parameters or {}).simulate(**arguments)


def build_system(name: str, parameters: Mapping[str, Any]) -> System:
    """Return the system `name` with `parameters`.

    Parameters
    ----------
    name : str
        A key of `SYSTEMS`.
    parameters : mapping
        Parameters by name.

    Returns
    -------
    System

    Raises
    ------
    ParameterError
        If the name or a parameter is unknown, one without default is missing, or a value cannot be used.
    """
    check_keys([name], SYSTEMS, "system")
    kind = SYSTEMS[name]
    known = fields(kind)  # type: ignore[arg-type]
    check_keys(parameters, [field.name for field in known], f"parameter of {name}")
    missing = [field.name for field in known if field.default is MISSING and field.name not in parameters]
    if missing:
        raise ParameterError(
            f"{name} has no default for {', '.join(missing)}: expected a value; give it on the command line or under "
            "[parameters] in the config"
        )
    return kind(**parameters)


def simulate_arguments() -> list[str]:
    """Return the names of the arguments of ``simulate``."""
    return [key for key in signature(System.simulate).parameters if key != "self"]


def check_keys(found: Any, allowed: Any, what: str) -> None:
    """Raise if a name in `found` is not in `allowed`, naming the closest ones.

    Raises
    ------
    ParameterError
        At the first unknown name.
    """
    names = list(allowed)
    for key in found:
        if key not in names:
            close = get_close_matches(str(key)[:100], names, n=3, cutoff=0.5) or names
            raise ParameterError(f"unknown {what} {show(key)}: expected {' or '.join(map(repr, close))}")
