"""At which noise level to use what was learned: the one whose score is nearest to that of the data, on held-out states.

A network learns scores s_σ of the data blurred by noise of level σ, for a range of σ. What is wanted is the score s of
the data themselves. Blur is a bias that grows with σ; what was learned from noise is less certain the smaller σ is.
Integration by parts turns the distance from s into something that needs no s (Hyvärinen 2005, the Stein identity
summed over all directions):

    J(σ) = < |s_σ(x)|²/2 + div s_σ(x) > = < |s_σ(x) - s(x)|² >/2 - < |s(x)|² >/2.

J is measured at unblurred held-out states for levels around the one that the spectrum of C suggests
(:mod:`gfdt.diffusion.noise_level`), with the same probes v of random signs for the divergence of the network's part
(that of the linear part is exact), and in units of κ = tr C⁻¹/d, so that a Gaussian has J = -1/2. Chosen is the level
with the smallest J; the Gaussian score of the unblurred data (level 0, no network) competes too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gfdt.diffusion.selection import ratio_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from gfdt.diffusion.preconditioning import Denoiser
    from gfdt.diffusion.selection import HeldOut

__all__ = ["CANDIDATES", "LevelSweep", "choose_level", "settle_level", "sweep_levels"]

CANDIDATES = tuple(2.0 ** (0.5 * power) for power in range(-4, 2))  # times the level of the spectrum: 1/4 to 2^½
_VALUES, _LEAST_STATES = 2**18, 256  # numbers in the states that decide; a level costs three evaluations of each
_STANDARD_ERRORS = 2.0  # by which the Gaussian score must be better to be preferred
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
    """
    size = max(1, _BATCH_VALUES // max(1, anomalies[0].numel()))
    columns = []
    for part in anomalies.split(size):
        bits = torch.randint(2, part.shape, generator=generator, device=part.device)
        probe = (2 * bits - 1).to(part.dtype)
        columns.append([_terms(denoiser, part, probe, level) for level in levels])
    terms = np.concatenate([np.stack(rows) for rows in columns], axis=1)
    at = torch.tensor([0.0, *levels], device=anomalies.device)
    precision, *traces = denoiser.mean_precision(at).tolist()
    divergence = np.array(traces) if denoiser.has_linear_part else np.zeros(len(levels))
    return (terms / anomalies[0].numel() - divergence[:, None]) / precision


def settle_level(
    denoiser: Denoiser, held_out: HeldOut, level: float, generator: torch.Generator
) -> tuple[float | None, list[dict[str, float]]]:
    """Return the level to use, and the table that decided it; None if the Gaussian score itself is better than all.

    Parameters
    ----------
    denoiser : Denoiser
        Trained, in evaluation mode.
    held_out : HeldOut
        Its states decide; all processes call this together, and do the same.
    level : float
        That of the spectrum, about which the network was trained.
    generator : Generator
        Of the probes.
    """
    count = len(held_out.piece)
    most = max(_LEAST_STATES, _VALUES // max(1, held_out.state_size))
    chosen = np.unique(np.linspace(0, count - 1, most).round().astype(int))
    pieces = np.unique(held_out.piece[chosen], return_inverse=True)[1]
    levels = [factor * level for factor in CANDIDATES]
    states = held_out.some(chosen)
    losses = sweep_levels(denoiser, states, levels, generator)

    def mean_and_error(values: NDArray[np.float64]) -> tuple[float, float]:
        return ratio_mean(np.bincount(pieces, values).astype(np.float64), np.bincount(pieces))

    sweep = choose_level(levels, losses, mean_and_error)
    rows = zip(sweep.levels, sweep.loss, sweep.difference, sweep.error, strict=True)
    names = ("level", "loss", "difference", "error")
    table = [{n: float(v) for n, v in zip(names, row, strict=True) if np.isfinite(v)} for row in rows]
    if denoiser.precondition != "gaussian":
        return levels[sweep.chosen], table
    gaussian = _gaussian_loss(denoiser, states)
    difference, error = mean_and_error(gaussian - losses[sweep.chosen])
    start = {"level": 0.0, "loss": float(gaussian.mean()), "difference": difference, "error": error}
    table.insert(0, {name: value for name, value in start.items() if np.isfinite(value)})
    beaten = difference < -_STANDARD_ERRORS * error
    return None if beaten else levels[sweep.chosen], table


def choose_level(
    levels: Sequence[float],
    losses: NDArray[np.float64],
    mean_and_error: Callable[[NDArray[np.float64]], tuple[float, float]],
) -> LevelSweep:
    """Choose the level with the smallest loss.

    Parameters
    ----------
    levels : sequence of float, increasing
    losses : (len(levels), n)
        From :func:`sweep_levels`.
    mean_and_error : callable
        Mean and standard error of a quantity given for every state, which knows how states go together.
    """
    chosen = int(losses.mean(axis=1).argmin())
    paired = np.array([mean_and_error(row - losses[chosen]) for row in losses])
    return LevelSweep(np.asarray(levels, dtype=float), losses.mean(axis=1), paired[:, 0], paired[:, 1], chosen)


def _gaussian_loss(denoiser: Denoiser, states: Tensor) -> NDArray[np.float64]:
    """Return J of the Gaussian score of the data, which has no noise level, for each state."""
    zero = torch.zeros(1, device=states.device)
    precision = float(denoiser.mean_precision(zero))
    with torch.no_grad():
        score = denoiser.linear_score(denoiser.project(states), zero.expand(len(states))).double()
    return (score.square().flatten(1).mean(dim=1) / (2 * precision) - 1).cpu().numpy()


def _terms(denoiser: Denoiser, states: Tensor, probe: Tensor, level: float) -> NDArray[np.float64]:
    """Return |s|²/2 + v·∇f v of each state, without the divergence of the linear part."""
    levels = torch.full((len(states),), level, device=states.device, dtype=states.dtype)
    correction, pull_back = torch.func.vjp(lambda a: denoiser.score_correction(a, levels), states)[:2]
    (derivative,) = pull_back(probe)
    with torch.no_grad():
        score = (denoiser.linear_score(states, levels) + correction).double()
        total = (score.square() / 2 + (probe * derivative).double()).flatten(1).sum(dim=1)
    return total.detach().cpu().numpy()
