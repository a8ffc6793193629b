"""What a worker does before its first task. Imported only where `distributed` is there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from distributed import WorkerPlugin

if TYPE_CHECKING:
    from distributed import Worker

__all__ = ["Imports"]


class Imports(WorkerPlugin):
    """Import what tasks and their arguments are made of: two threads that begin to import one package can fail."""

    name = "gfdt-imports"

    def setup(self, worker: Worker) -> None:  # noqa: ARG002
        """Import them, once for every worker, those that come later too."""
        import xarray.backends  # noqa: F401

        import gfdt.responses.stream
        import gfdt.scores.loading  # noqa: F401
