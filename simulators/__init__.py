"""Stochastic simulators that write labelled stationary trajectories.

Each system is a frozen record of parameters with the methods ``simulate``, ``drift``, ``score`` and, where
a closed form exists, ``exact_response`` and ``exact_covariance``; twin ensembles measure ``direct_response``, to small
kicks, and ``forced_response``, to any forcing:

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
    "AllenCahn",
    "BlowUpError",
    "CharneyDeVore",
    "ClusterError",
    "DoubleWell",
    "LinearRangeWarning",
    "LinearSDE",
    "Lorenz96",
    "NavierStokes",
    "NoScoreError",
    "NotStationaryError",
    "OrnsteinUhlenbeck",
    "OutputBusyError",
    "OutputError",
    "OutputExistsError",
    "ParameterError",
    "Potential2D",
    "ResumeError",
    "ScalarClimate",
    "SimulatorError",
    "System",
    "Triad",
    "run",
]

if TYPE_CHECKING:
    from simulators.allen_cahn import AllenCahn
    from simulators.charney_devore import CharneyDeVore
    from simulators.errors import (
        BlowUpError,
        ClusterError,
        NoScoreError,
        NotStationaryError,
        OutputBusyError,
        OutputError,
        OutputExistsError,
        ParameterError,
        ResumeError,
        SimulatorError,
    )
    from simulators.linear import LinearSDE
    from simulators.linearity import LinearRangeWarning
    from simulators.lorenz96 import Lorenz96
    from simulators.navier_stokes import NavierStokes
    from simulators.ou import OrnsteinUhlenbeck
    from simulators.potential2d import Potential2D
    from simulators.registry import SYSTEMS, run
    from simulators.scalar import DoubleWell, ScalarClimate
    from simulators.system import System
    from simulators.triad import Triad

_HOME = {
    "SYSTEMS": "registry",
    "AllenCahn": "allen_cahn",
    "BlowUpError": "errors",
    "CharneyDeVore": "charney_devore",
    "ClusterError": "errors",
    "DoubleWell": "scalar",
    "LinearRangeWarning": "linearity",
    "LinearSDE": "linear",
    "Lorenz96": "lorenz96",
    "NavierStokes": "navier_stokes",
    "OrnsteinUhlenbeck": "ou",
    "NoScoreError": "errors",
    "NotStationaryError": "errors",
    "OutputBusyError": "errors",
    "OutputError": "errors",
    "OutputExistsError": "errors",
    "ParameterError": "errors",
    "Potential2D": "potential2d",
    "ResumeError": "errors",
    "ScalarClimate": "scalar",
    "SimulatorError": "errors",
    "System": "system",
    "Triad": "triad",
    "run": "registry",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'simulators' has no attribute {name!r}")
    return getattr(import_module(f"simulators.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
