"""How often the 95 % bands of responses hold the exact response, over repeated synthetic records.

Mean coverage over all lags and entries, and its standard error over the records (lags of one record are not
independent). Systems: a linear non-normal SDE in four dimensions, the double well. Estimators: exact score, Gaussian
fit on the record itself (linear system only: it is wrong elsewhere), and for the double well a kernel density score.
"""

import argparse
import sys
import warnings
from pathlib import Path

import numpy as np
import xarray as xr

import gfdt
import simulators

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from reference import linear_sde

A, B = 0.7, 1.3


def linear(seed, members, times):
    values = linear_sde.sample(members, times, 0.25, seed)
    return xr.DataArray(values, dims=("member", "time", "component"), coords={"time": 0.25 * np.arange(times)})


def cases():
    inverse = np.linalg.inv(linear_sde.stationary_covariance())
    exact = gfdt.AnalyticScore(lambda x: -x @ inverse)
    lags = 0.25 * np.arange(17)
    truth = linear_sde.exact_response(lags)
    pattern = np.array([1.0, -1.0, 0.5, 0.0])

    def of_linear(score, members, times, **options):
        def run(seed):
            x = linear(seed, members, times)
            fitted = gfdt.GaussianScore().fit(x) if score == "gaussian" else exact
            return gfdt.response(x, fitted, max_lag=4.0, **options)

        return run

    for members, times in ((24, 600), (3, 4000)):
        for score in ("exact", "gaussian"):
            name = f"linear, {members} x {times}, {score} score"
            yield f"{name}, kicks", of_linear(score, members, times), truth
            yield f"{name}, pattern", of_linear(score, members, times, perturbation=pattern), truth @ pattern
    ou = simulators.LinearSDE([[-A]], [[B * B]])
    decay = np.exp(-2 * A * lags)
    options = {
        "max_lag": 4.0,
        "observable": "second_moment",
        "perturbation": {"noise": gfdt.NoiseAmplitude(B), "damping": gfdt.Drift(lambda x: -x)},
    }
    for score in ("exact", "gaussian"):

        def of_ou(seed, score=score):
            x = ou.simulate(30, 500.0, 0.25, seed=seed)
            fitted = gfdt.GaussianScore().fit(x) if score == "gaussian" else gfdt.AnalyticScore(ou.score)
            return gfdt.response(x, fitted, **options)

        exact_ou = np.stack([2 * B * decay, -(B**2) / A * decay], axis=1)[:, None]
        yield f"OU, 30 x 2000, {score} score, <x^2> under noise and damping", of_ou, exact_ou
    well = simulators.DoubleWell()
    lags = 0.5 * np.arange(21)
    for observable in ("mean", "variance", "moment3"):
        truth = well.exact_response(lags, observable=observable).values
        for score in ("exact", "kde"):
            if score == "kde" and observable != "mean":
                continue
            for members, times in ((40, 1000), (2, 20000)):

                def of_well(seed, score=score, members=members, times=times, observable=observable):
                    x = well.simulate(members, 0.5 * times, 0.5, seed=seed)
                    fitted = gfdt.KDEScore().fit(x) if score == "kde" else gfdt.AnalyticScore(well.score)
                    return gfdt.response(x, fitted, max_lag=10.0, observable=observable)

                yield f"double well, {members} x {times}, {score} score, {observable}", of_well, truth


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    print(f"{'case':<72} {'coverage':>9} {'+-':>6} {'rms z':>6}")
    for name, run, truth in cases():
        if arguments.only not in name:
            continue
        covered, z = [], []
        for seed in range(arguments.repeats):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", gfdt.ReliabilityWarning)
                got = run(seed)
            covered.append(float(((got.lower.values <= truth) & (truth <= got.upper.values)).mean()))
            known = got.stderr.values > 1e-9
            z.append(float((((got.response.values - truth)[known] / got.stderr.values[known]) ** 2).mean()))
        spread = np.std(covered) / np.sqrt(len(covered))
        print(f"{name:<72} {np.mean(covered):9.3f} {spread:6.3f} {np.sqrt(np.mean(z)):6.2f}", flush=True)


if __name__ == "__main__":
    main()
