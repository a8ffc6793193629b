"""Is a learned score the score of the density? Samples, likelihood and certificate on an Allen-Cahn field, 32 x 32.

    python benchmarks/density.py --minutes 30 [--score FILE] [--image docs/images/density.png]

One record trains, another judges: one-point density and spectrum of samples by two reverse processes, their sliced
Wasserstein distance against that of the record from itself, the error of the score against the exact one, the bound on
the likelihood by noise level, and the certificate; the first of these also for the Gaussian score. Members are many
and short because the field seldom changes sign: 192 members of 4000 time units each never did, and two such records
differ by 28 % at the peaks of their one-point densities.
"""

import argparse
import time
from pathlib import Path

import numpy as np

import gfdt
import simulators

SITES = 32
SYSTEM = simulators.AllenCahn(n=SITES)
FEWEST = 0.05  # of the highest bin: below it the relative error of a density is that of counting


def records(seed):
    """One record to learn from, and one to judge by, each a DataArray (member, time, y, x)."""
    sizes = {"n_members": 1024, "duration": 480.0, "dt": 0.125}
    return [SYSTEM.simulate(seed=2 * seed + part, save_every=every, **sizes)["u"] for part, every in ((1, 20), (2, 60))]


def one_point(samples, record, bins=30):
    """Largest and mean relative error of the density of u at a site, where it is above a twentieth of its peak."""
    truth, edges = np.histogram(record, bins=bins, density=True)
    found = np.histogram(samples, bins=edges, density=True)[0]
    seen = truth > FEWEST * truth.max()
    off = np.abs(found / np.where(seen, truth, 1) - 1)[seen]
    return off.max(), off.mean()


