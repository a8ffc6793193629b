"""Ctrl-C between two steps, not in the middle of one: the weights stay those of a whole number of steps.

The first Ctrl-C (SIGINT) is remembered until the step is done; a second one interrupts at once. SIGTERM, with which
batch systems announce the end of a job, is treated the same where there is a checkpoint to be written, and delivered
again afterwards.
"""

from __future__ import annotations

import signal
import threading
from types import TracebackType
from typing import Any, Self

__all__ = ["Interruption"]


class Interruption:
    """Context in which signals are remembered; true once there was one. Does nothing outside the main thread."""

    def __init__(self, *, also_termination: bool = False) -> None:
        self._signals = [signal.SIGINT, signal.SIGTERM] if also_termination else [signal.SIGINT]
        self._previous: dict[int, Any] = {}
        self._seen: int | None = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._remember) for number in self._signals}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        if self._seen == signal.SIGTERM:
            signal.raise_signal(signal.SIGTERM)

    def __bool__(self) -> bool:
        return self._seen is not None

    def _remember(self, number: int, frame: Any) -> None:  # noqa: ARG002  the signature of signal handlers
        if number == signal.SIGINT and self._seen == signal.SIGINT:
            raise KeyboardInterrupt
        # A batch system may send SIGTERM to every process and have it forwarded too: the second changes nothing.
        if self._seen is None or number == signal.SIGTERM:
            self._seen = number
