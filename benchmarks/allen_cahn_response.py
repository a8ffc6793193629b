"""Response of the Allen-Cahn field without advection: twins against fluctuation-dissipation with the exact score.

Two estimates of R(r, t) from independent runs: random patterns kicked by +-a, and -<u(x + r, t) s(x, 0)> from an
unperturbed record. Both are made for each of 16 groups of members, so that any part of either has an error bar from the
spread of groups; z is their difference over its standard error (Welch).

The mean mode k = 0 is tested apart. The mean of one member hardly changes during a record, so its part of the
estimate is -m <s_0>: a random number, the same at every lag, that the known R(0) = 1 measures and takes away.

    python benchmarks/allen_cahn_response.py [members] [duration]     (default 64 400: some minutes on two cores)
"""

import sys
import warnings

import numpy as np
from scipy import stats

import gfdt
import simulators

N_GROUPS, MAX_LAG = 16, 20.0
# The field is not quite stationary then (domains grow for 1e3 time units and more), but the two estimates see the same
# stage of that, and the modes with k > 0 have long forgotten the start.
SPINUP = 400.0


def grouped(estimate):
    """Responses (group, lag, dy, dx)."""
    return np.array([estimate(group) for group in range(N_GROUPS)])


def compare(name, first, second):
    """Print how two sets of group estimates (group, lag, ...) differ."""
    difference = first.mean(axis=0) - second.mean(axis=0)
    variance = (first.var(axis=0, ddof=1) + second.var(axis=0, ddof=1)) / N_GROUPS
    z = difference[1:] / np.sqrt(variance[1:])
    # between the degrees of freedom of one group of estimates and of both
    expected = [2 * stats.t.sf(3, df) for df in (2 * (N_GROUPS - 1), N_GROUPS - 1)]
    print(
        f"{name:>30}: {z.size:6d} z, mean square {np.mean(z**2):5.2f}, beyond 3: {100 * np.mean(np.abs(z) > 3):5.2f} % "
        f"(expected {100 * expected[0]:.2f} to {100 * expected[1]:.2f} %), largest {np.abs(z).max():.2f}"
    )


def main(n_members=64, duration=400.0):
    """Print the comparison."""
    system = simulators.AllenCahn(advection=0.0)
    per_group = n_members // N_GROUPS

    def kicked(group):
        response = system.direct_response(
            MAX_LAG,
            1.0,
            per_group,
            0.05,
            "pattern",
            n_restarts=max(round(duration / (2 * (MAX_LAG + 1))), 1),
            check_amplitude=False,
            spinup=SPINUP,
            seed=100 + group,
            progress=False,
        )
        return response["response"].values

    u = system.simulate(n_members, duration, 1.0, spinup=SPINUP, seed=1)["u"]

    def unperturbed(score, correction="none"):
        def estimate(group):
            part = u[group * per_group : (group + 1) * per_group]
            with warnings.catch_warnings():
                # four members: no band is asked for, and the mean mode misses the identity by the offset above
                warnings.simplefilter("ignore", gfdt.ReliabilityWarning)
                result = gfdt.response(
                    part, score, max_lag=MAX_LAG, homogeneous=("y", "x"), correction=correction, confidence=None
                )
            return result["response"].values

        return grouped(estimate)

    twins, exact = grouped(kicked), unperturbed(system.score)
    gaussian = unperturbed(gfdt.GaussianScore(homogeneous=("y", "x")).fit(u), "stein")
    mean_mode = {name: r.sum(axis=(2, 3)) for name, r in (("twins", twins), ("exact", exact))}
    twins, exact, gaussian = (r - r.mean(axis=(2, 3), keepdims=True) for r in (twins, exact, gaussian))

    print(f"{n_members} members, {duration:g} time units; without the mean mode")
    n = system.n
    titles = ("twins", "exact score", "Gaussian", "L2 exact", "L2 Gaussian")
    print("at no displacement, and relative L2 distance from the twins over all displacements")
    print("  lag" + "".join(f"{title:>13}" for title in titles))
    reference = twins.mean(axis=0)
    for lag in (0, 1, 2, 3, 5, 8, 12, 20):
        values = [r.mean(axis=0)[lag, n // 2, n // 2] for r in (twins, exact, gaussian)]
        norm = np.sqrt((reference[lag] ** 2).sum())
        off = [np.sqrt(((r.mean(axis=0)[lag] - reference[lag]) ** 2).sum()) / norm for r in (exact, gaussian)]
        print(f"{lag:5d}" + "".join(f"{value:13.4f}" for value in (*values, *off)))
    compare("all displacements", exact, twins)
    near = slice(n // 2 - 2, n // 2 + 3)
    compare("within two cells", exact[:, :, near, near], twins[:, :, near, near])
    print("mean mode, with standard error")
    corrected = mean_mode["exact"] - (mean_mode["exact"][:, :1] - 1)
    for lag in (0, 1, 2, 5, 10, 20):
        cells = (r[:, lag] for r in (mean_mode["twins"], mean_mode["exact"], corrected))
        text = (f"{c.mean():8.3f} ({c.std(ddof=1) / np.sqrt(N_GROUPS):.3f})" for c in cells)
        print(f"{lag:5d} " + " ".join(text))
    compare("mean mode as it is", mean_mode["exact"], mean_mode["twins"])
    compare("mean mode less its offset", corrected, mean_mode["twins"])


if __name__ == "__main__":
    main(*(kind(text) for kind, text in zip((int, float), sys.argv[1:], strict=False)))
