"""Navier-Stokes in jax-cfd: its spectral vorticity equation, CN-RK4 (five stages), its own Kolmogorov forcing."""

import jax.numpy as jnp
import jax_cfd.base as cfd
import jax_cfd.spectral as spectral
import numpy as np

import problem
from jax_batches import scan_variants

CONTESTANTS = {"jax-cfd CN-RK4": {"scheme": "CN-RK4, its own steady forcing", "answer": "own forcing"}}


def make(_contestant, n, members, dtype, dt, steps):
    grid = cfd.grids.Grid((n, n), domain=((0, 2 * np.pi),) * 2)
    equation = spectral.equations.ForcedNavierStokes2D(1e-3, grid, smooth=True)
    step = spectral.time_stepping.crank_nicolson_rk4(equation, dt)

    def start(count, first):
        return jnp.fft.rfft2(problem.smooth_vorticity(n, first + count, dtype)[first:])

    return scan_variants(step, start, lambda z_hat: jnp.fft.irfft2(z_hat, s=(n, n)), members, steps)
