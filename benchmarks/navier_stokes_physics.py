"""Acceptance of the turbulence simulator: stationarity, dealiasing, response peaks, budgets, orders, time per step.

``python benchmarks/navier_stokes_physics.py [part ...] [--out DIRECTORY]``; parts: timing, order, path, budget,
snapshots, stationarity, response. Tables go to standard output, numbers to DIRECTORY (``build/navier_stokes``),
pictures to ``docs/images/navier_stokes_*.png``.
"""

import argparse
import time
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from simulators import NavierStokes

IMAGES = Path(__file__).parent.parent / "docs" / "images"
CASES = {"all modes": NavierStokes(), "2/3 truncation": NavierStokes(dealias=True)}
# told apart in grey as well
LINES = {"all modes": {"color": "black", "ls": "-"}, "2/3 truncation": {"color": "tab:orange", "ls": "--"}}


def save(figure, name):
    """Write one picture."""
    figure.savefig(IMAGES / f"navier_stokes_{name}.png", dpi=110)
    plt.close(figure)


# ---- how long until the statistics stop changing, and what dealiasing does to them


def moments(system, n_members, duration):
    """Per member and time: <z^2>, <z^4>, E; and the spectrum, mean over members."""
    z = system.simulate(n_members, duration, 2.0, spinup=0, seed=5, workers=1, dtype="float32")["vorticity"].values
    z = z.astype(float)
    return {
        "second": (z**2).mean((2, 3)),
        "fourth": (z**4).mean((2, 3)),
        "energy": system.energy(z),
        "spectrum": system.energy_spectrum(z).mean(0),
    }


