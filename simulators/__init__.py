"""Stochastic simulators that write labelled stationary trajectories.

Each system is a frozen record of parameters with the methods ``simulate``, ``drift``, ``score`` and, where
a closed form exists, ``exact_response`` and ``exact_covariance``:

>>> import simulators
>>> run = simulators.OrnsteinUhlenbeck(n=8).simulate(2, 10.0, 1.0, seed=0)
>>> run["u"].dims
('member', 'time', 'y', 'x')

Names are imported on first use, so ``import simulators`` itself loads neither numba, scipy nor xarray.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__all__ = [
    "SYSTEMS",
    "BlowUpError",
    "DoubleWell",
    "LinearSDE",
    "OrnsteinUhlenbeck",
    "OutputError",
    "OutputExistsError",
    "ParameterError",
    "ResumeError",
    "ScalarClimate",
    "SimulatorError",
    "System",
    "run",
]

if TYPE_CHECKING:
    from simulators.errors import (
        BlowUpError,
        OutputError,
        OutputExistsError,
        ParameterError,
        ResumeError,
        SimulatorError,
    )
    from simulators.linear import LinearSDE
    from simulators.ou import OrnsteinUhlenbeck
    from simulators.registry import SYSTEMS, run
    from simulators.scalar import DoubleWell, ScalarClimate
    from simulators.system import System

_HOME = {
    "SYSTEMS": "registry",
    "BlowUpError": "errors",
    "DoubleWell": "scalar",
    "LinearSDE": "linear",
    "OrnsteinUhlenbeck": "ou",
    "OutputError": "errors",
    "OutputExistsError": "errors",
    "ParameterError": "errors",
    "ResumeError": "errors",
    "ScalarClimate": "scalar",
    "SimulatorError": "errors",
    "System": "system",
    "run": "registry",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'simulators' has no attribute {name!r}")
    return getattr(import_module(f"simulators.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
