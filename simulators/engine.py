"""The one loop over members, blocks and steps.

A system supplies a `Stepper`; the engine owns everything else: one random stream per member, a pool of threads
over members (kernels release the GIL), blocks in time so that memory stays bounded, the watch for non-finite
numbers after each block, the progress bar, and the way to memory or to disk.

Snapshots are counted in save intervals from the beginning of the spin-up: interval j is written when
j >= n_spinup, at time (j - n_spinup) save_every. The snapshot at time 0 is the state at the end of the spin-up.
With ``spinup="auto"`` n_spinup is found on the way (`simulators.stationarity`).
"""

import json
import logging
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulators.checkpoint import Checkpoint, State, load_checkpoint
from simulators.errors import BlowUpError, NotStationaryError, SimulatorError
from simulators.monitor import Monitor, SpinupResult, measure
from simulators.output import Block, FileSink, MemorySink, Sink
from simulators.plan import Plan
from simulators.resume import check_checkpoint
from simulators.schema import Layout, Schema, make_schema
from simulators.stationarity import describe
from simulators.streams import member_stream, resolve_entropy
from simulators.target import claim_target

__all__ = ["BLOCK_BYTES", "BLOCK_DRAWS", "Stepper", "add_in_place", "check_memory", "run_plan"]

# A block is at most this large in memory ...
BLOCK_BYTES = 64 * 2**20
# ... and at most this many state updates long (about a second of work), so that a checkpoint is never far away.
BLOCK_DRAWS = 10**8
# What a member costs beside its fields: the random stream, above all its SeedSequence.
_MEMBER_BYTES = 2048

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stepper:
    """How one member moves.

    Attributes
    ----------
    start : callable
        ``start(rng)`` returns the internal state: a tuple of arrays, changed in place later.
    advance : callable
        ``advance(state, rng, *outs)`` fills each of `outs`, shape (time, *state), with successive snapshots, the
        current state first, and leaves `state` one save interval after the last. There is one array for each
        variable of the layout, in its order: ``advance(state, rng, out)`` unless the layout has `extra` variables.
        Draws from `rng` alone, and in the same order however the snapshots are divided into calls. Should release
        the GIL.
    displace : callable
        ``displace(state, du)`` adds the displacement `du`, shape (*state), to the state in place and touches
        nothing else, hidden variables above all: the kick of a twin experiment (`simulators.direct`).
    advice : str
        What may help if a member blows up, beside a smaller step.
    advance_many : callable, optional
        ``advance_many(x, normals, kicks)`` moves the states `x` of many members, shape (member, d), in place: step j
        adds ``kicks[j]``, shape (step, d), and then is that of `advance`, with the numbers ``normals[:, j]``, shape
        (member, step, d), in place of those it would draw. For systems whose internal state is one vector of d
        components that takes d normals a step; `simulators.forced` needs 10^4 members of them.
    """

    start: Callable[[np.random.Generator], State]
    advance: Callable[..., None]
    displace: Callable[[State, NDArray[np.float64]], None]
    advice: str = ""
    advance_many: Callable[[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]], None] | None = None


def add_in_place(state: State, du: NDArray[np.float64]) -> None:
    """Displace a state whose first array is the physical state itself."""
    state[0][...] += du


def check_memory(plan: Plan, layout: Layout, *, in_memory: bool) -> None:
    """Refuse a plan that cannot fit in the memory of this machine.

    Parameters
    ----------
    plan : Plan
        Checked request.
    layout : Layout
        Labels and shape of the state.
    in_memory : bool
        The whole trajectory stays in memory; False counts what is needed beside a file.

    Raises
    ------
    SimulatorError
        With the size needed and the size there.
    """
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    # state, spectral twin and one snapshot of each member, in double precision; the two long coordinates
    beside = plan.n_members * (_MEMBER_BYTES + 3 * 8 * layout.size) + 8 * (plan.n_members + plan.n_snapshots)
    if beside > memory:
        raise SimulatorError(
            f"{plan.n_members} members and {plan.n_snapshots} snapshots of shape {layout.shape} take "
            f"{beside / 1e9:.3g} GB beside the trajectory, this machine has {memory / 1e9:.1f} GB of memory: use fewer "
            "members, or several runs with other seeds"
        )
    if in_memory and plan.n_bytes(layout) > memory:
        raise SimulatorError(
            f"the trajectory takes {plan.n_bytes(layout) / 1e9:.1f} GB, this machine has "
            f"{memory / 1e9:.1f} GB of memory: pass out='run.nc' to stream it to disk, or save less often"
        )


