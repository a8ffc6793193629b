"""gfdt: how does a system respond when it is pushed a little, learned from its unperturbed trajectory.

Names are loaded on first use, so that ``import gfdt`` stays quick and never imports torch by itself.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from gfdt._version import __version__

if TYPE_CHECKING:
    from gfdt.scores.analytic import AnalyticScore
    from gfdt.scores.base import Score
    from gfdt.scores.dsm import DSMScore
    from gfdt.scores.gaussian import GaussianScore
    from gfdt.scores.storage import load_score
    from gfdt.trajectory import load_trajectory

_HOME = {
    "AnalyticScore": "gfdt.scores.analytic",
    "DSMScore": "gfdt.scores.dsm",
    "GaussianScore": "gfdt.scores.gaussian",
    "Score": "gfdt.scores.base",
    "load_score": "gfdt.scores.storage",
    "load_trajectory": "gfdt.trajectory",
}

__all__ = [
    "AnalyticScore",
    "DSMScore",
    "GaussianScore",
    "Score",
    "__version__",
    "load_score",
    "load_trajectory",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'gfdt' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
