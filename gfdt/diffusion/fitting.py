"""From a record to a trained denoiser: data (:mod:`gfdt.diffusion.data`), noise level, training, selection.

Everything here runs on each of the processes that share a training, on its share of the states for training and of
those that are held out; number 0 alone shows, logs and writes.
"""

from __future__ import annotations

import copy
import time
import warnings
from typing import TYPE_CHECKING

import torch

from gfdt.density.family import highest_level
from gfdt.diffusion.build import make_denoiser
from gfdt.diffusion.checkpoint import Checkpoint
from gfdt.diffusion.data import Data, share_data, whole_data
from gfdt.diffusion.distributed import Processes
from gfdt.diffusion.evaluation_level import settle_level
from gfdt.diffusion.execution import Execution
from gfdt.diffusion.fitted import LEVEL_SPREAD, MEDIAN_LEVEL, Fitted
from gfdt.diffusion.log import check_log
from gfdt.diffusion.objectives import Objective, make_objective
from gfdt.diffusion.resume import identify, read, restore
from gfdt.diffusion.running import Outputs, run
from gfdt.diffusion.selection import STOPPED, HeldOut, Selection, Selector
from gfdt.diffusion.speed import choose_execution
from gfdt.diffusion.streams import HELD_OUT, PROBES, WEIGHTS, stream
from gfdt.diffusion.training import Training
from gfdt.errors import ReliabilityWarning
from gfdt.trajectory import state_dims

if TYPE_CHECKING:
    import xarray as xr
    from torch import nn

    from gfdt.diffusion.linear import Linear
    from gfdt.diffusion.preconditioning import Denoiser
    from gfdt.diffusion.settings import Settings

__all__ = ["fit"]


def fit(
    trajectory: xr.DataArray, settings: Settings, outputs: Outputs, *, module: nn.Module | None = None
) -> tuple[Fitted, Data]:
    """Train a denoiser on a validated trajectory (member, time, *state); return it and what it learned from.

    Parameters
    ----------
    trajectory : DataArray
        From :func:`gfdt.load_trajectory`; with several processes also from :func:`gfdt.shares.open_unread`.
    settings : Settings
        From :func:`gfdt.diffusion.settings.resolve`, for its state dims.
    outputs : Outputs
        What to show and write.
    module : Module, optional
        The user's own network; it is copied.

    Raises
    ------
    InputError, OutputError, CheckpointError
        If the settings, the log or the checkpoint cannot be used.
    ProcessesError
        If one of several processes is lost.

    Warns
    -----
    ReliabilityWarning
        If training ended because of a loss that is not finite, or by Ctrl-C.
    """
    began = time.perf_counter()
    if outputs.log is not None:
        check_log(outputs.log)
    processes = Processes.join(settings.device)
    if processes.size > 1:
        data = share_data(trajectory, settings, processes)
    else:
        data = whole_data(trajectory, settings, processes, digest=outputs.checkpoint is not None)
    linear, shape = data.linear, data.linear.shape
    denoiser = make_denoiser(
        settings.architecture,
        linear.covariance,
        state_dims(trajectory),
        shape,
        generator=stream(settings.seed, WEIGHTS),
        module=copy.deepcopy(module),
        n_grid=settings.n_grid,
    ).to(processes.device)
    checkpoint = None
    if outputs.checkpoint is not None:
        identity = identify(settings, data.fingerprint, denoiser)
        checkpoint = Checkpoint(outputs.checkpoint, outputs.checkpoint_minutes, identity)
    stored = None if checkpoint is None else read(checkpoint, processes)
    top = highest_level(linear.covariance) if settings.all_levels else 0.0
    objective = make_objective(settings.objective, MEDIAN_LEVEL * linear.level, LEVEL_SPREAD, top)
    tuning = time.perf_counter()
    if stored is None:
        execution = choose_execution(denoiser, data.training, objective, settings, processes)
    else:
        execution = Execution.from_json(stored[1].get("execution"))
    training = Training(
        denoiser,
        data.training,
        objective,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        max_steps=settings.max_steps,
        max_seconds=settings.max_seconds,
        seed=settings.seed,
        execution=execution,
        processes=processes,
        seconds=time.perf_counter() - tuning,
    )
    held_out = _held_out(data, objective, settings.seed, processes)
    selector = Selector(denoiser, held_out, decay=settings.ema, patience=settings.patience)
    if checkpoint is not None and stored is not None:
        restore(checkpoint, stored, training, selector)
        began -= training.seconds
    selection = _shared(run(training, selector, outputs, checkpoint), denoiser, processes)
    seconds = time.perf_counter() - began
    if selection.weights is None:
        if settings.architecture.precondition == "none":
            _warn_empty()
        return Fitted(_unlearned(linear, settings), None, selection, seconds, execution, linear.level, top), data
    denoiser.network.load_state_dict(selection.weights)
    denoiser = denoiser.eval().requires_grad_(False)
    trained = linear.level
    if settings.sigma is None and trained > 0:
        level = _settled(linear, denoiser, held_out, selection, settings.seed, processes)
        if level is None:
            selection.step = selection.weights = None
            linear = _unlearned(linear, settings)
        else:
            linear = linear.at(level, linear.units.in_data_units(level))
    seconds = time.perf_counter() - began
    learned = None if selection.step is None else denoiser
    return Fitted(linear, learned, selection, seconds, execution, trained, top), data


