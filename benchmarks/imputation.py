"""Fields of which a part was seen: how good are conditional samples of a learned score, beside Gaussian conditioning?

    python benchmarks/imputation.py                                          small: 16 x 16, trained here (6 minutes)
    python benchmarks/imputation.py --score FILE --data RUN.nc               a trained score, fields it has not seen

For every field of the data an ensemble of states is drawn given a part of it, as by ``score.sample(given=...)``, and
judged on what was not seen with the continuous ranked probability score per cell,

    CRPS = mean |x_i - truth| - sum_(i<j) |x_i - x_j| / (E (E - 1)),

the estimator that does not depend on the size E of the ensemble (Ferro 2014), averaged over cells; standard errors are
over fields, one from every member (independent), and that of the ratio from the paired differences. "spread" is the
rms spread of the ensemble over the rms error of its mean, with (E + 1)/E taken into account: 1 if it is calibrated.
The Gaussian has the mean and spectrum that the learned score was given, so both know the same covariance.

References: Ferro, Q. J. R. Meteorol. Soc. 140, 1917 (2014); Gneiting & Raftery, J. Am. Stat. Assoc. 102, 359 (2007).
"""

import argparse
import time
from pathlib import Path

import numpy as np
import xarray as xr

import gfdt
import simulators
from gfdt.density.conditional import parse_given, sample_given
from gfdt.density.family import Family
from gfdt.density.observations import Coarse

# With the noise of the default system the wells of 16 x 16 cells are so rarely left that there is little to learn.
QUICK = {"n": 16, "noise": 0.12, "members": 64, "samples": 100, "steps": 600}

# ---- what is seen: of a field u (y, x), what is given and which cells are judged


def square_missing(u):
    """A square of a quarter of all cells is missing."""
    n_y, n_x = u.shape
    given = u.copy()
    given[: n_y // 2, : n_x // 2] = np.nan
    return given, np.isnan(given)


def square_seen(u):
    """Only a square of a quarter of all cells is seen."""
    missing = square_missing(u)[1]
    return np.where(missing, u, np.nan), ~missing


def scattered(u):
    """One cell of four is seen, one in every 2 x 2 block."""
    given = np.full_like(u, np.nan)
    given[::2, ::2] = u[::2, ::2]
    return given, np.isnan(given)


def coarse(u):
    """Averages over 4 x 4 cells are seen."""
    means = u.reshape(u.shape[0] // 4, 4, u.shape[1] // 4, 4).mean(axis=(1, 3))
    return Coarse(means, 4), np.ones(u.shape, dtype=bool)


CASES = {case.__name__: case for case in (square_missing, square_seen, scattered, coarse)}

# ---- scores of ensembles


def crps(x, truth):
    """Return the CRPS of ensembles x (E, ...) for truths (...), without bias for any E >= 2."""
    size = len(x)
    rank = np.arange(1, size + 1).reshape(-1, *[1] * truth.ndim)
    half_gini = ((2 * rank - size - 1) * np.sort(x, axis=0)).sum(axis=0) / (size * (size - 1))
    return np.abs(x - truth).mean(axis=0) - half_gini


def judged(x, truth):
    """Return CRPS, squared error of the mean and variance of an ensemble, averaged over cells."""
    size = len(x)
    error = (x.mean(axis=0) - truth) ** 2
    return np.array([crps(x, truth).mean(), error.mean(), x.var(axis=0, ddof=1).mean() * (size + 1) / size])


def drawn(family, score, given, args, seed, particles):
    """Draw an ensemble as ``score.sample`` does, with so many particles."""
    a = sample_given(
        family,
        parse_given(given, score),
        args.ensemble,
        n_steps=args.steps if particles else 1,
        n_particles=max(particles, 1),
        seed=seed,
        progress=False,
    )
    return family.units.data(a)


# ---- data and scores


def data_of(args):
    """Return a fitted score and fields (n, y, x) it has not seen, one from each member."""
    if args.score:
        score = gfdt.load_score(args.score)
        with xr.open_dataset(args.data) as run:
            u = run[args.var or next(iter(run.data_vars))]
            return score, u.isel(time=-1).transpose("member", ...).values.astype(np.float64)[: args.fields]
    system = simulators.AllenCahn(n=QUICK["n"], noise=QUICK["noise"])
    record = system.simulate(QUICK["members"], 20.0 * QUICK["samples"], 20.0, spinup=100.0, seed=1, progress=False)["u"]
    fresh = system.simulate(args.fields, 20.0, 20.0, spinup=100.0, seed=2, progress=False)["u"]
    score = gfdt.DSMScore("resnet", max_steps=QUICK["steps"], seed=0).fit(record)
    return score, fresh.isel(time=-1).values.astype(np.float64)


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--score", type=Path, help="a score saved by gfdt train; default: a small one trained here")
    parser.add_argument("--data", type=Path, help="netCDF with fields the score has not seen (member, time, y, x)")
    parser.add_argument("--var", help="the variable in it; default: the first")
    parser.add_argument("--fields", type=int, default=16)
    parser.add_argument("--ensemble", type=int, default=16, help="states drawn for each field")
    parser.add_argument("--steps", type=int, default=32)
    parser.add_argument("--particles", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    args = parser.parse_args()
    if bool(args.score) != bool(args.data):
        parser.error("--score and --data go together")
    began = time.perf_counter()
    score, fields = data_of(args)
    family = score.family()
    gaussian = Family(family.units, family.covariance, family.shape, 0.0)
    print(
        f"{len(fields)} fields {family.shape}, ensembles of {args.ensemble}, noise level {family.level:.3g}; data and "
        f"score: {time.perf_counter() - began:.0f} s"
    )
    print(f"{'seen':<16}{'samples of':<24}{'CRPS':>8}{'SE':>8}{'/Gaussian':>11}{'SE':>8}{'spread':>8}{'seconds':>9}")
    for name in args.cases:
        table = {}
        for particles in (0, *args.particles):
            model, label = (family, f"score, {particles} particles") if particles else (gaussian, "Gaussian")
            began, rows = time.perf_counter(), []
            for seed, u in enumerate(fields):
                given, unseen = CASES[name](u)
                rows.append(judged(drawn(model, score, given, args, seed, particles)[:, unseen], u[unseen]))
            table[label] = np.array(rows)
            report(name, label, table, time.perf_counter() - began)


def report(name, label, table, seconds):
    """Print one line."""
    rows, base = table[label], table["Gaussian"][:, 0]
    n, mean = len(rows), rows.mean(axis=0)
    ratio = mean[0] / base.mean()
    errors = rows[:, 0].std(ddof=1) / np.sqrt(n), (rows[:, 0] - ratio * base).std(ddof=1) / np.sqrt(n) / base.mean()
    print(
        f"{name:<16}{label:<24}{mean[0]:8.4f}{errors[0]:8.4f}{ratio:11.3f}{errors[1]:8.3f}"
        f"{np.sqrt(mean[2] / mean[1]):8.2f}{seconds:9.1f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
