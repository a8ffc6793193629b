"""What a run was asked to do, checked and resolved to whole numbers before anything is computed."""

import math
import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from simulators.checks import require_flag, require_integer, require_number, show
from simulators.errors import ParameterError
from simulators.members import first_and_number, require_members
from simulators.schema import Layout
from simulators.stationarity import check_times, longest_spinup

__all__ = ["Plan", "make_plan"]

# Ratios of times this close to an integer are that integer: 0.3 / 0.1 is 2.9999999999999996.
_ROUNDING = 1e-9

_DTYPES = ("float64", "float32")

# More snapshots, members or steps than any machine finishes; all below stays exact in integers and in floats.
_MAX_COUNT = 10**15
# As many bits as numpy's own fresh entropy.
_MAX_SEED = 2**128 - 1
# The numbers do not depend on it, and a process does not get arbitrarily many.
_MAX_WORKERS = 1024


@dataclass(frozen=True)
class Plan:
    """A checked request for a trajectory.

    Attributes
    ----------
    members : range
        The members simulated.
    n_snapshots : int
        Length of the record.
    n_spinup : int
        Save intervals simulated and thrown away first; for ``spinup="auto"`` at most so many.
    spinup_checks : tuple of int
        Numbers of save intervals after which a spin-up may be found long enough; empty for one of fixed length.
    save_every, dt : float
        Time between snapshots and the resolved step, ``save_every / n_steps``.
    n_steps : int
        Steps per save interval.
    duration : float
        As requested, for the record.
    spinup : float or "auto"
        As requested, for the record.
    seed : int or None
        None stands for fresh entropy.
    workers : int
        Threads.
    dtype : str
        "float64" or "float32".
    save_noise : bool
        The noise increments are saved beside the state.
    """

    members: range
    n_snapshots: int
    n_spinup: int
    spinup_checks: tuple[int, ...]
    save_every: float
    dt: float
    n_steps: int
    duration: float
    spinup: float | str
    seed: int | None
    workers: int
    dtype: str
    save_noise: bool = False

    @property
    def n_members(self) -> int:
        """Number of members."""
        return len(self.members)

    def n_bytes(self, layout: Layout) -> int:
        """Return the size of the record, all variables together."""
        return self.n_members * self.n_snapshots * layout.size * np.dtype(self.dtype).itemsize

    def request(self) -> dict[str, Any]:
        """Return the arguments of ``simulate`` that decide the numbers; ``workers`` is not one of them."""
        request: dict[str, Any] = {
            **first_and_number(self.members),
            "duration": self.duration,
            "save_every": self.save_every,
            "spinup": self.spinup,
            "dt": self.dt,
            "seed": self.seed,
            "dtype": self.dtype,
        }
        # where it is not asked for the record is the same as before there was a choice, and so is its configuration
        return request | ({"save_noise": True} if self.save_noise else {})


def make_plan(
    *,
    n_members: Any,
    duration: Any,
    save_every: Any,
    spinup: Any,
    dt: Any,
    seed: Any,
    workers: Any,
    dtype: Any,
    save_noise: Any = False,
    default_spinup: float,
    default_dt: float | None,
) -> Plan:
    """Check a request and resolve its defaults.

    Parameters
    ----------
    n_members, duration, save_every, spinup, dt, seed, workers, dtype, save_noise
        As in `simulators.system.System.simulate`.
    default_spinup : float
        Used for ``spinup=None``.
    default_dt : float or None
        Used for ``dt=None``; None means one step per save interval (exact transition laws).

    Returns
    -------
    Plan

    Raises
    ------
    ParameterError
        Naming the first value that cannot be used.
    """
    members = require_members(n_members)
    save_every = require_number("save_every", save_every, above=0)
    duration = require_number("duration", duration, above=0)
    spinup = default_spinup if spinup is None else spinup
    if isinstance(spinup, str) and spinup != "auto":
        raise ParameterError(f"spinup = {show(spinup)}: expected a finite number >= 0, or 'auto'; pass spinup='auto'")
    if spinup != "auto":
        spinup = require_number("spinup", spinup, at_least=0)
    if seed is not None:
        seed = require_integer("seed", seed, at_least=0, at_most=_MAX_SEED)
    workers = require_integer(
        "workers", (os.cpu_count() or 1) if workers is None else workers, at_least=1, at_most=_MAX_WORKERS
    )
    save_noise = require_flag("save_noise", save_noise)
    name = getattr(dtype, "__name__", str(dtype))
    if name not in _DTYPES:
        raise ParameterError(f"dtype = {name!r}: expected one of {', '.join(_DTYPES)}; pass dtype='float64'")

    n_snapshots = math.floor(_count("duration", duration, "save_every", save_every) * (1 + _ROUNDING))
    if n_snapshots < 1:
        raise ParameterError(
            f"duration = {duration:g} is shorter than save_every = {save_every:g}: expected at least one "
            f"snapshot; pass duration >= {save_every:g} or a smaller save_every"
        )
    if isinstance(n_members, range):
        _check_part(spinup, seed, needs_spinup=default_spinup != 0)
    step = default_dt if dt is None else require_number("dt", dt, above=0)
    n_steps = 1 if step is None else max(1, math.ceil(_count("save_every", save_every, "dt", step) * (1 - _ROUNDING)))
    checks: tuple[int, ...] = ()
    if spinup != "auto":
        n_spinup = math.ceil(_count("spinup", spinup, "save_every", save_every) * (1 - _ROUNDING))
    elif default_spinup == 0:  # the initial state is drawn from the stationary law
        n_spinup = 0
    else:
        _count("the longest spinup", longest_spinup(default_spinup), "save_every", save_every)
        checks = tuple(check_times(default_spinup, save_every))
        n_spinup = checks[-1]
    return Plan(
        members=members,
        n_snapshots=n_snapshots,
        n_spinup=n_spinup,
        spinup_checks=checks,
        save_every=save_every,
        dt=save_every / n_steps,
        n_steps=n_steps,
        duration=duration,
        spinup=spinup,
        seed=seed,
        workers=min(workers, len(members)),
        dtype=name,
        save_noise=save_noise,
    )


def _check_part(spinup: float | str, seed: int | None, *, needs_spinup: bool) -> None:
    """Refuse what would keep a range of members from being a part of one ensemble."""
    if seed is None:
        raise ParameterError(
            "seed = None with a range of members: expected an integer, as parts with other seeds do not belong to one "
            "ensemble; pass for example seed=0"
        )
    if spinup == "auto" and needs_spinup:
        raise ParameterError(
            "spinup = 'auto' with a range of members: expected a length, as 'auto' looks at all members of a run "
            "together and each part would find its own; find it once with a small run, "
            "ds = system.simulate(8, ..., spinup='auto'), and pass spinup=float(ds.attrs['spinup_time'])"
        )


def _count(name: str, time: float, unit: str, interval: float) -> float:
    """Return time / interval, if that many intervals can be counted."""
    count = time / interval
    if count > _MAX_COUNT:
        raise ParameterError(
            f"{name} = {time:g} is {count:.3g} times {unit} = {interval:g}: expected at most {_MAX_COUNT:.0e}; "
            f"pass a smaller {name} or a larger {unit}"
        )
    return count
