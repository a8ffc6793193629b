"""The one loop over members, blocks and steps.

A system supplies a `Stepper`; the engine owns everything else: one random stream per member, a pool of threads
over members (kernels release the GIL), blocks in time so that memory stays bounded, the watch for non-finite
numbers after each block, the progress bar, and the way to memory or to disk.

Snapshots are counted in save intervals from the beginning of the spin-up: interval j is written when
j >= n_spinup, at time (j - n_spinup) save_every. The snapshot at time 0 is the state at the end of the spin-up.
"""

import json
import math
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from simulators.checkpoint import Checkpoint, State, load_checkpoint
from simulators.checks import show
from simulators.errors import BlowUpError, ResumeError, SimulatorError
from simulators.output import FileSink, MemorySink, Sink
from simulators.plan import Plan
from simulators.schema import Layout, make_schema
from simulators.streams import member_stream, resolve_entropy, same_stream
from simulators.target import check_target

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["BLOCK_BYTES", "BLOCK_DRAWS", "Stepper", "add_in_place", "check_memory", "run_plan"]

# A block is at most this large in memory ...
BLOCK_BYTES = 64 * 2**20
# ... and at most this many state updates long (about a second of work), so that a checkpoint is never far away.
BLOCK_DRAWS = 10**8
# What a member costs beside its fields: the random stream, above all its SeedSequence.
_MEMBER_BYTES = 2048


@dataclass(frozen=True)
class Stepper:
    """How one member moves.

    Attributes
    ----------
    start : callable
        ``start(rng)`` returns the internal state: a tuple of arrays, changed in place later.
    advance : callable
        ``advance(state, rng, out)`` fills ``out``, shape (time, *state), with successive snapshots, the current
        state first, and leaves `state` one save interval after the last. Draws from `rng` alone, and in the
        same order however the snapshots are divided into calls. Should release the GIL.
    displace : callable
        ``displace(state, du)`` adds the displacement `du`, shape (*state), to the state in place and touches
        nothing else, hidden variables above all: the kick of a twin experiment (`simulators.direct`).
    """

    start: Callable[[np.random.Generator], State]
    advance: Callable[[State, np.random.Generator, NDArray[Any]], None]
    displace: Callable[[State, NDArray[np.float64]], None]


def add_in_place(state: State, du: NDArray[np.float64]) -> None:
    """Displace a state whose first array is the physical state itself."""
    state[0][...] += du


def check_memory(plan: Plan, shape: tuple[int, ...], *, in_memory: bool) -> None:
    """Refuse a plan that cannot fit in the memory of this machine.

    Parameters
    ----------
    plan : Plan
        Checked request.
    shape : tuple of int
        Of one state.
    in_memory : bool
        The whole trajectory stays in memory; False counts what is needed beside a file.

    Raises
    ------
    SimulatorError
        With the size needed and the size there.
    """
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    # state, spectral twin and one snapshot of each member, in double precision; the two long coordinates
    beside = plan.n_members * (_MEMBER_BYTES + 3 * 8 * math.prod(shape)) + 8 * (plan.n_members + plan.n_snapshots)
    if beside > memory:
        raise SimulatorError(
            f"{plan.n_members} members and {plan.n_snapshots} snapshots of shape {shape} take {beside / 1e9:.3g} GB "
            f"beside the trajectory, this machine has {memory / 1e9:.1f} GB of memory: use fewer members, or several "
            "runs with other seeds"
        )
    if in_memory and plan.n_bytes(shape) > memory:
        raise SimulatorError(
            f"the trajectory takes {plan.n_bytes(shape) / 1e9:.1f} GB, this machine has "
            f"{memory / 1e9:.1f} GB of memory: pass out='run.nc' to stream it to disk, or save less often"
        )


def run_plan(
    plan: Plan,
    stepper: Stepper,
    *,
    name: str,
    parameters: dict[str, Any],
    layout: Layout,
    title: str,
    references: str,
    out: Any = None,
    overwrite: bool = False,
    resume: bool = False,
    progress: bool | None = None,
) -> "xr.Dataset":
    """Simulate `plan` and return the labelled trajectory.

    Parameters
    ----------
    plan : Plan
        Checked request.
    stepper : Stepper
        The moves of one member.
    name, parameters, layout, title, references
        Identity of the system, for the record.
    out, overwrite, resume, progress
        As in `simulators.system.System.simulate`.

    Returns
    -------
    xarray.Dataset

    Raises
    ------
    BlowUpError
        If a member stops being finite.
    OutputError
        If `out` cannot be written.
    ResumeError
        If the unfinished file is damaged or belongs to another run.
    """
    config: dict[str, Any] = {"system": name, "parameters": parameters, "simulate": plan.request()}
    n_bytes = plan.n_bytes(layout.shape)
    path = None if out is None else check_target(out, overwrite=overwrite, resume=resume, n_bytes=n_bytes)
    checkpoint = None
    if path is not None and resume:
        # the state of any member: what it looks like, and so how large a checkpoint can be
        example = stepper.start(member_stream(0, 0))
        per_member = _MEMBER_BYTES + sum(array.nbytes for array in example)
        checkpoint = load_checkpoint(path, 2**20 + 2 * len(json.dumps(config)) + 2 * plan.n_members * per_member)
        if checkpoint is not None:
            _check_same_run(checkpoint, config)
            _check_state(checkpoint, plan, example)
    entropy = resolve_entropy(plan.seed) if checkpoint is None else checkpoint.entropy
    config["simulate"]["seed"] = entropy
    schema = make_schema(
        layout=layout,
        title=title,
        references=references,
        config=config,
        entropy=entropy,
        n_snapshots=plan.n_snapshots,
        dtype=plan.dtype,
    )
    with ThreadPoolExecutor(plan.workers) as pool:
        fresh = checkpoint is None
        if checkpoint is None:
            streams = [member_stream(entropy, member) for member in range(plan.n_members)]
            states = list(pool.map(stepper.start, streams))
            checkpoint = Checkpoint(0, entropy, config, states, streams)
        # the file comes last, so that nothing which fails before leaves one
        sink: Sink = MemorySink(schema) if path is None else FileSink(path, schema, fresh=fresh)
        try:
            _advance_all(plan, stepper, layout.shape, checkpoint, sink, pool, progress)
        except BaseException as error:
            pool.shutdown(wait=True, cancel_futures=True)
            # the same numbers would blow up again
            advice = sink.abandon(hopeless=isinstance(error, BlowUpError))
            if isinstance(error, KeyboardInterrupt) and advice is not None:
                error.add_note(advice)
            raise
    return sink.finish()


