"""``gfdt demo``: a system for which the Gaussian estimate is right, and one for which it is not.

The Ornstein-Uhlenbeck field (PRL eq. 6, 32 x 32) is Gaussian: C(t) C(0)^-1 is the best there is, and the learned score
must not lose it. The double well is bimodal: C(t) C(0)^-1 is far off, the learned score is not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gfdt.errors import OutputError
from gfdt.experiments.case import Case, CaseResult, output_files, run_case
from gfdt.output import atomic_path, check_output
from gfdt.plotting.responses import plot_errors, plot_responses
from gfdt.plotting.snapshots import plot_snapshots
from gfdt.validation import one_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["DemoResult", "demo_cases", "run_demo"]


@dataclass(frozen=True)
class DemoResult:
    """Table as text, path of the figure, and the results of both systems."""

    table: str
    figure: Path
    results: tuple[CaseResult, ...]


def demo_cases() -> tuple[Case, ...]:
    """Return the two systems with records long enough for errors of a few per cent."""
    from simulators import DoubleWell, OrnsteinUhlenbeck

    field = Case(
        name="ou-field",
        system=OrnsteinUhlenbeck(n=32),
        simulate={"n_members": 64, "duration": 1000.0, "save_every": 5.0},
        max_lag=100.0,
        homogeneous=("y", "x"),
        # There is nothing to learn beyond the Gaussian start: a hundred steps are enough to see that.
        dsm={"max_steps": 400, "max_minutes": 1.0},
    )
    well = Case(
        name="double-well",
        system=DoubleWell(),
        simulate={"n_members": 64, "duration": 2000.0, "save_every": 0.1},
        max_lag=6.0,
        dsm={"max_steps": 1500, "max_minutes": 1.0},
    )
    return field, well


def run_demo(
    directory: str | Path,
    *,
    seed: int = 0,
    device: str = "auto",
    overwrite: bool = False,
    dry_run: bool = False,
    log: Callable[[str], None] = print,
    cases: Sequence[Case] | None = None,
) -> DemoResult | None:
    """Run the demo and write trajectories, scores, responses, errors and one figure to ``directory``.

    Parameters
    ----------
    directory : path
        Made if missing.
    seed : int
        Of the simulations and the training.
    device : "auto", "cpu" or "cuda"
        Where the score is trained.
    overwrite : bool
        Replace results of an earlier run. Default False.
    dry_run : bool
        Only say what would be written.
    log : callable
        Takes each line of progress.
    cases : sequence of Case, optional
        Default :func:`demo_cases`.

    Returns
    -------
    DemoResult, or None for a dry run

    Raises
    ------
    OutputError
        If ``directory`` cannot be written, or holds results and ``overwrite`` is False.
    """
    directory = Path(directory)
    chosen = tuple(cases) if cases is not None else demo_cases()
    figure_path, table_path = directory / "demo.png", directory / "errors.csv"
    targets = [path for case in chosen for path in output_files(case, directory).values()]
    one_of("device", device, ("auto", "cpu", "cuda"))
    if dry_run:
        log("\n".join(f"would write {path}" for path in (*targets, table_path, figure_path)))
        return None
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"the directory {directory} cannot be made ({error.strerror}): choose another --out."
        ) from error
    for path in (*targets, table_path, figure_path):
        check_output(path, overwrite=overwrite)
    results = tuple(run_case(case, directory, seed=seed, device=device, log=log) for case in chosen)
    with atomic_path(table_path, overwrite=True) as temporary:
        temporary.write_text(_csv(results))
    with atomic_path(figure_path, overwrite=True) as temporary:
        draw(results).savefig(temporary, dpi=160, format="png")
    return DemoResult(_table(results), figure_path, results)


def draw(results: Sequence[CaseResult]) -> Figure:
    """Return one figure with a row for each system: the data, the responses, the errors."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12.0, 3.6 * len(results)), layout="constrained")
    for row, result in zip(figure.subplots(len(results), 3, squeeze=False), results, strict=True):
        is_field = result.case.homogeneous is not None
        if is_field:
            plot_snapshots(result.trajectory, ax=row[0])
            row[0].set_title(f"{_title(result)}: one snapshot")
            _draw_profile(result, row[1])
        else:
            _draw_density(result, row[0])
            plot_responses(result.responses, ax=row[1])
            row[1].set_title("response to a kick, against lag")
        plot_errors(result.comparison, ax=row[2])
        row[2].set_title("error against the exact response")
    return figure


def _draw_profile(result: CaseResult, ax: Any) -> None:
    lag = float(result.responses["gaussian"]["lag"].values[-1])
    plot_responses(result.responses, against="dx", at={"lag": lag, "dy": 0}, ax=ax)
    ax.set(
        title=f"response along x at lag {lag:g}", xlabel="dx (grid cells from the kick)", ylabel="response R(dy = 0)"
    )


def _draw_density(result: CaseResult, ax: Any) -> None:
    system: Any = result.case.system
    values = result.trajectory["x"].values.ravel()
    ax.hist(values, bins=80, density=True, color="0.8", label="data")
    grid = np.linspace(values.min(), values.max(), 300)
    ax.plot(grid, system.density(grid), color="black", linewidth=1.5, label="exact density")
    normal = np.exp(-0.5 * ((grid - values.mean()) / values.std()) ** 2) / (values.std() * np.sqrt(2 * np.pi))
    ax.plot(grid, normal, color="#D55E00", linestyle=(0, (5, 2)), label="Gaussian fit")
    ax.set(xlabel="x", ylabel="probability density", title=f"{_title(result)}: stationary density")
    ax.set_ylim(0, 1.3 * ax.get_ylim()[1])  # room for the legend above the peaks
    ax.legend(frameon=False, fontsize="small", ncols=2, loc="upper center")


def _title(result: CaseResult) -> str:
    return result.case.name.replace("ou-field", "OU field").replace("double-well", "double well")


def _rows(results: Sequence[CaseResult]) -> list[tuple[str, str, float, float, float, float, float]]:
    return [
        (
            result.case.name,
            str(name),
            float(row["rms_overall"]),
            float(row["max_overall"]),
            float(row["relative"]),
            float(row["coverage"]),
            result.seconds[str(name)],
        )
        for result in results
        for name in result.comparison["estimator"].values
        for row in (result.comparison.sel(estimator=name),)
    ]


def _table(results: Sequence[CaseResult]) -> str:
    titles = ("rms error", "max error", "relative", "in band", "seconds")
    lines = [f"{'system':<12} {'estimator':<11} " + " ".join(f"{title:>10}" for title in titles)]
    lines += [
        f"{system:<12} {name:<11} {rms:10.2e} {largest:10.2e} {relative:10.4f} {100 * inside:9.1f}% {seconds:10.1f}"
        for system, name, rms, largest, relative, inside, seconds in _rows(results)
    ]
    return "\n".join(lines)


def _csv(results: Sequence[CaseResult]) -> str:
    header = "system,estimator,rms_error,max_error,relative_error,coverage,seconds"
    lines = [",".join([system, name, *(f"{value:.6g}" for value in rest)]) for system, name, *rest in _rows(results)]
    return "\n".join([header, *lines]) + "\n"
