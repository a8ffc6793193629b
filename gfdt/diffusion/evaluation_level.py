"""At which noise level to use what was learned: the one whose score is nearest to that of the data, on held-out states.

A network learns scores s_σ of the data blurred by noise of level σ, for a range of σ. What is wanted is the score s of
the data themselves. Blur is a bias that grows with σ; what was learned from noise is less certain the smaller σ is.
Integration by parts turns the distance from s into something that needs no s (Hyvärinen 2005, the Stein identity
summed over all directions):

    J(σ) = < |s_σ(x)|²/2 + div s_σ(x) > = < |s_σ(x) - s(x)|² >/2 - < |s(x)|² >/2.

J is measured at unblurred held-out states for levels around the one that the spectrum of C suggests
(:mod:`gfdt.diffusion.noise_level`), with the same probes v of random signs for the divergence of the network's part
(that of the linear part is exact), and in units of κ = tr C⁻¹/d, so that a Gaussian has J = -1/2. Chosen is the
smallest level whose J is within one standard error (of the paired difference) of the best.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from gfdt.diffusion.preconditioning import Denoiser

__all__ = ["CANDIDATES", "LevelSweep", "choose_level", "sweep_levels"]

CANDIDATES = tuple(2.0 ** (0.5 * power) for power in range(-4, 3))  # times the level of the spectrum: 1/4 to 2
_BATCH_VALUES = 2**18  # numbers in one batch: bounds memory


class LevelSweep(NamedTuple):
    """J at each level.

    Attributes
    ----------
    levels : (n,) increasing, in units of ``scale``
    loss : (n,) J
    difference, error : (n,) J - J(chosen) and its standard error
    chosen : index of the level to use
    """

    levels: NDArray[np.float64]
    loss: NDArray[np.float64]
    difference: NDArray[np.float64]
    error: NDArray[np.float64]
    chosen: int


def sweep_levels(
    denoiser: Denoiser,
    anomalies: Tensor,
    levels: Sequence[float],
    generator: torch.Generator,
    linear_divergence: Callable[[float], float],
) -> NDArray[np.float64]:
    """Return J of every state at every level, (len(levels), n).

    Parameters
    ----------
    denoiser : Denoiser
        In evaluation mode.
    anomalies : Tensor of shape (n, *state)
        Held-out states.
    levels : sequence of float
        In units of ``scale``.
    generator : Generator
        Draws the probes: the same for every level.
    linear_divergence : callable
        Divergence of the linear score at a level.
    """
    size = max(1, _BATCH_VALUES // max(1, anomalies[0].numel()))
    columns = []
    for part in anomalies.split(size):
        bits = torch.randint(2, part.shape, generator=generator, device=part.device)
        probe = (2 * bits - 1).to(part.dtype)
        columns.append([_terms(denoiser, part, probe, level) for level in levels])
    terms = np.concatenate([np.stack(rows) for rows in columns], axis=1)
    divergence = np.array([linear_divergence(level) for level in levels])
    precision = float(denoiser.mean_precision(torch.zeros(1, device=anomalies.device)))
    return (terms + divergence[:, None]) / (precision * anomalies[0].numel())


def choose_level(
    levels: Sequence[float],
    losses: NDArray[np.float64],
    mean_and_error: Callable[[NDArray[np.float64]], tuple[float, float]],
) -> LevelSweep:
    """Choose the smallest level that is as good as the best.

    Parameters
    ----------
    levels : sequence of float, increasing
    losses : (len(levels), n)
        From :func:`sweep_levels`.
    mean_and_error : callable
        Mean and standard error of a quantity given for every state, which knows how states go together.
    """
    best = int(losses.mean(axis=1).argmin())
    chosen = best
    for index in range(best):
        difference, error = mean_and_error(losses[index] - losses[best])
        if difference <= error:
            chosen = index
            break
    paired = np.array([mean_and_error(row - losses[chosen]) for row in losses])
    return LevelSweep(np.asarray(levels, dtype=float), losses.mean(axis=1), paired[:, 0], paired[:, 1], chosen)


def _terms(denoiser: Denoiser, states: Tensor, probe: Tensor, level: float) -> NDArray[np.float64]:
    """Return |s|²/2 + v·∇f v of each state, without the divergence of the linear part."""
    levels = torch.full((len(states),), level, device=states.device, dtype=states.dtype)
    correction, pull_back = torch.func.vjp(lambda a: denoiser.score_correction(a, levels), states)
    (derivative,) = pull_back(probe)
    with torch.no_grad():
        score = (denoiser.linear_score(states, levels) + correction).double()
        total = (score.square() / 2 + (probe * derivative).double()).flatten(1).sum(dim=1)
    return total.detach().cpu().numpy()
