"""The pictures of the README that no benchmark draws.

python docs/pictures.py                 one snapshot of each field, after its spin-up     systems.png
python docs/pictures.py prediction      forecasts against forced ensembles, minutes       prediction.png
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import simulators
from gfdt.plotting.style import style_of

IMAGES = Path(__file__).parent / "images"
BENCHMARKS = Path(__file__).parents[1] / "benchmarks"

FIELDS = {
    "OrnsteinUhlenbeck (PRL eq. 6)": simulators.OrnsteinUhlenbeck(n=64),
    "AllenCahn (PRL eq. 9)": simulators.AllenCahn(n=64),
    "NavierStokes (PRL eq. 11-13)": simulators.NavierStokes(n=64),
}

# Colour, dash and width of an estimator are those of all figures; a learned score has those of the generative one.
FORECASTS = {"KDE score": "generative", "exact score": "analytical", "Gaussian": "gaussian"}


def systems():
    """Save docs/images/systems.png."""
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.4), layout="constrained")
    for ax, (title, system) in zip(axes, FIELDS.items(), strict=True):
        run = system.simulate(1, 1.0, 1.0, seed=1, progress=False)
        (name,) = run.data_vars
        field = run[name].isel(member=0, time=0)
        limit = float(abs(field).max())
        image = ax.pcolormesh(field["x"], field["y"], field, cmap="RdBu_r", vmin=-limit, vmax=limit, rasterized=True)
        figure.colorbar(image, ax=ax, label=name)
        ax.set(title=title, xlabel="x", ylabel="y", aspect="equal")
    figure.savefig(IMAGES / "systems.png", dpi=110)


def prediction(n_members=40_000, n_fields=128):
    """Save docs/images/prediction.png: step, ramp and sine, forecast from unperturbed data and forced in earnest."""
    sys.path.insert(0, str(BENCHMARKS))
    import prediction as benchmark

    rows = []
    for (experiment,), shown in (
        (benchmark.double_well(n_members), ("KDE score", "Gaussian")),
        (benchmark.allen_cahn(n_fields), ("exact score", "Gaussian")),
    ):
        row = []
        for index, f in enumerate(experiment.forcings.values()):
            truth = experiment.force(f, experiment.amplitude, 100 * (index + 1))
            times = np.linspace(0.0, truth.time[-1], 201)
            R = experiment.responses
            forecasts = {
                name: benchmark.predicted(R[name], f, experiment.amplitude, times, experiment.weights) for name in shown
            }
            row.append((truth, forecasts))
        rows.append(row)
    draw_predictions(rows).savefig(IMAGES / "prediction.png", dpi=110)


def draw_predictions(rows):
    """Draw a row for each system and a column for each forcing: pairs of the forced change and named forecasts."""
    formulas = (
        ("step, f = 0.04", "ramp, f = 0.04 t / 60", "sine, f = 0.04 sin(2πt / 20)"),
        ("step, f = 0.05", "ramp, f = 0.05 t / 10", "sine, f = 0.05 sin(2πt / 5)"),
    )
    labels = ("double well\nchange of ⟨x⟩", "Allen-Cahn, forced by f cos 6x\nchange of ⟨u⟩ along cos 6x")
    figure, axes = plt.subplots(2, 3, figsize=(11, 6.2), layout="constrained")
    entries = {}
    for row, titles, label, line in zip(rows, formulas, labels, axes, strict=True):
        for (truth, forecasts), title, ax in zip(row, titles, line, strict=True):
            entries["forced ensemble"] = points(ax, truth)
            for name, guess in forecasts.items():
                entries[f"predicted, {name}"] = curve(ax, guess, FORECASTS[name])
            ax.axhline(0.0, color="0.7", linewidth=0.6, zorder=0)
            ax.set(title=title, xlabel="time (model units)", xlim=(0, truth.time[-1]))
        line[0].set_ylabel(label)
    order = [name for name in ("forced ensemble", *(f"predicted, {key}" for key in FORECASTS)) if name in entries]
    figure.legend([entries[name] for name in order], order, loc="outside lower center", ncols=4, frameon=False)
    return figure


def points(ax, change):
    """Draw a forced change at about twenty times, with 95 % error bars; return what stands for it in a legend."""
    some = slice(None, None, (change.time.size - 1) // 20)
    half = (change.band[1] - change.value)[some]
    return ax.errorbar(
        change.time[some], change.value[some], half, fmt="o", color="0.4", markersize=4.5, elinewidth=1.5, clip_on=False
    )


def curve(ax, change, look):
    """Draw a predicted change with its 95 % band; return the line."""
    style = style_of(look, 0)
    (handle,) = ax.plot(change.time, change.value, zorder=3, **style)
    ax.fill_between(change.time, *change.band, color=style["color"], alpha=0.25, linewidth=0)
    return handle


if __name__ == "__main__":
    {"systems": systems, "prediction": prediction}[sys.argv[1] if len(sys.argv) > 1 else "systems"]()
