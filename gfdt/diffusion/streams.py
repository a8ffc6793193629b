"""Independent streams of random numbers from one seed, one for each purpose and process.

The generator of torch on the CPU looks at 32 bits of its seed only; those are drawn here from all of (seed, purpose,
rank), so that no two streams are the same or shifted copies. A training that goes on with another number of processes
begins streams anew, from (seed, purpose, rank, size, step), which are others than all before.
"""

from __future__ import annotations

import numpy as np
import torch

__all__ = ["HELD_OUT", "NOISE", "ORDER", "PROBES", "WEIGHTS", "stream"]

WEIGHTS, ORDER, NOISE, HELD_OUT, PROBES = range(5)


def stream(
    seed: int, purpose: int, rank: int = 0, anew: tuple[int, ...] = (), *, device: torch.device | str = "cpu"
) -> torch.Generator:
    """Return the generator of one purpose (and process) on a device; ``anew`` is (size, step) where it begins later."""
    state = np.random.SeedSequence(seed, spawn_key=(purpose, rank, *anew)).generate_state(1, np.uint32)
    return torch.Generator(device).manual_seed(int(state[0]))
