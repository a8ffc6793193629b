"""Error of the Allen-Cahn scheme against its time step: one-time statistics and response, beside the one-step ETD1.

All runs see the same Brownian path and start from the same states, so that sampling noise nearly cancels in their
differences; errors are differences to the finest step, with the standard error over members. Over two steps h the
stochastic convolution is exp(L h) times that of the first plus that of the second, so halving the step changes the
scheme and nothing else. Responses are those of twins: every `RESTART` time units a copy is kicked by +-0.05 at all
sites, R(r, t) = <p(x) du(x + r, t)> / 0.05.

    python benchmarks/allen_cahn_convergence.py [members] [duration]     (default 48 48: some minutes on two cores)
"""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numba import njit

import simulators
from simulators.kernels.allen_cahn import remainder
from simulators.spectral import white_noise_hat

STEPS = (4, 8, 16, 32, 64, 128)  # per time unit; the last is the reference
RUNS = [("two-step", steps) for steps in STEPS] + [("one-step", steps) for steps in STEPS[:-1]]
BLOCK, RESTART, LAGS, AMPLITUDE = 0.25, 4.0, (0.25, 1.0, 4.0), 0.05
FIGURE = Path(__file__).parent.parent / "docs" / "images" / "allen_cahn_convergence.png"


@njit(nogil=True)
def take_steps(u_hat, before, noise, propagator, now, past, dealias):
    """u_hat <- E u_hat + F v + G before + noise, one step for each row of `noise`."""
    v_hat = np.empty_like(u_hat)
    for row in noise:
        remainder(u_hat, u_hat.shape[0], dealias, v_hat)
        u_hat[:] = propagator * u_hat + now * v_hat + past * before + row
        before[:] = v_hat


@njit(nogil=True)
def draw(rng, amplitude, noise):
    for row in noise:
        white_noise_hat(rng, row)
        row *= amplitude


class Run:
    """One scheme with one step: the unperturbed state, its kicked twin, and sums of what they say."""

    def __init__(self, system, scheme, steps, u):
        tables = system.tables(1 / steps)
        self.steps, self.dealias, self.propagator = steps, system.dealias, tables.propagator
        # the tables hold phi1 + phi2 and -phi2: their sum is the weight of the remainder in the one-step scheme
        one_step = scheme == "one-step"
        self.now = tables.now + tables.before if one_step else tables.now
        self.past = np.zeros_like(tables.before) if one_step else tables.before
        self.base = self.begin(np.fft.rfft2(u))
        self.twin, self.pattern = None, None
        n = system.n
        self.moments, self.response = np.zeros(6), np.zeros((len(LAGS), n, n))
        self.counts = np.zeros(1 + len(LAGS))
        self.mean_before = u.mean()

    def begin(self, u_hat):
        """Return the state of a run that starts at `u_hat`: the past is the present."""
        v_hat = np.empty_like(u_hat)
        remainder(u_hat, u_hat.shape[0], self.dealias, v_hat)
        return u_hat, v_hat

    def kick(self, pattern):
        """Start a twin, displaced by the pattern now and one step ago."""
        u_hat, before = self.base
        moved = self.begin(u_hat + AMPLITUDE * np.fft.rfft2(pattern))
        self.twin = (moved[0], before + moved[1] - self.begin(u_hat)[1])
        self.pattern = np.fft.rfft2(pattern)

    def advance(self, noise):
        """Take the steps of one block, with the same noise for both."""
        self.mean_before = self.base[0][0, 0].real / self.base[0].shape[0] ** 2
        for u_hat, before in filter(None, (self.base, self.twin)):
            take_steps(u_hat, before, noise, self.propagator, self.now, self.past, self.dealias)

    def record(self):
        """Add the one-time statistics of the present state."""
        u = np.fft.irfft2(self.base[0])
        structure = [((np.roll(u, -r, axis=1) - u) ** 2).mean() for r in (1, 2, 4)]
        # the mean relaxes about a well long before the next record, and hardly ever changes wells
        fast = (u.mean() - self.mean_before) ** 2 / 2
        self.moments += [(u**2).mean(), (u**4).mean(), *structure, fast]
        self.counts[0] += 1

    def read(self, lag):
        """Add the response at the lag number `lag`."""
        spectrum = np.conj(self.pattern) * (self.twin[0] - self.base[0])
        spectrum[0, 0] = 0  # the mean mode flips: rare large numbers, which say nothing about the step
        self.response[lag] += np.fft.irfft2(spectrum) / (spectrum.shape[0] ** 2 * AMPLITUDE)
        self.counts[1 + lag] += 1

    def result(self):
        """Return time means: moments (6,) and responses (lag, n, n)."""
        return self.moments / self.counts[0], self.response / self.counts[1:, None, None]


