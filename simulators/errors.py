"""What can go wrong in a simulation; every message says what was found, what was expected and how to fix it."""

from typing import Any

__all__ = [
    "BlowUpError",
    "ClusterError",
    "NoScoreError",
    "NotStationaryError",
    "OutputBusyError",
    "OutputError",
    "OutputExistsError",
    "ParameterError",
    "ResumeError",
    "SimulatorError",
]


class SimulatorError(Exception):
    """Base of every error this package raises on purpose."""


class ParameterError(SimulatorError, ValueError):
    """A parameter, option or array has a value the equations or the engine cannot use."""


class OutputError(SimulatorError, OSError):
    """The output file cannot be written."""


class OutputExistsError(OutputError, FileExistsError):
    """The output file is already there and ``overwrite=True`` was not given."""


class OutputBusyError(OutputError):
    """Another run is writing the output file."""


class ResumeError(SimulatorError, ValueError):
    """The unfinished file on disk does not belong to the run that was asked to continue it."""


class NoScoreError(SimulatorError, NotImplementedError):
    """The stationary density of the system, and so its score, has no closed form."""


class NotStationaryError(SimulatorError, RuntimeError):
    """``spinup="auto"`` gave up: after the longest time the run still drifts, or is too short to tell."""


class ClusterError(SimulatorError, RuntimeError):
    """The Dask cluster of a run cannot be reached, has no workers, or was lost."""


class BlowUpError(SimulatorError, ArithmeticError):
    """The state of one member stopped being finite.

    Parameters
    ----------
    member : int
        The member that blew up.
    time : float
        Time of its first non-finite snapshot, in model time units; negative during the spin-up, but counted from its
        beginning if that is ``"auto"``.
    dt : float
        The time step in use.
    advice : str
        What else may help with this system.
    """

    def __init__(self, member: int, time: float, dt: float, advice: str = "") -> None:
        self.member = member
        self.time = time
        self.dt = dt
        self.advice = advice
        super().__init__(
            f"member {member} is no longer finite at time {time:g} (dt = {dt:g}): "
            f"expected a bounded trajectory; try a smaller dt, for example dt={dt / 2:g}, "
            "and check that the parameters describe a stable system" + (f"; {advice}" if advice else "")
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Be rebuilt from the arguments, not from the message: an error may come from another process."""
        return type(self), (self.member, self.time, self.dt, self.advice), self.__dict__
