"""Navier-Stokes in torch-cfd: spectral vorticity equation, CN-RK4 (five stages), its own Kolmogorov forcing, eager."""

import numpy as np
import torch
from torch_cfd.forcings import KolmogorovForcing
from torch_cfd.grids import Grid
from torch_cfd.spectral import NavierStokes2DSpectral, RK4CrankNicolsonStepper

import problem

CONTESTANTS = {"torch-cfd CN-RK4": {"scheme": "CN-RK4, eager, its own steady forcing", "answer": "own forcing"}}


class Batch:
    fixed_steps = None

    def __init__(self, n, dt, dtype, members, threads):
        # torch-cfd builds its tables in the default dtype; this process runs nothing else
        torch.set_default_dtype(getattr(torch, dtype))
        grid = Grid((n, n), domain=((0, 2 * np.pi),) * 2)
        forcing = KolmogorovForcing(diam=2 * np.pi, wave_number=4, grid=grid)
        self.equation = NavierStokes2DSpectral(
            viscosity=1e-3, grid=grid, drag=0.1, smooth=True, forcing_fn=forcing, step_fn=RK4CrankNicolsonStepper()
        )
        self.n, self.dt, self.threads = n, dt, threads
        self.z_hat = torch.fft.rfft2(torch.from_numpy(problem.smooth_vorticity(n, members, dtype)))

    @torch.inference_mode()
    def run(self, n_steps):
        torch.set_num_threads(self.threads)
        self.z_hat, _ = self.equation(self.z_hat, self.dt, steps=n_steps)

    def fields(self):
        return torch.fft.irfft2(self.z_hat, s=(self.n, self.n)).numpy()


def make(_contestant, n, members, dtype, dt, _steps):
    return {
        f"one batch, {threads} torch threads": lambda threads=threads: Batch(n, dt, dtype, members, threads)
        for threads in (1, problem.CORES)
    }
