"""Ways to advance many members at once; a peer is timed in the fastest of those it offers.

A batch has ``run(n_steps)``, which advances all its members, and ``fields()``, which returns the physical fields of
some of them, shape (member, n, n). ``fixed_steps`` is the only number of steps it can take, or None.
"""

import multiprocessing
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from problem import CORES


class Threads:
    """Chunks of members, each advanced by one thread of a pool."""

    def __init__(self, make_chunk, members, size, threads):
        starts = range(0, members, size)
        self._chunks = [make_chunk(min(size, members - start), start) for start in starts]
        self._pool = ThreadPoolExecutor(threads) if threads > 1 and len(self._chunks) > 1 else None
        self.fixed_steps = getattr(self._chunks[0], "fixed_steps", None)

    def run(self, n_steps):
        if self._pool is None:
            for chunk in self._chunks:
                chunk.run(n_steps)
        else:
            list(self._pool.map(lambda chunk: chunk.run(n_steps), self._chunks))

    def fields(self):
        return np.concatenate([chunk.fields() for chunk in self._chunks])


def thread_variants(make_chunk, members, shares=True):
    """Return batches by name: one array of all members; with `shares` one per core; member by member."""
    variants = {"one batch": lambda: Threads(make_chunk, members, members, 1)}
    if members > 1 and shares:
        share = -(-members // CORES)
        variants[f"{CORES} threads, batches of {share}"] = lambda: Threads(make_chunk, members, share, CORES)
    if members > 1:
        variants[f"{CORES} threads, member by member"] = lambda: Threads(make_chunk, members, 1, CORES)
    return variants


class Processes:
    """For packages of one run per process: as many forked processes as cores, each with its share of the steps.

    Every process keeps one model and advances it `members` / cores times `n_steps`: the cost of a field-step without
    the memory of many models.
    """

    fixed_steps = None

    def __init__(self, make_model, members, processes):
        self._share = -(-members // processes)
        self._pipes = []
        context = multiprocessing.get_context("fork")
        for index in range(processes):
            ours, theirs = context.Pipe()
            context.Process(target=_serve, args=(make_model, index, theirs, ours), daemon=True).start()
            theirs.close()
            self._pipes.append(ours)
        for pipe in self._pipes:
            _receive(pipe)

    def run(self, n_steps):
        for pipe in self._pipes:
            pipe.send(n_steps * self._share)
        for pipe in self._pipes:
            _receive(pipe)

    def fields(self):
        self._pipes[0].send("fields")
        return _receive(self._pipes[0])

    def close(self):
        for pipe in self._pipes:
            pipe.close()


def _receive(pipe):
    answer = pipe.recv()
    if isinstance(answer, Exception):
        raise answer
    return answer


def _serve(make_model, index, pipe, parents_end):
    # else the pipe never ends when the parent closes it
    parents_end.close()
    try:
        model = make_model(index)
        pipe.send(None)
        while True:
            order = pipe.recv()
            if order == "fields":
                pipe.send(model.fields())
            else:
                model.run(order)
                pipe.send(None)
    except EOFError:
        pass
    except Exception as error:  # noqa: BLE001  whatever a peer raises is reported, not swallowed
        pipe.send(RuntimeError(f"{type(error).__name__}: {error}"))
