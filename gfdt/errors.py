"""What can go wrong, by name. Every message says what was found, what was expected and how to fix it."""

from typing import Self

__all__ = [
    "CheckpointError",
    "ClusterError",
    "GfdtError",
    "InputError",
    "MissingFileError",
    "NotFittedError",
    "OutputError",
    "ProcessesError",
    "ReliabilityWarning",
    "UnreliableScoreWarning",
]


class GfdtError(Exception):
    """Base of every error this package raises on purpose."""


class _OneSentence:
    """For errors of the system: they print errno and a file name when they get several arguments, ours one sentence."""

    # Found in the wrong base otherwise, by what unpickles errors that come back from a cluster (tblib).
    def __new__(cls, *args: object) -> Self:
        return OSError.__new__(cls, *args)  # type: ignore[type-var]

    def __str__(self) -> str:
        args = getattr(self, "args", ())
        return str(args[0]) if args else ""


class InputError(GfdtError, ValueError):
    """An argument or a trajectory that cannot be used."""


class MissingFileError(_OneSentence, InputError, FileNotFoundError):
    """A file that was named but is not there."""


class NotFittedError(GfdtError, ValueError):
    """A score that was asked for values before ``fit``."""


class CheckpointError(InputError):
    """A score file that is foreign, damaged or altered."""


class ClusterError(GfdtError, RuntimeError):
    """A cluster that cannot be reached, or was lost."""


class OutputError(_OneSentence, GfdtError, OSError):
    """A result that cannot be written where it was asked for."""


class ProcessesError(_OneSentence, GfdtError, ConnectionError):
    """The processes that share a training have lost one another."""


class ReliabilityWarning(UserWarning):
    """The number was computed, but should not be trusted as it stands; the message carries the evidence."""


class UnreliableScoreWarning(ReliabilityWarning):
    """The score misses R(0) = I by so much that dividing by it would only make the response look right."""
