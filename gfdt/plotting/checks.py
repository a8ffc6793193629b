"""A score check as one figure: where the identities fail, and by how much."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np

from gfdt.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from gfdt.diagnostics.report import ScoreReport

__all__ = ["plot_check"]

_INK = {"green": "#009E73", "amber": "#E69F00", "red": "#D55E00"}
_SCORE, _GAUSSIAN, _STEIN = "#0072B2", "#D55E00", "#009E73"
_VARIABLES = ("#0072B2", "#E69F00", "#56B4E9", "#CC79A7", "#F0E442", "#009E73")
_MOST_LABELS = 12
_ROUNDING = 1e-9
_TEXT_WIDTH = 68  # letters that fit beside the verdict; the printed report has all of them


def plot_check(report: ScoreReport, *, figure: Figure | None = None) -> Figure:
    """Draw what :func:`gfdt.check_score` found.

    Four panels: the Stein identity (against wavenumber, of each variable and between them, or as a matrix), the
    identities of the other observables, the score-matching loss (against sigma, where there is a sweep), and all
    verdicts with their numbers.

    Parameters
    ----------
    report : ScoreReport
    figure : Figure, optional
        Where to draw, e.g. ``matplotlib.figure.Figure(figsize=(10, 7), layout="constrained")``. Default: a new pyplot
        figure of that size.

    Returns
    -------
    Figure

    Raises
    ------
    InputError
        If it is not given a report.
    """
    if not hasattr(report, "findings"):
        raise InputError(f"plot_check draws what gfdt.check_score returned, found a {type(report).__name__}.")
    if figure is None:
        import matplotlib.pyplot as plt

        figure = plt.figure(figsize=(10, 7), layout="constrained")
    axes = figure.subplots(2, 2)
    _stein(report, axes[0, 0])
    _observables(report, axes[0, 1])
    if report.sweep:
        _sweep(report, axes[1, 0])
    else:
        _loss(report, axes[1, 0])
    _verdicts(report, axes[1, 1])
    figure.suptitle(f"score check: {report.verdict}", color=_INK[report.verdict], fontweight="bold")
    return figure


def _stein(report: ScoreReport, ax: Axes) -> None:
    found = report.departure
    ax.set_title("Stein identity", fontsize="medium")
    if report.layout.dense and found.measured.shape[0] > 1:
        _matrix(found.measured - found.identity, ax)
        return
    if report.layout.dense:
        ax.errorbar([0], found.measured.ravel(), yerr=2 * found.stderr.ravel(), fmt="o", color=_SCORE, capsize=3)
        ax.axhline(1.0, color="0.6", linewidth=0.8)
        ax.set(xticks=[], ylabel="$-\\langle x\\,s\\rangle$ (bars: 2 standard errors)")
        return
    waves = np.meshgrid(*report.names.wavenumbers().values(), indexing="ij")
    size = np.sqrt(sum(wave.astype(float) ** 2 for wave in waves)).reshape(-1)
    if found.measured.ndim > 1:
        _blocks(report, size, ax)
        return
    present = found.identity > 0
    ax.errorbar(
        size[present],
        np.real(found.measured[present]),
        yerr=2 * found.stderr[present],
        fmt=".",
        markersize=4,
        color=_SCORE,
        ecolor="0.75",
        elinewidth=0.8,
        label=f"{int(present.sum())} wavenumbers, 2 standard errors",
    )
    if not present.all():
        ax.plot(size[~present], np.zeros(int((~present).sum())), "x", color="0.5", markersize=4, label="no variance")
    ax.axhline(1.0, color="k", linewidth=0.8)
    # One wavenumber that moves slowly is often known to nobody: it must not flatten the rest.
    values = np.real(found.measured[present])
    low, high = np.quantile(values, [0.02, 0.98])
    reach = max(1.5 * max(high - 1, 1 - low), 0.1)
    ax.set_ylim(min(1 - reach, -0.05 if not present.all() else 1 - reach), 1 + reach)
    ax.set(xlabel="|k|", ylabel="$M_k/P_k$")
    ax.legend(frameon=False, fontsize="small")


def _blocks(report: ScoreReport, size: NDArray[np.float64], ax: Axes) -> None:
    """Several variables: each one's own entry, which should be 1, and those between two of them, which should be 0."""
    found, names = report.departure, report.names
    n_variables = found.measured.shape[-1]
    # Where some combination of the variables has no variance, the identity is a projector: it is made I here.
    values = np.real(found.measured - found.identity) + np.eye(n_variables)
    present = np.trace(found.identity, axis1=1, axis2=2).real > 0.5
    for row in range(n_variables):
        for column in range(n_variables):
            own = row == column
            ax.errorbar(
                size[present],
                values[present, row, column],
                yerr=2 * found.stderr[present, row, column],
                fmt="." if own else "x",
                markersize=4 if own else 3,
                color=_VARIABLES[column % len(_VARIABLES)],
                ecolor="0.85",
                elinewidth=0.6,
                label=f"score of {names.variable(column)}" if own else None,
            )
    for level in (0.0, 1.0):
        ax.axhline(level, color="k", linewidth=0.8)
    low, high = np.quantile(values[present], [0.01, 0.99])
    ax.set_ylim(min(1.3 * low, -0.3), max(1.3 * high, 1.3))
    ax.set(xlabel="|k|", ylabel="$M_k P_k^{-1}$ (dots: 1, crosses between variables: 0)")
    ax.legend(frameon=False, fontsize="small")


