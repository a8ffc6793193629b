"""Seconds for a response with its error bars, beside the loops published scripts use, in one run.

The peers compute the estimate only: one covariance per lag, no band.
"""

import time

import numpy as np
import scipy.fft

import gfdt


def seconds(function, repeats=3):
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = function()
        times.append(time.perf_counter() - start)
    return min(times), result


def matrix_case(d, members, times, lags):
    x = np.random.default_rng(0).standard_normal((members, times, d)).cumsum(axis=1)
    x -= 0.9 * np.roll(x, 1, axis=1)
    score = gfdt.GaussianScore().fit(x, dims=("member", "time", "component"))
    ours, result = seconds(
        lambda: gfdt.response(x, score, max_lag=lags - 1.0, dims=("member", "time", "component"), dt=1.0)
    )

    def peer():
        b = -score(x)
        centred = x - x.mean((0, 1))
        b -= b.mean((0, 1))
        return np.stack(
            [
                np.einsum("mti,mtj->ij", centred[:, lag:], b[:, : times - lag], optimize=True)
                / (members * (times - lag))
                for lag in range(lags)
            ]
        )

    theirs, value = seconds(peer, repeats=1)
    scale = np.linalg.inv(value[0])
    return ours, theirs, float(np.abs(value @ scale - result["response"].values).max())


def field_case(n, members, times, lags):
    x = np.random.default_rng(0).standard_normal((members, times, n, n)).astype(np.float32)
    x[:, 1:] += 0.8 * x[:, :-1]
    dims = ("member", "time", "y", "x")
    score = gfdt.GaussianScore(homogeneous=True).fit(x, dims=dims)
    ours, result = seconds(
        lambda: gfdt.response(x, score, max_lag=lags - 1.0, dims=dims, dt=1.0, homogeneous=True), repeats=1
    )

    def peer():
        values = x.astype(np.float64)
        conjugate = -score(values)
        a = scipy.fft.rfft2(values - values.mean())
        b = scipy.fft.rfft2(conjugate - conjugate.mean()).conj()
        return np.stack([(a[:, lag:] * b[:, : times - lag]).mean(axis=(0, 1)) / n**2 for lag in range(lags)])

    theirs, value = seconds(peer, repeats=1)
    value = np.fft.fftshift(scipy.fft.irfft2(value / value[0], s=(n, n)), axes=(1, 2))
    return ours, theirs, float(np.abs(value - result["response"].values).max())


def main():
    print(f"{'case':<44} {'ours, with band (s)':>20} {'loop, no band (s)':>18} {'difference':>11}")
    for d, members, times, lags in ((4, 24, 8000, 100), (64, 24, 2000, 100)):
        ours, theirs, off = matrix_case(d, members, times, lags)
        print(f"{f'matrix d={d}, {members} x {times}, {lags} lags':<44} {ours:20.2f} {theirs:18.2f} {off:11.1e}")
    for n, members, times, lags in ((32, 64, 200, 100), (32, 64, 1000, 100)):
        ours, theirs, off = field_case(n, members, times, lags)
        print(f"{f'field {n} x {n}, {members} x {times}, {lags} lags':<44} {ours:20.2f} {theirs:18.2f} {off:11.1e}")


if __name__ == "__main__":
    main()
