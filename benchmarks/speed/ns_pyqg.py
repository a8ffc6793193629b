"""Navier-Stokes in pyqg: barotropic model, AB3 with an exponential filter, unforced; ONE evaluation per step, not four.

One model per process; always float64.
"""

from functools import partial

import numpy as np
import pyqg

import problem
from batches import Processes

CONTESTANTS = {
    "pyqg AB3": {"scheme": "AB3 (one evaluation per step), unforced, float64 always", "answer": "own forcing"}
}


class Model:
    fixed_steps = None

    def __init__(self, n, dt, threads, index):
        self.model = pyqg.BTModel(
            nx=n, L=2 * np.pi, beta=0.0, rek=0.0, rd=None, H=1.0, dt=dt, tmax=1e30, twrite=10**9, tavestart=1e30,
            ntd=threads, log_level=0,
        )  # fmt: skip
        self.model.q = problem.smooth_vorticity(n, index + 1, "float64")[index:]

    def run(self, n_steps):
        for _ in range(n_steps):
            self.model._step_forward()  # what its run() calls in a loop

    def fields(self):
        return np.array(self.model.q)


def make(_contestant, n, members, _dtype, dt, _steps):
    if members == 1:
        return {f"1 process, {threads} threads": partial(Model, n, dt, threads, 0) for threads in (1, problem.CORES)}
    return {f"{problem.CORES} processes": partial(Processes, partial(Model, n, dt, 1), members, problem.CORES)}
