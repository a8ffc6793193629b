"""Linear stochastic steps in matrix notation."""

import numpy as np


def advance(x, rng, propagator, noise_root, n_steps, n_snapshots):
    """Snapshots and final state."""
    snapshots = []
    for _ in range(n_snapshots):
        snapshots.append(x.copy())
        for _ in range(n_steps):
            x = propagator @ x + noise_root @ rng.standard_normal(len(x))
    return np.array(snapshots), x
