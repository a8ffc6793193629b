"""The picture of the fields in the README: one snapshot of each field, after its spin-up.

python docs/pictures.py
"""

from pathlib import Path

import matplotlib.pyplot as plt

import simulators

FIELDS = {
    "OrnsteinUhlenbeck (PRL eq. 6)": simulators.OrnsteinUhlenbeck(n=64),
    "AllenCahn (PRL eq. 9)": simulators.AllenCahn(n=64),
    "NavierStokes (PRL eq. 11-13)": simulators.NavierStokes(n=64),
}


def main():
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
    figure.savefig(Path(__file__).parent / "images" / "systems.png", dpi=110)


if __name__ == "__main__":
    main()
