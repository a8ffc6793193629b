"""The training loop, as an iterator over one small record per step.

With gradient clipping; the learning rate warms up over the first 5 % of the budget and falls to zero along
half a cosine, the budget being steps, wall-clock time or both (the nearer end counts). What to do
between steps (averaging, evaluation, progress, stopping) is up to the caller's ``for``::

    for record in Training(denoiser, states, objective, ...):
        average.update_parameters(denoiser.network)

A training can be stopped after any step and, in another process, go on from there bit for bit
(:meth:`Training.state`, :meth:`Training.restore`); on another number of processes it goes on with new random numbers.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from gfdt.diffusion.distributed import Processes
from gfdt.diffusion.execution import PLAIN, Execution, accelerated
from gfdt.diffusion.optimizers import make_optimizer
from gfdt.diffusion.streams import NOISE, ORDER, stream
from gfdt.errors import InputError

if TYPE_CHECKING:
    from gfdt.diffusion.objectives import Objective
    from gfdt.diffusion.preconditioning import Denoiser

__all__ = ["LEVEL_BINS", "StepRecord", "Training", "average_weights"]

LEVEL_BINS = 4
_WARM_UP = 0.05
_CLIP = 1.0  # gradient norm; 0.01 to 0.3 is normal with targets of unit variance, so only accidents are cut
_STEPS_WITHOUT_LIMIT = 10**9

_Tensors = tuple[Tensor, ...] | list[Tensor]


class StepRecord(NamedTuple):
    """What happened in one step of training.

    Attributes
    ----------
    step : int
        From 1.
    loss : float
        Of this step's batch, before the step, relative to the Gaussian start:

            1 + <L(F) - L(0)>/|<L(0)>|,

        1 for the start and less for what is better. (L(0) is positive for the denoising objective, where this is
        L(F)/L(0), and negative for the sliced ones; where it is exactly 0, without a linear part, its place is taken
        by 1.)
    loss_by_level : tuple of float
        The same in each quarter of the batch, from the lowest noise levels to the highest; NaN where all states have
        the same level.
    gradient_norm : float
        Before clipping.
    learning_rate : float
        Used in this step.
    samples_per_second : float
        Network evaluations (several for every state) per second of this step, on all processes together.
    progress : float
        Share of the budget used, 1 at the last step.
    seconds : float
        Wall-clock time since the start, that of earlier runs included.
    """

    step: int
    loss: float
    loss_by_level: tuple[float, ...]
    gradient_norm: float
    learning_rate: float
    samples_per_second: float
    progress: float
    seconds: float


class _States(Protocol):
    def __len__(self) -> int: ...

    def __getitem__(self, chosen: Tensor, /) -> Tensor: ...


class Training:
    """Train ``denoiser.network`` in place, one step per iteration.

    Parameters
    ----------
    denoiser : Denoiser
        On the device to train on.
    states : Tensor of shape (n, *state) or :class:`gfdt.diffusion.states.States`
        Training states as anomalies, indexed by numbers on the CPU and given on that device. Of several processes each
        passes its own share, and takes its part of every batch from it.
    objective : Objective
        From :func:`gfdt.diffusion.objectives.make_objective`.
    batch_size : int
        Network evaluations per step, on all processes together.
    learning_rate : float
        The largest, reached after the warm-up.
    max_steps, max_seconds : optional
        The budget; at least one is needed.
    seed : int
        Of the order of the states and of the noise.
    execution : Execution
        How the network is run. Default: plain float32.
    processes : Processes
        Those that share the work. Default: this one alone.
    seconds : float
        Wall-clock time used before, as part of the budget. Default 0.

    Raises
    ------
    InputError
        If there are no weights to train, or fewer states in a batch than processes, or in a share than in its part of
        a batch; on all processes alike.

    Notes
    -----
    A loss that is not finite is recorded without stepping: the weights are still those before it.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        states: _States,
        objective: Objective,
        *,
        batch_size: int,
        learning_rate: float,
        max_steps: int | None,
        max_seconds: float | None,
        seed: int,
        execution: Execution = PLAIN,
        processes: Processes | None = None,
        seconds: float = 0.0,
    ) -> None:
        self.denoiser, self.states, self.objective = denoiser, states, objective
        self.processes = processes = processes or Processes()
        self.learning_rate, self.max_seconds = learning_rate, max_seconds
        self.max_steps = _STEPS_WITHOUT_LIMIT if max_steps is None else max_steps
        self.step, self.seconds = 0, processes.agree(seconds)[0]
        self.parameters = [p for p in denoiser.network.parameters() if p.requires_grad]
        if not self.parameters:
            raise InputError("the network has no weights to train: give it parameters that require gradients.")
        self.execution = execution
        self._run = accelerated(denoiser, execution)
        self.optimizer = make_optimizer(denoiser.network, learning_rate)
        held = [int(count) for count in processes.every(len(states))]
        self.states_per_step = min(sum(held), max(1, batch_size // objective.evaluations_per_state))
        _check_shares(held, self.states_per_step)
        self.seed = seed
        self._begin_streams()
        processes.copy_from_first_(list(denoiser.network.state_dict().values()))

    def __iter__(self) -> Iterator[StepRecord]:
        """Yield a :class:`StepRecord` after every step until the budget is used."""
        self.denoiser.train()
        self._run.train()
        before = time.perf_counter()
        start = before - self.seconds
        progress = self._progress()
        while progress < 1:
            rate = self.learning_rate * _schedule(progress)
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            loss, by_level, norm = self._step()
            now = time.perf_counter()
            self.step += 1
            self.seconds = self.processes.agree(now - start)[0]
            progress = self._progress()
            speed = self.objective.evaluations_per_state * self.states_per_step / (now - before)
            yield StepRecord(self.step, loss, by_level, norm, rate, speed, progress, self.seconds)
            # The caller's work between steps is part of the budget but not of the speed.
            before = time.perf_counter()

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return everything the next steps depend on: tensors, and numbers that go into JSON.

        Called by all processes together; process 0 gets what all need.
        """
        tensors = {f"network.{name}": value for name, value in self.denoiser.network.state_dict().items()}
        for number, values in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{number}.{name}": value for name, value in values.items()}
        tensors["random.noise"] = self.processes.gather(self.noise.get_state())
        tensors["random.order"] = self.processes.gather(self._order.state)
        positions = [int(position) for position in self.processes.every(self._order.position)]
        return tensors, {"step": self.step, "seconds": self.seconds, "positions": positions}

    def restore(self, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
        """Go on from a ``state()`` of the same training; with new random numbers if not of as many processes."""
        take = {name.removeprefix("network."): value for name, value in tensors.items() if name.startswith("network.")}
        self.denoiser.network.load_state_dict(take)
        own = self.optimizer.state_dict()
        for number, values in own["state"].items():
            for name, value in values.items():
                value.copy_(tensors[f"optimizer.{number}.{name}"])
        self.step, self.seconds = numbers["step"], numbers["seconds"]
        positions, rank = numbers["positions"], self.processes.rank
        if len(positions) == self.processes.size:
            self.noise.set_state(tensors["random.noise"][rank].clone())
            self._order.restore(tensors["random.order"][rank], positions[rank])
        else:
            self._begin_streams((self.processes.size, self.step))
        # The elements of a symmetry group are taken in turn, one for each state of this process.
        mine = self.processes.part(self.states_per_step)
        self._run.next_element = self.step * mine % len(self._run.group)

    def _begin_streams(self, anew: tuple[int, ...] = ()) -> None:
        """Start the random numbers of this process."""
        rank, mine = self.processes.rank, self.processes.part(self.states_per_step)
        self._order = _Order(len(self.states), mine, stream(self.seed, ORDER, rank, anew))
        self.noise = stream(self.seed, NOISE, rank, anew, device=self.processes.device)

    def _step(self) -> tuple[float, tuple[float, ...], float]:
        """Draw a batch and take one step; return its loss, that of the quarters by level, and the gradient norm."""
        batch = self.states[next(self._order)]
        z, level = self.objective.draw(batch, self.noise)
        excess = self.objective.excess(self._run, batch, z, level)
        self.optimizer.zero_grad()
        # Every process has its own share of the sum over the batch.
        (excess.sum() / self.states_per_step).backward()
        with torch.no_grad():
            baseline = self.objective.baseline(self.denoiser, batch, z, level)
            sums = _quarters(level, torch.stack([excess.detach(), baseline]))
            gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in self.parameters]
            self.processes.sum_([sums, *gradients])
        norm = nn.utils.clip_grad_norm_(self.parameters, _CLIP)
        # One transfer from the device for all of them.
        *values, gradient_norm, levels = torch.cat(
            [sums.flatten(), norm[None], (level.max() - level.min())[None]]
        ).tolist()
        learned, start = values[:LEVEL_BINS], values[LEVEL_BINS:]
        loss = _relative(sum(learned), sum(start))
        if math.isfinite(loss) and math.isfinite(gradient_norm):
            self.optimizer.step()
        by_level = tuple(_relative(a, b) if levels else math.nan for a, b in zip(learned, start, strict=True))
        return loss, by_level, gradient_norm

    def _progress(self) -> float:
        spent = 0.0 if self.max_seconds is None else self.seconds / self.max_seconds
        return min(1.0, max(self.step / self.max_steps, spent))


def average_weights(network: nn.Module, decay: float) -> torch.optim.swa_utils.AveragedModel:
    """Return an exponential moving average of the weights, updated with ``.update_parameters(network)``.

    The decay at update t is min(decay, (1 + t)/(10 + t)), so that short runs do not stay at their start.
    """

    def mix(averages: _Tensors, current: _Tensors, count: Tensor | int) -> None:
        t = float(count)
        torch._foreach_lerp_(averages, current, 1 - min(decay, (1 + t) / (10 + t)))

    return torch.optim.swa_utils.AveragedModel(network, multi_avg_fn=mix)


class _Order:
    """Numbers of states, ``size`` at a time, for ever: all in a new random order in each pass.

    Drawing with replacement instead would add the noise of a bootstrap to every pass. The state of the generator at the
    start of a pass, and the position in it, say where it stands.
    """

    def __init__(self, count: int, size: int, generator: torch.Generator) -> None:
        self._count, self._size, self._generator = count, size, generator
        self._shuffle()

    def __next__(self) -> Tensor:
        if self.position + self._size > self._count:
            self._shuffle()
        self.position += self._size
        return self._permutation[self.position - self._size : self.position]

    def restore(self, state: Tensor, position: int) -> None:
        self._generator.set_state(state.clone())
        self._shuffle()
        self.position = position

    def _shuffle(self) -> None:
        self.state, self.position = self._generator.get_state(), 0
        self._permutation = torch.randperm(self._count, generator=self._generator)


def _check_shares(held: list[int], states_per_step: int) -> None:
    """Refuse a batch that the processes, which hold so many states, cannot take their parts of."""
    size = len(held)
    if states_per_step < size:
        raise InputError(
            f"a batch of {states_per_step} states cannot be shared by {size} processes: pass a larger batch_size or "
            "start fewer of them."
        )
    for rank, count in enumerate(held):
        part = Processes(rank, size).part(states_per_step)
        if count < part:
            raise InputError(
                f"process {rank} of {size} holds {count} of {sum(held)} training states, and its part of a batch is "
                f"{part}: divide the states evenly, pass a smaller batch_size, or start fewer processes."
            )


def _quarters(level: Tensor, values: Tensor) -> Tensor:
    """Return the sums (rows, 4) of values (rows, n) over the quarters of the batch by level."""
    rank = torch.empty_like(level, dtype=torch.long)
    rank[level.argsort()] = torch.arange(len(level), device=level.device)
    sums = torch.zeros(len(values), LEVEL_BINS, device=values.device, dtype=values.dtype)
    return sums.index_add_(1, rank * LEVEL_BINS // len(level), values)


def _relative(excess: float, baseline: float) -> float:
    return 1 + excess / (abs(baseline) or 1.0)


def _schedule(progress: float) -> float:
    warm_up = min(1.0, (progress + 1e-3) / _WARM_UP)
    return warm_up * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
