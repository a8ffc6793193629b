"""A jitted scan over many steps, mapped over members; shared by the peers that run on JAX."""

import jax
import numpy as np

from batches import thread_variants


class Chunk:
    """Members advanced by one compiled call of exactly `steps` steps."""

    def __init__(self, advance, carry, to_fields, steps):
        self._advance, self._carry, self._to_fields = advance, carry, to_fields
        self.fixed_steps = steps

    def run(self, _n_steps):
        self._carry = jax.block_until_ready(self._advance(self._carry))

    def fields(self):
        return np.asarray(self._to_fields(self._carry))


def scan_variants(step, start, to_fields, members, steps):
    """Return batches of the scan of `step`, one for each way to divide the members.

    ``step(carry)`` advances one member; ``start(count, first)`` returns the carry of `count` members, stacked;
    ``to_fields(carry)`` maps that to (count, n, n).
    """
    # one compilation serves all chunks of one shape; `shares` would be a third, and XLA divides a batch itself
    advance = jax.jit(jax.vmap(lambda carry: jax.lax.scan(lambda c, _: (step(c), None), carry, None, length=steps)[0]))
    return thread_variants(
        lambda count, first: Chunk(advance, start(count, first), to_fields, steps), members, shares=False
    )
