"""Microseconds of wall time per field-step of Allen-Cahn and 2-D Navier-Stokes solvers, all in one interleaved run.

Every contestant lives in a process of its own (`worker.py`), which waits for orders on a pipe. For each size the
contestants take turns, round after round, each round starting with another one; nothing else of this program runs
during a turn. Figures are the best and the median over rounds; ratios to ours are formed within each round.
"""

import argparse
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import problem
import report

HERE = Path(__file__).resolve().parent

CONTESTANTS = {
    "allen-cahn": [
        ("ours", "ours (collocation)"),
        ("ours", "ours (dealiased)"),
        ("ac_numpy", "NumPy RK4"),
        ("ac_scipy", "scipy.fft ETD1"),
        ("ac_torch", "torch ETD1"),
        ("ac_numba", "numba + rocket-fft ETD1"),
        ("ac_exponax", "exponax ETDRK1"),
        ("ac_exponax", "exponax ETDRK4"),
        ("ac_exponax", "exponax ETDRK1, no noise"),
        ("ac_exponax", "exponax ETDRK4, no noise"),
        ("floor", "library floor: 1 pair + n^2 normals"),
    ],
    "navier-stokes": [
        ("ours", "ours"),
        ("ns_scipy", "scipy.fft RK4"),
        ("ns_exponax", "exponax ETDRK4"),
        ("ns_exponax", "exponax ETDRK4, Kolmogorov"),
        ("ns_jax_cfd", "jax-cfd CN-RK4"),
        ("ns_torch_cfd", "torch-cfd CN-RK4"),
        ("ns_fluidsim", "fluidsim RK4"),
        ("ns_pyqg", "pyqg AB3"),
        ("floor", "library floor: 8 pairs + 0.79 n^2 normals"),
    ],
}

# Points advanced in one run: all contestants take the same number of steps, except who would need over a second.
POINTS = {"allen-cahn": 2**21, "navier-stokes": 2**19}
QUICK_FRACTION = 16
# A pause after each turn, in which the thread pools of the contestant before go to sleep.
PAUSE = 0.05
PREPARE_TIMEOUT, TURN_TIMEOUT = 600, 120


class WorkerError(Exception):
    """A contestant that answered with an error, died, or took too long."""


