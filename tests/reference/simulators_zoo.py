"""The small systems written out plainly: equations component by component, steps in matrix notation, and a grid."""

import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import splu


def potential(x, y, system):
    """U(x, y)."""
    ridge = y - system.bend * x**2
    return system.barrier * (x**2 - 1) ** 2 - system.tilt * x + system.stiffness / 2 * ridge**2


def charney_devore(x, system):
    """The six tendencies, one line each."""
    b2, c, root2, pi = system.b**2, system.damping, np.sqrt(2), np.pi

    def alpha(m):
        return 8 * root2 / pi * m**2 / (4 * m**2 - 1) * (b2 + m**2 - 1) / (b2 + m**2)

    def beta(m):
        return system.beta * b2 / (b2 + m**2)

    def delta(m):
        return 64 * root2 / (15 * pi) * (b2 - m**2 + 1) / (b2 + m**2)

    def gamma_zonal(m):
        return system.gamma * 4 * m / (4 * m**2 - 1) * root2 * system.b / pi

    def gamma_wave(m):
        return system.gamma * 4 * m**3 / (4 * m**2 - 1) * root2 * system.b / (pi * (b2 + m**2))

    epsilon = 16 * root2 / (5 * pi)
    x1, x2, x3, x4, x5, x6 = x
    return np.array(
        [
            gamma_zonal(1) * x3 - c * (x1 - system.x1_star),
            -(alpha(1) * x1 - beta(1)) * x3 - c * x2 - delta(1) * x4 * x6,
            (alpha(1) * x1 - beta(1)) * x2 - gamma_wave(1) * x1 - c * x3 + delta(1) * x4 * x5,
            gamma_zonal(2) * x6 - c * (x4 - system.x4_star) + epsilon * (x2 * x6 - x3 * x5),
            -(alpha(2) * x1 - beta(2)) * x6 - c * x5 - delta(2) * x4 * x3,
            (alpha(2) * x1 - beta(2)) * x5 - gamma_wave(2) * x4 - c * x6 + delta(2) * x4 * x2,
        ]
    )


def lorenz96(x, system):
    """The tendency of each site; Python's negative indices close the ring on one side."""
    n = len(x)
    return np.array([(x[(i + 1) % n] - x[i - 2]) * x[i - 1] - x[i] + system.forcing for i in range(n)])


def heun(drift, x, rng, noise, dt, n_steps, n_snapshots):
    """Snapshots and final state of dx = drift(x) dt + noise dW."""
    snapshots = []
    for _ in range(n_snapshots):
        snapshots.append(x.copy())
        for _ in range(n_steps):
            increment = noise * np.sqrt(dt) * rng.standard_normal(len(x))
            predictor = x + drift(x) * dt + increment
            x = x + (drift(x) + drift(predictor)) * dt / 2 + increment
    return np.array(snapshots), x


def triad(x, rng, propagator, slow_root, burst_root, modulation, n_steps, n_snapshots):
    """Snapshots and final state of the slow-fast triad."""
    snapshots = []
    for _ in range(n_snapshots):
        snapshots.append(x.copy())
        for _ in range(n_steps):
            unforced = propagator @ x + slow_root @ rng.standard_normal(2)
            square = np.mean([(1 + modulation * np.tanh(state[0])) ** 2 for state in (x, unforced)])
            x = unforced + np.sqrt(square) * burst_root @ rng.standard_normal(3)
    return np.array(snapshots), x


def grid_response(system, dt, n_steps, support, n):
    """R of `Potential2D` at lags 0, dt ... n_steps dt on an n x n grid; errors O(h^2) and O(dt^2).

    rho dg/dt = D div(rho (grad g + rotated grad g)) by central differences in flux form and Crank-Nicolson, on the
    points where rho is not negligible (elsewhere the equations would read 0 = 0).
    """
    xs, ys = (np.linspace(lo, hi, n) for lo, hi in support)
    x, y = np.meshgrid(xs, ys, indexing="ij")
    x_mid, y_mid = np.meshgrid((xs[1:] + xs[:-1]) / 2, (ys[1:] + ys[:-1]) / 2, indexing="ij")
    rho, rho_mid = (np.exp(-potential(*at, system) / system.diffusivity).ravel() for at in ((x, y), (x_mid, y_mid)))
    step = sp.diags([-np.ones(n), np.ones(n)], [0, 1], shape=(n - 1, n))
    average = abs(step) / 2
    inside = rho > 1e-12 * rho.max()
    gx = sp.kron(step / (xs[1] - xs[0]), average).tocsc()[:, inside]
    gy = sp.kron(average, step / (ys[1] - ys[0])).tocsc()[:, inside]
    weight = sp.diags(rho_mid / rho_mid.sum())
    turn = gx.T @ weight @ gy
    flux = system.diffusivity * (-gx.T @ weight @ gx - gy.T @ weight @ gy + system.rotation * (turn - turn.T))
    mass = sp.diags(rho[inside] / rho.sum())
    solve = splu((mass - dt / 2 * flux).tocsc()).solve
    g = np.stack([x.ravel()[inside], y.ravel()[inside]], axis=1)
    response = []
    for _ in range(n_steps + 1):
        response.append([[weight.diagonal() @ (d @ g[:, i]) for d in (gx, gy)] for i in range(2)])
        g = solve((mass + dt / 2 * flux) @ g)
    return np.array(response)
