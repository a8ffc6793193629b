"""Command line: ``python -m simulators SYSTEM [options] --out run.nc``.

Standard output carries the path of the result and nothing else; progress and errors go to standard error. Exit
codes: 0 done, 2 refused or failed, 130 interrupted.
"""

import argparse
import json
import math
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import MISSING, fields
from typing import Any, NoReturn

import numpy as np

from simulators.checks import show
from simulators.config import read_config
from simulators.errors import ParameterError, SimulatorError
from simulators.registry import SYSTEMS, build_system, check_keys, simulate_arguments
from simulators.system import System, check_flags

__all__ = ["main"]

# Options of every subcommand: name, argument of simulate(), type, help.
_OPTIONS: tuple[tuple[str, str, type, str], ...] = (
    ("--members", "n_members", int, "number of independent members (default 1)"),
    ("--duration", "duration", float, "length of the record in time units (default 100)"),
    ("--save-every", "save_every", float, "time between snapshots (default 1)"),
    ("--spinup", "spinup", float, "time thrown away first (default: as the system needs)"),
    ("--dt", "dt", float, "largest time step (default: the system's own)"),
    ("--seed", "seed", int, "root of the random streams (default 0)"),
    ("--workers", "workers", int, "threads (default: all cores)"),
    ("--dtype", "dtype", str, "precision of the record: float64 (default) or float32"),
    ("--out", "out", str, "netCDF file to write"),
)
# Parameters of other types are matrices, given as JSON text.
_CONVERTERS: dict[str, Callable[[str], Any]] = {"int": int, "float": float}
_FLAGS = (
    ("--overwrite", "overwrite", "replace an existing file"),
    ("--resume", "resume", "continue an interrupted run, bit for bit"),
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
    system.simulate(**simulate).close()
    print(simulate["out"])
    return 0


def _describe(system: System, simulate: dict[str, Any]) -> None:
    """Say on standard error what a run would write, and about how long it would take."""
    from simulators.engine import check_memory
    from simulators.target import check_target

    files = ("out", "overwrite", "resume", "progress")
    check_flags(**{key: simulate[key] for key in files[1:] if key in simulate})
    plan = system.plan(**{key: value for key, value in simulate.items() if key not in files})
    layout = system.layout()
    shape = (plan.n_members, plan.n_snapshots, *layout.shape)
    n_bytes = plan.n_bytes(layout.shape)
    check_memory(plan, layout.shape, in_memory=simulate.get("out") is None)
    if simulate.get("out") is not None:
        check_target(
            simulate["out"],
            overwrite=simulate.get("overwrite", False),
            resume=simulate.get("resume", False),
            n_bytes=n_bytes,
        )
    seconds = _seconds_per_snapshot(system, plan.dt, plan.n_steps)
    total = seconds * (plan.n_snapshots + plan.n_spinup) * plan.n_members / plan.workers
    dims = ", ".join(f"{dim}={size}" for dim, size in zip(("member", "time", *layout.dims), shape, strict=True))
    print(
        f"would write {simulate.get('out') or '(no --out given)'}: {layout.variable}({dims}), {plan.dtype}, "
        f"{n_bytes / 1e6:.3g} MB; dt = {plan.dt:g}, {plan.n_steps} steps per snapshot, {plan.n_spinup} snapshots of "
        f"spin-up; about {total:.3g} s on {plan.workers} threads\n"
        f"parameters: {json.dumps(system.parameters())}",
        file=sys.stderr,
    )


def _seconds_per_snapshot(system: System, dt: float, n_steps: int) -> float:
    """Time one member over a few snapshots; the first call, which may compile, does not count."""
    shape = system.layout().shape
    budget = max(1, 10**6 // math.prod(shape))  # steps, so that the trial itself takes a fraction of a second
    n_probe = min(n_steps, budget)
    stepper = system.make_stepper(dt, n_probe)
    rng = np.random.default_rng(0)
    state = stepper.start(rng)
    out = np.empty((min(10_000, budget // n_probe), *shape))
    stepper.advance(state, rng, out[:1])
    begin = time.perf_counter()
    stepper.advance(state, rng, out)
    return (time.perf_counter() - begin) / len(out) * (n_steps / n_probe)


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
                type=_CONVERTERS.get(str(getattr(field.type, "__name__", field.type)), _matrix),
                help=meanings.get(field.name, field.name).replace("%", "%%")
                + (" (matrix as JSON text)" if field.default is MISSING else f" (default {field.default:g})"),
            )
    return parser


def _meanings(kind: type[System]) -> dict[str, str]:
    """Return the first sentence on each parameter in the docstring of a system, without its full stop."""
    _, _, section = (kind.__doc__ or "").partition("Parameters\n")
    entries = re.findall(r"^ *(\w+) : .*\n((?:(?! *\w+ : ).*\S.*\n)+)", section.partition("\n\n")[0] + "\n", re.M)
    return {name: re.split(r"\.(?: |$)", " ".join(text.split()))[0] for name, text in entries}


def _matrix(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: also an integer of thousands of digits
        raise argparse.ArgumentTypeError(
            f"{show(text)} is not JSON ({error}); write a matrix as '[[-1, 2], [0, -3]]'"
        ) from error


if __name__ == "__main__":
    sys.exit(main())
