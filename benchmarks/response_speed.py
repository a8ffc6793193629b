"""Seconds for the lagged correlations of a response, beside what published scripts do, in one interleaved run.

    python benchmarks/response_speed.py [case ...] [--rounds 3] [--members 64] [--response] [--calibrate]

matrix-256, matrix-1024: <A_i(t + l) B_j(t)> of so many components, 20,000 times, lags 0-99, double precision.
field-32, field-64: the same for every wavenumber of an n x n field, 64 members x 1000 times x 100 lags, each member a
unit of its own. The contestants:

np.cov       np.cov(a[l:], b[:T - l]) for each lag: the full covariance of the joint vector, a quarter of it used
numpy        one product per lag of the centred series (fields: one product of the spectra per lag)
torch        the same in torch
padded FFT   fields only: one zero-padded transform in time over the whole member
ours         the kernels of gfdt.responses.correlation
gfdt           with --response: gfdt.response, with the score (a linear function of the state), without and with error
               bars; both with the correction at t = 0, which needs sums for each resampling unit
floor        the operations that our kernel counts, at the rate of a 2048^3 product of this machine in this run

Peers that take long are timed on every tenth lag and scaled ("x 10"). Rounds run all contestants in turn, so that work
of others on the machine touches all alike; the table shows the median time and the median over rounds of the ratio to
ours. The largest difference from ours, relative to the largest sum, is printed for every peer; np.cov takes the mean of
each window off once more and divides by one less, which is a difference of order 1/T.

--calibrate prints measured beside modelled seconds of the three methods: what the constants in gfdt.responses.cost rest
on.
"""

import argparse
import functools
import itertools
import statistics
import time

import numpy as np
import scipy.fft
import torch

import gfdt
from gfdt.responses import cost
from gfdt.responses.correlation import lagged_sums, pair_counts, spectral_lagged_sums
from gfdt.responses.units import Unit

LAGS = np.arange(100)
SPARSE = LAGS[::10]
TIMES = {"matrix": 20_000, "field": 1_000}


def timed(function):
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def gemm_rate(n=2048):
    """Floating-point operations a second of a matrix product, best of three."""
    a = np.random.default_rng(0).standard_normal((n, n))
    return 2 * n**3 / min(timed(lambda: a @ a)[0] for _ in range(3))


def red_noise(shape, seed):
    """Series with a memory of five samples along the first axis."""
    out = np.random.default_rng(seed).standard_normal(shape)
    for t in range(1, shape[0]):
        out[t] += 0.8 * out[t - 1]
    return out


