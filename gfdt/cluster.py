"""The same function for many pieces of an array of Dask: here, one after the other, or by the workers of a cluster.

Results come in the order of the pieces wherever they are made, and a piece whose worker dies is made again by another:
what is summed up from them is the same number in every case. There is no engine here; `dask.distributed` does the work.
"""

from __future__ import annotations

import contextlib
import pickle
import socket
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, Any

from gfdt.errors import ClusterError, GfdtError, InputError
from gfdt.reading import first_line
from gfdt.validation import shown

if TYPE_CHECKING:
    import xarray as xr
    from distributed import Client

__all__ = ["connected", "in_order", "read_piece"]

_ANSWER = 15.0  # seconds in which a scheduler answers, unless there is none
_LOOK = 5.0  # seconds between two looks whether there are workers, ...
_PATIENCE = 120.0  # ... and without any until the call ends: batch systems take their time
_AHEAD = 2  # tasks of every thread that are under way: one computes while the next is read


@contextlib.contextmanager
def connected(client: Any) -> Iterator[Client | None]:
    """Yield the client of a cluster: one that is given, of an address "tcp://...", which is closed again, or None.

    Raises
    ------
    ClusterError
        If no scheduler answers, or it has no workers.
    InputError
        If it is neither a client nor an address, or the package is missing.
    """
    if client is None:
        yield None
        return
    try:
        from distributed import Client
        from distributed.comm import get_address_host_port
    except ImportError as error:
        raise InputError('client= needs the distributed package: run pip install "gfdt[dask]".') from error
    if isinstance(client, Client):
        if client.asynchronous:
            raise InputError("client is asynchronous: pass one made without asynchronous=True.")
        _refuse_idle(client)
        yield client
        return
    try:
        host, port = get_address_host_port(client if "://" in client else "", strict=True)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"client={shown(client)} is not a cluster: pass a dask.distributed.Client or the address of its scheduler, "
            'e.g. "tcp://10.0.0.1:8786", as `dask scheduler` prints it when it starts.'
        ) from error
    try:
        if client.startswith(("tcp:", "tls:")):  # where nothing listens this fails at once
            socket.create_connection((host, port), timeout=_ANSWER).close()
        own = Client(client, timeout=_ANSWER, set_as_default=False)
    except OSError as error:  # a timeout is one
        raise ClusterError(
            f"no scheduler answers at {client} ({first_line(error)}): start one with `dask scheduler` and its workers "
            f"with `dask worker {client}`, or leave client out."
        ) from error
    with own:
        _refuse_idle(own)
        yield own


def _refuse_idle(client: Client) -> None:
    if client.status != "running":
        raise ClusterError(f"the client is {client.status}: make a new one, dask.distributed.Client(address).")
    if not client.nthreads():
        address = "ADDRESS" if client.scheduler is None else client.scheduler.address
        raise ClusterError(f"the scheduler {address} has no workers: start some with `dask worker {address}`.")


def in_order(
    function: Callable[..., Any],
    pieces: Sequence[tuple[xr.DataArray, Any]],
    shared: tuple[Any, ...],
    client: Client | None,
) -> Iterator[Any]:
    """Yield ``function(values, label, *shared)`` for every (piece, label), in their order.

    Parameters
    ----------
    function : callable
        At the top level of a module, so that workers can import it.
    pieces : sequence of (DataArray of Dask, anything)
        What to read, and what it is.
    shared : tuple
        Sent to every worker once.
    client : Client, optional
        None: in this process, where the next piece is read meanwhile.

    Raises
    ------
    ClusterError
        If the scheduler is lost, or a piece takes several workers down with it.
    """
    yield from _here(function, pieces, shared) if client is None else _there(function, pieces, shared, client)


def _here(
    function: Callable[..., Any], pieces: Sequence[tuple[xr.DataArray, Any]], shared: tuple[Any, ...]
) -> Iterator[Any]:
    with ThreadPoolExecutor(1) as reader:
        remaining = iter(pieces)
        ahead = deque((reader.submit(read_piece, piece), label) for piece, label in islice(remaining, 1))
        while ahead:
            reading, label = ahead.popleft()
            values = reading.result()
            ahead.extend((reader.submit(read_piece, piece), label) for piece, label in islice(remaining, 1))
            yield function(values, label, *shared)


def read_piece(piece: xr.DataArray) -> Any:
    """Return the values of a piece of an array of Dask; InputError where they cannot be read."""
    try:
        return piece.values
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"the values cannot be read ({first_line(error)}): the file is truncated or damaged; write or copy it "
            "again."
        ) from error


def _there(
    function: Callable[..., Any], pieces: Sequence[tuple[xr.DataArray, Any]], shared: tuple[Any, ...], client: Client
) -> Iterator[Any]:
    import cloudpickle  # type: ignore[import-untyped]
    from dask import delayed
    from distributed import KilledWorker
    from distributed.comm import CommClosedError

    from gfdt.cluster_worker import Imports

    under_way: deque[Any] = deque()
    try:
        packed = cloudpickle.dumps(shared)
    except (TypeError, AttributeError, pickle.PicklingError) as error:
        raise InputError(
            f"the score cannot be sent to the workers ({first_line(error)}): define it without open files, locks or "
            "the like, or leave client out."
        ) from error
    try:
        client.register_plugin(Imports())
        # Between our own processes, never from a file. As a task, not scattered: what a dead worker held is made again.
        common = client.submit(pickle.loads, packed, pure=False)
        remaining = iter(pieces)

        def start() -> None:
            for piece, label in islice(remaining, 1):
                task = delayed(_unpacked, pure=False)(function, piece.data, label, common)
                under_way.append(client.compute(task))

        for _ in range(_AHEAD * sum(client.nthreads().values())):
            start()
        while under_way:
            _wait(under_way[0], client)
            result = under_way[0].result()
            under_way.popleft().release()
            start()
            yield result
    except KilledWorker as error:
        raise ClusterError(
            f"a block was given up after it took several workers down with it ({first_line(error)}): give workers more "
            "memory (dask worker --memory-limit), or rechunk the record to smaller chunks."
        ) from error
    except GfdtError:
        raise
    except Exception as error:
        if client.status != "running" or isinstance(error, CommClosedError | CancelledError):
            raise ClusterError(
                f"the scheduler was lost ({first_line(error)}): start it again and repeat the call; nothing was "
                "written."
            ) from error
        raise ClusterError(
            f"a block failed on a worker ({type(error).__name__}: {first_line(error)}): every worker needs the record "
            "under the same path, and the packages that are used here; a file may be damaged. Without client= the call "
            "says more."
        ) from error
    finally:
        with contextlib.suppress(Exception):
            client.cancel(list(under_way))


def _wait(future: Any, client: Client) -> None:
    """Wait for a task as long as there is somebody to do it."""
    from distributed import wait

    alone = 0.0
    while not future.done():
        with contextlib.suppress(TimeoutError):
            wait(future, timeout=_LOOK)
            return
        alone = 0.0 if client.nthreads() else alone + _LOOK
        if alone >= _PATIENCE:
            raise ClusterError(
                f"there have been no workers for {_PATIENCE:g} s: start some with `dask worker ADDRESS`, look into "
                "their logs, and repeat the call."
            )


def _unpacked(function: Callable[..., Any], values: Any, label: Any, shared: tuple[Any, ...]) -> Any:
    return function(values, label, *shared)