def spectrum(samples, record):
    """Largest and rms relative error of the power in shells of |k|."""
    wave = np.fft.fftfreq(SITES, 1 / SITES)
    shell = np.rint(np.hypot(wave[:, None], wave[None])).astype(int).ravel()

    def power(fields, mean):
        squares = np.abs(np.fft.fft2(fields.reshape(-1, SITES, SITES) - mean)) ** 2
        total = np.bincount(shell, squares.mean(axis=0).ravel())
        return total[: SITES // 2 + 1]

    mean = record.mean()
    off = power(samples, mean) / power(record, mean) - 1
    return np.abs(off).max(), np.sqrt(np.mean(off**2)), off


def sliced(one, other, directions):
    """Wasserstein-2 distance averaged over directions in the space of fields."""
    quantiles = (np.arange(512) + 0.5) / 512
    return np.sqrt(
        np.mean(
            [
                np.mean((np.quantile(a, quantiles) - np.quantile(b, quantiles)) ** 2)
                for a, b in ((one @ direction, other @ direction) for direction in directions)
            ]
        )
    )


def distances(samples, record, seed=0, n_directions=200):
    """Distance of samples from the record, and of as many states of other members from it: mean of ten splits."""
    rng = np.random.default_rng(seed)
    directions = rng.standard_normal((n_directions, SITES**2))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    ours, floor = [], []
    for _ in range(10):
        members = rng.permutation(record.shape[0])
        first, second = (record[half].reshape(-1, SITES**2) for half in np.array_split(members, 2))
        few = min(len(samples), len(first))
        ours.append(sliced(samples[:few].reshape(few, -1), second, directions))
        floor.append(sliced(first[rng.permutation(len(first))[:few]], second, directions))
    return np.mean(ours), np.mean(floor)


def report(name, score, record, n_samples, n_steps, seed):
    """Print the figures of one score; return its samples."""
    values = record.values.astype(np.float64)
    few = values[::8, ::4].reshape(-1, SITES, SITES)
    exact = SYSTEM.score(few)
    print(f"{name:12s} relative error of the score {np.linalg.norm(score(few) - exact) / np.linalg.norm(exact):.3f}")
    samples = {}
    for method in ("heun", "ode"):
        began = time.perf_counter()
        samples[method] = score.sample(n_samples, method=method, n_steps=n_steps, seed=seed).values
        seconds = time.perf_counter() - began
        pdf, power = one_point(samples[method], values), spectrum(samples[method], values)
        ours, floor = distances(samples[method], values)
        print(
            f"{name:12s} {method:5s} pdf max {pdf[0]:.3f} mean {pdf[1]:.3f}   spectrum max {power[0]:.3f} "
            f"rms {power[1]:.3f}   sliced W2 {ours:.4f}, floor {floor:.4f}, ratio {ours / floor:.2f}   "
            f"{n_samples} samples in {seconds:.0f} s",
            flush=True,
        )
        print(f"{'':18s} spectrum/record - 1 by |k|:", np.round(power[2], 3), flush=True)
    return samples["heun"]


def draw(path, record, samples):
    """Save fields of the record and samples, one-point density and spectrum."""
    import matplotlib.pyplot as plt

    from gfdt.plotting.style import style_of

    figure = plt.figure(figsize=(11, 6.2), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=[1.25, 1])
    axes = top.subplots(2, 6)
    rows = {"record": record.values[::11, 0][:6], "samples": samples["generative"][:6]}
    for row, (name, fields) in zip(axes, rows.items(), strict=True):
        for ax, field in zip(row, fields, strict=True):
            image = ax.imshow(field, cmap="RdBu_r", vmin=-1.5, vmax=1.5, origin="lower")
            ax.set(xticks=[], yticks=[])
        row[0].set_ylabel(name)
    top.colorbar(image, ax=axes, label="u", shrink=0.8)
    left, right = bottom.subplots(1, 2)
    edges = np.linspace(-1.8, 1.8, 61)
    wave = np.fft.fftfreq(SITES, 1 / SITES)
    shell = np.rint(np.hypot(wave[:, None], wave[None])).astype(int).ravel()
    for name, fields in {"record": record.values, **samples}.items():
        style = {"color": "k", "linewidth": 3, "alpha": 0.35} if name == "record" else style_of(name, 0)
        height = np.histogram(fields, bins=edges, density=True)[0]
        left.plot((edges[1:] + edges[:-1]) / 2, height, label=name, **style)
        flat = np.asarray(fields, dtype=np.float64).reshape(-1, SITES, SITES)
        squares = np.abs(np.fft.fft2(flat - record.values.mean())) ** 2
        power = np.bincount(shell, squares.mean(axis=0).ravel()) / np.bincount(shell) / SITES**2
        right.semilogy(np.arange(SITES // 2 + 1), power[: SITES // 2 + 1], label=name, **style)
    left.set(xlabel="u at a site", ylabel="probability density")
    right.set(xlabel="|k|", ylabel="variance per mode")
    right.legend(frameon=False)
    figure.savefig(path, dpi=110)


def main():
    """Train or load, then print and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0, help="of training")
    parser.add_argument("--score", type=Path, help="a score trained before, or where to keep the new one")
    parser.add_argument("--image", type=Path, help="picture to draw")
    parser.add_argument("--html", type=Path, help="certificate to write")
    parser.add_argument("--samples", type=int, default=2048)
    parser.add_argument("--steps", type=int, default=20, help="of the reverse processes")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    training, judging = records(options.seed)
    if options.score is not None and options.score.exists():
        learned = gfdt.load_score(options.score)
    else:
        learned = gfdt.DSMScore(max_minutes=options.minutes, seed=options.seed).fit(training)
        if options.score is not None:
            learned.save(options.score)
    print(learned, f"selected {learned.selected_}, {learned.training_seconds_:.0f} s of training", flush=True)
    gaussian = gfdt.GaussianScore(homogeneous=True).fit(training)
    samples = {
        "generative": report("learned", learned, judging, options.samples, options.steps, options.seed),
        "gaussian": report("Gaussian", gaussian, judging, options.samples, options.steps, options.seed),
    }
    scales = learned.bound(judging.isel(member=slice(None, None, 8), time=[0]), n_levels=32)
    print(
        scales[["sigma_low", "sigma_high", "excess", "excess_stderr", "amplitude", "amplitude_stderr"]].to_dataframe()
    )
    certificate = gfdt.certify(learned, judging, out=options.html, overwrite=True, seed=options.seed)
    print(certificate)
    if options.image is not None:
        draw(options.image, judging, samples)


if __name__ == "__main__":
    main()
