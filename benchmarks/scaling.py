"""Beyond one machine: how the work grows with processes, how much memory a large record takes, and what a plan costs.

    python benchmarks/scaling.py weak        1 -> 2 processes, twice the work: simulate, respond, train
    python benchmarks/scaling.py large       a record of 20 GB (synthetic, in an array of Dask) inside 2 GB of memory
    python benchmarks/scaling.py rates       one process: what simulating, training and responding cost, 32^2 to 512^2

weak: each worker of a `dask.distributed.LocalCluster` has one thread and its own share: 8 members of a 32 x 32
Allen-Cahn field to simulate, 20 to respond from; each process of torchrun its own 64 network evaluations a step. Runs
alternate between one and two processes, three rounds; medians of the seconds and of the ratio. A round before them
compiles the kernels and imports the packages.

large: 8192 members of 300 samples of the Ornstein-Uhlenbeck field, 32 x 32, each member drawn from the stationary law
by its own stream when it is asked for. The process may not allocate more than 2 GB of data (RLIMIT_DATA); its largest
resident size is printed, and the error of the response against the exact one, in standard errors.

rates: one core; a training step evaluates the network twice for every state.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import gfdt
import simulators

ROUNDS = 3
TRAINING = """
import sys, time, numpy as np, torch
torch.set_num_threads(1)
import gfdt
from gfdt.processes import is_first
n, batch, steps = map(int, sys.argv[1:4])
times = 60 if n < 128 else 24
x = np.random.default_rng(0).standard_normal((4, times, n, n), dtype=np.float32)
x += np.roll(x, 1, -1) + np.roll(x, 1, -2)
score = gfdt.DSMScore(homogeneous=True, max_steps=steps, batch_size=batch, seed=0, log=sys.argv[4])
import xarray as xr
score.fit(xr.DataArray(x, dims=("member", "time", "y", "x"), coords={"time": np.arange(float(times))}))
"""


def seconds(function, *arguments, **options):
    start = time.perf_counter()
    function(*arguments, **options)
    return time.perf_counter() - start


def weak(names=("simulate", "respond", "train")):
    """Print the table of weak scaling."""
    from distributed import Client, LocalCluster

    system = simulators.AllenCahn(n=32)
    rows = {name: [] for name in names}
    options = {"threads_per_worker": 1, "dashboard_address": ":0"}
    with (
        tempfile.TemporaryDirectory() as folder,
        LocalCluster(n_workers=1, **options) as one,
        LocalCluster(n_workers=2, **options) as two,
    ):
        records = {}
        for workers in (1, 2):
            records[workers] = Path(folder) / f"record{workers}.nc"
            system.simulate(20 * workers, 1000, spinup=50, seed=1, out=records[workers]).close()
        for number in range(ROUNDS + 1):
            for name in rows:
                taken = []
                for workers, cluster in ((1, one), (2, two)):
                    with Client(cluster) as client:
                        taken.append(_weak(name, system, workers, client, records[workers], Path(folder), number))
                if number:  # the first round warms up
                    rows[name].append(taken)
    print("| | 1 process, s | 2 processes, s | efficiency |\n|---|---:|---:|---:|")
    for name, taken in rows.items():
        one, two = (statistics.median(column) for column in zip(*taken, strict=True))
        print(f"| {name} | {one:.2f} | {two:.2f} | {statistics.median(a / b for a, b in taken):.2f} |")


def _weak(name, system, workers, client, record, folder, number):
    if name == "simulate":
        out = folder / f"run{number}{workers}.nc"
        options = {"spinup": 0, "seed": 2, "client": client, "members_per_task": 4}
        return seconds(lambda: system.simulate(8 * workers, 2000, out=out, **options).close())
    if name == "respond":
        options = {"max_lag": 20, "homogeneous": True, "client": client, "progress": False}
        return seconds(gfdt.response, record, system.score, **options)
    return 64 * workers * _training(32, 64 * workers, 40, folder / f"log{number}{workers}.csv", workers)


def _training(n, batch, steps, log, workers=1):
    """Median seconds of a network evaluation in training, on all processes together; what is between steps left out."""
    start = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={workers}"] if workers > 1 else []
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "train.py"
        script.write_text(TRAINING)
        command = [sys.executable, *start, str(script), str(n), str(batch), str(steps), str(log)]
        subprocess.run(command, check=True, capture_output=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    table = np.genfromtxt(log, delimiter=",", names=True)
    return 1 / float(np.median(table["samples_per_second"]))


def _member(block_info=None, seed=0, times=0):
    """The members of a chunk, each with a stream of its own."""
    first, last = block_info[None]["array-location"][0]
    system = simulators.OrnsteinUhlenbeck(n=32)
    every = [system.simulate(1, times, seed=seed + member, workers=1)["u"].values for member in range(first, last)]
    return np.concatenate(every)


def large(gigabytes=20.0, limit=2.0):
    """Respond from a record that is made while it is read, under a limit of memory."""
    import dask.array as da
    import xarray as xr

    system, times = simulators.OrnsteinUhlenbeck(n=32), 300
    members = round(gigabytes * 1e9 / (8 * times * 32 * 32))
    shape, chunks = (members, times, 32, 32), ((1,) * members, (times,), (32,), (32,))
    data = da.map_blocks(_member, chunks=chunks, dtype=float, seed=0, times=times, meta=np.empty((0, 0, 0, 0)))
    record = xr.DataArray(data, dims=("member", "time", "y", "x"), coords={"time": np.arange(float(times))}, name="u")
    assert record.shape == shape
    _member({None: {"array-location": [(0, 1)]}}, 0, 10)  # compiles
    resource.setrlimit(resource.RLIMIT_DATA, (int(limit * 1e9), int(limit * 1e9)))
    os.environ["GFDT_CACHE_DIR"] = "/nowhere"  # nothing may be put on a disk
    start = time.perf_counter()
    found = gfdt.response(record, system.score, max_lag=10, homogeneous=True)
    taken = time.perf_counter() - start
    exact = system.exact_response(found["lag"].values)
    z = ((found["response"] - exact) / found["stderr"]).sel(lag=slice(0.5, None))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(
        f"{record.nbytes / 1e9:.1f} GB, {members} members x {times} samples: {taken:.0f} s, largest resident size "
        f"{peak:.2f} GB (limit of data {limit:g} GB); {found.attrs['resampling']}; rms of (response - exact)/stderr "
        f"{float(np.sqrt((z**2).mean())):.2f}, largest error {float(np.abs(found['response'] - exact).max()):.2g}"
    )


def rates():
    """Print what one core needs."""
    import xarray as xr

    print("| n | step, us | training, ms an evaluation | score, ms a state | response, ms a sample |")
    print("|---|---:|---:|---:|---:|")
    for n in (32, 128, 512):
        system = simulators.AllenCahn(n=n)
        steps = max(1, 2**22 // n**2)
        run = {"spinup": 0, "dt": 1 / 32, "workers": 1, "seed": 0, "progress": False}
        system.simulate(1, 1, 1 / 32, **run)
        step = min(seconds(system.simulate, 1, steps / 32, steps / 32, **run) for _ in range(3)) / (steps + 0.0)
        with tempfile.TemporaryDirectory() as folder:
            batch = max(1, 64 * 32**2 // n**2)
            training = _training(n, max(2, batch), 12 if n < 512 else 3, Path(folder) / "log.csv")
        rng = np.random.default_rng(0)
        x = rng.standard_normal((20, max(40, 800 * 32**2 // n**2), n, n), dtype=np.float32)
        record = xr.DataArray(x, dims=("member", "time", "y", "x"), coords={"time": np.arange(float(x.shape[1]))})
        options = {"max_lag": 20, "homogeneous": True, "correction": "none", "progress": False}
        respond = seconds(gfdt.response, record, lambda state: -state, **options) / (x.shape[0] * x.shape[1])
        score = _evaluation(n, batch)
        numbers = f"{1e6 * step:.1f} | {1e3 * training:.2f} | {1e3 * score:.2f} | {1e3 * respond:.3f}"
        print(f"| {n} | {numbers} |", flush=True)


def _evaluation(n, batch):
    """Seconds of the default network for a state, without derivatives."""
    import torch

    from gfdt.diffusion.networks import make_network, network_options

    torch.set_num_threads(1)
    network = make_network("resnet", (n, n), network_options("resnet", None), torch.Generator()).eval()
    states, noise = torch.randn(batch, 1, n, n), torch.zeros(batch)
    with torch.no_grad():
        network(states, noise)
        return min(seconds(network, states, noise) for _ in range(3)) / batch


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["weak", "large", "rates"])
    {"weak": weak, "large": large, "rates": rates}[parser.parse_args().what]()
