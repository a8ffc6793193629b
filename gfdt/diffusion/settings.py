"""What the arguments of :class:`gfdt.DSMScore` mean for given state dims: all defaults filled in, all checked."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from gfdt.diffusion.build import Architecture
from gfdt.diffusion.networks import NETWORKS
from gfdt.diffusion.objectives import OBJECTIVES
from gfdt.diffusion.symmetries import check_symmetries
from gfdt.errors import InputError
from gfdt.scores.gaussian import shrinkage_weight
from gfdt.trajectory import homogeneous_dims
from gfdt.validation import integer, number, one_of, shown

if TYPE_CHECKING:
    from gfdt.scores.dsm import DSMScore

__all__ = ["PRECISIONS", "Settings", "find_device", "resolve"]

PRECISIONS = ("auto", "float32", "bf16")
VARIABLE = "variable"  # the name xarray gives to the dim of several variables of one state
_DEVICES = ("auto", "cpu", "cuda")
NOISE_RANGES = ("all", "local")
_FIELD_DIMS = ({"x"}, {"y", "x"})


@dataclass(frozen=True)
class Settings:
    """One training, fully specified apart from the data.

    Attributes
    ----------
    architecture : Architecture
    n_grid : how many of the last state dims are the grid of a field, as the network takes it; 0 for vectors
    n_homogeneous : how many of the last state dims are homogeneous
    scale_axes : state axes that share one scale
    all_levels : whether the network learns the scores at all noise levels
    objective, sigma, shrinkage, max_steps, max_seconds, batch_size, learning_rate, ema, patience, seed : numbers
    precision, channels_last, compile, tune : how the network is run; None where that is to be found out
    device : "cpu" or "cuda"
    """

    architecture: Architecture
    n_grid: int
    n_homogeneous: int
    scale_axes: tuple[int, ...]
    all_levels: bool
    objective: str
    sigma: float | None
    shrinkage: float | str
    max_steps: int | None
    max_seconds: float | None
    batch_size: int
    learning_rate: float
    ema: float
    patience: int
    seed: int
    precision: str
    channels_last: bool | None
    compile: bool | None
    tune: bool | None
    device: str

    def as_json(self) -> dict[str, Any]:
        """Return all of it as plain values, to be compared with those of another run."""
        values = asdict(self)
        values["architecture"]["options"] = dict(values["architecture"]["options"])
        return values


def resolve(score: DSMScore, dims: tuple[str, ...], shape: tuple[int, ...] | None = None) -> Settings:
    """Return the settings of a score for states with these dims (and shape, which only a transposition asks for).

    Raises
    ------
    InputError
        At the first argument that cannot be used.
    """
    _check(score)
    module = isinstance(score.network, nn.Module)
    if not module:
        one_of("network", score.network, ("auto", *NETWORKS), " or a torch module F(x, c_noise)")
    if module and score.network_options is not None:
        raise InputError("network_options= goes with a network named by a string: set your module's own instead.")
    lead = 1 if len(dims) > 1 and dims[0] == VARIABLE else 0
    wanted: Any = score.homogeneous
    if wanted is True:
        wanted = dims[lead:]
    homogeneous = homogeneous_dims(wanted, dims, variables=True)
    grid = homogeneous or dims[lead:]
    field = 1 <= len(grid) <= 2 and (bool(homogeneous) or (wanted is None and set(grid) in _FIELD_DIMS))
    kind = score.network if isinstance(score.network, str) else "auto"
    if kind == "auto":
        kind = "resnet" if field else "mlp"
    if NETWORKS[kind].channel:
        if not 1 <= len(grid) <= 2:
            raise InputError(
                f"network={kind!r} needs a field with one or two dims (and before them at most one of variables, named "
                f"{VARIABLE!r} or left out of homogeneous=), found the state dims {dims}: use network='mlp'."
            )
        if wanted is None:
            homogeneous = grid
    n_grid = len(grid) if NETWORKS[kind].channel else 0
    architecture = Architecture(
        kind,
        {} if module else (score.network_options or {}),
        str(score.precondition),
        score.energy,
        score.symmetries,  # type: ignore[arg-type]
    )
    check_symmetries(
        architecture.symmetries,
        dims[len(dims) - n_grid :],
        (shape or (1,) * len(dims))[len(dims) - n_grid :],
    )
    defaults = NETWORKS[kind]
    unlimited = score.max_steps is None and score.max_minutes is None
    return Settings(
        architecture=architecture,
        n_grid=n_grid,
        n_homogeneous=len(homogeneous),
        scale_axes=_scale_axes(score, dims, grid if n_grid or homogeneous or set(dims) in _FIELD_DIMS else ()),
        all_levels=score.noise_range == "all",
        objective=str(score.objective),
        sigma=None if score.sigma is None else float(score.sigma),  # type: ignore[arg-type]
        shrinkage=score.shrinkage,
        max_steps=defaults.max_steps if unlimited else score.max_steps,
        max_seconds=None if score.max_minutes is None else 60.0 * score.max_minutes,
        batch_size=score.batch_size or defaults.batch_size,
        learning_rate=score.learning_rate or defaults.learning_rate,
        ema=score.ema,
        patience=score.patience,
        seed=score.seed,
        precision=score.precision,
        channels_last=score.channels_last,
        compile=score.compile,
        tune=score.tune,
        device=find_device(score.device),
    )


def find_device(device: str) -> str:
    """Return "cpu" or "cuda".

    Raises
    ------
    InputError
        If a GPU is asked for and there is none.
    """
    one_of("device", device, _DEVICES)
    available = torch.cuda.is_available()
    if device == "cuda" and not available:
        raise InputError("device='cuda' was asked for and torch finds no GPU: use device='auto' or 'cpu'.")
    return "cuda" if available and device != "cpu" else "cpu"


def _scale_axes(score: DSMScore, dims: tuple[str, ...], grid: tuple[str, ...]) -> tuple[int, ...]:
    """Return the state axes along which all is measured in the same unit: the grid, or everything with one sigma."""
    if score.sigma is not None:
        return tuple(range(len(dims)))
    return tuple(axis for axis, dim in enumerate(dims) if dim in grid)


def _check(score: DSMScore) -> None:
    one_of("objective", score.objective, tuple(OBJECTIVES))
    one_of("noise_range", score.noise_range, NOISE_RANGES)
    one_of("precision", score.precision, PRECISIONS)
    number("sigma", score.sigma, low=0.0, optional=True)
    number("max_minutes", score.max_minutes, low=0.0, optional=True)
    number("learning_rate", score.learning_rate, low=0.0, high=1.0, optional=True)
    number("ema", score.ema, low=0.0, high=1.0, closed=True)
    number("checkpoint_minutes", score.checkpoint_minutes, low=0.0, closed=True)
    shrinkage_weight(score.shrinkage)
    integer("max_steps", score.max_steps, 1, 10**9, optional=True)
    integer("batch_size", score.batch_size, 2, 10**7, optional=True)
    integer("patience", score.patience, 1, 10**9)
    integer("seed", score.seed, 0, 2**63 - 1)
    for name in ("channels_last", "compile", "tune"):
        value = getattr(score, name)
        if value is not None and not isinstance(value, bool):
            raise InputError(f"{name}={shown(value)} is neither True, False nor None: pass one of them.")
    if score.compile and (score.energy or score.objective == "ssm"):
        what = "energy=True" if score.energy else "objective='ssm'"
        raise InputError(
            f"compile=True does not go with {what}, whose training differentiates twice through the network: leave "
            "compile out."
        )
    if score.precision == "bf16" and score.objective == "fd-ssm":
        raise InputError(
            "precision='bf16' rounds away the finite differences of objective='fd-ssm': use float32 or objective='dsm'."
        )
    for name in ("checkpoint", "log"):
        value = getattr(score, name)
        if value is not None and not isinstance(value, str | Path):
            raise InputError(f"{name}={shown(value)} is not a path: pass a file name.")
