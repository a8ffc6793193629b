"""Score and response errors, and seconds, of every score estimator on systems whose answers are known.

The score error is the relative L2(rho) norm ||s - s_exact|| / ||s_exact||, over an independent record; the response
error is the relative one of `gfdt.compare` against the Fokker-Planck response, from the record that was fitted. Pass a
number of seeds for means over as many records (default 1); times are those of the first.
"""

import sys
import time

import numpy as np

import gfdt
import simulators

SYSTEMS = {"double well": simulators.DoubleWell(), "potential 2d": simulators.Potential2D()}
ESTIMATORS = {
    "gaussian": gfdt.GaussianScore,
    "kde": gfdt.KDEScore,
    "kgmm": gfdt.KGMMScore,
    "kernel": gfdt.KernelScore,
    "dsm": gfdt.DSMScore,
    "exact": None,
}
MAX_LAG = 6.0


def record(system, seed):
    run = system.simulate(n_members=64, duration=1000.0, save_every=0.1, seed=seed)
    return gfdt.load_trajectory(run)


def measure(system, make, seed):
    fitted, fresh = record(system, 2 * seed), record(system, 2 * seed + 1)
    score = gfdt.AnalyticScore(system.score) if make is None else make()
    if hasattr(score, "seed"):
        score.seed = seed
    start = time.perf_counter()
    score.fit(fitted)
    between = time.perf_counter()
    values = np.asarray(score(fresh))
    end = time.perf_counter()
    exact = np.asarray(system.score(fresh))
    response = gfdt.response(fitted, score, max_lag=MAX_LAG)
    compared = gfdt.compare(system.exact_response(response["lag"].values), {"estimate": response})
    error = np.sqrt(((values - exact) ** 2).sum() / (exact**2).sum())
    return error, float(compared["relative"][0]), between - start, end - between


def main():
    n_seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    heads = ("score error", "response error", "fit (s)", "evaluate (s)")
    print(f"{'system':<14} {'estimator':<10} " + " ".join(f"{head:>14}" for head in heads))
    for name, system in SYSTEMS.items():
        for estimator, make in ESTIMATORS.items():
            rows = np.array([measure(system, make, seed) for seed in range(n_seeds)])
            error, response, *_ = rows.mean(axis=0)
            fit, evaluate = rows[0, 2:]
            print(f"{name:<14} {estimator:<10} {error:14.3f} {response:14.3f} {fit:14.1f} {evaluate:14.2f}", flush=True)


if __name__ == "__main__":
    main()