def member(system, u, duration, seed):
    """Results of all runs of one member: moments (run, 6) and responses (run, lag, n, n)."""
    rng = np.random.default_rng([20240717, seed])
    runs = [Run(system, scheme, steps, u) for scheme, steps in RUNS]
    propagators = [system.tables(1 / steps).propagator for steps in STEPS]
    amplitude = system.tables(1 / STEPS[-1]).amplitude
    noise = {STEPS[-1]: np.empty((round(BLOCK * STEPS[-1]), *amplitude.shape), dtype=complex)}
    per_restart = round(RESTART / BLOCK)
    lag_blocks = [round(lag / BLOCK) for lag in LAGS]
    spinup = per_restart  # the schemes leave their common start and settle
    for block in range(spinup + round(duration / BLOCK) + 1):
        age = block % per_restart
        for run in runs:
            if block >= spinup:
                run.record()
            if block > spinup:
                for lag, blocks in enumerate(lag_blocks):
                    if (age or per_restart) == blocks:
                        run.read(lag)
        if block >= spinup and age == 0:
            pattern = rng.choice([-1.0, 1.0], size=u.shape)
            for run in runs:
                run.kick(pattern)
        draw(rng, amplitude, noise[STEPS[-1]])
        for i in range(len(STEPS) - 2, -1, -1):
            finer = noise[STEPS[i + 1]]
            noise[STEPS[i]] = propagators[i + 1] * finer[0::2] + finer[1::2]
        for run in runs:
            run.advance(noise[run.steps])
    moments, responses = zip(*(run.result() for run in runs), strict=True)
    return np.array(moments), np.array(responses)


def errors(moments, responses):
    """Relative errors against the finest two-step run, with standard errors: dict of (run,) pairs.

    moments (member, run, 6), responses (member, run, lag, n, n). The error of a response is its root mean square over
    displacements, from which the square of its standard error is taken off.
    """
    n_members, reference = len(moments), len(STEPS) - 1
    out = {}

    def relative(values):
        return (values - values[:, [reference]]) / values[:, reference].mean()

    def add(name, difference):
        out[name] = difference.mean(axis=0), difference.std(axis=0, ddof=1) / np.sqrt(n_members)

    add("<u^2>", relative(moments[..., 0]))
    # d log(<u^4> / <u^2>^2), so that members can be averaged
    add("kurtosis", relative(moments[..., 1]) - 2 * relative(moments[..., 0]))
    for i, r in enumerate((1, 2, 4)):
        add(f"S({r})", relative(moments[..., 2 + i]))
    add("mean mode", relative(moments[..., 5]))
    for i, lag in enumerate(LAGS):
        add(f"R0({lag:g})", relative(responses[:, :, i, 0, 0]))
        difference = responses[:, :, i] - responses[:, [reference], i]
        noise = (difference.var(axis=0, ddof=1) / n_members).sum(axis=(-2, -1))
        size = (responses[:, reference, i].mean(axis=0) ** 2).sum()
        square = (difference.mean(axis=0) ** 2).sum(axis=(-2, -1)) - noise
        out[f"R({lag:g})"] = np.sqrt(np.maximum(square, 0) / size), np.sqrt(noise / size)
    return out


