"""The simulators of this project, through the stepper that `simulate` drives, one member at a time per core."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

import problem
import simulators

CONTESTANTS = {
    "ours (collocation)": {"scheme": "exponential two-step, float64 always", "answer": "stochastic", "ours": True},
    "ours (dealiased)": {"scheme": "the same, cube on a 2N x 2N grid", "answer": "stochastic"},
    "ours": {"scheme": "integrating-factor RK4, float64 always", "answer": "random phases", "ours": True},
}


class Batch:
    """Members in a pool; arithmetic is in float64 whatever the dtype of the saved field, as in `simulate`."""

    def __init__(self, system, members, dtype, dt, steps):
        self.fixed_steps = steps
        layout = system.layout()
        self.stepper = system.make_stepper(dt, steps)
        streams = np.random.SeedSequence(0).spawn(members)
        self.streams = [np.random.Generator(np.random.PCG64(stream)) for stream in streams]
        self.states = [self.stepper.start(stream) for stream in self.streams]
        shape = (members, 1, *layout.shape)
        self.outs = [np.empty(shape, dtype=dtype) for _ in range(1 + len(getattr(layout, "extra", ())))]
        self.pool = ThreadPoolExecutor(problem.CORES)

    def run(self, _n_steps):
        list(self.pool.map(self.stepper.advance, self.states, self.streams, *self.outs))

    def fields(self):
        return self.outs[0][:, 0]


def make(contestant, n, members, dtype, dt, steps):
    if contestant == "ours":
        system = simulators.NavierStokes(n=n)
    else:
        system = simulators.AllenCahn(n=n, dealias=contestant == "ours (dealiased)")
    return {f"{min(members, problem.CORES)} threads": lambda: Batch(system, members, dtype, dt, steps)}
