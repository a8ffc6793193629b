"""Model selection on held-out blocks of time: training must not lose the Gaussian.

Neighbouring snapshots of a trajectory are nearly equal, so a random tenth of them would be no test: whole
intervals of time are held out, the same for every member. On them the averaged weights are compared with the
Gaussian start (F = 0) at the noise level at which the score will be used, with the same noise every time:

    gain_b = < L(0) - L(F) >_b        for each held-out block b of each member, L the loss of a state.

Kept are the latest weights that are not below the best by more than two standard errors of their paired difference
(the learning rate falls to zero, so later weights are better unless the held-out states say otherwise, and the largest
of many noisy gains would be a worse choice). The best must itself exceed two standard errors; otherwise the answer is
the Gaussian start. Training ends early when in ``patience`` evaluations in a row the gain is below the best (or that of
the start, 0) by more than two standard errors of the paired difference, while the loss in training is significantly
lower than it was there: by overfitting, and neither by noise nor because large first steps make everything worse before
it gets better.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gfdt.diffusion.distributed import Processes
from gfdt.diffusion.training import StepRecord, average_weights
from gfdt.errors import CheckpointError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gfdt.diffusion.objectives import Objective
    from gfdt.diffusion.preconditioning import Denoiser

__all__ = ["EVALUATIONS", "STOPPED", "HeldOut", "Selection", "Selector", "check_history", "hold_out", "ratio_mean"]

EVALUATIONS = 20  # of the held-out states, spread evenly over the budget
STOPPED = ("budget", "patience", "interrupted", "not finite")
_MOST_EVALUATIONS = 10**5
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
    """The held-out states with their fixed noise, divided among the processes of a training.

    Parameters
    ----------
    anomalies : Tensor of shape (n, *state)
        Held-out states, in units of ``scale``: of process r of N those at the places r, r + N, ... of all.
    pieces : ndarray of int
        Which (member, block) each belongs to, of all processes together.
    objective : Objective
        Whose loss is compared.
    level : float
        Noise level, in the same units.
    generator : Generator
        Draws the noise, once: that of all states on every process, so that it depends on none of their number.
    processes : Processes
        Those that share the work. Default: this one alone.
    """

    def __init__(
        self,
        anomalies: Tensor,
        pieces: NDArray[np.int64],
        objective: Objective,
        level: float,
        generator: torch.Generator,
        processes: Processes | None = None,
    ) -> None:
        self.objective = objective
        self.processes = processes = processes or Processes()
        self.piece = np.unique(pieces, return_inverse=True)[1]
        self._anomalies, self._batches, taken = anomalies, [], 0
        size = max(1, _BATCH_VALUES // max(1, self.state_size))
        for start in range(0, len(self.piece), size):
            like = anomalies.new_empty((min(size, len(self.piece) - start), *anomalies.shape[1:]))
            own = slice((processes.rank - start) % processes.size, None, processes.size)
            drawn = [values[own].contiguous() for values in objective.draw_at(like, level, generator)]
            self._batches.append((anomalies[taken : taken + len(drawn[0])], *drawn))
            taken += len(drawn[0])

    @property
    def n_pieces(self) -> int:
        """How many pieces there are."""
        return int(self.piece.max()) + 1

    @property
    def state_size(self) -> int:
        """How many numbers a state has."""
        return self._anomalies.shape[1:].numel()

    def some(self, places: NDArray[np.int64]) -> Tensor:
        """Return the states at these places of all, on every process."""
        rank, size = self.processes.rank, self.processes.size
        found = self._anomalies.new_zeros((len(places), *self._anomalies.shape[1:]))
        mine = np.flatnonzero(places % size == rank)
        found[torch.from_numpy(mine)] = self._anomalies[torch.from_numpy(places[mine] // size)]
        self.processes.sum_([found])
        return found

    def gains(self, denoiser: Denoiser) -> tuple[NDArray[np.float64], float]:
        """Return the gain over F = 0 summed over each piece, and the loss relative to F = 0 (see StepRecord).

        Called by all processes together, each of which gets both.
        """
        nothing = self._anomalies.new_empty(0)  # a process may have no state
        excess, baseline = [nothing], [nothing]
        training = denoiser.training
        denoiser.eval()
        with torch.no_grad():
            for batch in (each for each in self._batches if len(each[0])):
                excess.append(self.objective.excess(denoiser, *batch).detach())
                baseline.append(self.objective.baseline(denoiser, *batch).detach())
        denoiser.train(training)
        difference, loss = (torch.cat(values).double().cpu().numpy() for values in (excess, baseline))
        own = self.piece[self.processes.rank :: self.processes.size]
        sums = np.bincount(own, -difference, self.n_pieces)
        *gains, total, start = self.processes.total(np.array([*sums, difference.sum(), loss.sum()]))
        relative = 1 + (total / self.piece.size) / (abs(start / self.piece.size) or 1.0)
        return np.array(gains), float(relative)

    def mean_and_error(self, sums: NDArray[np.float64]) -> tuple[float, float]:
        """Return the mean over states of a quantity summed over each piece, and its standard error."""
        return ratio_mean(sums, np.bincount(self.piece))


def ratio_mean(sums: NDArray[np.float64], count: NDArray[np.int64]) -> tuple[float, float]:
    """Return the mean of a quantity given as sums over pieces of ``count`` states, and its standard error.

    Pieces differ in size: the variance is that of a ratio estimator, sum_b n_b² (mean_b - mean)²/n².
    """
    n, mean = count.size, sums.sum() / count.sum()
    if n < 2:
        return float(mean), math.inf
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
        One entry for each evaluation: step, seconds, mean training loss since the last one, held-out loss relative to
        the Gaussian start, gain and its standard error (if there are pieces enough for one), gradient norm, learning
        rate.
    stopped : str
        Why training ended: "budget", "patience", "interrupted", "not finite"; "" while it goes on.
    sweep : list of dict
        The noise levels of evaluation that were compared (:mod:`gfdt.diffusion.evaluation_level`).
    """

    step: int | None = None
    weights: dict[str, Tensor] | None = None
    history: list[dict[str, float]] = field(default_factory=list)
    sweep: list[dict[str, float]] = field(default_factory=list)
    stopped: str = ""


