"""What a score file keeps of a learned score, and how it is checked when it comes back from a stranger."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from gfdt.covariance import Covariance, DenseCovariance, pack_covariance, unpack_covariance
from gfdt.covariance.storage import COVARIANCE_ARRAYS
from gfdt.diffusion.build import make_denoiser
from gfdt.diffusion.execution import Execution
from gfdt.diffusion.fitted import Fitted
from gfdt.diffusion.linear import Linear
from gfdt.diffusion.networks import NETWORKS
from gfdt.diffusion.selection import STOPPED, Selection, check_history
from gfdt.diffusion.settings import Settings, resolve
from gfdt.diffusion.units import Units, mean_of_state
from gfdt.errors import CheckpointError, InputError
from gfdt.validation import integer, number, one_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gfdt.diffusion.preconditioning import Denoiser
    from gfdt.scores.dsm import DSMScore

__all__ = ["pack", "unpack"]

_SAME = (
    "precondition", "objective", "energy", "sigma", "noise_range",
    "max_steps", "max_minutes", "batch_size", "learning_rate",
    "shrinkage", "ema", "patience", "precision", "channels_last", "compile", "tune", "seed",
)  # fmt: skip


def pack(score: DSMScore) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Return the description and arrays of a fitted score."""
    if not isinstance(score.network, str):
        raise InputError(
            f"a score with the network {type(score.network).__name__} cannot be saved, its code would have to be "
            "saved too: keep the module and its state_dict, or use a network named by a string."
        )
    fitted = score._fitted
    linear, selection = fitted.linear, fitted.selection
    arrays = pack_covariance(linear.covariance)
    arrays |= {"mean": linear.units.mean.ravel(), "scale": linear.units.scale}
    if fitted.denoiser is not None:
        weights = fitted.denoiser.network.state_dict()
        arrays |= {f"network.{name}": value.contiguous().cpu().numpy() for name, value in weights.items()}
    architecture = score._settings.architecture
    config = {name: getattr(score, name) for name in _SAME} | {
        "network": architecture.network,
        "network_options": dict(architecture.options),
        "symmetries": list(architecture.symmetries),
        "n_homogeneous": score._settings.n_homogeneous,
        "level": linear.level,
        "trained_level": fitted.trained_level,
        "trained_top": fitted.trained_top,
        "selected": selection.step,
        "stopped": selection.stopped,
        "execution": dataclasses.asdict(fitted.execution),
        "history": selection.history,
        "noise_sweep": selection.sweep,
        "training_seconds": fitted.seconds,
    }
    return config, arrays


def unpack(cls: type[DSMScore], config: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> DSMScore:
    """Rebuild the score, refusing whatever does not fit together."""
    shape, dims = tuple(config["state_shape"]), tuple(config["state_dims"])
    one_of("network", config["network"], tuple(NETWORKS))
    integer("n_homogeneous", config["n_homogeneous"], 0, len(dims))
    score = cls(
        config["network"],
        network_options=config["network_options"],
        symmetries=tuple(config["symmetries"]),
        homogeneous=dims[len(dims) - config["n_homogeneous"] :] or False,
        **{name: config[name] for name in _SAME},
    )
    settings = resolve(score, dims, shape)
    number("level", config["level"], low=0.0, high=1e6, closed=True)
    number("trained_level", config["trained_level"], low=0.0, high=1e6, closed=True)
    number("trained_top", config["trained_top"], low=0.0, high=1e9, closed=True)
    score._settings = settings
    linear = _linear(config, arrays, settings, shape)
    integer("selected", config["selected"], 1, 10**9, optional=True)
    one_of("stopped", config["stopped"], STOPPED)
    check_history(config["history"])
    execution = Execution.from_json(config["execution"])
    check_history(config["noise_sweep"])
    selection = Selection(config["selected"], None, config["history"], config["noise_sweep"], config["stopped"])
    number("training_seconds", config["training_seconds"], low=0.0)
    weights = {name.removeprefix("network."): a for name, a in arrays.items() if name.startswith("network.")}
    known = COVARIANCE_ARRAYS | {"scale"} | {f"network.{name}" for name in weights}
    if not known.issuperset(arrays) or (selection.step is None) == bool(weights):
        raise CheckpointError("the score file holds arrays that do not belong there: it was altered; fit it anew.")
    denoiser = _denoiser(settings, linear, weights, dims) if weights else None
    seconds, trained = float(config["training_seconds"]), float(config["trained_level"])
    top = float(config["trained_top"])
    score._take(Fitted(linear, denoiser, selection, seconds, execution, trained, top))
    return score


def _linear(
    config: dict[str, Any], arrays: dict[str, NDArray[Any]], settings: Settings, shape: tuple[int, ...]
) -> Linear:
    covariance: Covariance = unpack_covariance(arrays, shape)
    expected = 0 if isinstance(covariance, DenseCovariance) else len(covariance.shape)
    scale = arrays["scale"]
    wanted = tuple(1 if axis in settings.scale_axes else size for axis, size in enumerate(shape))
    if (
        settings.n_homogeneous != expected
        or scale.shape != wanted
        or scale.dtype != np.float64
        or not 1e-150 < scale.min() <= scale.max() < 1e150
    ):
        raise CheckpointError(
            f"the score file holds {scale.dtype} of shape {scale.shape} for the scale of a state of shape {shape}, "
            f"expected positive float64 of shape {wanted}: it was altered; fit it anew."
        )
    units = Units(mean_of_state(covariance, shape), scale)
    covariance = dataclasses.replace(covariance, mean=0 * covariance.mean)  # type: ignore[arg-type]
    level, noise = float(config["level"]), config["noise_level"]
    if not np.allclose(noise, level * scale, rtol=1e-9, atol=0.0):
        raise CheckpointError("the noise level of the score file contradicts its scale: it was altered; fit it anew.")
    return Linear(units, covariance, settings.architecture.precondition, level, noise, shape)


def _denoiser(settings: Settings, linear: Linear, weights: dict[str, NDArray[Any]], dims: tuple[str, ...]) -> Denoiser:
    """Build the denoiser on the meta device and give it the weights, if names, shapes and types all agree."""
    denoiser = make_denoiser(settings.architecture, linear.covariance, dims, linear.shape, n_grid=settings.n_grid)
    expected = {name: (tuple(v.shape), str(v.dtype)) for name, v in denoiser.network.state_dict().items()}
    found = {name: (value.shape, f"torch.{value.dtype}") for name, value in weights.items()}
    if found != expected:
        wrong = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
        raise CheckpointError(
            f"{len(wrong)} network weights do not fit a {settings.architecture.network} with "
            f"{settings.architecture.options} (the first is {wrong[0]!r}): the file was altered; fit the score anew."
        )
    values = {name: torch.from_numpy(value) for name, value in weights.items()}
    denoiser.network.load_state_dict(values, assign=True)
    return denoiser.eval().requires_grad_(False)
