"""The Allen-Cahn field written out with full complex transforms, and its exact density sampled without a time step.

    du/dt = kappa Lap u - c dx u + alpha Sigma P[Pu - (Pu)^3] + eps Sigma^(1/2) xi,     rho ~ exp(-V),
    V = 2 / (eps^2 n^2) { alpha sum_grid [ v^4 / 4 - v^2 / 2 ] + kappa / 2 sum_grid [ |grad u|^2 + (Lap u)^2 ] }.

Dealiased: P drops the Nyquist row and column (even n) and v is Pu on the grid of 2n x 2n points, each of which counts
1/4. Collocation: P = 1 and v = u. Fields are (..., n, n), spectra unnormalised (..., n, n) with all n columns.
"""

from dataclasses import dataclass

import numpy as np
import scipy.linalg

# The linear part of the scheme takes -alpha Sigma P SHIFT u from the reaction.
SHIFT = 1.5


@dataclass(frozen=True)
class Twin:
    """Parameters as in `simulators.AllenCahn`."""

    n: int
    alpha: float = 16.0
    kappa: float = 2.5e-4
    advection: float = 0.02
    noise: float = 2 * 10**-1.5
    dealias: bool = True

    @property
    def ky(self):
        return np.fft.fftfreq(self.n, 1 / self.n)[:, None] * np.ones(self.n)

    @property
    def kx(self):
        return self.ky.T

    @property
    def k2(self):
        return self.kx**2 + self.ky**2

    @property
    def kept(self):
        """1 on the modes that react, 0 on the others."""
        if not self.dealias:
            return np.ones((self.n, self.n))
        return ((2 * abs(self.kx) < self.n) & (2 * abs(self.ky) < self.n)).astype(float)

    @property
    def temperature(self):
        """eps^2 n^2 / 2: score = (drift without advection) / (Sigma temperature)."""
        return self.noise**2 * self.n**2 / 2

    # ---- between the grid and the finer grid on which a cube has no aliases

    def to_fine(self, u):
        """Values (..., 2n, 2n) of the trigonometric interpolant of Pu."""
        n, u_hat = self.n, np.fft.fft2(u) * self.kept
        fine_hat = np.zeros((*u.shape[:-2], 2 * n, 2 * n), dtype=complex)
        index = np.rint(np.fft.fftfreq(n, 1 / n)).astype(int)  # negative wavenumbers count from the end in both
        fine_hat[..., index[:, None], index] = 4 * u_hat
        return np.fft.ifft2(fine_hat).real

    def from_fine(self, v):
        """P applied to a field on the fine grid."""
        n = self.n
        index = np.rint(np.fft.fftfreq(n, 1 / n)).astype(int)
        return np.fft.ifft2(np.fft.fft2(v)[..., index[:, None], index] / 4 * self.kept).real

    def cubic(self, u, shift=0.0):
        """P[(1 + shift) Pu - (Pu)^3] on the grid."""
        if not self.dealias:
            return (1 + shift) * u - u**3
        v = self.to_fine(u)
        return self.from_fine((1 + shift) * v - v**3)

    # ---- drift, score, potential

    def filter(self, symbol, u):
        return np.fft.ifft2(symbol * np.fft.fft2(u)).real

    def advected(self, u):
        """dx u; the Nyquist column has no derivative."""
        return self.filter(1j * self.kx * (2 * abs(self.kx) < self.n), u)

    def drift(self, u):
        reaction = self.filter(self.alpha / (1 + self.k2), self.cubic(u))
        return reaction - self.filter(self.kappa * self.k2, u) - self.advection * self.advected(u)

    def score(self, u):
        return (self.alpha * self.cubic(u) - self.filter(self.kappa * (self.k2 + self.k2**2), u)) / self.temperature

    def potential(self, u):
        """V(u) for each field of (..., n, n)."""
        v = self.to_fine(u) if self.dealias else u
        local = (v**4 / 4 - v**2 / 2).sum(axis=(-2, -1)) / (4 if self.dealias else 1)
        power = np.abs(np.fft.fft2(u)) ** 2 / self.n**2
        gradient = ((self.k2 + self.k2**2) * power).sum(axis=(-2, -1)) / 2
        return (self.alpha * local + self.kappa * gradient) / self.temperature

    # ---- one step of the exponential two-step scheme of `simulators.allen_cahn`

    def coefficients(self, dt):
        """Propagator, weights of the remainder N_n and of N_n - N_(n-1), and noise amplitude, per mode.

        exp [[z, 1, 0], [0, 0, 1], [0, 0, 0]] has the first row e^z, phi_1(z), phi_2(z).
        """
        sigma = 1 / (1 + self.k2)
        rate = self.kappa * self.k2 + SHIFT * self.alpha * sigma * self.kept
        frequency = self.advection * self.kx * (2 * abs(self.kx) < self.n)
        companion = np.zeros((self.n, self.n, 3, 3), dtype=complex)
        companion[..., 0, 0] = -(rate + 1j * frequency) * dt
        companion[..., 0, 1] = companion[..., 1, 2] = 1
        propagator, phi1, phi2 = np.moveaxis(scipy.linalg.expm(companion)[..., 0, :], -1, 0)
        amplitude = np.sqrt(2 * self.temperature * sigma * (1 - np.exp(-2 * rate * dt)) / (2 * rate))
        return propagator, dt * phi1, dt * phi2, amplitude

    def remainder(self, u):
        """N(u) = alpha Sigma P[(1 + SHIFT) Pu - (Pu)^3], what the linear part leaves over."""
        return self.filter(self.alpha / (1 + self.k2), self.cubic(u, SHIFT))

    def step(self, u, previous, coefficients, noise):
        """Next u and the N(u) it used, given N at the last step and `noise`, white noise on the grid x amplitude."""
        propagator, first, second, _ = coefficients
        now = self.remainder(u)
        return self.filter(propagator, u) + self.filter(first, now) + self.filter(second, now - previous) + noise, now

    def weak_error(self, dts, duration, n_members, rng):
        """Error of the time mean of <u^2> and <u^4> per member for each of `dts`, against the last of them.

        All runs see one Brownian path, so that nearly all sampling noise cancels in the differences: over two steps
        h the stochastic convolution is E(h) times the first plus the second. Each of `dts` is twice the next.
        """
        moments = []
        finest = self.coefficients(dts[-1])
        n_steps = round(duration / dts[-1])
        noise = self.filter(finest[3], rng.standard_normal((n_steps, n_members, self.n, self.n)))
        for dt in reversed(dts):
            coefficients = self.coefficients(dt)
            u = np.ones((n_members, self.n, self.n))
            previous, record = self.remainder(u), [[np.ones(n_members)] * 2]
            for now in noise:
                u, previous = self.step(u, previous, coefficients, now)
                record.append([(u**2).mean(axis=(-2, -1)), (u**4).mean(axis=(-2, -1))])
            # the trapezoidal rule: a plain mean over steps would itself be of first order
            moments.append(np.trapezoid(record, axis=0).T / len(noise))
            noise = self.filter(coefficients[0], noise[0::2]) + noise[1::2]
        return [moment - moments[0] for moment in moments[:0:-1]]


