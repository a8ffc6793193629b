"""What samples, likelihood and bound cost beyond the evaluations of the score that they cannot do without.

    OMP_NUM_THREADS=1 python benchmarks/density_speed.py [--repeats 3] [--only network]

The score's part f is timed inside each call; the rest are transforms, noise and sums. Four scores: an f that costs next
to nothing and a small network (84k weights), both of homogeneous fields of 32 x 32, and kernel density estimates of
1000 and 100,000 points in the plane. Medians of repeats, in microseconds for one state and one evaluation of f.
"""

import argparse
import dataclasses
import time

import numpy as np

import gfdt
from gfdt.covariance import SpectralCovariance
from gfdt.density.bound import bound, elbo
from gfdt.density.family import Diagonal, Family
from gfdt.density.likelihood import log_prob
from gfdt.density.sampling import Sampler, sample

SITES = 32
TASKS = ("elbo", "bound", "log_prob", "sample", "sample ode")


class Clock:
    """A family whose f and (grad f) u are timed, and the states counted that they are asked for."""

    def __init__(self, family):
        self.seconds, self.states = 0.0, 0
        names = ("correction", "product", "pull_back")
        found = {name: getattr(family, name) for name in names if getattr(family, name, None) is not None}
        self.family = dataclasses.replace(family, **{name: self._timed(each) for name, each in found.items()})

    def _timed(self, function):
        def call(a, *rest):
            began = time.perf_counter()
            value = function(a, *rest)
            self.seconds += time.perf_counter() - began
            self.states += len(a)
            return value

        return call


def spectrum():
    """C_k = 1/(4 + k^2)^2 on 32 x 32 sites, for fields of variance 1."""
    wave = np.fft.fftfreq(SITES, 1 / SITES)
    power = 1 / (4 + wave[:, None] ** 2 + wave[None, : SITES // 2 + 1] ** 2) ** 2
    covariance = SpectralCovariance(0.0, power, (SITES, SITES))
    return covariance.rescaled(np.sqrt(covariance.trace(lambda c: c) / SITES**2))


def smooth_fields(n, seed):
    """A Gaussian field of that spectrum, pushed to the wells of a double-well potential."""
    z = np.random.default_rng(seed).standard_normal((n, SITES, SITES))
    return np.tanh(1.5 * spectrum().apply(z, np.sqrt))


def cheap():
    """An f of one product, fading as the noise grows."""

    def correction(a, level):
        return (0.1 / (1 + level**2) ** 2) * a

    units = Diagonal(np.zeros((1, 1)), np.ones((1, 1)))
    return Family(units, spectrum(), (SITES, SITES), 0.05, correction, lambda _, level, u: correction(u, level))


def network():
    """A network of thirty steps: as dear as a good one."""
    fields = smooth_fields(512, 0).reshape(8, 64, SITES, SITES)
    score = gfdt.DSMScore("resnet", max_steps=30, seed=0, device="cpu", progress=False)
    score = score.fit(fields, dims=("member", "time", "y", "x"))
    if score.selected_ == "gaussian start":
        raise SystemExit("the network lost against the Gaussian start: nothing to time.")
    return score.family()


def points(n):
    """A kernel density estimate of two peaks, one narrow."""

    def make():
        rng = np.random.default_rng(0)
        narrow = rng.random(n) < 0.3
        x = np.where(narrow[:, None], 1.5 + 0.2 * rng.standard_normal((n, 2)), rng.standard_normal((n, 2)))
        return gfdt.KDEScore().fit(x[None], dims=("member", "time", "component")).family()

    return make


SCORES = {"cheap": cheap, "network": network, "kde 1000": points(1000), "kde 100000": points(100_000)}
STATES = {"cheap": 128, "network": 16, "kde 1000": 4096, "kde 100000": 4096}


def run(task, family, a):
    """Do one task on states a."""
    if task == "elbo":
        elbo(family, a, n_levels=32, decode=True)
    elif task == "bound":
        bound(family, a, n_levels=32)
    elif task == "log_prob":
        log_prob(family, a[: max(1, len(a) // 16)], n_steps=2)
    else:
        method = "ode" if task == "sample ode" else "heun"
        sample(family, len(a), Sampler.make(method, lam=None, n_steps=8, schedule="edm", decode=True))


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", choices=SCORES, help="one score")
    options = parser.parse_args()
    print(f"{'score':12s}{'task':12s}{'evaluations':>12s}{'us each':>10s}{'of f':>10s}{'beyond f':>10s}{'%':>8s}")
    for name in [options.only] if options.only else SCORES:
        family = SCORES[name]()
        n = STATES[name]
        rng = np.random.default_rng(1)
        a = family.gaussian_sample(rng.standard_normal((n, *family.shape)), family.level)
        for task in TASKS:
            found = []
            for _ in range(options.repeats):
                clock = Clock(family)
                began = time.perf_counter()
                run(task, clock.family, a)
                total = time.perf_counter() - began
                found.append((total / clock.states * 1e6, clock.seconds / clock.states * 1e6))
            total, of_f = np.median(found, axis=0)
            print(
                f"{name:12s}{task:12s}{clock.states:12d}{total:10.2f}{of_f:10.2f}{total - of_f:10.2f}"
                f"{100 * (total / of_f - 1):8.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