class Matrix:
    """Every pair of d components."""

    def __init__(self, d):
        self.d, self.times = d, TIMES["matrix"]
        self.a = red_noise((self.times, d), 1)
        self.a -= self.a.mean(axis=0)
        self.b = np.roll(self.a, 1, axis=1) + red_noise((self.times, d), 2)
        self.b -= self.b.mean(axis=0)
        self.units = [Unit(0, 0, self.times)]
        self.counts = pair_counts(self.units[0], self.times, LAGS)

    def contestants(self):
        """Name to (function, lags that it is timed on)."""
        return {
            "np.cov": (self.cov, SPARSE[: 10 if self.d < 512 else 2]),
            "numpy": (self.numpy, SPARSE),
            "torch": (self.torch, SPARSE),
            "ours": (self.ours, LAGS),
        }

    def cov(self, lags):
        """Return cross-covariances cut out of joint ones."""
        return np.stack(
            [np.cov(self.a[lag:].T, self.b[: self.times - lag].T)[: self.d, self.d :] for lag in lags.tolist()]
        )

    def numpy(self, lags):
        """One product per lag."""
        return np.stack([self.a[lag:].T @ self.b[: self.times - lag] / (self.times - lag) for lag in lags])

    def torch(self, lags):
        """One product per lag."""
        a, b = torch.from_numpy(self.a), torch.from_numpy(self.b)
        return torch.stack([a[lag:].T @ b[: self.times - lag] / (self.times - lag) for lag in lags.tolist()]).numpy()

    def ours(self, lags):
        """The kernel."""
        out = lagged_sums(self.a, self.b, self.units, lags)[0]
        out /= self.counts[:, None, None]
        return out

    def operations(self):
        """Of the segments and windows chosen, and of the transforms (5/2 n log2 n for a real one)."""
        cut, _ = cost.best_segmentation(self.units, LAGS, self.d, self.d)
        segments, windows = -(-self.times // cut.samples), -(-LAGS.size // cut.window)
        products = 4 * self.d**2 * cut.n_fft * segments * windows + 2 * self.d**2 * cut.n_fft * LAGS.size
        return products + 2.5 * cut.n_fft * np.log2(cut.n_fft) * segments * self.d * (1 + windows)

    def response(self, confidence):
        """Everything, with error bars or without."""
        covariance = self.a.T @ self.a / self.times
        inverse = np.linalg.inv(covariance)
        score = gfdt.AnalyticScore(lambda x: -x @ inverse)
        dims = ("member", "time", "component")
        return gfdt.response(self.a[None], score, max_lag=99.0, dims=dims, dt=1.0, confidence=confidence)


class Field:
    """Every wavenumber of an n x n field with itself; a member is a unit, two members' data serve all in turn."""

    def __init__(self, n, members):
        self.n, self.members, self.times = n, members, TIMES["field"]
        self.fields = [red_noise((self.times, n, n), seed) for seed in range(4)]
        spectra = [scipy.fft.rfft2(field - field.mean(), norm="ortho").reshape(self.times, -1) for field in self.fields]
        self.pairs = list(zip(spectra[:2], spectra[2:], strict=True))
        self.units = [Unit(0, 0, self.times)]

    def contestants(self):
        """Name to (function, lags that it is timed on)."""
        return {
            "numpy": (self.numpy, SPARSE),
            "torch": (self.torch, SPARSE),
            "padded FFT": (self.padded, LAGS),
            "ours": (self.ours, LAGS),
        }

    def over_members(self, one):
        """Sums of all members, one at a time; the first is kept for the comparison."""
        first = one(*self.pairs[0])
        for member in range(1, self.members):
            one(*self.pairs[member % 2])
        return first

    def numpy(self, lags):
        """One product of the spectra per lag."""
        return self.over_members(
            lambda a, b: np.stack([(a[lag:] * b[: self.times - lag].conj()).sum(axis=0) for lag in lags])
        )

    def torch(self, lags):
        """One product of the spectra per lag."""

        def one(a, b):
            a, b = torch.from_numpy(a), torch.from_numpy(b)
            return torch.stack([(a[lag:] * b[: self.times - lag].conj()).sum(dim=0) for lag in lags.tolist()]).numpy()

        return self.over_members(one)

    def padded(self, lags):
        """One zero-padded transform in time of each series, and one back."""
        n_fft = scipy.fft.next_fast_len(self.times + int(lags[-1]))

        def one(a, b):
            product = scipy.fft.fft(a, n_fft, axis=0, workers=-1)
            product *= scipy.fft.fft(b, n_fft, axis=0, workers=-1).conj()
            return scipy.fft.ifft(product, axis=0, workers=-1)[lags]

        return self.over_members(one)

    def ours(self, lags):
        """The kernel."""
        return self.over_members(lambda a, b: spectral_lagged_sums(a, b, self.units, lags)[0])

    def operations(self):
        """Of three zero-padded transforms of each series (5 n log2 n for a complex one) and their product."""
        n_fft = scipy.fft.next_fast_len(self.times + int(LAGS[-1]))
        return self.members * self.pairs[0][0].shape[1] * n_fft * (15 * np.log2(n_fft) + 8)

    def response(self, confidence):
        """Everything, with error bars or without."""
        x = np.stack([self.fields[member % 4] for member in range(self.members)]).astype(np.float32)
        score = gfdt.AnalyticScore(lambda field: -0.36 * field)
        dims = ("member", "time", "y", "x")
        return gfdt.response(x, score, max_lag=99.0, dims=dims, dt=1.0, homogeneous=("y", "x"), confidence=confidence)


CASES = {"matrix-256": (Matrix, 256), "matrix-1024": (Matrix, 1024), "field-32": (Field, 32), "field-64": (Field, 64)}


def run(name, case, rounds, response):
    seconds, differences, scales = {}, {}, {}
    for _ in range(rounds):
        results = {}
        for label, (function, lags) in case.contestants().items():
            took, results[label] = timed(functools.partial(function, lags))
            scales[label] = LAGS.size / lags.size
            seconds.setdefault(label, []).append(took * scales[label])
        reference = results.pop("ours")
        for label, value in results.items():
            ours = reference[case.contestants()[label][1]]
            differences[label] = float(np.abs(value - ours).max() / np.abs(reference).max())
        del results, reference
        if response:
            for label, confidence in (("gfdt, no band", None), ("gfdt, band", 0.95)):
                took, _ = timed(functools.partial(case.response, confidence))
                seconds.setdefault(label, []).append(took)
                scales[label] = 1
    rate = gemm_rate()
    print(f"\n{name}: {rate / 1e9:.0f} Gflop/s in a matrix product, {torch.get_num_threads()} threads in torch")
    print(f"{'':<14} {'seconds':>9} {'ratio':>8} {'difference':>11}")
    for label, times in seconds.items():
        ratio = statistics.median(x / y for x, y in zip(times, seconds["ours"], strict=True))
        off = f"{differences[label]:11.1e}" if label in differences else f"{'':>11}"
        note = f"  x {scales[label]:g}" if scales[label] > 1 else ""
        print(f"{label:<14} {statistics.median(times):9.2f} {ratio:8.2f} {off}{note}")
    floor = case.operations() / rate
    print(f"{'floor':<14} {floor:9.2f} {floor / statistics.median(seconds['ours']):8.2f}", flush=True)


def calibrate():
    """Measured and modelled milliseconds of each method, over sizes where one or another is best."""
    shapes = [
        (20_000, 1, 100, 1, 1),
        (20_000, 4, 100, 1, 1),
        (20_000, 4, 10, 1, 1),
        (20_000, 4, 100, 1, 20),
        (20_000, 8, 50, 5, 1),
        (20_000, 16, 100, 1, 1),
        (20_000, 16, 100, 1, 20),
        (20_000, 16, 10, 1, 1),
        (20_000, 64, 100, 1, 1),
        (20_000, 64, 100, 1, 20),
        (20_000, 64, 5, 1, 1),
        (20_000, 256, 20, 1, 1),
        (20_000, 256, 3, 1, 1),
        (2_000, 2, 500, 1, 1),
        (2_000, 64, 500, 1, 1),
        (300, 64, 100, 1, 1),
        (3_000, 128, 30, 1, 10),
        (100_000, 1, 20, 1, 1),
        (100_000, 1, 1000, 1, 8),
        (100_000, 2, 3000, 1, 1),
    ]
    print("milliseconds, measured (modelled); loss: time of the method chosen over that of the fastest")
    heads = "".join(f"{head:>22}" for head in cost.METHODS)
    print(f"{'times':>7} {'d':>4} {'lags':>5} {'step':>5} {'units':>6} {heads} {'chosen':>11} {'loss':>5}")
    for times, d, n_lags, step, n_units in shapes:
        a, b = (np.random.default_rng(seed).standard_normal((times, d)) for seed in (1, 2))
        lags = step * np.arange(n_lags)
        edges = np.linspace(0, times, n_units + 1).astype(int).tolist()
        units = [Unit(0, start, stop) for start, stop in itertools.pairwise(edges)]
        modelled = cost.costs(units, lags, d, d)
        measured = dict.fromkeys(cost.METHODS, np.inf)
        for _, method in itertools.product(range(4), cost.METHODS):
            if modelled[method] < 2:
                took, _ = timed(functools.partial(lagged_sums, a, b, units, lags, method=method))
                measured[method] = min(measured[method], took)
        chosen, _ = cost.cheapest(units, lags, d, d)
        cells = "".join(f"{1e3 * measured[m]:>12.2f} ({1e3 * modelled[m]:7.2f})" for m in cost.METHODS)
        loss = measured[chosen] / min(measured.values())
        print(f"{times:7d} {d:4d} {n_lags:5d} {step:5d} {n_units:6d} {cells} {chosen:>11} {loss:5.2f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("cases", nargs="*", help=f"of {', '.join(CASES)}; default all")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--members", type=int, default=64, help="of the fields")
    parser.add_argument("--response", action="store_true", help="time gfdt.response with error bars, too")
    parser.add_argument("--calibrate", action="store_true", help="the cost model instead of the peers")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.cases if name not in CASES]
    if unknown:
        parser.error(f"no case {unknown[0]!r}: choose among {', '.join(CASES)}")
    if arguments.calibrate:
        calibrate()
        return
    for name in arguments.cases or CASES:
        kind, size = CASES[name]
        case = kind(size) if kind is Matrix else kind(size, arguments.members)
        run(name, case, arguments.rounds, arguments.response)


if __name__ == "__main__":
    main()