def _advance_all(
    plan: Plan,
    stepper: Stepper,
    shape: tuple[int, ...],
    checkpoint: Checkpoint,
    sink: Sink,
    pool: ThreadPoolExecutor,
    progress: bool | None,
) -> None:
    from tqdm import tqdm

    n_total = plan.n_spinup + plan.n_snapshots
    # tqdm's disable=None means "unless standard error is a terminal"
    with tqdm(
        total=n_total,
        initial=checkpoint.done,
        unit="save",
        disable=None if progress is None else not progress,
    ) as bar:
        for start, stop in _blocks(plan, shape, checkpoint.done):
            spinning_up = start < plan.n_spinup
            if spinning_up:
                block = np.empty((plan.n_members, stop - start, *shape), dtype=plan.dtype)
            else:
                block = sink.room(start - plan.n_spinup, stop - plan.n_spinup)
            list(pool.map(stepper.advance, checkpoint.states, checkpoint.streams, block))
            _watch(block, plan, start)
            checkpoint = Checkpoint(stop, checkpoint.entropy, checkpoint.config, checkpoint.states, checkpoint.streams)
            sink.commit(start - plan.n_spinup, None if spinning_up else block, checkpoint)
            bar.update(stop - start)


def _blocks(plan: Plan, shape: tuple[int, ...], done: int) -> Iterator[tuple[int, int]]:
    """Yield the blocks still to do; none of them straddles the end of the spin-up."""
    n_cells = plan.n_members * int(np.prod(shape))
    length = min(
        BLOCK_BYTES // (n_cells * np.dtype(plan.dtype).itemsize),
        BLOCK_DRAWS // (n_cells * plan.n_steps),
    )
    n_total = plan.n_spinup + plan.n_snapshots
    while done < n_total:
        end = plan.n_spinup if done < plan.n_spinup else n_total
        stop = min(done + max(1, length), end)
        yield done, stop
        done = stop


def _watch(block: NDArray[Any], plan: Plan, start: int) -> None:
    """Raise at the first non-finite snapshot; the sum of a finite block is finite unless it overflows."""
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(block.sum()):
            return
    for member, record in enumerate(block):
        bad = ~np.isfinite(record).reshape(len(record), -1).all(axis=1)
        if bad.any():
            time = (start - plan.n_spinup + int(np.argmax(bad))) * plan.save_every
            raise BlowUpError(member, time, plan.dt)


def _check_same_run(checkpoint: Checkpoint, config: dict[str, Any]) -> None:
    """Refuse to continue a run with other parameters, naming each that differs."""
    ours, theirs = _flat(config), _flat(checkpoint.config)
    if ours.get("simulate.seed") is None:
        theirs["simulate.seed"] = None  # seed=None continues whatever entropy the run began with
    differences = [
        f"{key} = {show(ours.get(key))} (the file has {show(theirs.get(key))})"
        for key in sorted(ours.keys() | theirs.keys())
        if ours.get(key) != theirs.get(key)
    ]
    if differences:
        raise ResumeError(
            f"cannot resume with {'; '.join(differences)}: expected the arguments of the interrupted run; "
            "repeat them, or start again without resume"
        )


def _check_state(checkpoint: Checkpoint, plan: Plan, example: State) -> None:
    """Refuse a checkpoint that no run of this plan can have written: it would finish a file with wrong numbers."""
    n_total = plan.n_spinup + plan.n_snapshots
    expected = [(array.shape, array.dtype) for array in example]
    if checkpoint.done > n_total:
        problem = f"{checkpoint.done} save intervals done, expected at most {n_total}"
    elif len(checkpoint.states) != plan.n_members:
        problem = f"{len(checkpoint.states)} members, expected {plan.n_members}"
    elif any([(array.shape, array.dtype) for array in state] != expected for state in checkpoint.states):
        problem = f"states {[(a.shape, str(a.dtype)) for a in checkpoint.states[0]]}, expected {expected}"
    elif not all(np.isfinite(array).all() for state in checkpoint.states for array in state):
        problem = "states that are not finite"
    elif not all(
        same_stream(stream, member_stream(checkpoint.entropy, member))
        for member, stream in enumerate(checkpoint.streams)
    ):
        problem = "random streams that do not belong to its seed"
    else:
        return
    raise ResumeError(f"the checkpoint is damaged, it has {problem}: delete it, or start again without resume")


def _flat(config: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {"system": config["system"]}
    for section in ("parameters", "simulate"):
        flat |= {f"{section}.{key}": value for key, value in config[section].items()}
    return flat