def plot(table, path):
    import matplotlib.pyplot as plt

    h = 1 / np.array(STEPS[:-1])
    # the variance is in the table: neither scheme's error of it is resolved at small steps
    panels = {
        "kurtosis": "kurtosis",
        "S(2)": "structure function, two cells",
        "mean mode": "variance of the mean in a well",
        f"R0({LAGS[0]:g})": f"response of the kicked cell at lag {LAGS[0]:g}",
    }
    figure, axes = plt.subplots(2, 2, figsize=(8.5, 6.5), sharex=True, sharey=True, layout="constrained")
    styles = {
        "two-step": {"marker": "o", "color": "black", "linestyle": "-", "label": "two-step (used here)"},
        "one-step": {
            "marker": "s",
            "color": "0.5",
            "linestyle": "--",
            "markerfacecolor": "white",
            "label": "one-step ETD1",
        },
    }
    for ax, (name, title) in zip(axes.flat, panels.items(), strict=True):
        for first, style in zip((0, len(STEPS)), styles.values(), strict=True):
            value, error = (part[first : first + len(h)] for part in table[name])
            size = np.abs(value)
            seen = size > 1.5 * error
            # the lower end of a bar that reaches 0 has no place on a logarithmic axis
            bars = np.array([np.minimum(error, 0.9 * size), error])
            ax.errorbar(h, np.where(seen, size, np.nan), yerr=bars, capsize=3, **style)
            bound = (size + 2 * error)[~seen]
            plain = {"linestyle": "none", "color": style["color"], "marker": "v", "markerfacecolor": "white"}
            ax.plot(h[~seen], bound, **plain)
        for order, line in ((1, ":"), (2, "-")):
            ax.plot(h, 3e-2 * (h / h[0]) ** order, color="0.75", linewidth=0.8, linestyle=line, zorder=0)
        ax.set(xscale="log", yscale="log", title=title)
        ax.set_xticks(h, [f"1/{steps}" for steps in STEPS[:-1]])
        ax.minorticks_off()
    for ax in axes[:, 0]:
        ax.set_ylabel("relative error")
    for ax in axes[1]:
        ax.set_xlabel(r"time step $\Delta t$")
    for order, label in ((1, r"$\propto \Delta t$"), (2, r"$\propto \Delta t^2$")):
        place = h[-1], 3e-2 * (h[-1] / h[0]) ** order
        axes[0, 0].annotate(label, place, xytext=(4, 8 - 6 * order), textcoords="offset points", va="bottom")
    axes[0, 1].plot([], [], "v", color="black", markerfacecolor="white", label="not resolved: |error| + 2 s.e.")
    axes[0, 1].legend(frameon=False, fontsize=8, loc="lower right")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main(n_members=48, duration=48.0):
    """Print the table and save the figure."""
    system = simulators.AllenCahn()
    start = system.simulate(n_members, 1.0, 1.0, spinup=200.0, seed=1, progress=False)["u"].values[:, -1]
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda k: member(system, start[k], duration, k), range(n_members)))
    moments, responses = (np.array(part) for part in zip(*results, strict=True))
    table = errors(moments, responses)
    reference = len(STEPS) - 1
    print(f"{n_members} members x {duration:g} time units; relative errors in 1e-3 (standard error)")
    print(f"at dt = 1/{STEPS[-1]}: <u^2> = {moments[:, reference, 0].mean():.4f}")
    print(f"{'scheme':>9} {'dt':>6}" + "".join(f"{name:>15}" for name in table))
    for i, (scheme, steps) in enumerate(RUNS):
        if i != reference:
            cells = (f"{1e3 * value[i]:8.2f} ({1e3 * error[i]:4.2f})" for value, error in table.values())
            print(f"{scheme:>9} {'1/' + str(steps):>6}" + "".join(f"{cell:>15}" for cell in cells))
    plot(table, FIGURE)


if __name__ == "__main__":
    main(*(kind(text) for kind, text in zip((int, float), sys.argv[1:], strict=False)))
