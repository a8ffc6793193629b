"""Model selection on held-out blocks of time: training must not lose the Gaussian.

Neighbouring snapshots of a trajectory are nearly equal, so a random tenth of them would be no test: whole
intervals of time are held out, the same for every member. On them the averaged weights are compared with the
Gaussian start (F = 0) at the noise level at which the score will be used, with the same noise every time:

    gain_b = < |F_target|² - |F - F_target|² >_b / d        for each held-out block b of each member.

Kept are the latest weights whose gain is not below the best one's by more than one standard error of their paired
difference (the largest of many noisy numbers would be a worse choice), and only if the gain itself exceeds two
standard errors; otherwise the answer is the Gaussian start itself.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from gfdt.diffusion.objectives import squared_errors
from gfdt.diffusion.preconditioning import Denoiser
from gfdt.diffusion.training import StepRecord, average_weights
from gfdt.errors import ReliabilityWarning

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["HeldOut", "Selection", "hold_out", "train_and_select"]

_PERIOD = 10  # one block of time in ten is held out
_PIECES = 8  # held-out (member, block) pieces wanted at least: fewer give no standard error
_STANDARD_ERRORS = 2.0
_BATCH_VALUES = 2**18  # numbers in one batch of the evaluation: bounds its memory


def hold_out(n_members: int, n_times: int) -> NDArray[np.int64]:
    """Return for every time the number of the held-out block it lies in, or -1 if it is for training.

    One block of time in ten is held out; the blocks are as long as possible while members times held-out
    blocks is at least 8 (and there are two blocks, so that one epoch cannot decide).
    """
    held = max(2, math.ceil(_PIECES / n_members))
    length = max(1, n_times // (_PERIOD * held))
    block = np.arange(n_times) // length
    return np.where(block % _PERIOD == _PERIOD // 2, block // _PERIOD, -1)


class HeldOut:
    """The held-out states with their fixed noise.

    Parameters
    ----------
    anomalies : Tensor of shape (n, *state)
        Held-out states less the mean, in units of the denoiser's scale.
    pieces : ndarray of int, shape (n,)
        Which (member, block) each belongs to.
    level : float
        Noise level, in the same units.
    generator : Generator
        Draws the noise, once.
    """

    def __init__(self, anomalies: Tensor, pieces: NDArray[np.int64], level: float, generator: torch.Generator) -> None:
        self.anomalies = anomalies
        self.z = torch.randn(anomalies.shape, generator=generator, device=anomalies.device)
        self.level = torch.full((len(anomalies),), level, device=anomalies.device)
        self.piece = np.unique(pieces, return_inverse=True)[1]

    def gains(self, denoiser: Denoiser) -> tuple[NDArray[np.float64], float]:
        """Return the gain over F = 0 summed over each piece, and the loss relative to F = 0."""
        differences, losses = [], []
        denoiser.eval()
        with torch.inference_mode():
            size = max(1, _BATCH_VALUES // max(1, self.anomalies[0].numel()))
            for start in range(0, len(self.anomalies), size):
                part = slice(start, start + size)
                learned, gaussian = squared_errors(denoiser, self.anomalies[part], self.z[part], self.level[part])
                differences.append((gaussian - learned).double().cpu().numpy())
                losses.append(gaussian.double().cpu().numpy())
        denoiser.train()
        difference, loss = np.concatenate(differences), np.concatenate(losses)
        return np.bincount(self.piece, difference).astype(np.float64), float(1 - difference.mean() / loss.mean())

    def mean_and_error(self, sums: NDArray[np.float64]) -> tuple[float, float]:
        """Return the mean over states of a quantity summed over each piece, and its standard error."""
        count = np.bincount(self.piece)
        n, mean = count.size, sums.sum() / count.sum()
        if n < 2:
            return float(mean), math.inf
        # Pieces differ in size: the variance of a ratio estimator, sum_b n_b² (gain_b - mean)²/n².
        variance = np.square(sums - count * mean).sum() * n / (n - 1) / count.sum() ** 2
        return float(mean), float(math.sqrt(variance))


@dataclass
class Selection:
    """The outcome of training.

    Attributes
    ----------
    step : int or None
        The step whose averaged weights were kept; None: nothing beat the Gaussian start.
    weights : dict of Tensor or None
        Those weights.
    history : list of dict
        One entry for each evaluation: step, seconds, training loss, held-out loss relative to the Gaussian start,
        gain and its standard error, gradient norm, learning rate.
    interrupted : bool
        Whether Ctrl-C ended the training.
    """

    step: int | None = None
    weights: dict[str, Tensor] | None = None
    history: list[dict[str, float]] = field(default_factory=list)
    interrupted: bool = False


def train_and_select(
    denoiser: Denoiser,
    steps: Iterator[StepRecord],
    held_out: HeldOut,
    *,
    decay: float,
    evaluations: int = 20,
    progress: bool | None = None,
) -> Selection:
    """Drive ``steps`` to the end and keep the best averaged weights.

    Parameters
    ----------
    denoiser : Denoiser
        The one that ``steps`` trains.
    steps : iterator of StepRecord
        From :func:`gfdt.diffusion.training.train`.
    held_out : HeldOut
        What decides.
    decay : float
        Of the moving average of the weights.
    evaluations : int
        How often to look at the held-out states, spread evenly over the budget.
    progress : bool, optional
        Show a progress bar on stderr. None: only in a terminal.

    Warns
    -----
    ReliabilityWarning
        If training stopped early, because of a loss that is not finite or a keyboard interrupt.
    """
    average = average_weights(denoiser.network, decay)
    averaged = denoiser.with_network(average.module)
    selection, best = Selection(), np.zeros(0)
    start, done, losses = time.perf_counter(), 0, []
    bar = tqdm(total=1000, desc="training", disable=None if progress is None else not progress, bar_format=_BAR)
    try:
        for record in steps:
            if not (math.isfinite(record.loss) and math.isfinite(record.gradient_norm)):
                _warn_early(f"the training loss became {record.loss} at step {record.step}", selection)
                break
            average.update_parameters(denoiser.network)
            losses.append(record.loss)
            bar.update(int(1000 * record.progress) - bar.n)
            if record.progress * evaluations < done + 1 and record.progress < 1:
                continue
            done = int(record.progress * evaluations)
            gains, relative = held_out.gains(averaged)
            gain, error = held_out.mean_and_error(gains)
            entry: dict[str, Any] = {
                "step": record.step,
                "seconds": time.perf_counter() - start,
                "loss": float(np.mean(losses)),
                "held_out": relative,
                "gain": gain,
                "gain_error": error,
                "gradient_norm": record.gradient_norm,
                "learning_rate": record.learning_rate,
            }
            losses.clear()
            if not math.isfinite(gain):
                _warn_early(f"the held-out loss became {relative} at step {record.step}", selection)
                break
            selection.history.append(entry)
            bar.set_postfix_str(f"held-out loss {relative:.4f} of the Gaussian start's")
            if gain <= _STANDARD_ERRORS * error:
                continue
            if best.size == 0 or gains.sum() > best.sum():
                best = gains
            loss_of_gain, its_error = held_out.mean_and_error(best - gains)
            if loss_of_gain <= its_error:
                selection.step = record.step
                selection.weights = {name: value.clone() for name, value in average.module.state_dict().items()}
    except KeyboardInterrupt:
        selection.interrupted = True
        _warn_early("training was interrupted by Ctrl-C", selection)
    finally:
        bar.close()
    return selection


_BAR = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}"


def _warn_early(reason: str, selection: Selection) -> None:
    kept = "the Gaussian start was" if selection.step is None else f"the weights of step {selection.step} were"
    advice = "" if selection.interrupted else "; train again with a smaller learning_rate or another seed"
    warnings.warn(
        f"{reason}: {kept} kept{advice}.",
        ReliabilityWarning,
        stacklevel=4,
    )
