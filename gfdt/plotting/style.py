"""One look for every figure: each estimator keeps its colour, dash and marker, also in grey print."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["legend_with_room", "new_axes", "style_of"]

# Okabe-Ito colours: told apart by colour-blind readers; the dashes tell them apart in grey.
_KNOWN: dict[str, dict[str, Any]] = {
    # The reference is broad and pale, so that it shows on both sides of estimates that lie on it.
    "exact": {"color": "0.55", "linestyle": "-", "linewidth": 4.5},
    "dynamical": {"color": "0.55", "linestyle": "-", "linewidth": 4.5},
    "twin ensemble": {"color": "0.55", "linestyle": "-", "linewidth": 4.5},
    "analytical": {"color": "#009E73", "linestyle": (0, (1, 1.2)), "linewidth": 2.2},
    "gaussian": {"color": "#D55E00", "linestyle": (0, (5, 2)), "linewidth": 1.6},
    "generative": {"color": "#0072B2", "linestyle": (0, (6, 2, 1.5, 2)), "linewidth": 1.6},
    "polished": {"color": "black", "linestyle": (0, (2.5, 1.5)), "linewidth": 1.2},
}
_OTHERS = ("#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F")


def style_of(name: str, index: int) -> dict[str, Any]:
    """Return the line style of an estimator; unknown names get their own by position."""
    known = _KNOWN.get(name.lower())
    return dict(known) if known else {"color": _OTHERS[index % len(_OTHERS)], "linestyle": "-", "linewidth": 1.4}


def new_axes(ax: Axes | None) -> Axes:
    """Return ``ax``, or the axes of a new pyplot figure."""
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=(5, 3.4), layout="constrained")[1]


def legend_with_room(ax: Axes) -> None:
    """Put the legend at the top of the axes, and raise the upper limit so that nothing that is drawn lies under it."""
    labels = ax.get_legend_handles_labels()[1]
    if not labels:
        return
    points = 72 / ax.figure.dpi
    box = ax.get_window_extent()
    # "small" letters are about 5 points wide and 13 high with their leading; the line in front of them takes 40.
    column = 5.0 * max(map(len, labels)) + 40
    columns = max(min(int(box.width * points / column), len(labels)), 1)
    room = min((13 * math.ceil(len(labels) / columns) + 10) / (box.height * points), 0.5)
    low, high = ax.get_ylim()
    # Through the data limits, so that lines drawn later still widen the axes.
    ax.update_datalim([(ax.dataLim.x0, low + (high - low) / (1 - room))], updatex=False)
    ax.autoscale_view(scalex=False)
    ax.legend(frameon=False, fontsize="small", loc="upper left", ncols=columns)
