"""Ensembles on a Dask cluster: a task for each range of members, a netCDF file for each task.

Member k depends on (seed, k) alone (`simulators.streams`), so nothing passes between tasks, and their files side by
side are the run of one machine bit for bit (on machines of one kind: others may round vector instructions otherwise).

A worker that dies. Dask gives its task to another one, up to ``distributed.scheduler.allowed-failures`` times, which
goes on from the last checkpoint. The lock of the file goes with the process. If the whole node went and the file system
is a network one, the lock may linger until the server gives it up; if only the connection of the node went, it is still
at work. In either case the new task waits as long as the old checkpoint moves, and two minutes longer.

The beacon. While the call waits for its tasks there is a small file ``<out>.<token>.running`` beside `out`. A task that
does not see it is on a machine that does not share the directory. A task that sees it vanish knows that nobody waits
any more, after Ctrl-C or an error in another part, and stops at the end of its block, from where it can be continued.
A call that is killed leaves it behind; then tasks under way end their parts, and it can be removed.
"""

import contextlib
import logging
import math
import socket
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simulators.checks import require_integer, show
from simulators.cluster_task import write_part
from simulators.errors import ClusterError, OutputError, ParameterError, SimulatorError
from simulators.members import words
from simulators.parts import check_room, divide, is_complete, part_file, place_of_parts
from simulators.plan import Plan

if TYPE_CHECKING:
    from distributed import Client, Future

    from simulators.system import System

__all__ = ["Division", "connected", "divide_run", "simulate_parts"]

# More than one, so that slow workers can take fewer tasks than fast ones.
_TASKS_PER_THREAD = 4
# Of a task that fails for a reason unknown here; an error known here would only happen again.
_RETRIES = 2
# Seconds for a scheduler to answer and for a first worker to come.
_ANSWER = 5.0

_AGAIN = "run the same command again, which goes on where this one stopped"

_LOG = logging.getLogger(__name__)


def simulate_parts(
    system: "System",
    plan: Plan,
    *,
    client: "Client | str",
    members_per_task: int | None = None,
    out: Any,
    overwrite: bool = False,
    progress: bool | None = None,
) -> list[Path]:
    """Simulate a plan on a cluster and return the files of its parts, in the order of the members.

    Parameters
    ----------
    system : System
        Sent to the workers, which need this package.
    plan : Plan
        Of a range of members; its threads are those of one task.
    client, members_per_task, out, overwrite, progress
        As in `simulators.system.System.simulate`.

    Returns
    -------
    list of Path

    Raises
    ------
    ParameterError
        If an argument cannot be used.
    ClusterError
        If the cluster cannot be reached, has no workers or is lost, or a task fails for a reason unknown here.
    OutputError
        If a file cannot be written, or a worker does not see the directory; `OutputExistsError` if there are files of
        other runs.
    SimulatorError
        What else a run may raise, from the first part that does.
    """
    place_of_parts(out)  # before anybody is called
    with connected(client) as cluster:
        run = divide_run(system, plan, cluster, members_per_task=members_per_task, out=out, overwrite=overwrite)
        check_room(system, plan, run.place, run.todo)
        with _beacon(run.place) as beacon:
            _run_tasks(cluster, system, plan, run, overwrite=overwrite, beacon=beacon, progress=progress)
    return [part_file(run.place, part) for part in run.parts]


@dataclass(frozen=True)
class Division:
    """A run in parts: the name they are beside, the members of each, and those whose file is not there yet."""

    place: Path
    parts: list[range]
    todo: list[range]
    n_threads: int


def divide_run(
    system: "System", plan: Plan, client: "Client", *, members_per_task: int | None, out: Any, overwrite: bool
) -> Division:
    """Divide a run into parts and look which of them are there; arguments as in `simulate_parts`.

    Raises
    ------
    ParameterError
        If `out` is None, `members_per_task` is no positive integer, or files are there that do not fit.
    ClusterError
        If the size of the parts follows from the number of threads and there are none.
    OutputError
        If `out` cannot be a file; `OutputExistsError` if there are files of other runs.
    """
    place = place_of_parts(out)
    if members_per_task is not None:
        members_per_task = require_integer("members_per_task", members_per_task, at_least=1)
    n_threads = _count_threads(client, needed=members_per_task is None)
    size = members_per_task or math.ceil(plan.n_members / (_TASKS_PER_THREAD * n_threads))
    parts = divide(place, plan.members, size)

    def is_missing(part: range) -> bool:
        config = system.record_config(replace(plan, members=part))
        return not is_complete(part_file(place, part), config, overwrite=overwrite)

    return Division(place, parts, [part for part in parts if is_missing(part)], n_threads)


