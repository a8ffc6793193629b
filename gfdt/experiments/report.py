"""The outcome of ``gfdt reproduce`` as text: errors, certificates, times."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gfdt.experiments.stages import LEDGER

if TYPE_CHECKING:
    from gfdt.experiments.errors import Judged
    from gfdt.experiments.recipes import Recipe

__all__ = ["report"]

_COLUMNS = ("rms", "max", "noise", "relative", "rms/gauss", "max/gauss", "worst (lag)", "inside", "covers")


def report(systems: Mapping[str, tuple[Recipe, Judged, Path, Sequence[str]]]) -> str:
    """Return the tables of one or several systems, as Markdown that reads well as it is.

    Parameters
    ----------
    systems : mapping of str to (Recipe, Judged, Path, names)
        The path is the directory with the ledger of the stages, the names are those of its stages.
    """
    parts = []
    for name, (recipe, judged, directory, stages) in systems.items():
        parts += [f"## {recipe.title} ({name})", "", _table(judged), "", *_scores(directory, stages)]
        parts += [_times(directory, stages), ""]
    return "\n".join([*parts, _LEGEND]) + "\n"


_LEGEND = (
    "rms, max: error against the twin experiments over the lags named above; noise: the rms error that the finite "
    "number of samples and twins would make by itself; relative: rms over that of the twins' response; rms/gauss, "
    "max/gauss: over the error of the Gaussian estimate; worst (lag): the largest rms/gauss at any lag after 0; "
    "inside: part of the cells inside the 95 % band of the twins; covers: part of the cells whose own 95 % band holds "
    "the twins."
)


def _table(judged: Judged) -> str:
    table = judged.table
    lines = [
        f"Lags {judged.lags[0]:g} to {judged.lags[1]:g}:",
        "",
        "| estimator | " + " | ".join(_COLUMNS) + " |",
        "|---" * (len(_COLUMNS) + 1) + "|",
    ]
    # In a linear system twins have no noise but rounding, and no band that could hold anything.
    exact = float(table["rms"].sel(estimator="dynamical")) < 1e-9 * float(table["rms"].sel(estimator="gaussian"))
    for name in map(str, table["estimator"].values):
        row = {key: float(table[key].sel(estimator=name)) for key in map(str, table.data_vars)}
        worst, lag = judged.worst_rms_ratio[name]
        cells = [
            f"{row['rms']:.2e}",
            f"{row['max']:.2e}",
            f"{row['noise']:.2e}",
            f"{row['relative']:.3f}",
            f"{row['rms_ratio']:.3f}",
            f"{row['max_ratio']:.3f}",
            f"{worst:.2f} ({lag:g})",
            f"{100 * row['inside']:.0f} %",
            f"{100 * row['coverage']:.0f} %" if row["coverage"] == row["coverage"] else "-",
        ]
        if name == "dynamical":
            cells[-1] = "-"
        if name == "dynamical" or exact:
            cells[-2] = "-"
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _scores(directory: Path, stages: Sequence[str]) -> list[str]:
    """What the certificates of the learned scores say."""
    from gfdt.scores.loading import load_score

    lines = []
    for name in (stage.removeprefix("certify-") for stage in stages if stage.startswith("certify-")):
        score = load_score(directory / f"{name}-certified.safetensors")
        stamp = score.certificate_
        kept = getattr(score, "selected_", "")
        kept = f"weights of step {kept}" if isinstance(kept, int) else str(kept)
        lines += [f"Certificate of {name} ({kept}): {stamp.verdict if stamp else 'none'}."]
        lines += [f"- {reason}" for reason in (stamp.reasons if stamp else ())]
        lines += [""]
    return lines


def _times(directory: Path, names: Sequence[str]) -> str:
    kept = json.loads((directory / LEDGER).read_text())["stages"]
    stages = {name: kept[name] for name in names}
    total = sum(item["seconds"] for item in stages.values())
    each = ", ".join(f"{name} {item['seconds']:.0f}" for name, item in stages.items())
    machines = " / ".join(dict.fromkeys(item["machine"] for item in stages.values()))
    return f"{total / 60:.1f} minutes ({each} s) on {machines}."