def run_plan(
    plan: Plan,
    stepper: Stepper,
    *,
    config: dict[str, Any],
    layout: Layout,
    title: str,
    references: str,
    constants: dict[str, Any] | None = None,
    out: Any = None,
    overwrite: bool = False,
    resume: bool = False,
    progress: bool | None = None,
    after_block: Callable[[], None] | None = None,
) -> Sink:
    """Simulate `plan` to memory or to a file.

    Parameters
    ----------
    plan : Plan
        Checked request.
    stepper : Stepper
        The moves of one member.
    config : dict
        What repeats the run: name and parameters of the system, and the arguments of ``simulate``.
    layout, title, references
        Identity of the system, for the record.
    constants : dict, optional
        As in `simulators.schema.make_schema`.
    out, overwrite, resume, progress
        As in `simulators.system.System.simulate`.
    after_block : callable, optional
        Called after each block, when it has been kept. What it raises ends the run, which can then be resumed.

    Returns
    -------
    Sink
        Finished; ``dataset()`` is the labelled trajectory.

    Raises
    ------
    BlowUpError
        If a member stops being finite.
    NotStationaryError
        If ``spinup="auto"`` gives up.
    OutputError
        If `out` cannot be written.
    ResumeError
        If the unfinished file is damaged or belongs to another run.
    """
    config = config | {"simulate": dict(config["simulate"])}
    target: AbstractContextManager[Path | None] = nullcontext()
    if out is not None:
        target = claim_target(out, overwrite=overwrite, resume=resume, n_bytes=plan.n_bytes(layout))
    with target as path, ThreadPoolExecutor(plan.workers) as pool:
        checkpoint = _interrupted(path, plan, stepper, layout, config) if path is not None and resume else None
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
            constants=constants,
        )
        result = None if checkpoint is None else checkpoint.spinup
        if plan.spinup == "auto" and not plan.spinup_checks:
            result = SpinupResult(0, json.dumps("not needed: the initial state is drawn from the stationary law"))
        plan, schema = _after_spinup(plan, schema, result)
        fresh = checkpoint is None
        if checkpoint is None:
            streams = [member_stream(entropy, member) for member in plan.members]
            states = list(pool.map(stepper.start, streams))
            checkpoint = Checkpoint(0, entropy, config, states, streams)
        # the file comes last, so that nothing which fails before leaves one
        written = checkpoint.done > plan.n_spinup
        sink: Sink = MemorySink(schema) if path is None else FileSink(path, schema, fresh=fresh, written=written)
        try:
            _advance_all(plan, stepper, layout, checkpoint, schema, sink, pool, progress, after_block)
        except BaseException as error:
            pool.shutdown(wait=True, cancel_futures=True)
            # the same numbers would end in the same way
            advice = sink.abandon(hopeless=isinstance(error, BlowUpError | NotStationaryError))
            if isinstance(error, KeyboardInterrupt) and advice is not None:
                error.add_note(advice)
            raise
        sink.finish()
        return sink


def _interrupted(path: Path, plan: Plan, stepper: Stepper, layout: Layout, config: dict[str, Any]) -> Checkpoint | None:
    """Return the checkpoint to continue from, or None if there is none."""
    # the state of any member: what it looks like, and so how large a checkpoint can be
    example = stepper.start(member_stream(0, 0))
    per_member = _MEMBER_BYTES + sum(array.nbytes for array in example)
    max_bytes = 2**20 + 2 * len(json.dumps(config)) + 2 * plan.n_members * per_member
    if plan.spinup_checks:
        max_bytes += Monitor.max_bytes(layout, plan.n_members)
    checkpoint = load_checkpoint(path, max_bytes)
    if checkpoint is not None:
        check_checkpoint(checkpoint, config=config, plan=plan, layout=layout, example=example)
    return checkpoint


def _after_spinup(plan: Plan, schema: Schema, result: SpinupResult | None) -> tuple[Plan, Schema]:
    """Return plan and schema with the length that an "auto" spin-up turned out to have, if it is over."""
    if result is None:
        return plan, schema
    attrs = schema.attrs | result.attrs(plan.save_every)
    return replace(plan, n_spinup=result.n_spinup, spinup_checks=()), replace(schema, attrs=attrs)


