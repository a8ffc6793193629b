"""One random stream per member.

Member k of a run with entropy e draws from ``PCG64(SeedSequence(e, spawn_key=(k,)))``. Its numbers depend on
(e, k) alone: not on the number of members, the number of workers, or the length of the blocks. The bit
generator is named (not ``default_rng``) so that a later numpy default cannot change published runs.
"""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from simulators.checks import require_integer

__all__ = ["dump_streams", "load_streams", "member_stream", "resolve_entropy", "same_stream"]


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
    """Return streams that continue where `dump_streams` was called.

    Raises
    ------
    ValueError
        If a position is not one that a stream can have.
    """
    states: list[Any] = json.loads(text)
    streams = []
    for state in states:
        bit_generator = np.random.PCG64()
        bit_generator.state = state
        if bit_generator.state != state:  # numbers out of range are cut off silently
            raise ValueError(f"{state!r} is not the position of a stream")
        streams.append(np.random.Generator(bit_generator))
    return streams


def same_stream(one: np.random.Generator, other: np.random.Generator) -> bool:
    """Tell whether two generators are positions of one stream: PCG64 never changes its increment."""
    states: list[Any] = [stream.bit_generator.state for stream in (one, other)]
    return bool(states[0]["state"]["inc"] == states[1]["state"]["inc"])
