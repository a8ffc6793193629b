"""Command line: ``python -m simulators SYSTEM [options] --out run.nc``.

Standard output carries the path of the result and nothing else, with ``--client`` one path a line; progress and errors
go to standard error. Exit codes: 0 done, 2 refused or failed, 130 interrupted.
"""

import argparse
import contextlib
import json
import logging
import math
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import MISSING, Field, fields
from typing import Any, NoReturn

import numpy as np

from simulators.checks import check_cluster, check_flags, show
from simulators.config import read_config
from simulators.errors import ParameterError, SimulatorError
from simulators.members import members_from_text, with_members
from simulators.plan import Plan
from simulators.registry import SYSTEMS, build_system, check_keys, simulate_arguments
from simulators.streams import member_stream
from simulators.system import System

__all__ = ["main"]


def _time_or_auto(text: str) -> float | str:
    if text == "auto":
        return text
    try:
        return float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{show(text)} is neither a number nor auto") from error


def _members(text: str) -> int | range:
    try:
        return members_from_text(text)
    except ParameterError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


# Options of every subcommand: name, argument of simulate(), type, help.
_OPTIONS: tuple[tuple[str, str, Callable[[str], Any], str], ...] = (
    ("--members", "n_members", _members, "number of independent members (default 1), or a range of them: 64:128"),
    ("--duration", "duration", float, "length of the record in time units (default 100)"),
    ("--save-every", "save_every", float, "time between snapshots (default 1)"),
    (
        "--spinup",
        "spinup",
        _time_or_auto,
        "time thrown away first, or auto: until the run is found stationary (default: as the system needs)",
    ),
    ("--dt", "dt", float, "largest time step (default: the system's own)"),
    ("--seed", "seed", int, "root of the random streams (default 0)"),
    ("--workers", "workers", int, "threads (default: all cores, with --client 1 for each task)"),
    ("--dtype", "dtype", str, "precision of the record: float64 (default) or float32"),
    ("--out", "out", str, "netCDF file to write"),
    (
        "--client",
        "client",
        str,
        "address of a Dask scheduler, tcp://...: simulate on its workers, in parts beside --out (run_000000-000015.nc)",
    ),
    ("--members-per-task", "members_per_task", int, "members of a part (default: four parts for each thread)"),
)
# Parameters of other types are flags (bool) or matrices, given as JSON text.
_CONVERTERS: dict[str, Callable[[str], Any]] = {"int": int, "float": float, "str": str}
# Numbers computed for each thread in a trial, so that it takes a fraction of a second.
_TRIAL = 10**6
# Seen: 0.8 to 2 GB/s into the memory that buffers the disk; blocks are written while no thread computes.
_BYTES_PER_SECOND = 1e9
_FLAGS = (
    ("--save-noise", "save_noise", "also save the noise increments between snapshots (additive noise only)"),
    ("--overwrite", "overwrite", "replace an existing file"),
    ("--resume", "resume", "continue an interrupted run, bit for bit; leave a complete one alone"),
)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Say what is wrong in one sentence; the usage is a --help away."""
        self.exit(2, f"{self.prog}: error: {message}; see {self.prog} --help\n")


def main(arguments: Sequence[str] | None = None, prog: str = "python -m simulators") -> int:
    """Run the command line.

    Parameters
    ----------
    arguments : sequence of str, optional
        Default ``sys.argv[1:]``.
    prog : str
        What the user typed to get here, for usage lines and errors.

    Returns
    -------
    int
        Exit code.
    """
    name = prog.removeprefix("python -m ")
    try:
        return _run(vars(_parser(prog).parse_args(arguments)))
    except SimulatorError as error:
        print(f"{name}: error: {_one_line(error)}", file=sys.stderr)
        return 2
    except MemoryError as error:
        advice = "expected room for the request; use fewer members, a smaller grid or --out"
        print(f"{name}: error: out of memory ({_one_line(error)}): {advice}", file=sys.stderr)
        return 2
    except OSError as error:  # outside the output file: standard output, the cache of compiled kernels
        advice = "expected room and access; check the disk, the quota and NUMBA_CACHE_DIR"
        print(f"{name}: error: cannot read or write a file ({_one_line(error)}): {advice}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as error:
        print(f"{name}: interrupted", *getattr(error, "__notes__", ()), sep="; ", file=sys.stderr)
        return 130
    except Exception as error:
        if os.environ.get("SIMULATORS_DEBUG"):
            raise
        print(
            f"{name}: unexpected error: {type(error).__name__}: {_one_line(error)}; set SIMULATORS_DEBUG=1 for the "
            "traceback",
            file=sys.stderr,
        )
        return 2


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _run(options: dict[str, Any]) -> int:
    name = options["system"]
    parameters, simulate = read_config(options["config"], name) if options["config"] else ({}, {})
    simulate = with_members(simulate)
    check_keys(simulate, simulate_arguments(), "simulate argument")
    known = fields(SYSTEMS[name])  # type: ignore[arg-type]
    parameters = parameters | {f.name: options[f.name] for f in known if options[f.name] is not None}
    simulate = simulate | {key: options[key] for key in simulate_arguments() if options.get(key) is not None}
    system = build_system(name, parameters)
    if options["dry_run"]:
        _describe(system, simulate)
        return 0
    if simulate.get("out") is None:
        raise ParameterError("no output file: expected --out run.nc (or out under [simulate]), or --dry-run")
    with _log_to_stderr():
        dataset = system.simulate(**simulate)
        dataset.close()
    print(*dataset.encoding.get("parts", [simulate["out"]]), sep="\n")
    return 0


@contextlib.contextmanager
def _log_to_stderr() -> Iterator[None]:
    """Show what the engine has to say, such as the end of an "auto" spin-up; afterwards logging is as it was."""
    logger = logging.getLogger("simulators")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(min(level or logging.INFO, logging.INFO))
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def _describe(system: System, simulate: dict[str, Any]) -> None:
    """Say on standard error what a run would write, and about how long it would take."""
    from simulators.engine import check_memory
    from simulators.finished import open_finished
    from simulators.target import check_target

    flags, files = ("overwrite", "resume", "progress"), ("out", "client", "members_per_task")
    check_flags(**{key: simulate[key] for key in flags if key in simulate})
    check_cluster(simulate.get("client"), simulate.get("members_per_task"))
    request = {key: value for key, value in simulate.items() if key not in flags + files}
    if simulate.get("client") is not None:
        _describe_parts(system, request, **{key: simulate.get(key) for key in (*files, "overwrite")})
        return
    plan = system.plan(**request)
    if simulate.get("resume") and not simulate.get("overwrite"):
        dataset = open_finished(simulate.get("out"), system.record_config(plan))
        if dataset is not None:
            dataset.close()
            print(f"would write nothing: {simulate['out']} is the complete file of this run", file=sys.stderr)
            return
    layout = system.record_layout(plan)
    n_bytes = plan.n_bytes(layout)
    check_memory(plan, layout, in_memory=simulate.get("out") is None)
    if simulate.get("out") is not None:
        check_target(
            simulate["out"],
            overwrite=simulate.get("overwrite", False),
            resume=simulate.get("resume", False),
            n_bytes=n_bytes,
        )
    seconds = _seconds_per_snapshot(system, plan)
    if plan.spinup_checks:
        first, last = plan.spinup_checks[0], plan.n_spinup
        spinup = f"{first} to {last} snapshots of spin-up, until stationary"
        extra = f" and {seconds * first:.3g} to {seconds * last:.3g} s of spin-up"
    else:
        spinup, extra = f"{plan.n_spinup} snapshots of spin-up", ""
        seconds *= 1 + plan.n_spinup / plan.n_snapshots
    writing = 0.0 if simulate.get("out") is None else n_bytes / _BYTES_PER_SECOND
    print(
        f"would write {simulate.get('out') or '(no --out given)'}: {_contents(system, plan)}, {spinup}; "
        f"about {seconds * plan.n_snapshots + writing:.3g} s{extra} on {plan.workers} threads\n"
        f"parameters: {json.dumps(system.parameters())}",
        file=sys.stderr,
    )


def _contents(system: System, plan: Plan) -> str:
    """Return what is in the record of a run."""
    layout = system.record_layout(plan)
    sizes = (plan.n_members, plan.n_snapshots, *layout.shape)
    dims = ", ".join(f"{dim}={size}" for dim, size in zip(("member", "time", *layout.dims), sizes, strict=True))
    return (
        f"{', '.join(layout.variables)}({dims}), {plan.dtype}, {plan.n_bytes(layout) / 1e6:.3g} MB; dt = {plan.dt:g}, "
        f"{plan.n_steps} steps per snapshot"
    )


def _describe_parts(
    system: System, request: dict[str, Any], *, client: Any, out: Any, members_per_task: Any, overwrite: bool | None
) -> None:
    """Say what a run on a cluster would write, and about how long it would take."""
    from simulators.cluster import connected, divide_run
    from simulators.parts import check_room, part_file, place_of_parts

    plan = system.plan_of_parts(**request)
    place_of_parts(out)
    with connected(client) as cluster:
        run = divide_run(system, plan, cluster, members_per_task=members_per_task, out=out, overwrite=bool(overwrite))
    check_room(system, plan, run.place, run.todo)
    longest = max(map(len, run.todo), default=0)
    seconds = 0.0
    if run.todo:
        one = system.plan_of_parts(**request | {"n_members": longest})
        n_rounds = math.ceil(len(run.todo) / max(1, run.n_threads))
        seconds = n_rounds * _seconds_per_snapshot(system, one) * (plan.n_snapshots + plan.n_spinup)
    first, last = part_file(run.place, run.parts[0]), part_file(run.place, run.parts[-1])
    print(
        f"would write {len(run.todo)} of {len(run.parts)} parts, {first} to {last.name}, of at most {longest} members: "
        f"{_contents(system, plan)}, {plan.n_spinup} snapshots of spin-up; about {seconds:.3g} s on {run.n_threads} "
        f"threads as fast as this one\nparameters: {json.dumps(system.parameters())}",
        file=sys.stderr,
    )


def _seconds_per_snapshot(system: System, plan: Plan) -> float:
    """Time a few snapshots of as many members as there are threads; the first call, which may compile, does not count.

    Returns the time for one snapshot of all members. Threads share caches and memory, so that two need not be twice as
    fast as one.
    """
    layout = system.record_layout(plan)
    budget = max(1, _TRIAL // layout.size)  # steps
    n_probe = min(plan.n_steps, budget)
    stepper = system.make_stepper(plan.dt, n_probe)
    n_threads = min(plan.workers, os.cpu_count() or 1)  # more would only take turns
    streams = [member_stream(0, member) for member in range(n_threads)]
    states = [stepper.start(rng) for rng in streams]
    shape = (n_threads, min(10_000, budget // n_probe), *layout.shape)
    outs = [np.empty(shape, dtype=plan.dtype) for _ in layout.variables]
    stepper.advance(states[0], streams[0], *(out[0, :1] for out in outs))
    with ThreadPoolExecutor(n_threads) as pool:
        begin = time.perf_counter()
        list(pool.map(stepper.advance, states, streams, *outs))
        seconds = time.perf_counter() - begin
    return seconds / shape[1] * (plan.n_steps / n_probe) * math.ceil(plan.n_members / n_threads)


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = _Parser(
        prog=prog,
        description="Simulate a stochastic system and write a labelled netCDF trajectory.",
    )
    systems = parser.add_subparsers(dest="system", required=True, metavar="SYSTEM", parser_class=_Parser)
    for name, kind in SYSTEMS.items():
        sub = systems.add_parser(name, help=kind.title, description=kind.title, allow_abbrev=False)
        run = sub.add_argument_group("run")
        for flag, key, convert, text in _OPTIONS:
            run.add_argument(flag, dest=key, type=convert, help=text)
        for flag, key, text in _FLAGS:
            run.add_argument(flag, dest=key, action="store_true", default=None, help=text)
        run.add_argument("--config", help="TOML file with [parameters] and [simulate]; options override it")
        run.add_argument("--dry-run", action="store_true", help="say what would be written, and stop")
        group = sub.add_argument_group("parameters of the system")
        meanings = _meanings(kind)
        for field in fields(kind):  # type: ignore[arg-type]
            group.add_argument(
                "--" + field.name.replace("_", "-"),
                dest=field.name,
                help=(meanings.get(field.name, field.name) + _default(field)).replace("%", "%%"),
                **_conversion(field),
            )
    return parser


def _meanings(kind: type[System]) -> dict[str, str]:
    """Return the first sentence on each parameter in the docstring of a system, without its full stop."""
    _, _, section = (kind.__doc__ or "").partition("Parameters\n")
    entries = re.findall(r"^ *(\w+) : .*\n((?:(?! *\w+ : ).*\S.*\n)+)", section.partition("\n\n")[0] + "\n", re.M)
    return {name: re.split(r"\.(?: |$)", " ".join(text.split()))[0] for name, text in entries}


def _conversion(field: "Field[Any]") -> dict[str, Any]:
    """Return how an option becomes a parameter: ``--dealias`` or ``--no-dealias`` for one that is a bool."""
    kind = str(getattr(field.type, "__name__", field.type))
    if kind == "bool":
        return {"action": argparse.BooleanOptionalAction, "default": None}
    return {"type": _CONVERTERS.get(kind, _matrix)}


def _default(field: "Field[Any]") -> str:
    value = field.default
    if value is MISSING:
        return " (matrix as JSON text)"
    if isinstance(value, bool):
        return f" (default {'yes' if value else 'no'})"
    return f" (default {value:g})" if isinstance(value, int | float) else f" (default {value})"


def _matrix(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: also an integer of thousands of digits
        raise argparse.ArgumentTypeError(
            f"{show(text)} is not JSON ({error}); write a matrix as '[[-1, 2], [0, -3]]'"
        ) from error


if __name__ == "__main__":
    sys.exit(main())