def _advance_all(
    plan: Plan,
    stepper: Stepper,
    layout: Layout,
    checkpoint: Checkpoint,
    schema: Schema,
    sink: Sink,
    pool: ThreadPoolExecutor,
    progress: bool | None,
    after_block: Callable[[], None] | None,
) -> None:
    from tqdm import tqdm

    # tqdm's disable=None means "unless standard error is a terminal"
    with tqdm(
        desc="first block (kernels compile at their first use)",
        total=plan.n_spinup + plan.n_snapshots,
        initial=checkpoint.done,
        unit="save",
        disable=None if progress is None else not progress,
    ) as bar:
        if plan.spinup_checks:
            for reached in _spin_up(plan, stepper, layout, checkpoint, pool):
                checkpoint = reached
                if checkpoint.spinup is not None:
                    plan, schema = _after_spinup(plan, schema, checkpoint.spinup)
                    sink.label(schema)
                sink.commit(0, None, checkpoint)
                bar.update(checkpoint.done - bar.n)
                if after_block is not None:
                    after_block()
        n_total = bar.total = plan.n_spinup + plan.n_snapshots
        length = _block_length(plan, layout, plan.dtype)
        spinup = _blocks(length, checkpoint.done, plan.n_spinup)
        for start, stop in chain(spinup, _blocks(length, max(checkpoint.done, plan.n_spinup), n_total)):
            spinning_up = start < plan.n_spinup
            if spinning_up:
                block = _scratch(plan, layout, stop - start, plan.dtype)
            else:
                block = sink.room(start - plan.n_spinup, stop - plan.n_spinup)
            list(pool.map(stepper.advance, checkpoint.states, checkpoint.streams, *block))
            _watch(block, plan, start - plan.n_spinup, stepper.advice)
            checkpoint = replace(checkpoint, done=stop)
            sink.commit(start - plan.n_spinup, None if spinning_up else block, checkpoint)
            bar.set_description(None, refresh=False)
            bar.update(stop - start)
            if after_block is not None:
                after_block()


def _spin_up(
    plan: Plan, stepper: Stepper, layout: Layout, checkpoint: Checkpoint, pool: ThreadPoolExecutor
) -> Iterator[Checkpoint]:
    """Yield the state after each block of an "auto" spin-up; the last one has a result."""
    monitor = Monitor(layout, plan.n_members, checkpoint.done, checkpoint.sums)
    # in double precision: the length of the spin-up must not depend on the precision of the record
    length = _block_length(plan, layout, "float64")
    for check in plan.spinup_checks:
        for start, stop in _blocks(length, checkpoint.done, check):
            block = _scratch(plan, layout, stop - start, "float64")
            list(pool.map(stepper.advance, checkpoint.states, checkpoint.streams, *block))
            _watch(block, plan, start, stepper.advice)
            watched = block[0][: monitor.n_watched]
            monitor.add(np.stack(list(pool.map(lambda record: measure(layout, record), watched))))
            checkpoint = replace(checkpoint, done=stop, sums=monitor.sums)
            if stop < check:
                yield checkpoint
        if checkpoint.done > check:  # resumed after this check
            continue
        time = check * plan.save_every
        findings = monitor.findings(plan.save_every)
        if monitor.passes(findings, time):
            _LOG.info("spin-up ended after time %g: %s", time, describe(findings))
            yield replace(checkpoint, sums=None, spinup=SpinupResult(check, monitor.report(findings, time)))
            return
        if check < plan.spinup_checks[-1]:
            yield checkpoint
    raise NotStationaryError(
        f"not stationary after a spin-up of {time:g}, the longest that spinup='auto' tries ({describe(findings)}): "
        f"expected {monitor.expectation(time)}; pass a length, for example spinup={2 * time:g}, or use more members, "
        "which does not help where members stay for good in different states"
    )


def _scratch(plan: Plan, layout: Layout, length: int, dtype: str) -> Block:
    return [np.empty((plan.n_members, length, *layout.shape), dtype=dtype) for _ in layout.variables]


def _block_length(plan: Plan, layout: Layout, dtype: str) -> int:
    """Return the number of save intervals in a block."""
    n_cells = plan.n_members * layout.size
    by_memory = BLOCK_BYTES // (n_cells * np.dtype(dtype).itemsize)
    return max(1, min(by_memory, BLOCK_DRAWS // (n_cells * plan.n_steps)))


def _blocks(length: int, done: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield the blocks from `done` to `end`."""
    for start in range(done, end, length):
        yield start, min(start + length, end)


def _watch(block: Block, plan: Plan, first: int, advice: str) -> None:
    """Raise at the first non-finite snapshot; the first one of the block is that of interval `first`."""
    # the sum of a finite block is finite unless it overflows
    with np.errstate(over="ignore", invalid="ignore"):
        if all(np.isfinite(values.sum()) for values in block):
            return
    for member, records in zip(plan.members, zip(*block, strict=True), strict=True):
        bad = ~np.all([np.isfinite(record).reshape(len(record), -1).all(axis=1) for record in records], axis=0)
        if bad.any():
            time = (first + int(np.argmax(bad))) * plan.save_every
            raise BlowUpError(member, time, plan.dt, advice)