def _matrix(departure: NDArray[Any], ax: Axes) -> None:
    reach = max(float(np.abs(departure).max()), 1e-3)
    image = ax.imshow(departure, cmap="RdBu_r", vmin=-reach, vmax=reach, interpolation="nearest")
    ax.figure.colorbar(image, ax=ax, shrink=0.9, label="departure of $-\\langle x_i s_j\\rangle$")
    ax.set(xlabel="component j of s", ylabel="component i of x")
    if len(departure) <= _MOST_LABELS:
        ax.set(xticks=range(len(departure)), yticks=range(len(departure)))


def _observables(report: ScoreReport, ax: Axes) -> None:
    ax.set_title("other observables", fontsize="medium")
    names = list(report.observables)
    for row, name in enumerate(names):
        found = report.observables[name]
        values = (found.measured - found.identity).ravel()
        stderr = found.stderr.ravel()
        if values.size > 1:
            offsets = row + np.linspace(-0.3, 0.3, values.size)
            size = 3.0 if values.size <= 64 else 1.5
        else:
            offsets, size = np.array([float(row)]), 6.0
        ax.errorbar(
            offsets, values, yerr=2 * stderr, fmt="o", markersize=size, color=_INK[found.verdict], ecolor="0.75"
        )
        if not report.layout.dense and 1 < values.size <= _MOST_LABELS:
            for index, (offset, value) in enumerate(zip(offsets, values, strict=True)):
                label = report.names.variable(index).partition("=")[2]
                ax.annotate(f" {label}", (offset, value), fontsize="x-small", color="0.3")
    ax.axhline(0.0, color="k", linewidth=0.8)
    ax.set_xticks(range(len(names)), names)
    ax.set_xlim(-0.6, max(len(names), 1) - 0.4)
    ax.set_ylabel("departure from $\\langle A\\,B\\rangle = \\langle A'\\rangle$")


def _loss(report: ScoreReport, ax: Axes) -> None:
    loss = report.loss
    ax.set_title("score-matching loss" + (" (in-sample)" if report.in_sample else ""), fontsize="medium")
    if not np.isfinite(loss.difference):
        ax.text(0.5, 0.5, str(loss), ha="center", va="center", transform=ax.transAxes, wrap=True)
        ax.set_axis_off()
        return
    ax.errorbar([0], [loss.difference], yerr=2 * loss.stderr, fmt="o", color=_SCORE, capsize=4)
    ax.axhline(0.0, color=_GAUSSIAN, linestyle=(0, (5, 2)), label="Gaussian")
    shown = f"{loss.difference:.3g}" if abs(loss.difference) > _ROUNDING else "equal"
    ax.annotate(f"  {shown}", (0, loss.difference), va="bottom")
    reach = max(1.3 * (abs(loss.difference) + 2 * loss.stderr), 1e-3)
    ax.set(xticks=[], xlim=(-1, 1), ylim=(-reach, reach), ylabel="loss less the Gaussian's (lower is better)")
    ax.legend(frameon=False, fontsize="small")


def _sweep(report: ScoreReport, ax: Axes) -> None:
    sigma = [item.noise_level for item in report.sweep]
    ax.set_title("noise level" + (" (in-sample)" if report.in_sample else ""), fontsize="medium")
    ax.errorbar(
        sigma,
        [item.loss.difference for item in report.sweep],
        yerr=[2 * item.loss.stderr for item in report.sweep],
        fmt="o-",
        color=_SCORE,
        capsize=3,
    )
    ax.axhline(0.0, color=_GAUSSIAN, linestyle=(0, (5, 2)), linewidth=1.0, label="Gaussian")
    own = float(np.sqrt(np.mean(np.square(report.noise_level))))
    ax.axvline(own, color="0.7", linewidth=0.8, label="sigma of the score")
    ax.set_xscale("log")
    ax.minorticks_off()
    ax.set_xticks(sigma, [f"{value:.2g}" for value in sigma])
    ax.set_xlabel("sigma")
    ax.set_ylabel("loss less the Gaussian's (lower is better)", color=_SCORE)
    ax.legend(frameon=False, fontsize="small")
    right = ax.twinx()
    right.plot(sigma, [item.stein.excess for item in report.sweep], "s--", color=_STEIN)
    right.set_ylim(bottom=0.0)
    right.set_ylabel("Stein identity, rms departure beyond noise", color=_STEIN)


def _verdicts(report: ScoreReport, ax: Axes) -> None:
    ax.set_axis_off()
    step = 1.0 / (len(report.findings) + 1)
    for row, item in enumerate(report.findings):
        height = 1 - (row + 0.5) * step
        ax.plot([0.02], [height], "o", color=_INK[item.verdict], markersize=9, transform=ax.transAxes, clip_on=False)
        ax.text(0.07, height + 0.02, f"{item.check}: {item.verdict}", transform=ax.transAxes, fontsize="medium")
        text = textwrap.shorten(item.text, _TEXT_WIDTH, placeholder=" ...")
        ax.text(0.07, height - 0.04, text, transform=ax.transAxes, fontsize="x-small", color="0.3")
