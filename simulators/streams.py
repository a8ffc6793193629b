"""One random stream per member.

Member k of a run with entropy e draws from ``PCG64(SeedSequence(e, spawn_key=(k,)))``. Its numbers depend on
(e, k) alone: not on the number of members, the number of workers, or the length of the blocks. The bit
generator is named (not ``default_rng``) so that a later numpy default cannot change published runs.
"""

import json
from collections.abc import Sequence

import numpy as np

from simulators.checks import require_integer

__all__ = ["dump_streams", "load_streams", "member_stream", "resolve_entropy"]


def resolve_entropy(seed: int | None) -> int:
    """Return the entropy of a run: the seed itself, or 128 fresh bits from the operating system for None.

    Parameters
    ----------
    seed : int or None
        Non-negative integer.

    Returns
    -------
    int
        Pass it as ``seed`` to repeat the run.

    Raises
    ------
    ParameterError
        If the seed is negative or not an integer.
    """
    if seed is None:
        fresh = np.random.SeedSequence().entropy
        assert isinstance(fresh, int)  # SeedSequence() without arguments always draws one integer
        return fresh
    return require_integer("seed", seed, at_least=0)


def member_stream(entropy: int, member: int) -> np.random.Generator:
    """Return the generator of one member, at its beginning."""
    sequence = np.random.SeedSequence(entropy=entropy, spawn_key=(member,))
    return np.random.Generator(np.random.PCG64(sequence))


def dump_streams(streams: Sequence[np.random.Generator]) -> str:
    """Return the positions of the streams as JSON text (128-bit integers do not fit in an array)."""
    return json.dumps([stream.bit_generator.state for stream in streams])


def load_streams(text: str) -> list[np.random.Generator]:
    """Return streams that continue where `dump_streams` was called."""
    streams = []
    for state in json.loads(text):
        bit_generator = np.random.PCG64()
        bit_generator.state = state
        streams.append(np.random.Generator(bit_generator))
    return streams
