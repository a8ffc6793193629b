"""One system taken the whole way: simulate, fit the scores, respond, compare with the exact answer, keep everything.

The estimators are those of the PRL: "analytical" (exact score), "gaussian" (R = C(t) C(0)^-1) and "generative" (score
learned by denoising score matching), against "exact" (closed form or Fokker-Planck).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from gfdt.diagnostics.compare import compare
from gfdt.output import write_dataset
from gfdt.responses.estimate import response
from gfdt.scores.analytic import AnalyticScore
from gfdt.scores.dsm import DSMScore
from gfdt.scores.gaussian import GaussianScore

if TYPE_CHECKING:
    import xarray as xr

    from gfdt.scores.base import Score
__all__ = ["Case", "CaseResult", "run_case"]

Log = Callable[[str], None]


class SolvableSystem(Protocol):
    """A simulator whose score and response are known exactly."""

    @property
    def simulate(self) -> Callable[..., xr.Dataset]:
        """Make a trajectory."""

    @property
    def score(self) -> Callable[[Any], Any]:
        """Give the exact score."""

    @property
    def exact_response(self) -> Callable[[Any], xr.DataArray]:
        """Give the exact response at some lags."""


@dataclass(frozen=True)
class Case:
    """What to do with one system.

    Attributes
    ----------
    name : str
        Short name, used in files and tables.
    system : SolvableSystem
        The simulator.
    simulate : mapping
        Arguments of ``system.simulate``.
    max_lag : float
        In the system's time unit.
    homogeneous : tuple of str or None
        As in ``gfdt.response``.
    dsm : mapping
        Options of the learned score.
    lag_stride : int
    """

    name: str
    system: SolvableSystem
    simulate: Mapping[str, Any]
    max_lag: float
    homogeneous: tuple[str, ...] | None = None
    dsm: Mapping[str, Any] = field(default_factory=dict)
    lag_stride: int = 1


@dataclass(frozen=True)
class CaseResult:
    """What came out; ``responses`` holds "exact" and the estimators by name, ``seconds`` what each took."""

    case: Case
    trajectory: xr.Dataset
    responses: dict[str, xr.Dataset | xr.DataArray]
    comparison: xr.Dataset
    seconds: dict[str, float]
    files: tuple[Path, ...]


def output_files(case: Case, directory: Path) -> dict[str, Path]:
    """Return every file :func:`run_case` writes, by content."""
    named = {
        "trajectory": f"{case.name}.nc",
        "score": f"{case.name}-score.safetensors",
        "errors": f"{case.name}-errors.nc",
    }
    named |= {key: f"{case.name}-response-{key}.nc" for key in ("exact", "analytical", "gaussian", "generative")}
    return {key: directory / name for key, name in named.items()}


def run_case(case: Case, directory: Path, *, seed: int, device: str, log: Log) -> CaseResult:
    """Take one system the whole way and write everything to ``directory``, replacing what is there."""
    files = output_files(case, directory)
    log(f"{case.name}: simulating {_said(case.simulate)}")
    trajectory = case.system.simulate(**case.simulate, seed=seed, out=files["trajectory"], overwrite=True).load()
    trajectory.close()
    responses: dict[str, Any] = {}
    seconds: dict[str, float] = {}
    for name, score in _estimators(case, seed=seed, device=device).items():
        log(f"{case.name}: {name} response")
        start = time.perf_counter()
        score.fit(trajectory)
        if getattr(score, "interrupted_", False):
            raise KeyboardInterrupt
        responses[name] = response(
            trajectory, score, max_lag=case.max_lag, lag_stride=case.lag_stride, homogeneous=case.homogeneous
        )
        seconds[name] = time.perf_counter() - start
        write_dataset(responses[name], files[name], overwrite=True)
        if name == "generative":
            score.save(files["score"], overwrite=True)
    lags = responses["gaussian"]["lag"].values
    exact = case.system.exact_response(lags)
    exact["lag"].attrs.update(responses["gaussian"]["lag"].attrs)
    write_dataset(exact.to_dataset(name="response").assign_attrs(estimator="exact"), files["exact"], overwrite=True)
    comparison = compare(exact, responses)
    write_dataset(comparison, files["errors"], overwrite=True)
    return CaseResult(case, trajectory, {"exact": exact, **responses}, comparison, seconds, tuple(files.values()))


def _estimators(case: Case, *, seed: int, device: str) -> dict[str, Score]:
    return {
        "analytical": AnalyticScore(case.system.score),
        "gaussian": GaussianScore(case.homogeneous),
        "generative": DSMScore(homogeneous=case.homogeneous, seed=seed, device=device, **case.dsm),
    }


def _said(arguments: Mapping[str, Any]) -> str:
    return ", ".join(f"{name.removeprefix('n_')} {value:g}" for name, value in arguments.items())
