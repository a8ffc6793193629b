"""Navier-Stokes in exponax: its vorticity convection (2/3 rule), ETDRK4, forced through its ForcedStepper.

ForcedStepper takes one forcing per step (forward Euler split), so the phases are drawn once per step, not twice.
"""

import exponax
import jax
import jax.numpy as jnp
import numpy as np

import problem
from jax_batches import scan_variants

CONTESTANTS = {
    "exponax ETDRK4": {"scheme": "ETDRK4, forcing split off", "answer": "random phases"},
    "exponax ETDRK4, Kolmogorov": {"scheme": "ETDRK4, its own steady forcing", "answer": "own forcing"},
}


class Convection(exponax.nonlin_fun.VorticityConvection2d):
    """exponax's vorticity convection and the mean drift -A dx z.

    The drift is here because exponax keeps only the real part of its ETDRK coefficients, which are right for a real
    linear operator alone (with the drift there, fields grow without bound after time 40); it costs no transform.
    """

    drift: jax.Array

    def __init__(self, n, derivative_operator):
        super().__init__(2, n, derivative_operator=derivative_operator, dealiasing_fraction=2 / 3)
        self.drift = 1j * jnp.asarray(problem.navier_stokes_linear(n).imag)

    def __call__(self, z_hat):
        return self.drift * z_hat + super().__call__(z_hat)


class Vorticity(exponax.BaseStepper):
    """The damping of this benchmark exactly, drift and convection by ETDRK4."""

    def __init__(self, n, dt):
        super().__init__(2, 2 * np.pi, n, dt, num_channels=1, order=4)

    def _build_linear_operator(self, derivative_operator):
        return jnp.asarray(problem.navier_stokes_linear(self.num_points).real)[None].astype(derivative_operator.dtype)

    def _build_nonlinear_fun(self, derivative_operator):
        return Convection(self.num_points, derivative_operator)


def make(contestant, n, members, dtype, dt, steps):
    if contestant.endswith("Kolmogorov"):
        return _kolmogorov(n, members, dtype, dt, steps)
    stepper = exponax.ForcedStepper(Vorticity(n, dt))
    amplitude, plus, minus = problem.forcing_sites(n)
    amplitude, root = jnp.asarray(amplitude.astype(dtype)), np.asarray(np.sqrt(2 * dt), dtype=dtype)

    def step(carry):
        z_hat, phases, key = carry
        key, now = jax.random.split(key)
        phases = phases + root * jax.random.normal(now, phases.shape, dtype=dtype)
        wave = amplitude * jax.lax.complex(jnp.cos(phases), jnp.sin(phases))
        wave = jnp.append(wave, jnp.zeros(1, dtype=wave.dtype))
        return stepper.step_fourier(z_hat, (wave[plus] + wave[minus].conj())[None]), phases, key

    def start(count, first):
        keys = jax.random.split(jax.random.key(first), count)
        rng = np.random.default_rng([0, first])
        phases = rng.uniform(0, 2 * np.pi, (count, amplitude.size)).astype(dtype)
        return jnp.zeros((count, 1, n, n // 2 + 1), dtype=problem.precision(dtype)[1]), jnp.asarray(phases), keys

    return scan_variants(step, start, lambda carry: jnp.fft.irfft2(carry[0][:, 0], s=(n, n)), members, steps)


def _kolmogorov(n, members, dtype, dt, steps):
    stepper = exponax.stepper.KolmogorovFlowVorticity(2, 2 * np.pi, n, dt, order=4)

    def start(count, first):
        return jnp.fft.rfft2(problem.smooth_vorticity(n, first + count, dtype)[first:])[:, None]

    return scan_variants(
        stepper.step_fourier, start, lambda z_hat: jnp.fft.irfft2(z_hat[:, 0], s=(n, n)), members, steps
    )
