"""How good is a learned score, after how many training fields and how many seconds?

    python benchmarks/score_engine.py fields [--evaluations 20000 200000] [--seeds 0 1 2]   score error, Allen-Cahn
    python benchmarks/score_engine.py recipe [--minutes 20]                                 against the PRL's recipe
    python benchmarks/score_engine.py response SCORE.safetensors                            learned against exact score
    python benchmarks/score_engine.py gaussian                                              Gaussian data, 1000 samples
    python benchmarks/score_engine.py objectives                                            dsm, ssm, fd-ssm
    python benchmarks/score_engine.py processes                                             one process and two

Allen-Cahn is 32 x 32 with A = 0, 64 members x 1000 samples one time unit apart; the score error is
||s - s_exact||/||s_exact|| over 1024 states of 16 further members. A "field" is one evaluation of the network in
training: every state drawn counts twice, with +z and with -z. Times are wall-clock times of ``fit``, evaluation of the
held-out states included. ``--device cuda`` runs the same on a GPU, ``--threads`` bounds the CPU's.
"""

import argparse
import itertools
import math
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from torch import nn

import gfdt
import simulators

N, MEMBERS, SAMPLES, HELD_OUT = 32, 64, 1000, 16


def allen_cahn(directory):
    """Return the system, the record to learn from, and states to judge on; simulated once per directory."""
    system = simulators.AllenCahn(n=N, advection=0.0)
    path = Path(directory) / "allen-cahn.nc"
    if not path.exists():
        system.simulate(MEMBERS + HELD_OUT, SAMPLES, save_every=1.0, seed=1, dtype="float32", out=path)
    with xr.open_dataset(path) as run:
        u = run["u"].load()
    fresh = u.isel(member=slice(MEMBERS, None), time=slice(None, None, 8)).values.reshape(-1, N, N)
    return system, u.isel(member=slice(MEMBERS)), fresh[:1024].astype(np.float64)


def error(score, system, states):
    """Return ||s - s_exact||/||s_exact||."""
    exact = np.asarray(system.score(states))
    return float(np.linalg.norm(np.asarray(score(states)) - exact) / np.linalg.norm(exact))


def row(*cells):
    """Print one line of a table."""
    print("| " + " | ".join(f"{c:.4g}" if isinstance(c, float) else str(c) for c in cells) + " |", flush=True)


def fields(args):
    """Score error after a number of network evaluations."""
    system, record, states = allen_cahn(args.directory)
    row("objective", "fields", "seed", "symmetries", "error", "error Richardson", "noise level", "seconds", "Gaussian")
    gaussian = error(gfdt.GaussianScore(True).fit(record), system, states)
    for evaluations, seed in itertools.product(args.evaluations, args.seeds):
        score = make(args, evaluations, seed=seed).fit(record)
        names = ",".join(args.symmetries) or "none"
        target = Path(args.directory) / f"{args.objective}-{evaluations}-{seed}-{names}.safetensors"
        score.save(target, overwrite=True)
        richardson = error(score.extrapolated(), system, states) if score.noise_level_ else math.nan
        cells = (error(score, system, states), richardson, score.noise_level_, score.training_seconds_)
        row(args.objective, evaluations, seed, names, *cells, gaussian)


def make(args, evaluations, **options):
    """Return an unfitted score with a budget of network evaluations, in the default batches."""
    from gfdt.diffusion.networks import NETWORKS

    batch = options.pop("batch_size", args.batch_size) or NETWORKS["resnet"].batch_size
    steps = math.ceil(evaluations / batch)
    options |= {"symmetries": tuple(args.symmetries), "objective": args.objective}
    return gfdt.DSMScore(max_steps=steps, batch_size=batch, device=args.device, **options)


def recipe(args):
    """Train the PRL's way for a while; then ask how long the default training needs to be as good."""
    system, record, states = allen_cahn(args.directory)
    before, seconds, steps = prl(args, system, record, states)
    row("training", "seconds", "steps", "error")
    row("PRL's recipe", seconds, steps, before)
    for share in (40, 20, 10):
        budget = 60 * args.minutes / share
        score = gfdt.DSMScore(max_minutes=budget / 60, objective=args.objective, device=args.device).fit(record)
        cells = (score.training_seconds_, score.selected_, error(score, system, states))
        row(f"default, 1/{share} of the time", *cells)


def prl(args, system, record, states):
    """Plain variance-exploding U-Net of 10 million weights: Adam 2e-4, warm-up 5000, EMA .999, batches of 64.

    The noise levels are those of the variance-exploding schedule, log-uniform from 0.01 to 10 standard deviations. The
    score is judged at the level of ten, between 0.01 and 0.3, where it is best.
    """
    from gfdt.diffusion.networks import make_network, network_options

    device = "cuda" if args.device == "cuda" else "cpu"
    generator = torch.Generator(device).manual_seed(0)
    network = make_network("unet", (N, N), network_options("unet", None), torch.Generator().manual_seed(0)).to(device)
    average = torch.optim.swa_utils.AveragedModel(
        network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.999)
    )
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-4)
    mean, scale = float(record.mean()), float(record.std())
    x = torch.from_numpy((record.values.reshape(-1, N, N) - mean) / scale).float().to(device)
    start, steps = time.perf_counter(), 0
    while time.perf_counter() - start < 60 * args.minutes:
        steps += 1
        optimizer.param_groups[0]["lr"] = 2e-4 * min(1.0, steps / 5000)
        batch = x[torch.randint(len(x), (64,), generator=generator, device=device)]
        level = torch.exp(torch.rand(64, generator=generator, device=device) * math.log(1000.0) + math.log(0.01))
        z = torch.randn(batch.shape, generator=generator, device=device)
        noise = network((batch + level[:, None, None] * z)[:, None], level.log() / 4)[:, 0]
        loss = (noise + z).square().mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        average.update_parameters(network)
    seconds = time.perf_counter() - start

    def score(level):
        def function(states):
            anomalies = torch.from_numpy((states - mean) / scale).float().to(device)
            out = []
            with torch.no_grad():
                for part in anomalies.split(128):
                    c_noise = torch.full((len(part),), level, device=device).log() / 4
                    out.append(average.module(part[:, None], c_noise)[:, 0].cpu() / level)
            return torch.cat(out).double().numpy() / scale

        return function

    return min(error(score(level), system, states) for level in np.geomspace(0.01, 0.3, 10)), seconds, steps