def _unlearned(linear: Linear, settings: Settings) -> Linear:
    """Return the linear part for use by itself: without blur, which is all bias where nothing was learned."""
    if settings.sigma is not None or settings.architecture.precondition != "gaussian":
        return linear
    return linear.at(0.0, 0.0)


def _settled(
    linear: Linear,
    denoiser: Denoiser,
    held_out: HeldOut,
    selection: Selection,
    seed: int,
    processes: Processes,
) -> float | None:
    """Choose the noise level of evaluation on the held-out states, for all processes; None for the Gaussian score."""
    level: float | None = linear.level
    generator = stream(seed, PROBES, device=processes.device)
    try:
        level, selection.sweep = settle_level(denoiser, held_out, linear.level, generator)
    except RuntimeError as error:  # a module of the user's that torch.func cannot differentiate
        if processes.first:
            warnings.warn(
                f"the noise level was not compared with others, the network cannot be differentiated by torch.func "
                f"({(str(error).splitlines() or [''])[0][:80]}): {linear.level:.3g} standard deviations are used.",
                ReliabilityWarning,
                stacklevel=5,
            )
    agreed = processes.agree(-1.0 if level is None else level)[0]
    return None if agreed < 0 else agreed


def _shared(selection: Selection, denoiser: Denoiser, processes: Processes) -> Selection:
    """Give what process 0 selected to all of them: the same, unless their machines round differently."""
    if processes.size == 1:
        return selection
    step, stopped = processes.agree(selection.step or 0, STOPPED.index(selection.stopped) if processes.first else 0)
    selection.step, selection.stopped = int(step) or None, STOPPED[int(stopped)]
    if selection.step is not None:
        like = denoiser.network.state_dict()
        selection.weights = selection.weights or {name: torch.empty_like(value) for name, value in like.items()}
        processes.copy_from_first_([selection.weights[name] for name in like])
    return selection


def _warn_empty() -> None:
    warnings.warn(
        "no weights were demonstrably better than a score of zero, which is what precondition='none' starts from: "
        "train longer, or use precondition='gaussian'.",
        ReliabilityWarning,
        stacklevel=5,
    )


def _held_out(data: Data, objective: Objective, seed: int, processes: Processes) -> HeldOut:
    anomalies = torch.from_numpy(data.linear.units.single(data.judged)).to(processes.device)
    generator = stream(seed, HELD_OUT, device=processes.device)
    return HeldOut(anomalies, data.pieces, objective, data.linear.level, generator, processes)