@contextlib.contextmanager
def connected(client: "Client | str") -> Iterator["Client"]:
    """Yield the client itself, or one that is connected to the scheduler at this address until the context is left.

    Raises
    ------
    ParameterError
        If it is neither a client nor an address.
    ClusterError
        If nothing answers, or the distributed package is missing.
    """
    try:
        import distributed
        from distributed.comm import get_address_host_port
    except ImportError as error:
        raise ClusterError(
            f'client needs the packages dask and distributed ({error}): install them with pip install "gfdt[dask]"'
        ) from error
    if isinstance(client, distributed.Client):
        if client.asynchronous or client.status != "running":
            state = "asynchronous" if client.asynchronous else client.status
            raise ClusterError(f"the client is {state}: expected one that is running; make a new distributed.Client")
        yield client
        return
    try:
        host, port = get_address_host_port(client if "://" in client else "", strict=True)
    except (TypeError, ValueError) as error:
        raise ParameterError(
            f"client = {show(client)}: expected a distributed.Client or the address of a scheduler; pass for example "
            "client='tcp://10.0.0.1:8786', as 'dask scheduler' prints it when it starts"
        ) from error
    try:
        if client.startswith(("tcp:", "tls:")):  # where nothing listens this fails at once
            socket.create_connection((host, port), timeout=_ANSWER).close()
        own = distributed.Client(client, timeout=_ANSWER, set_as_default=False)
    except OSError as error:
        raise ClusterError(
            f"no scheduler answers at {client} ({error}): expected one within {_ANSWER:g} s; start it with 'dask "
            f"scheduler' and its workers with 'dask worker {client}', and check the address and the firewall"
        ) from error
    try:
        yield own
    finally:
        own.close()


def _count_threads(client: "Client", *, needed: bool) -> int:
    """Return the number of threads of all workers; where it is `needed`, wait a little for the first."""
    address = getattr(client.scheduler, "address", "its address")
    try:
        if needed:
            client.wait_for_workers(1, timeout=_ANSWER)
        n_threads = sum(client.nthreads().values())
    except TimeoutError as error:
        raise ClusterError(
            f"the scheduler at {address} has no workers: expected at least one; start some with 'dask worker "
            f"{address}', or pass members_per_task=<number> and tasks wait for them"
        ) from error
    except OSError as error:
        raise ClusterError(f"the scheduler at {address} has gone ({error}): start it again, then this run") from error
    if not n_threads:
        _LOG.warning("the scheduler at %s has no workers yet: tasks wait for them", address)
    return int(n_threads)


@contextlib.contextmanager
def _beacon(place: Path) -> Iterator[Path]:
    """Keep a file beside `place` until the context is left."""
    path = place.with_name(f"{place.name}.{uuid.uuid4().hex[:12]}.running")
    try:
        path.touch(exist_ok=False)
    except OSError as error:
        raise OutputError(
            f"cannot write {path} ({error.strerror}): expected a writable directory; choose another out"
        ) from error
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def _run_tasks(
    client: "Client",
    system: "System",
    plan: Plan,
    run: Division,
    *,
    overwrite: bool,
    beacon: Path,
    progress: bool | None,
) -> None:
    """Write the parts that are missing, and raise the first error."""
    from distributed import as_completed
    from tqdm import tqdm

    plans = [replace(plan, members=part, workers=min(plan.workers, len(part))) for part in run.todo]
    token = f"simulate-{uuid.uuid4().hex[:12]}"
    futures: dict[Future, range] = {}
    failed = None
    with tqdm(
        total=len(run.parts),
        initial=len(run.parts) - len(run.todo),
        unit="part",
        disable=None if progress is None else not progress,
    ) as bar:
        try:
            submitted = client.map(
                write_part,
                plans,
                [part_file(run.place, part) for part in run.todo],
                key=[(token, part.start) for part in run.todo],
                retries=_RETRIES,
                pure=False,
                system=system,
                overwrite=overwrite,
                beacon=beacon,
            )
            futures.update(zip(submitted, run.todo, strict=True))
            for future in as_completed(submitted, loop=client.loop):
                failed = futures[future]
                outcome = future.result()
                if isinstance(outcome, SimulatorError):
                    raise outcome
                failed = None
                bar.update()
        except BaseException as error:
            if client.status == "running":  # tasks under way stop by themselves when the beacon has gone
                with contextlib.suppress(Exception):
                    client.cancel(list(futures), force=True)
            n_there = sum(part_file(run.place, part).exists() for part in run.parts)
            kept = f"{n_there} of {len(run.parts)} parts are finished, and kept beside {run.place}"
            if isinstance(error, KeyboardInterrupt):
                error.add_note(f"{kept}; {_AGAIN}")
            if isinstance(error, SimulatorError) or not isinstance(error, Exception):
                raise
            raise _cluster_error(error, client, kept, failed) from error


def _cluster_error(error: Exception, client: "Client", kept: str, failed: range | None) -> ClusterError:
    """Return what happened in words, with what is `kept`; `failed` are the members of the task, if it was one."""
    from distributed import CancelledError, KilledWorker

    if client.status != "running" or failed is None or isinstance(error, CancelledError):
        return ClusterError(f"the scheduler has gone, or dropped the tasks ({kept}): start it anew and {_AGAIN}")
    if isinstance(error, KilledWorker):
        return ClusterError(
            f"{error.allowed_failures + 1} workers died one after the other at the part with {words(failed)} ({kept}): "
            "expected workers that live, and their logs say more; if memory ran out give them more, or the tasks "
            f"fewer members with members_per_task, and {_AGAIN}"
        )
    return ClusterError(
        f"the part with {words(failed)} failed on a worker ({type(error).__name__}: {error}; {kept}): expected a "
        f"machine with room and the packages of this process; mend that and {_AGAIN}"
    )
