"""Time loop of a field whose Fourier modes are independent Ornstein-Uhlenbeck processes."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from simulators.spectral import inverse_transform, white_noise_hat

__all__ = ["advance", "stationary_draw"]


@njit(cache=True, nogil=True)
def stationary_draw(
    rng: np.random.Generator, standard_deviation: NDArray[np.float64], u_hat: NDArray[np.complex128]
) -> None:
    """Fill `u_hat` with a draw from the stationary law: standard deviation per mode times white noise."""
    white_noise_hat(rng, u_hat)
    for iy in range(u_hat.shape[0]):
        for ix in range(u_hat.shape[1]):
            u_hat[iy, ix] *= standard_deviation[iy, ix]


@njit(cache=True, nogil=True)
def advance(
    u_hat: NDArray[np.complex128],
    w_hat: NDArray[np.complex128],
    rng: np.random.Generator,
    propagator: NDArray[np.complex128],
    amplitude: NDArray[np.float64],
    n_steps: int,
    out: NDArray[np.floating],
) -> None:
    """Save `u_hat` as a field and take `n_steps` steps u_hat <- propagator u_hat + amplitude w_hat, for each snapshot.

    `w_hat` is scratch of the shape of `u_hat`, (n, n//2 + 1); `out` has the shape (time, n, n).
    """
    for it in range(out.shape[0]):
        inverse_transform(u_hat, out[it])
        for _ in range(n_steps):
            white_noise_hat(rng, w_hat)
            for iy in range(u_hat.shape[0]):
                for ix in range(u_hat.shape[1]):
                    u_hat[iy, ix] = propagator[iy, ix] * u_hat[iy, ix] + amplitude[iy, ix] * w_hat[iy, ix]
