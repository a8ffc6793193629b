"""What a streamed run promises, put to the test: kills, memory, and the dry run's figures.

    python benchmarks/streaming.py --kills 20 [--system NAME] [--parameters JSON] [--simulate JSON]
    python benchmarks/streaming.py --memory
    python benchmarks/streaming.py --estimate [...]

``--kills`` kills as many runs at random moments and resumes each: the file must be that of an uninterrupted run, bit
for bit (time stamps apart). ``--memory`` streams 64 members x 10,000 snapshots of a 64 x 64 field, 10.5 GB, and prints
the peak of resident memory. ``--estimate`` compares the dry run with the run. All in a temporary directory, removed
afterwards. The exit code is 1 if a promise is broken.
"""

import argparse
import contextlib
import io
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import xarray as xr

from simulators.__main__ import main as command_line
from simulators.checkpoint import load_checkpoint
from simulators.target import state_path

# Short blocks: many checkpoints, so that a kill is likely to meet one.
_CHILD = """
import json, sys
from simulators import engine, run
request = json.loads(sys.argv[1])
engine.BLOCK_DRAWS = request["block_draws"]
run(request["system"], request["parameters"], request["simulate"]).close()
"""
_MEMORY = {"n_members": 64, "duration": 10_000.0, "save_every": 1.0, "dtype": "float32"}
_MEMORY_LIMIT = 500e6


def start(request, out, **changes):
    """Start a run in a process of its own."""
    simulate = request["simulate"] | {"out": str(out)} | changes
    text = json.dumps(request | {"simulate": simulate})
    return subprocess.Popen([sys.executable, "-c", _CHILD, text])


def finish(process):
    """Wait for a process; return its wall time from now and its peak of resident memory in bytes."""
    begin = time.perf_counter()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"the run failed with exit code {process.returncode}")
    return time.perf_counter() - begin, usage.ru_maxrss * 1024


def wait_for_checkpoint(process, out):
    """Return the seconds until the first checkpoint: before it there is nothing to resume."""
    begin = time.perf_counter()
    while not state_path(out).exists() and process.poll() is None:
        time.sleep(0.005)
    return time.perf_counter() - begin


def same(one, other):
    """Tell whether two files hold the same bits: dims, coordinates, variables, and attributes except time stamps."""
    with xr.open_dataset(one) as a, xr.open_dataset(other) as b:
        stamps = ("created", "history")
        attrs = [{key: text for key, text in dataset.attrs.items() if key not in stamps} for dataset in (a, b)]
        names = set(a.variables)
        return (
            attrs[0] == attrs[1]
            and names == set(b.variables)
            and all(a[name].dims == b[name].dims and a[name].attrs == b[name].attrs for name in names)
            and all(a[name].values.tobytes() == b[name].values.tobytes() for name in names)
        )


def kills(request, count, directory):
    """Kill `count` runs, each at its own moment, resume them, and compare with a run left alone."""
    reference = directory / "reference.nc"
    process = start(request, reference)
    wait_for_checkpoint(process, reference)
    length, _ = finish(process)
    print(f"{request['system']}: {length:.2f} s of streaming, {reference.stat().st_size / 1e6:.1f} MB")
    print(f"{'kill':>5} {'after (s)':>10} {'intervals done':>15} {'identical':>10}")
    moments = random.Random(0)
    good = 0
    for number in range(1, count + 1):
        out = directory / "killed.nc"
        killed = False
        while not killed:
            for stray in directory.glob("killed*"):
                stray.unlink()
            process = start(request, out)
            wait_for_checkpoint(process, out)
            moment = moments.uniform(0, length)
            time.sleep(moment)
            process.send_signal(signal.SIGKILL)  # on a process that has ended it does nothing
            killed = process.wait() == -signal.SIGKILL and not out.exists()
            if not killed:  # this run was faster than the first, which may have compiled
                length = moment
        done = load_checkpoint(out).done
        finish(start(request, out, resume=True))
        identical = same(reference, out) and sorted(directory.glob("killed*")) == [out]
        good += identical
        print(f"{number:5d} {moment:10.3f} {done:>15} {'yes' if identical else 'NO':>10}", flush=True)
    print(f"{good} of {count} identical")
    return good == count


def memory(request, directory):
    """Stream a large file and print the peak of resident memory."""
    out = directory / "large.nc"
    seconds, peak = finish(start(request, out))
    gigabytes = out.stat().st_size / 1e9
    print(f"{request['system']}: {gigabytes:.2f} GB in {seconds:.0f} s, peak {peak / 1e6:.0f} MB resident")
    return peak < _MEMORY_LIMIT


def estimate(request, directory):
    """Compare time and size of the dry run with those of the run."""
    out = directory / "run.nc"
    finish(start(request, directory / "warm.nc"))
    config = directory / "run.toml"
    with config.open("w") as file:
        for section in ("parameters", "simulate"):
            file.write(f"[{section}]\n")
            file.writelines(f"{key} = {json.dumps(value)}\n" for key, value in request[section].items())
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        command_line([request["system"], "--config", str(config), "--out", str(out), "--dry-run"])
    figures = re.search(r"([\d.e+-]+) MB; .*about ([\d.e+-]+) s", said.getvalue())
    megabytes, seconds = float(figures[1]), float(figures[2])
    begin = time.perf_counter()
    command_line([request["system"], "--config", str(config), "--out", str(out)])
    took = time.perf_counter() - begin
    ratios = np.array([out.stat().st_size / 1e6 / megabytes, took / seconds])
    print(f"{request['system']}: said {megabytes:g} MB and {seconds:g} s; run / said", ratios.round(2))
    return bool(np.all((ratios > 0.5) & (ratios < 2)))


def main():
    """Run the checks that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, metavar="COUNT", help="runs to kill and resume")
    parser.add_argument("--memory", action="store_true", help="stream 10.5 GB and measure the memory")
    parser.add_argument("--estimate", action="store_true", help="compare the dry run with the run")
    parser.add_argument("--system", default="ou", help="name of the system (default ou)")
    parser.add_argument("--parameters", type=json.loads, help="of the system, as JSON")
    parser.add_argument("--simulate", type=json.loads, help="arguments of simulate(), as JSON")
    parser.add_argument("--block-draws", type=int, default=300_000, help="state updates between checkpoints")
    parser.add_argument("--directory", help="place for the files (default: that of temporary files)")
    options = parser.parse_args()
    request = {"system": options.system, "parameters": options.parameters or {}, "block_draws": options.block_draws}
    streamed = {"n_members": 4, "duration": 20_000.0, "save_every": 1.0, "seed": 1} | (options.simulate or {})
    kept = True
    with tempfile.TemporaryDirectory(dir=options.directory) as name:
        if options.kills:
            kept &= kills(request | {"simulate": streamed}, options.kills, Path(name))
        if options.estimate:
            kept &= estimate(request | {"simulate": streamed}, Path(name))
        if options.memory:
            large = {"system": "ou", "parameters": {"n": 64}, "simulate": _MEMORY, "block_draws": 10**8}
            kept &= memory(large, Path(name))
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