def response(args):
    """Response from a learned score against that of the exact score, on the same record, lags 0 to 20."""
    system, record, _ = allen_cahn(args.directory)
    record = record.isel(member=slice(args.members))
    settings = {"max_lag": 20.0, "homogeneous": ("y", "x")}
    exact = gfdt.response(record, gfdt.AnalyticScore(system.score), **settings)
    estimates = {"gaussian": gfdt.GaussianScore(True).fit(record)}
    estimates |= {Path(path).stem: gfdt.load_score(path) for path in args.scores}
    row("score", "correction", "relative error", "without lag 0")
    for name, score in estimates.items():
        known = Known(score, record)
        for correction in ("none", "stein", "auto"):
            found = gfdt.response(record, known, **settings, correction=correction)["response"]
            row(name, correction, relative(found, exact["response"]), relative(found[1:], exact["response"][1:]))


class Known(gfdt.AnalyticScore):
    """A score evaluated once on the members of a record, which are asked for in order."""

    def __init__(self, score, record):
        values = [np.asarray(score(member.values)) for member in record]
        turn = itertools.cycle(values)
        super().__init__(lambda _: next(turn))
        self.noise_level_ = score.noise_level_


def relative(found, exact):
    """Return the relative L2 difference over all lags and displacements."""
    return float(np.sqrt(((found - exact) ** 2).sum() / (exact**2).sum()))


def gaussian(args):
    """A linear SDE, 1000 samples: the learned score must not be worse than the Gaussian fit."""
    row("seed", "Gaussian fit", "learned", "ratio", "selected")
    drift = np.array([[-1.0, 0.6, 0.0], [-0.4, -0.8, 0.5], [0.0, -0.3, -1.2]])
    system = simulators.LinearSDE(drift, np.diag([1.0, 0.5, 0.8]))
    covariance = np.asarray(system.exact_covariance())
    states = np.random.default_rng(9).multivariate_normal(np.zeros(3), covariance, size=20_000)
    for seed in args.seeds:
        record = gfdt.load_trajectory(system.simulate(1, 1000.0, save_every=1.0, seed=seed))
        fit = gfdt.GaussianScore().fit(record)
        score = gfdt.DSMScore(seed=seed, device=args.device).fit(record)
        before, after = error(fit, system, states), error(score, system, states)
        row(seed, before, after, after / before, score.selected_)


def objectives(args):
    """Score error of the three objectives on the double well at the same budget."""
    system = simulators.DoubleWell()
    record, fresh = (
        gfdt.load_trajectory(system.simulate(64, 1000.0, save_every=0.1, seed=100 + number)) for number in range(2)
    )
    states = fresh.values.reshape(-1, *fresh.shape[2:])[::64]
    row("objective", "seed", "error", "seconds")
    for objective, seed in itertools.product(("dsm", "ssm", "fd-ssm"), args.seeds):
        score = gfdt.DSMScore(objective=objective, seed=seed, device=args.device).fit(record)
        row(objective, seed, error(score, system, states), score.training_seconds_)


def processes(args):
    """The same training in one process and shared by two."""
    system, record, states = allen_cahn(args.directory)
    with tempfile.TemporaryDirectory() as directory:
        record.to_netcdf(Path(directory) / "run.nc")
        row("processes", "error", "last held-out loss", "seconds")
        for count in (1, 2):
            out = Path(directory) / f"score-{count}.safetensors"
            launch = [sys.executable, "-m"]
            if count > 1:
                launch += ["torch.distributed.run", "--standalone", f"--nproc-per-node={count}", "-m"]
            command = [*launch, "gfdt", "train", str(Path(directory) / "run.nc"), "--max-steps", str(args.steps)]
            subprocess.run([*command, "--seed", "0", "--out", str(out)], check=True, capture_output=not args.verbose)
            score = gfdt.load_score(out)
            history = score.history_[-1]["held_out"]
            row(count, error(score, system, states), history, score.training_seconds_)


def main():
    """Run one of the comparisons."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=sorted(_WHAT))
    parser.add_argument("scores", nargs="*")
    parser.add_argument("--directory", default=tempfile.gettempdir())
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--evaluations", type=int, nargs="+", default=[20_000, 200_000])
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--objective", default="dsm")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--symmetries", nargs="*", default=[])
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--members", type=int, default=24)
    parser.add_argument("--verbose", action="store_true")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    where = torch.cuda.get_device_name() if args.device != "cpu" and torch.cuda.is_available() else "CPU"
    print(f"torch {torch.__version__}, {where}, {torch.get_num_threads()} threads, {platform.machine()}", flush=True)
    _WHAT[args.what](args)


_WHAT = {function.__name__: function for function in (fields, recipe, response, gaussian, objectives, processes)}

if __name__ == "__main__":
    main()
