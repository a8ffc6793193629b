"""Error of the sampled density against the number of steps, for every method, with an exact score.

The density is a mixture of two Gaussians in two dimensions, peaks 0.3 wide and 1.8 apart, whose score is known at every
noise level: what is left is the error of the method. Printed is the total variation distance, half the integral of
|pdf - exact|, of the pdf of the first component in 40 bins, and what the same number of exact samples gives.

    python benchmarks/sampling.py [samples]      (default 100000: two minutes)
"""

import sys

import numpy as np
from scipy.special import ndtr

import gfdt

WEIGHTS, CENTRES = np.array([0.6, 0.4]), np.array([[0.72, 0.24], [-1.08, -0.36]])
VARIANCES = np.array([[0.09, 0.5], [0.09, 1.0]])
EDGES = np.linspace(-2.5, 2.5, 41)
STEPS = (4, 8, 16, 32, 64)
METHODS = {
    "heun, lam=0": {"method": "heun"},
    "heun, lam=-1": {"method": "heun", "lam": -1.0},
    "ode (lam=1)": {"method": "ode"},
    "euler, lam=0": {"method": "euler"},
    "euler, lam=1": {"method": "euler", "lam": 1.0},
    "predictor-corrector": {"method": "predictor-corrector"},
    "langevin": {"method": "langevin"},
}


def score(x, sigma=0.0):
    """Return that of the mixture blurred by noise of standard deviation sigma."""
    precision = 1 / (VARIANCES + sigma**2)
    offset = x[:, None] - CENTRES
    logs = np.log(WEIGHTS) + 0.5 * (np.log(precision) - precision * offset**2).sum(axis=-1)
    share = np.exp(logs - np.logaddexp.reduce(logs, axis=1)[:, None])
    return -np.einsum("nk,nki->ni", share, precision * offset)


def draw(n, seed=0):
    rng = np.random.default_rng(seed)
    which = rng.choice(2, n, p=WEIGHTS)
    return CENTRES[which] + np.sqrt(VARIANCES[which]) * rng.standard_normal((n, 2))


def distance(x):
    """Return half the integral of |pdf - exact| of the first component; all that lies outside counts."""
    found = np.histogram(x[:, 0], EDGES)[0] / len(x)
    exact = np.diff(ndtr((EDGES[:, None] - CENTRES[:, 0]) / np.sqrt(VARIANCES[:, 0])) @ WEIGHTS)
    return 0.5 * (np.abs(found - exact).sum() + abs(found.sum() - exact.sum()))


def main():
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    model = gfdt.AnalyticScore(score, blurred=score)
    model.fit(draw(400_000, 1)[None], dims=("member", "time", "component"))
    print(f"{n} samples; exact ones: {distance(draw(n)):.4f}")
    print("schedule  method                " + "".join(f"{steps:>9d}" for steps in STEPS))
    for schedule in ("edm", "ve", "vp"):
        for name, options in METHODS.items():
            if schedule != "edm" and options not in ({"method": "heun"}, {"method": "ode"}):
                continue  # the schedule places the steps of all methods alike
            found = [
                distance(model.sample(n, n_steps=steps, schedule=schedule, seed=1, **options).values) for steps in STEPS
            ]
            print(f"{schedule:9s} {name:20s}  " + "".join(f"{error:9.4f}" for error in found), flush=True)


if __name__ == "__main__":
    main()