def sample(twin, n_chains, n_samples, rng, *, n_leapfrog=8, step=0.45, burn_in=50):
    """Draw from rho ~ exp(-V) by Hamiltonian Monte Carlo, (n_chains, n_samples, n, n), and the acceptance rate.

    Masses per mode are the curvature of V at u = +-1, so that all modes oscillate with about the same frequency. A
    Metropolis test makes it exact for any `step`. u -> -u is an exact symmetry of V: a move by coin toss, so that
    both signs of the mean have equal weight however rarely a trajectory crosses.
    """
    n, k2 = twin.n, twin.k2
    mass = (2 * twin.alpha * twin.kept + twin.kappa * (k2 + k2**2)) / twin.temperature
    u = np.sign(rng.standard_normal((n_chains, 1, 1))) + 0.1 * rng.standard_normal((n_chains, n, n))
    samples, accepted, tried = np.empty((n_chains, n_samples, n, n)), 0, 0

    def kinetic(p):
        return (p * twin.filter(1 / mass, p)).sum(axis=(-2, -1)) / 2

    potential, score = twin.potential(u), twin.score(u)
    for draw in range(-burn_in, n_samples):
        p = twin.filter(np.sqrt(mass), rng.standard_normal(u.shape))
        energy = potential + kinetic(p)
        h = step * rng.uniform(0.7, 1.0)  # no trajectory length resonates with a mode
        new, new_score = u, score
        for _ in range(n_leapfrog):
            p = p + h / 2 * new_score
            new = new + h * twin.filter(1 / mass, p)
            new_score = twin.score(new)
            p = p + h / 2 * new_score
        new_potential = twin.potential(new)
        accept = rng.uniform(size=n_chains) < np.exp(np.minimum(0, energy - new_potential - kinetic(p)))
        flip = np.where(rng.uniform(size=n_chains) < 0.5, -1.0, 1.0)
        u = np.where(accept[:, None, None], new, u) * flip[:, None, None]
        score = np.where(accept[:, None, None], new_score, score) * flip[:, None, None]
        potential = np.where(accept, new_potential, potential)
        if draw >= 0:
            accepted, tried = accepted + accept.sum(), tried + n_chains
            samples[:, draw] = u
    return samples, accepted / tried
