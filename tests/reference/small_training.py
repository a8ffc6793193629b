"""A small network on bimodal data, and trainings of it that take seconds."""

import numpy as np
import torch

from gfdt.covariance import DenseCovariance
from gfdt.diffusion.build import Architecture, make_denoiser
from gfdt.diffusion.objectives import make_objective
from gfdt.diffusion.training import StepRecord, Training

STEPS = 12


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def small_denoiser(x):
    """A denoiser with a small network for states x (n, 1), and their anomalies."""
    scale = x.std()
    covariance = DenseCovariance.estimate((x - x.mean()) / scale, 0.0)
    architecture = Architecture("mlp", {"width": 16, "depth": 1})
    denoiser = make_denoiser(architecture, covariance, ("component",), (1,), generator=generator())
    return denoiser, torch.tensor((x - x.mean()) / scale, dtype=torch.float32)


def two_peaks():
    """A denoiser with a small network, and 512 anomalies with two peaks."""
    rng = np.random.default_rng(0)
    return small_denoiser(rng.choice([-1.0, 1.0], (512, 1)) + 0.2 * rng.normal(size=(512, 1)))


def training(denoiser, anomalies, objective="dsm", **changes):
    settings = {"batch_size": 64, "learning_rate": 5e-3, "max_steps": STEPS, "max_seconds": None, "seed": 1} | changes
    return Training(denoiser, anomalies, make_objective(objective, 0.3, 0.5), **settings)


def record(step=1, progress=0.1, loss=1.0, norm=0.1):
    return StepRecord(step, loss, (loss,) * 4, norm, 1e-3, 1.0, progress, 0.0)
