"""gfdt: how does a system respond when it is pushed a little, learned from its unperturbed trajectory.

Names are loaded on first use, so that ``import gfdt`` stays quick and never imports torch by itself.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from gfdt._version import __version__

if TYPE_CHECKING:
    from gfdt.certificate.certify import certify
    from gfdt.certificate.report import Certificate
    from gfdt.crosschecks.agreement import agreement
    from gfdt.crosschecks.noise_increments import noise_response
    from gfdt.crosschecks.null_band import null_band
    from gfdt.crosschecks.tangent import tangent_response
    from gfdt.density.observations import Coarse, LinearObservation, Partial
    from gfdt.diagnostics.check import check_score
    from gfdt.diagnostics.compare import compare
    from gfdt.diagnostics.report import ScoreReport
    from gfdt.errors import (
        CheckpointError,
        ClusterError,
        GfdtError,
        InputError,
        MissingFileError,
        NotFittedError,
        OutputError,
        ProcessesError,
        ReliabilityWarning,
        UnreliableScoreWarning,
    )
    from gfdt.forcing.attribution import attribute
    from gfdt.forcing.causal import causal_strength
    from gfdt.forcing.green import green_function
    from gfdt.forcing.optimal import optimal_forcing
    from gfdt.forcing.predict import predict
    from gfdt.forcing.step import step_response
    from gfdt.forcing.susceptibility import susceptibility
    from gfdt.plotting.checks import plot_check
    from gfdt.plotting.forcing import plot_prediction, plot_susceptibility
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
    from gfdt.scores.polished import PolishedScore
    from gfdt.trajectory import load_trajectory

__all__ = [
    "AnalyticScore",
    "Certificate",
    "CheckpointError",
    "ClusterError",
    "Coarse",
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
    "LinearObservation",
    "MissingFileError",
    "NoiseAmplitude",
    "NotFittedError",
    "OutputError",
    "Partial",
    "PolishedScore",
    "ProcessesError",
    "ReliabilityWarning",
    "Score",
    "ScoreReport",
    "Spectrum",
    "UnreliableScoreWarning",
    "__version__",
    "agreement",
    "attribute",
    "causal_strength",
    "certify",
    "check_score",
    "compare",
    "green_function",
    "load_score",
    "load_trajectory",
    "noise_response",
    "null_band",
    "optimal_forcing",
    "plot_check",
    "plot_errors",
    "plot_prediction",
    "plot_responses",
    "plot_snapshots",
    "plot_susceptibility",
    "predict",
    "response",
    "step_response",
    "susceptibility",
    "tangent_response",
]

_HOME = {
    "AnalyticScore": "scores.analytic",
    "Certificate": "certificate.report",
    "CheckpointError": "errors",
    "ClusterError": "errors",
    "Coarse": "density.observations",
    "DSMScore": "scores.dsm",
    "Density": "responses.observables",
    "Drift": "responses.perturbations",
    "Exceedance": "responses.observables",
    "GaussianScore": "scores.gaussian",
    "GfdtError": "errors",
    "InputError": "errors",
    "KDEScore": "scores.kde",
    "KGMMScore": "scores.kgmm",
    "KernelScore": "scores.kernel",
    "LinearObservation": "density.observations",
    "MissingFileError": "errors",
    "NoiseAmplitude": "responses.perturbations",
    "NotFittedError": "errors",
    "OutputError": "errors",
    "ProcessesError": "errors",
    "Partial": "density.observations",
    "PolishedScore": "scores.polished",
    "ReliabilityWarning": "errors",
    "Score": "scores.base",
    "ScoreReport": "diagnostics.report",
    "Spectrum": "responses.observables",
    "UnreliableScoreWarning": "errors",
    "agreement": "crosschecks.agreement",
    "attribute": "forcing.attribution",
    "causal_strength": "forcing.causal",
    "certify": "certificate.certify",
    "check_score": "diagnostics.check",
    "compare": "diagnostics.compare",
    "green_function": "forcing.green",
    "load_score": "scores.loading",
    "load_trajectory": "trajectory",
    "noise_response": "crosschecks.noise_increments",
    "null_band": "crosschecks.null_band",
    "optimal_forcing": "forcing.optimal",
    "plot_check": "plotting.checks",
    "plot_errors": "plotting.responses",
    "plot_prediction": "plotting.forcing",
    "plot_responses": "plotting.responses",
    "plot_snapshots": "plotting.snapshots",
    "plot_susceptibility": "plotting.forcing",
    "predict": "forcing.predict",
    "response": "responses.estimate",
    "step_response": "forcing.step",
    "susceptibility": "forcing.susceptibility",
    "tangent_response": "crosschecks.tangent",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'gfdt' has no attribute {name!r}")
    return getattr(importlib.import_module(f"gfdt.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