class Selector:
    """Averages the weights, looks at the held-out states from time to time, and keeps the best.

    Parameters
    ----------
    denoiser : Denoiser
        The one that is trained.
    held_out : HeldOut
        What decides, on all processes alike.
    decay : float
        Of the moving average of the weights.
    patience : int
        Evaluations in a row that must be significantly worse than the best before training ends.
    """

    def __init__(self, denoiser: Denoiser, held_out: HeldOut, *, decay: float, patience: int = 5) -> None:
        self.denoiser, self.held_out, self.patience = denoiser, held_out, patience
        self.average = average_weights(denoiser.network, decay)
        self.selection = Selection()
        self._averaged = denoiser.with_network(self.average.module)
        self._done, self._worse = 0, 0
        self._best_loss = _Mean(1.0, 1.0, 1)  # of the start
        self._losses = _Mean()
        self._best: NDArray[np.float64] | None = None

    def observe(self, record: StepRecord) -> bool:
        """Take in a step; return whether the held-out states were looked at. Sets ``selection.stopped`` at the end."""
        if not (math.isfinite(record.loss) and math.isfinite(record.gradient_norm)):
            self.selection.stopped = "not finite"
            return False
        self.average.update_parameters(self.denoiser.network)
        self._losses = self._losses.with_(record.loss)
        if record.progress >= 1:
            self.selection.stopped = "budget"
        elif record.progress * EVALUATIONS < self._done + 1:
            return False
        self._done = int(record.progress * EVALUATIONS)
        return self._evaluate(record)

    def _evaluate(self, record: StepRecord) -> bool:
        selection, held_out = self.selection, self.held_out
        gains, relative = held_out.gains(self._averaged)
        losses, self._losses = self._losses, _Mean()
        gain, error = held_out.mean_and_error(gains)
        if not math.isfinite(gain):
            selection.stopped = "not finite"
            return False
        entry: dict[str, Any] = {
            "step": record.step,
            "seconds": record.seconds,
            "loss": losses.mean,
            "held_out": relative,
            "gain": gain,
            "gain_error": error,
            "gradient_norm": record.gradient_norm,
            "learning_rate": record.learning_rate,
        }
        # Of a single piece there is no standard error, and files hold finite numbers only.
        selection.history.append({name: value for name, value in entry.items() if math.isfinite(value)})
        if self._best is None:
            self._best = np.zeros_like(gains)  # of the Gaussian start
        if gain > _STANDARD_ERRORS * error and gains.sum() > self._best.sum():
            self._best, self._best_loss = gains, losses
        loss, its_error = held_out.mean_and_error(self._best - gains)
        if self._best.any() and loss <= _STANDARD_ERRORS * its_error:
            selection.step = record.step
            selection.weights = {name: value.clone() for name, value in self.average.module.state_dict().items()}
        overfits = loss > _STANDARD_ERRORS * its_error and losses.is_below(self._best_loss)
        self._worse = self._worse + 1 if overfits else 0
        if self._worse >= self.patience and not selection.stopped:
            selection.stopped = "patience"
        return True

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return what the selector remembers: tensors, and numbers that go into JSON."""
        selection = self.selection
        tensors = {f"average.{name}": value for name, value in self.average.state_dict().items()}
        if selection.weights is not None:
            tensors |= {f"selected.{name}": value for name, value in selection.weights.items()}
        if self._best is not None:
            tensors["best"] = torch.from_numpy(self._best.copy())
        return tensors, {
            "selected": selection.step,
            "history": selection.history,
            "stopped": selection.stopped,
            "evaluations": self._done,
            "worse": self._worse,
            "best_loss": list(self._best_loss),
            "losses": list(self._losses),
        }

    def restore(self, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
        """Go on from a ``state()``."""
        selection = self.selection
        self.average.load_state_dict(_beneath("average.", tensors))
        selection.weights = _beneath("selected.", tensors) or None
        selection.step, selection.history = numbers["selected"], numbers["history"]
        selection.stopped = numbers["stopped"]
        self._best = tensors["best"].cpu().numpy().copy() if "best" in tensors else None
        self._done, self._worse, self._losses = numbers["evaluations"], numbers["worse"], _Mean(*numbers["losses"])
        self._best_loss = _Mean(*numbers["best_loss"])


def check_history(history: Any) -> None:
    """Refuse a history from a file that is not a list of dicts of numbers.

    Raises
    ------
    CheckpointError
        If it is something else.
    """
    valid = (
        isinstance(history, list)
        and len(history) <= _MOST_EVALUATIONS
        and all(isinstance(entry, dict) for entry in history)
        and all(type(value) in (int, float) for entry in history for value in entry.values())
    )
    if not valid:
        raise CheckpointError("the file has no valid training history: it was altered; fit the score anew.")


class _Mean(NamedTuple):
    """A mean in the making."""

    total: float = 0.0
    squares: float = 0.0
    number: int = 0

    def with_(self, value: float) -> _Mean:
        return _Mean(self.total + value, self.squares + value**2, self.number + 1)

    @property
    def mean(self) -> float:
        return self.total / max(self.number, 1)

    @property
    def variance(self) -> float:
        """The squared standard error."""
        return max(self.squares / max(self.number, 1) - self.mean**2, 0.0) / max(self.number - 1, 1)

    def is_below(self, other: _Mean) -> bool:
        """Whether this mean is lower by more than two standard errors of the difference."""
        return other.mean - self.mean > _STANDARD_ERRORS * math.sqrt(self.variance + other.variance)


def _beneath(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
