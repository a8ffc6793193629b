"""Allen-Cahn in exponax: a stepper of its public API, scanned; noise by jax.random in Fourier space, as a user would.

exponax has no noise of its own, so its deterministic step is a contestant too.
"""

import exponax
import jax
import jax.numpy as jnp
import numpy as np

import problem
from jax_batches import scan_variants

CONTESTANTS = {
    "exponax ETDRK1": {"scheme": "ETDRK1", "answer": "stochastic"},
    "exponax ETDRK4": {"scheme": "ETDRK4", "answer": "stochastic"},
    "exponax ETDRK1, no noise": {"scheme": "ETDRK1", "answer": "deterministic"},
    "exponax ETDRK4, no noise": {"scheme": "ETDRK4", "answer": "deterministic"},
}


class Reaction(exponax.nonlin_fun.BaseNonlinearFun):
    """-A dx u + alpha Sigma[u (1 - u^2)] by collocation.

    The drift is here because exponax keeps only the real part of its ETDRK coefficients, which are right for a real
    linear operator alone; it costs no transform.
    """

    filter: jax.Array
    drift: jax.Array

    def __init__(self, n):
        super().__init__(2, n, dealiasing_fraction=None)
        self.filter = jnp.asarray(problem.allen_cahn_filter(n))
        self.drift = 1j * jnp.asarray(problem.allen_cahn_linear(n).imag)

    def __call__(self, u_hat):
        u = self.ifft(u_hat)
        return self.drift * u_hat + self.filter * self.fft(u * (1 - u * u))


class AllenCahn(exponax.BaseStepper):
    """kappa Lap u exactly, the rest by ETDRK."""

    def __init__(self, n, dt, order):
        super().__init__(2, 2 * np.pi, n, dt, num_channels=1, order=order)

    def _build_linear_operator(self, derivative_operator):
        return jnp.asarray(problem.allen_cahn_linear(self.num_points).real)[None].astype(derivative_operator.dtype)

    def _build_nonlinear_fun(self, derivative_operator):  # noqa: ARG002  (the tables are in `problem`)
        return Reaction(self.num_points)


def make(contestant, n, members, dtype, dt, steps):
    stepper = AllenCahn(n, dt, order=4 if "ETDRK4" in contestant else 1)
    kick = jnp.asarray(problem.allen_cahn_kick(n, dt).astype(dtype)) * np.asarray(n * np.sqrt(0.5), dtype=dtype)
    mirror = -np.arange(n) % n
    half = np.asarray(np.sqrt(0.5), dtype=dtype)

    def noise_hat(key):
        z = jax.random.normal(key, (2, n, n // 2 + 1), dtype=dtype)
        w = jax.lax.complex(z[0], z[1])
        # columns kx = 0 and n/2 hold k and -k: make them Hermitian, variance unchanged
        edge = w[:, :: n // 2]
        return kick * w.at[:, :: n // 2].set((edge + edge[mirror].conj()) * half)

    def step(carry):
        u_hat, key = carry
        u_hat = stepper.step_fourier(u_hat)
        if "no noise" in contestant:
            return u_hat, key
        key, now = jax.random.split(key)
        return u_hat + noise_hat(now), key

    def start(count, first):
        keys = jax.random.split(jax.random.key(first), count)
        return jnp.fft.rfft2(problem.allen_cahn_start(n, count, dtype))[:, None], keys

    return scan_variants(step, start, lambda carry: jnp.fft.irfft2(carry[0][:, 0], s=(n, n)), members, steps)
