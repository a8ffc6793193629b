"""Navier-Stokes in fluidsim: solver ns2d, RK4, transforms by pyFFTW, its own time-correlated random forcing.

The linear part is the one of this benchmark but for the mean drift. One model per process; always float64. A model
makes a folder even if it saves nothing: `run.py` sets FLUIDSIM_PATH.
"""

from functools import partial

import numpy as np
from fluidsim.solvers.ns2d.solver import Simul

import problem
from batches import Processes

CONTESTANTS = {"fluidsim RK4": {"scheme": "RK4, its own random forcing, float64 always", "answer": "own forcing"}}


class Model:
    fixed_steps = None

    def __init__(self, n, dt, index):
        parameters = Simul.create_default_params()
        parameters.oper.nx = parameters.oper.ny = n
        parameters.oper.Lx = parameters.oper.Ly = 2 * np.pi
        parameters.oper.type_fft = "fft2d.with_pyfftw"
        parameters.oper.coef_dealiasing = 2 / 3
        parameters.nu_2, parameters.nu_4, parameters.nu_m4 = 0.0, problem.NU, problem.NU_LARGE
        parameters.time_stepping.type_time_scheme = "RK4"
        parameters.time_stepping.USE_CFL = False
        parameters.time_stepping.deltat0 = dt
        parameters.init_fields.type = "noise"
        parameters.forcing.enable = True
        parameters.forcing.type = "tcrandom"
        parameters.forcing.nkmin_forcing, parameters.forcing.nkmax_forcing = 4, 5
        parameters.output.HAS_TO_SAVE = False
        parameters.output.periods_print.print_stdout = 0.0
        parameters.short_name_type_run = f"n{n}-{index}"
        self.simulation = Simul(parameters)

    def run(self, n_steps):
        step = self.simulation.time_stepping.one_time_step
        for _ in range(n_steps):
            step()

    def fields(self):
        return np.array(self.simulation.state.state_phys.get_var("rot"))[None]


def make(_contestant, n, members, _dtype, dt, _steps):
    if members == 1:
        return {"1 process": partial(Model, n, dt, 0)}
    return {f"{problem.CORES} processes": partial(Processes, partial(Model, n, dt), members, problem.CORES)}
