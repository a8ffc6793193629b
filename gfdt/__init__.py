"""gfdt: how does a system respond when it is pushed a little, learned from its unperturbed trajectory.

Names are loaded on first use, so that ``import gfdt`` stays quick and never imports torch by itself.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from gfdt._version import __version__

if TYPE_CHECKING:
    from gfdt.diagnostics.check import check_score
    from gfdt.diagnostics.compare import compare
    from gfdt.diagnostics.report import ScoreReport
    from gfdt.errors import (
        CheckpointError,
        GfdtError,
        InputError,
        MissingFileError,
        NotFittedError,
        OutputError,
        ReliabilityWarning,
        UnreliableScoreWarning,
    )
    from gfdt.plotting.checks import plot_check
    from gfdt.plotting.responses import plot_errors, plot_responses
    from gfdt.plotting.snapshots import plot_snapshots
    from gfdt.responses.estimate import response
    from gfdt.responses.observables import Density, Exceedance, Spectrum
    from gfdt.responses.perturbations import Drift, NoiseAmplitude
    from gfdt.scores.analytic import AnalyticScore
    from gfdt.scores.base import Score
    from gfdt.scores.dsm import DSMScore
    from gfdt.scores.gaussian import GaussianScore
    from gfdt.scores.kde import KDEScore
    from gfdt.scores.kernel import KernelScore
    from gfdt.scores.kgmm import KGMMScore
    from gfdt.scores.loading import load_score
    from gfdt.trajectory import load_trajectory

__all__ = [
    "AnalyticScore",
    "CheckpointError",
    "DSMScore",
    "Density",
    "Drift",
    "Exceedance",
    "GaussianScore",
    "GfdtError",
    "InputError",
    "KDEScore",
    "KGMMScore",
    "KernelScore",
    "MissingFileError",
    "NoiseAmplitude",
    "NotFittedError",
    "OutputError",
    "ReliabilityWarning",
    "Score",
    "ScoreReport",
    "Spectrum",
    "UnreliableScoreWarning",
    "__version__",
    "check_score",
    "compare",
    "load_score",
    "load_trajectory",
    "plot_check",
    "plot_errors",
    "plot_responses",
    "plot_snapshots",
    "response",
]

_HOME = {
    "Spectrum": "responses.observables",
    "NoiseAmplitude": "responses.perturbations",
    "Exceedance": "responses.observables",
    "Drift": "responses.perturbations",
    "Density": "responses.observables",
    "AnalyticScore": "scores.analytic",
    "CheckpointError": "errors",
    "DSMScore": "scores.dsm",
    "GaussianScore": "scores.gaussian",
    "GfdtError": "errors",
    "InputError": "errors",
    "KDEScore": "scores.kde",
    "KGMMScore": "scores.kgmm",
    "KernelScore": "scores.kernel",
    "MissingFileError": "errors",
    "NotFittedError": "errors",
    "OutputError": "errors",
    "ReliabilityWarning": "errors",
    "Score": "scores.base",
    "ScoreReport": "diagnostics.report",
    "UnreliableScoreWarning": "errors",
    "check_score": "diagnostics.check",
    "compare": "diagnostics.compare",
    "load_score": "scores.loading",
    "load_trajectory": "trajectory",
    "plot_check": "plotting.checks",
    "plot_errors": "plotting.responses",
    "plot_responses": "plotting.responses",
    "plot_snapshots": "plotting.snapshots",
    "response": "responses.estimate",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'gfdt' has no attribute {name!r}")
    return getattr(importlib.import_module(f"gfdt.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
