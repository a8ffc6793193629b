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
    "ReliabilityWarning",
    "UnreliableScoreWarning",
]


class GfdtError(Exception):
    """Base of every error this package raises on purpose."""


class InputError(GfdtError, ValueError):
    """An argument or a trajectory that cannot be used."""


class MissingFileError(InputError, FileNotFoundError):
    """A file that was named but is not there."""

    # Found in the wrong base otherwise, by what unpickles errors that come back from a cluster (tblib).
    def __new__(cls, *args: object) -> Self:
        return OSError.__new__(cls, *args)

    # OSError prints errno and a file name when it is given several arguments; ours is one sentence.
    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class NotFittedError(GfdtError, ValueError):
    """A score that was asked for values before ``fit``."""


class CheckpointError(InputError):
    """A score file that is foreign, damaged or altered."""


class ClusterError(GfdtError, RuntimeError):
    """A cluster that cannot be reached, or was lost."""


class OutputError(GfdtError, OSError):
    """A result that cannot be written where it was asked for."""

    def __new__(cls, *args: object) -> Self:
        return OSError.__new__(cls, *args)

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class ReliabilityWarning(UserWarning):
    """The number was computed, but should not be trusted as it stands; the message carries the evidence."""


class UnreliableScoreWarning(ReliabilityWarning):
    """The score misses R(0) = I by so much that dividing by it would only make the response look right."""