class Worker:
    """One contestant and the pipe to its process."""

    def __init__(self, module, name, system, dtype, folder):
        self.name = name
        self._log = tempfile.TemporaryFile("w+", dir=folder)  # noqa: SIM115  (lives as long as the process)
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "worker.py"), module, name, system, dtype],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            cwd=folder,
            env=os.environ | {"FLUIDSIM_PATH": folder},
            start_new_session=True,  # so that its own children end with it
        )
        self.about = self._answer(PREPARE_TIMEOUT)

    def order(self, order, timeout, **arguments):
        try:
            self._process.stdin.write(json.dumps({"order": order, **arguments}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise WorkerError(self._last_words()) from None
        answer = self._answer(timeout)
        if "error" in answer:
            raise WorkerError(answer["error"])
        return answer

    def _answer(self, timeout):
        if not select.select([self._process.stdout], [], [], timeout)[0]:
            self.stop()
            raise WorkerError(f"no answer in {timeout} s")
        line = self._process.stdout.readline()
        if not line:
            raise WorkerError(self._last_words())
        return json.loads(line)

    def _last_words(self):
        code = self._process.wait()
        self._log.seek(0)
        lines = self._log.read().strip().splitlines()
        return f"process ended with {code}: {lines[-1][:300] if lines else 'no message'}"

    def alive(self):
        return self._process.poll() is None

    def cpu_seconds(self):
        """Return the processor time used so far (Linux)."""
        with open(f"/proc/{self._process.pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self):
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        for file in (self._process.stdin, self._process.stdout, self._log):
            file.close()


def start_workers(system, dtype, folder, results, only):
    workers = []
    for module, name in CONTESTANTS[system]:
        if only and not any(word in name for word in only):
            continue
        key = f"{system}, {name}"
        try:
            worker = Worker(module, name, system, dtype, folder)
        except WorkerError as error:
            results["failed"][f"{key}, {dtype}"] = str(error)
            continue
        if "missing" in worker.about or "error" in worker.about:
            missing = "missing" in worker.about
            results["missing" if missing else "failed"][key] = worker.about["missing" if missing else "error"]
            say(f"{name}: not installed" if missing else f"{name}: {worker.about['error']}")
            worker.stop()
            continue
        results["schemes"][key] = worker.about["scheme"]
        workers.append(worker)
    return workers


def check_answers(system, dtype, workers, results):
    """Let each contestant run long enough to see that it solves the equation."""
    n, members = problem.CHECK_N, problem.CHECK_MEMBERS
    steps = int(problem.CHECK_TIME[system] / problem.time_step(system, n))
    for worker in list(workers):
        answer = worker.about["answer"]
        if answer is None:
            continue
        try:
            worker.order("prepare", PREPARE_TIMEOUT, n=n, members=members, steps=steps // 4)
            found = worker.order("check", PREPARE_TIMEOUT, steps=steps)
        except WorkerError as error:
            drop(worker, workers, results, f"{system}, {worker.name}, {dtype}, check", error)
            continue
        low, high = problem.SANE[answer]
        sane = found["finite"] and low <= found["size"] <= high
        results["checks"].append(
            {"system": system, "dtype": dtype, "contestant": worker.name, "answer": answer, "low": low, "high": high}
            | found
            | {"sane": sane}
        )
        say(f"  check {worker.name}: {found['size']} in [{low}, {high}] {'ok' if sane else 'NOT SANE: left out'}")
        if not sane:
            worker.stop()
            workers.remove(worker)


def drop(worker, workers, results, key, error):
    results["failed"][key] = str(error)
    say(f"  {key}: {error}")
    if not worker.alive():
        workers.remove(worker)


def idle_load(workers):
    """Return the processor seconds per second that the waiting workers use together."""
    time.sleep(0.5)
    before = sum(worker.cpu_seconds() for worker in workers)
    time.sleep(1.0)
    return sum(worker.cpu_seconds() for worker in workers) - before


def measure(system, dtype, n, members, steps, rounds, workers, results):
    ready = {}
    for worker in list(workers):
        try:
            ready[worker] = worker.order("prepare", PREPARE_TIMEOUT, n=n, members=members, steps=steps)
        except WorkerError as error:
            drop(worker, workers, results, f"{system}, {worker.name}, {dtype}, n={n}, members={members}", error)
    load = idle_load(list(ready)) if ready else 0.0
    times = {worker: [] for worker in ready}
    for turn in range(rounds):
        order = list(ready)
        order = order[turn % max(len(order), 1) :] + order[: turn % max(len(order), 1)]
        for worker in order:
            try:
                times[worker].append(worker.order("turn", TURN_TIMEOUT)["us"])
            except WorkerError as error:
                drop(worker, workers, results, f"{system}, {worker.name}, {dtype}, n={n}, members={members}", error)
                del ready[worker]
            time.sleep(PAUSE)
    reference = next((times[worker] for worker in ready if worker.about.get("ours")), None)
    for worker, about in ready.items():
        try:
            found = worker.order("check", TURN_TIMEOUT)
            worker.order("drop", TURN_TIMEOUT)
        except WorkerError as error:
            drop(worker, workers, results, f"{system}, {worker.name}, {dtype}, n={n}, members={members}", error)
            continue
        results["rows"].append(
            {
                "system": system, "dtype": dtype, "n": n, "members": members, "contestant": worker.name,
                "variant": about["variant"], "steps": about["steps"], "finite": found["finite"],
                "us": times[worker], "idle_load": load,
            }
            | report.summary(times[worker], reference)
        )  # fmt: skip
        row = results["rows"][-1]
        say(f"  {worker.name:<34} {row['best']:10.1f} {row['median']:10.1f} us  {about['variant']}")


def say(text):
    print(text, file=sys.stderr, flush=True)


def numbers(text):
    return [int(item) for item in text.split(",")]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="smoke test: n = 32, one round, short runs")
    parser.add_argument("--systems", default="allen-cahn,navier-stokes", help="default both")
    parser.add_argument("--dtypes", default="float64,float32", help="default both")
    parser.add_argument("--sizes", type=numbers, help="default 32,64,128,256")
    parser.add_argument("--members", type=numbers, help="default 1,8,64")
    parser.add_argument("--rounds", type=int, help="default 5")
    parser.add_argument("--only", action="append", help="contestants whose name contains this; may be repeated")
    parser.add_argument("--out", type=Path, help="folder for speed.json, speed.csv and speed.md")
    parser.add_argument("--images", type=Path, help="folder for the two figures")
    arguments = parser.parse_args()
    sizes = arguments.sizes or ([32] if arguments.quick else [32, 64, 128, 256])
    member_counts = arguments.members or ([1, 8] if arguments.quick else [1, 8, 64])
    rounds = arguments.rounds or (1 if arguments.quick else 5)
    fraction = QUICK_FRACTION if arguments.quick else 1
    results = {"machine": report.machine(), "rounds": rounds, "schemes": {}, "missing": {}, "failed": {}}
    results |= {"checks": [], "rows": []}
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="speed-", ignore_cleanup_errors=True) as folder:
        for system in arguments.systems.split(","):
            for dtype in arguments.dtypes.split(","):
                say(f"{system}, {dtype}")
                workers = start_workers(system, dtype, folder, results, arguments.only)
                try:
                    check_answers(system, dtype, workers, results)
                    for n in sizes:
                        for members in member_counts:
                            steps = max(4, POINTS[system] // (fraction * n * n * members))
                            say(f"{system}, {dtype}, n = {n}, {members} members, {time.perf_counter() - started:.0f} s")
                            measure(system, dtype, n, members, steps, rounds, workers, results)
                            if arguments.out:  # so that an interrupted run is not lost
                                report.save(results, arguments.out)
                finally:
                    for worker in workers:
                        worker.stop()
    results["seconds"] = round(time.perf_counter() - started)
    results["machine"]["load_after"] = os.getloadavg()[0]
    print(report.markdown(results))
    if arguments.out:
        report.save(results, arguments.out)
    if arguments.images:
        report.plot(results, arguments.images)


if __name__ == "__main__":
    main()
