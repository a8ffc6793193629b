"""A certificate as one figure: samples against the record, distances, and the likelihood by noise level."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np

from gfdt.errors import InputError

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from gfdt.certificate.report import Certificate

__all__ = ["plot_certificate", "plot_examples"]

_INK = {"green": "#009E73", "amber": "#E69F00", "red": "#D55E00"}
_SCORE, _OTHER = "#0072B2", "#CC79A7"
# The record is broad and pale, so that it shows on both sides of the samples that lie on it.
_SOURCES: tuple[dict[str, Any], ...] = (
    {"color": "0.6", "linewidth": 5, "linestyle": "-"},
    {"color": _SCORE, "linewidth": 1.6, "linestyle": "-"},
    {"color": _OTHER, "linewidth": 1.4, "linestyle": (0, (4, 2))},
)
_TEXT_WIDTH = 84  # letters that fit beside a verdict; the printed report has all of them
_MOST_LINES = 24


def plot_certificate(certificate: Certificate, *, figure: Figure | None = None) -> Figure:
    """Draw what :func:`gfdt.certify` found.

    Six panels: the one-point density of the samples and of the record where they differ most; the ratio of their
    spectra (or of the variances of the principal components); the sliced Wasserstein distances with their floors; the
    likelihood bound and the amplitude by noise level; all verdicts. A score that cannot be sampled has the last only.

    Parameters
    ----------
    certificate : Certificate
    figure : Figure, optional
        Where to draw, e.g. ``matplotlib.figure.Figure(figsize=(13, 7.5), layout="constrained")``. Default: a new pyplot
        figure of that size.

    Returns
    -------
    Figure

    Raises
    ------
    InputError
        If it is not given a certificate.
    """
    if not hasattr(certificate, "sections"):
        raise InputError(
            f"plot_certificate draws what gfdt.certify returned, found a {type(certificate).__name__}: pass that."
        )
    if figure is None:
        import matplotlib.pyplot as plt

        figure = plt.figure(figsize=(13, 7.5), layout="constrained")
    figure.suptitle(
        f"certificate: {certificate.verdict} ({certificate.label})",
        color=_INK[certificate.verdict],
        fontweight="bold",
    )
    drawn, bound = "density" in certificate.pictures, certificate.likelihood
    if not drawn and bound is None:
        _verdicts(certificate, figure.subplots())
        return figure
    grid = figure.add_gridspec(2, 3, width_ratios=(1, 1, 1.3))
    if drawn:
        _density(certificate.pictures, figure.add_subplot(grid[0, 0]))
        _spectrum(certificate.pictures, figure.add_subplot(grid[0, 1]))
    if certificate.distance is not None and certificate.spread is not None:
        _distances(certificate, figure.add_subplot(grid[1, 0]))
    if bound is not None:
        _likelihood(bound, figure.add_subplot(grid[1, 1]))
    _verdicts(certificate, figure.add_subplot(grid[:, 2]))
    return figure


def plot_examples(certificate: Certificate, *, figure: Figure | None = None) -> Figure:
    """Draw states of a field from the record (upper row) and samples (lower row), on one colour scale.

    Of several variables the first is drawn.

    Parameters
    ----------
    certificate : Certificate
        Of a score of fields in two dims.
    figure : Figure, optional
        Default: a new one, not known to pyplot.

    Returns
    -------
    Figure

    Raises
    ------
    InputError
        If the states are not such fields.
    """
    if "example" not in certificate.pictures:
        raise InputError("the states are not fields in two dims: plot_examples has nothing to draw.")
    if figure is None:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(10, 5.2), layout="constrained")
    example = certificate.pictures["example"]
    fields = example.isel(dict.fromkeys(example.dims[2:-2], 0))
    axes = figure.subplots(*fields.shape[:2], squeeze=False)
    reach = float(np.abs(fields - float(fields.mean())).max())
    low, high = float(fields.mean()) - reach, float(fields.mean()) + reach
    vertical, horizontal = (str(dim) for dim in fields.dims[2:])
    for row, origin in enumerate(fields["origin"].values):
        for column in range(fields.shape[1]):
            ax = axes[row, column]
            image = ax.imshow(
                fields.values[row, column], origin="lower", cmap="RdBu_r", vmin=low, vmax=high, interpolation="nearest"
            )
            ax.set(xticks=[], yticks=[])
            if row == fields.shape[0] - 1:
                ax.set_xlabel(horizontal)
        axes[row, 0].set_ylabel(f"{origin}\n{vertical}")
    figure.colorbar(image, ax=axes, shrink=0.8, label=_labelled(example))
    return figure


def _density(pictures: xr.Dataset, ax: Axes) -> None:
    """The place where the densities differ most is the first."""
    here = pictures.isel(place=0)
    place = str(here["place"].values)
    ax.set_title("one-point density" + (f" ({place})" if place else ""), fontsize="medium")
    for index, source in enumerate(here["source"].values):
        ax.plot(here["value"], here["density"].isel(source=index), label=str(source), **_SOURCES[index])
    heights = here["density"].values
    ax.set_yscale("log")
    ax.set_ylim(0.5 * heights[0][heights[0] > 0].min(), 40 * heights.max())
    ax.set(xlabel=_labelled(pictures["value"]), ylabel="probability density")
    ax.legend(frameon=False, fontsize="small", loc="upper left")


def _spectrum(pictures: xr.Dataset, ax: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    scale, ratio = pictures["mode_scale"], pictures["power_ratio"]
    label = str(scale.attrs["long_name"])
    ax.set_title("variance of modes, samples over record", fontsize="medium")
    ax.errorbar(
        scale,
        ratio,
        yerr=2 * pictures["power_ratio_stderr"],
        fmt=".",
        markersize=5,
        color=_SCORE,
        ecolor="0.75",
        elinewidth=0.8,
        label="2 standard errors",
    )
    ax.axhline(1.0, color="k", linewidth=0.8)
    reach = max(1.4 * float((np.abs(ratio - 1) + 2 * pictures["power_ratio_stderr"]).max()), 0.1)
    ax.set_ylim(max(1 - reach, 0.0), 1 + reach)
    if label == "principal component":
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set(xlabel=label, ylabel="ratio")
    ax.legend(frameon=False, fontsize="small")


def _distances(certificate: Certificate, ax: Axes) -> None:
    ax.set_title("sliced Wasserstein distance", fontsize="medium")
    rows = (("samples,\nrecord", certificate.distance), ("$\\lambda=1$,\n$\\lambda=0$", certificate.spread))
    for place, (_, found) in enumerate(rows):
        assert found is not None
        ax.bar(place - 0.2, found.distance, 0.36, color=_SCORE, label="distance" if place == 0 else None)
        by_chance: dict[str, Any] = {"color": "0.8", "hatch": "//", "edgecolor": "0.4"}
        ax.bar(place + 0.2, found.floor, 0.36, label="by chance" if place == 0 else None, **by_chance)
        ax.annotate(f"{found.ratio:.2g}x", (place, max(found.distance, found.floor)), ha="center", va="bottom")
    ax.set_xticks(range(len(rows)), [name for name, _ in rows])
    ax.set_ylim(0, 1.45 * ax.get_ylim()[1])
    ax.set_ylabel("standard deviations")
    ax.legend(frameon=False, fontsize="small", loc="upper left", ncols=2)


def _likelihood(bound: xr.Dataset, ax: Axes) -> None:
    """What is won over the Gaussian at every noise level, and what is known to be missing."""
    ax.set_title("likelihood bound by noise level", fontsize="medium")
    sigma = bound["sigma"].values
    missing = bound["detected"].sel(test="all"), bound["detected_stderr"].sel(test="all")
    rows: tuple[tuple[str, Any, Any, dict[str, Any]], ...] = (
        ("gain on the Gaussian", -bound["excess"], bound["excess_stderr"], {"fmt": "o-", "color": _SCORE}),
        ("known to be missing", *missing, {"fmt": "s--", "color": _INK["red"]}),
    )
    for label, values, stderr, style in rows:
        ax.errorbar(sigma, values, yerr=2 * stderr, markersize=4, capsize=2, label=label, **style)
    ax.axhline(0.0, color="k", linewidth=0.8)
    ax.set_xscale("log")
    low, high = ax.get_ylim()
    ax.set_ylim(low, high + 0.3 * (high - low))
    ax.set(xlabel="$\\sigma$ (standard deviations)", ylabel="nats (bars: 2 standard errors)")
    ax.legend(frameon=False, fontsize="small", loc="upper right")


def _verdicts(certificate: Certificate, ax: Axes) -> None:
    ax.set_axis_off()
    lines: list[tuple[str, str, str]] = []
    for title, section in certificate.sections.items():
        lines.append(("", title, ""))
        lines += [(item.verdict, item.check, item.text) for item in section]
    step = 1.0 / (max(len(lines), _MOST_LINES) + 1)
    for row, (verdict, name, text) in enumerate(lines):
        height = 1 - (row + 0.5) * step
        if not verdict:
            ax.text(0.0, height, name, transform=ax.transAxes, fontsize="small", fontweight="bold", va="center")
            continue
        ax.plot([0.02], [height], "o", color=_INK[verdict], markersize=7, transform=ax.transAxes, clip_on=False)
        ax.text(0.06, height + 0.24 * step, f"{name}: {verdict}", transform=ax.transAxes, fontsize="small", va="center")
        short = textwrap.shorten(text, _TEXT_WIDTH, placeholder=" ...")
        ax.text(0.06, height - 0.3 * step, short, transform=ax.transAxes, fontsize="x-small", color="0.3", va="center")


def _labelled(values: xr.DataArray) -> str:
    name, unit = str(values.attrs.get("long_name", "x")), str(values.attrs.get("units", ""))
    return f"{name} ({unit})" if unit not in ("", "1") else name