def stationarity(out, n_members=64, duration=600.0, window=50):
    """From rest: standard deviation, kurtosis and energy against time, spectra early and late."""
    figure, (deviation, kurtosis, spectrum) = plt.subplots(1, 3, figsize=(13, 3.8), layout="constrained")
    for name, system in CASES.items():
        path = out / f"stationarity_{'dealiased' if system.dealias else 'all'}.npz"
        if not path.exists():
            np.savez(path, **moments(system, n_members, duration))
        data = np.load(path)
        n_windows = data["second"].shape[1] * 2 // window
        times = window * (np.arange(n_windows) + 0.5)

        def windows(values, n_windows=n_windows):
            return values[:, : n_windows * window // 2].reshape(len(values), n_windows, -1).mean(-1)

        second, fourth, energy = (windows(data[key]) for key in ("second", "fourth", "energy"))
        std = np.sqrt(second.mean(0))
        std_error = second.std(0, ddof=1) / np.sqrt(len(second)) / (2 * std)
        ratio = fourth.mean(0) / second.mean(0) ** 2
        # linearised error of a ratio of means over independent members
        slope = (fourth / second.mean(0) ** 2 - 2 * ratio * second / second.mean(0)).std(0, ddof=1)
        ratio_error = slope / np.sqrt(len(second))
        print(f"\n{name}: n_members = {len(second)}\n   time   std             kurtosis      energy")
        for i, t in enumerate(times):
            e, e_error = energy[:, i].mean(), energy[:, i].std(ddof=1) / np.sqrt(len(energy))
            print(
                f"{t:7.0f}   {std[i]:.4f} +- {std_error[i]:.4f}  {ratio[i]:.2f} +- {ratio_error[i]:.2f}"
                f"   {e:.4f} +- {e_error:.4f}"
            )
        deviation.errorbar(times, std, 2 * std_error, label=name, capsize=2, **LINES[name])
        kurtosis.errorbar(times, ratio, 2 * ratio_error, label=name, capsize=2, **LINES[name])
        late = data["spectrum"][150:].mean(0)
        spectrum.loglog(np.arange(1, len(late)), late[1:], label=f"{name}, t > 300", **LINES[name])
        if name == "all modes":
            early = data["spectrum"][5:25].mean(0)
            spectrum.loglog(np.arange(1, len(early)), early[1:], ":", color="0.5", label=f"{name}, 10 < t < 50")
    deviation.set(xlabel="time since rest (time units)", ylabel="standard deviation of vorticity (1 / time)")
    kurtosis.set(xlabel="time since rest (time units)", ylabel=r"kurtosis $\langle z^4\rangle/\langle z^2\rangle^2$")
    kurtosis.axhline(3, color="0.7", lw=0.8)
    spectrum.set(xlabel="wavenumber K (1 / length)", ylabel="energy E(K) (length / time)$^2$", ylim=(1e-10, None))
    for ax in (deviation, kurtosis, spectrum):
        ax.legend(frameon=False, fontsize=8)
    figure.suptitle(f"n = 32, {len(second)} members, means over {window} time units, bars: two standard errors")
    save(figure, "stationarity")


# ---- the response to a kick of the vorticity, from twins that share the forcing


def response(out, n_members=64, n_restarts=12):
    """Response at lags 0 to 2 with random-sign patterns of amplitude 0.05."""
    path = out / "response.nc"
    if not path.exists():
        run = CASES["all modes"].direct_response(
            2.0, 0.25, n_members, 0.05, "pattern", n_restarts=n_restarts, decorrelate=2.0, seed=1, workers=1
        )
        run.to_netcdf(path)
    import xarray as xr

    run = xr.load_dataset(path)
    r = run["response"]
    print(f"\nresponse, {n_members * n_restarts} pairs, linear range: {run.attrs['linear_range']}")
    print("    lag    peak  +-       at (dy, dx)  mean flow dx   peak / peak at lag 0")
    for lag in r["lag"].values:
        here = r.sel(lag=lag)
        top = here.stack(site=("dy", "dx")).idxmax("site").item()
        error = float(run["stderr"].sel(lag=lag, dy=top[0], dx=top[1]))
        moved = np.pi * lag / (2 * np.pi / 32)
        print(
            f"{lag:7.2f} {float(here.max()):7.3f} {error:.3f}    ({top[0]:3d}, {top[1]:3d})     {moved:6.1f}      "
            f"{float(here.max() / r[0].max()):10.3f}"
        )
    lags = (0.0, 0.25, 0.5, 0.75, 1.0)
    figure, axes = plt.subplots(1, 6, figsize=(17, 3.2), layout="constrained", width_ratios=[1] * 5 + [1.5])
    for ax, lag in zip(axes, lags, strict=False):
        here = r.sel(lag=lag).roll(dx=-round(16 * lag), roll_coords=False).sel(dy=slice(-6, 6), dx=slice(-6, 6))
        image = ax.pcolormesh(here["dx"], here["dy"], here, cmap="cividis")
        ax.set(title=f"lag {lag:g}", xlabel=r"dx $-\,c\,$lag (cells)", aspect="equal")
        figure.colorbar(image, ax=ax, shrink=0.7)
    axes[0].set_ylabel("dy (grid cells)")
    for lag, style in zip(lags, ("-", "--", "-.", ":", "-"), strict=True):
        axes[5].plot(r["dx"], r.sel(lag=lag, dy=0), ls=style, color=str(0.7 * lag), label=f"lag {lag:g}")
    axes[5].set(xlabel="dx (grid cells), dy = 0", ylabel="response (1)")
    axes[5].legend(frameon=False, fontsize=8)
    figure.suptitle(
        "Response (1) of the vorticity to a kick of one grid point: in the frame of the mean flow c, and along x"
    )
    save(figure, "response")


# ---- budgets, orders, time


def budget(out):
    """Residual of both budgets over 10 time units against the step; the quadrature is the trapezoidal rule."""
    del out
    print("\nbudgets over 10 time units, n = 32: (change - sum of terms) / turnover")
    print("case             steps per unit   energy      enstrophy   aliases in energy, in enstrophy (of injection)")
    for name, case in CASES.items():
        system = NavierStokes(dealias=case.dealias, save_forcing=True)
        for steps in (128, 512, 2048):
            dt = 1 / steps
            run = system.simulate(1, 10 + dt, dt, spinup=100.0, dt=dt, seed=9, workers=1)
            z, f = run["vorticity"].values[0], run["forcing"].values[0]
            residual, alias = [], []
            for total, terms in ((system.energy, system.energy_budget), (system.enstrophy, system.enstrophy_budget)):
                integral = {key: np.trapezoid(rate, dx=dt) for key, rate in terms(z, f).items()}
                turnover = sum(abs(value) for value in integral.values())
                residual.append((total(z[-1]) - total(z[0]) - sum(integral.values())) / turnover)
                alias.append(integral["quadratic"] / integral["injection"])
            print(
                f"{name:16s} {steps:8d}         {residual[0]:9.1e}   {residual[1]:9.1e}   "
                f"{alias[0]:9.1e}   {alias[1]:9.1e}"
            )


def order(out):
    """How well a flow without forcing and dissipation conserves energy and enstrophy, against the step."""
    del out
    print("\nconservation without forcing and dissipation, n = 32, 1 time unit: relative change of E and Z")
    flow = {"viscosity": 0.0, "hypoviscosity": 0.0, "mean_relaxation": 0.0, "forcing": 0.0}
    start = NavierStokes(dealias=True).simulate(1, 1.0, 1.0, spinup=100.0, workers=1)["vorticity"].values[0, 0]
    for dealias in (True, False):
        system = NavierStokes(dealias=dealias, **flow)
        for dt in (1 / 8, 1 / 16, 1 / 32, 1 / 64, 1 / 128):
            stepper = system.make_stepper(dt, round(1 / dt))
            rng = np.random.default_rng(0)
            state = stepper.start(rng)
            # three times the vorticity: errors above rounding at the steps shown
            stepper.displace(state, 3 * start)
            z = np.empty((2, 32, 32))
            stepper.advance(state, rng, z)
            change = [f(z[1]) / f(z[0]) - 1 for f in (system.energy, system.enstrophy)]
            print(f"dealias {dealias!s:6s} dt = 1/{round(1 / dt):<4d} {change[0]:10.2e} {change[1]:10.2e}")


def path(out):
    """Error after one time unit against the step, for one path of all phases."""
    del out
    from simulators.kernels import navier_stokes as kernel

    system = CASES["all modes"]
    n, finest = system.n, 2048  # half steps of the reference in one time unit
    stepper = system.make_stepper(system.default_dt, 1)
    rng = np.random.default_rng(3)
    spectrum, phases = stepper.start(rng)
    stepper.displace(
        (spectrum, phases), system.simulate(1, 1.0, 1.0, spinup=150.0, workers=1)["vorticity"].values[0, 0]
    )
    increments = rng.standard_normal((finest, len(phases))) * np.sqrt(2 / finest)
    phases = phases + np.concatenate([np.zeros((1, len(phases))), np.cumsum(increments, axis=0)])

    def end(n_steps):
        tables, work, z = system._tables(1 / n_steps), np.empty((7, n * n)), spectrum.copy()
        f, cosine, sine = np.zeros((3, n * n)), np.empty(len(phases[0])), np.empty(len(phases[0]))
        for i in range(n_steps):
            for j in range(3):
                kernel.force(phases[(2 * i + j) * finest // (2 * n_steps)], tables, cosine, sine, f[j])
            kernel.step(z, f[0], f[1], f[2], 1 / n_steps, tables, work)
        field = np.empty((n, n))
        kernel.save(z, tables, work[0], work[1], field)
        return field

    reference = end(finest // 2)
    print("\nrelative rms error after one time unit, same phases, n = 32")
    for n_steps in (16, 32, 64, 128, 256):
        print(f"dt = 1/{n_steps:<4d} {np.sqrt(np.mean((end(n_steps) - reference) ** 2) / np.mean(reference**2)):.2e}")


def timing(out):
    """Microseconds a step of one member on one core, the best of many short runs (cores may be shared)."""
    del out
    from simulators.kernels import navier_stokes as kernel

    print("\nmicroseconds per step, one member, one core\n   n   lane transform   numpy.fft transform")
    for n in (32, 48, 64, 128, 256):
        cells = []
        for use_lanes in (True, False):
            if use_lanes and n == 48:
                cells.append(np.nan)
                continue
            system = NavierStokes(n=n)
            tables = system._tables(system.default_dt, use_lanes=use_lanes)
            rng = np.random.default_rng(0)
            z, phases = np.zeros(n * n), np.empty(1 + 2 * len(tables.site))
            kernel.draw_phases(rng, phases)
            field = np.empty((1, n, n))
            n_steps = max(1, 2**15 // n**2)
            best = np.inf
            for _ in range(100):
                begin = time.perf_counter()
                kernel.advance(z, phases, rng, tables, system.default_dt, n_steps, field, field[:0])
                best = min(best, (time.perf_counter() - begin) / n_steps)
            cells.append(best * 1e6)
        print(f"{n:4d} {cells[0]:12.1f} {cells[1]:18.1f}")


def snapshots(out):
    """What the flow looks like: one member at four times, and its forcing."""
    del out
    system = NavierStokes(save_forcing=True)
    run = system.simulate(1, 1.0, 0.25, seed=3, workers=1)
    figure, axes = plt.subplots(1, 5, figsize=(15, 3.3), layout="constrained", sharex=True, sharey=True)
    for ax, z in zip(axes, run["vorticity"][0], strict=False):
        image = ax.pcolormesh(run["x"], run["y"], z, cmap="cividis", vmin=-1.5, vmax=1.5)
        ax.set(title=f"vorticity, time {float(z['time']):g}", xlabel="x (length)", aspect="equal")
    figure.colorbar(image, ax=axes[3], label="vorticity (1 / time)")
    image = axes[4].pcolormesh(run["x"], run["y"], run["forcing"][0, 3], cmap="cividis", vmin=-0.8, vmax=0.8)
    axes[4].set(title="forcing, time 0.75", xlabel="x (length)", aspect="equal")
    figure.colorbar(image, ax=axes[4], label="forcing (1 / time$^2$)")
    axes[0].set_ylabel("y (length)")
    save(figure, "snapshots")


PARTS = {f.__name__: f for f in (timing, order, path, budget, snapshots, stationarity, response)}


def main():
    """Run the parts asked for, all by default."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], default=[])
    parser.add_argument("--out", type=Path, default=Path("build/navier_stokes"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for name in options.parts or PARTS:
        PARTS[name](options.out)


if __name__ == "__main__":
    main()
