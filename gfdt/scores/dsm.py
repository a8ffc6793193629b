"""The learned score: denoising score matching, started at the Gaussian answer.

A network F learns what the Gaussian score misses (:mod:`gfdt.diffusion.preconditioning`):

    s(x) = -(C + σ²)⁻¹ (x - m) + (c_out/σ²) F(x; σ),

the score of rho * N(0, σ² I): of the density blurred at the noise level σ, a bias of O(σ²) on the score of rho. The
first term is computed in float64, F in float32. Where F does not demonstrably help on held-out blocks of
time, F = 0 is returned.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from gfdt.covariance import DenseCovariance, SpectralCovariance, pack_covariance, unpack_covariance
from gfdt.errors import CheckpointError, InputError
from gfdt.scores.base import Score
from gfdt.trajectory import homogeneous_dims
from gfdt.validation import integer, number, one_of

if TYPE_CHECKING:
    import torch
    import xarray as xr
    from numpy.typing import NDArray

    from gfdt.diffusion.preconditioning import Denoiser

__all__ = ["DSMScore"]

GAUSSIAN_START = "gaussian start"
_NETWORKS = ("auto", "mlp", "resnet")
_PRECONDITIONS = ("gaussian", "edm")
_OBJECTIVES = ("dsm",)
_DEVICES = ("auto", "cpu", "cuda")
_MEDIAN_LEVEL = 2.0  # median of σ in training, in units of the σ of evaluation
_LEVEL_SPREAD = 0.5  # standard deviation of ln σ in training
_HELD_OUT_BATCHES = 4  # held-out states are thinned to this many batches, to keep evaluations cheap


class DSMScore(Score):
    """Score learned by denoising score matching with a neural network.

    Parameters
    ----------
    network : {"auto", "mlp", "resnet"} or torch Module
        "mlp" for vectors, "resnet" for periodic fields in one or two dimensions (exactly equivariant to shifts).
        "auto": resnet for one or two state dims that ``homogeneous`` declares periodic, or that are called ``x``
        and ``y``; else mlp. A module is called as F(x, c_noise), x of shape (batch, 1, *state) where auto would
        choose resnet and (batch, d) otherwise, c_noise of shape (batch,); it is copied, not changed, and such a
        score cannot be saved.
    precondition : {"gaussian", "edm"}
        What F = 0 stands for: the Gaussian of the data's covariance C, or of tr C/d · I (Karras et al. 2022).
        Default gaussian: training then only adds the non-Gaussian rest.
    objective : {"dsm"}
        Denoising score matching.
    sigma : float, optional
        Noise level of the score, in the units of the data. Default: 0.05 of the rms of the centred data, or less if
        that would cost more than 5 % of the score, <σ²/(C_k + σ²)>_k > 0.05 (steep spectra), but never less than
        0.02 of the rms, where the noise of learning, of order 1/σ, takes over.
    homogeneous : None, bool or sequence of str
        As in :class:`gfdt.GaussianScore`: C diagonal in Fourier space. Default None: yes for resnet, no for mlp.
    max_steps, max_minutes : optional
        Budget of training; what is reached first ends it. Default: 1500 steps (mlp; about 20 s on two cores) or
        400 (resnet; a few minutes for 32 x 32). Only ``max_steps`` alone gives the same result every time.
    batch_size : int, optional
        Network evaluations per step, default 4096 (mlp) or 32 (resnet).
    learning_rate : float, optional
        The largest of the schedule, default 5e-3 (mlp) or 3e-3 (resnet).
    network_options : dict, optional
        ``width`` and ``depth``, default 64 and 2 (mlp) or 32 and 4 (resnet).
    shrinkage : float in [0, 1)
        As in :class:`gfdt.GaussianScore`.
    ema : float in [0, 1)
        Decay of the moving average of the weights. Default 0.999: about the last 1000 steps.
    device : {"auto", "cpu", "cuda"}
        Where the network runs; auto takes the GPU if there is one.
    seed : int
        Of weights, batches and noise. The same seed, budget in steps and machine give the same score.
    progress : bool, optional
        Progress bar on stderr. Default None: only in a terminal.

    Attributes
    ----------
    noise_level_ : float
        σ.
    covariance_ : DenseCovariance or SpectralCovariance
        Mean and covariance of the linear part.
    selected_ : "gaussian start" or int
        The step whose (averaged) weights were kept; "gaussian start" if none beat it by two standard errors.
    history_ : list of dict
        One entry per held-out evaluation (see :class:`gfdt.diffusion.selection.Selection`).
    training_seconds_ : float
        Wall-clock time of ``fit``.
    interrupted_ : bool
        Whether ``fit`` was ended by Ctrl-C; the best weights so far were kept.

    References
    ----------
    Vincent, Neural Computation 23, 1661 (2011); Karras et al., arXiv:2206.00364 (2022), section 5;
    Giorgini et al., Phys. Rev. Lett. 133, 267302 (2024).
    """

    label: ClassVar[str] = "generative"
    history_: list[dict[str, float]]
    selected_: str | int

    def __init__(
        self,
        network: Any = "auto",
        *,
        precondition: str = "gaussian",
        objective: str = "dsm",
        sigma: float | None = None,
        homogeneous: bool | str | Sequence[str] | None = None,
        max_steps: int | None = None,
        max_minutes: float | None = None,
        batch_size: int | None = None,
        learning_rate: float | None = None,
        network_options: Mapping[str, Any] | None = None,
        shrinkage: float = 0.0,
        ema: float = 0.999,
        device: str = "auto",
        seed: int = 0,
        progress: bool | None = None,
    ) -> None:
        self.network = network
        self.precondition = precondition
        self.objective = objective
        self.sigma = sigma
        self.homogeneous = homogeneous
        self.max_steps = max_steps
        self.max_minutes = max_minutes
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.network_options = network_options
        self.shrinkage = shrinkage
        self.ema = ema
        self.device = device
        self.seed = seed
        self.progress = progress

    # ---- training ---------------------------------------------------------------------------------

    def _fit(self, trajectory: xr.DataArray) -> None:
        import torch

        from gfdt.diffusion.networks import NETWORKS
        from gfdt.diffusion.noise_level import choose_noise_level
        from gfdt.diffusion.objectives import DenoisingObjective
        from gfdt.diffusion.preconditioning import Denoiser
        from gfdt.diffusion.selection import HeldOut, hold_out, train_and_select
        from gfdt.diffusion.training import train

        began = time.perf_counter()
        dims = tuple(str(dim) for dim in trajectory.dims[2:])
        shape = trajectory.shape[2:]
        self.validate(dims)
        kind = self._kind(dims)
        defaults = NETWORKS[kind]
        device = self._device()
        states = trajectory.values.reshape(-1, *shape)
        covariance = self._estimate(states, dims, kind)
        sigma = choose_noise_level(self.sigma, covariance, states)

        generator = torch.Generator(device).manual_seed(self.seed)
        network = self._network(kind, shape, torch.Generator().manual_seed(self.seed))
        denoiser = Denoiser(network, covariance, shape, channel=defaults.channel).to(device)
        anomalies = torch.from_numpy(_anomalies(states, covariance, denoiser.scale)).to(device)

        n_members, n_times = trajectory.shape[:2]
        block = np.tile(hold_out(n_members, n_times), n_members)
        member = np.repeat(np.arange(n_members), n_times)
        batch_size = self.batch_size or defaults.batch_size
        held = _thin(np.flatnonzero(block >= 0), _HELD_OUT_BATCHES * batch_size)
        training = torch.from_numpy(np.flatnonzero(block < 0)).to(device)
        level = sigma / denoiser.scale
        held_out = HeldOut(anomalies[held], member[held] * n_times + block[held], level, generator)
        unlimited = self.max_steps is None and self.max_minutes is None
        steps = train(
            denoiser,
            anomalies[training],
            DenoisingObjective(_MEDIAN_LEVEL * level, _LEVEL_SPREAD),
            batch_size=batch_size,
            learning_rate=self.learning_rate or defaults.learning_rate,
            max_steps=defaults.max_steps if unlimited else self.max_steps,
            max_seconds=None if self.max_minutes is None else 60 * self.max_minutes,
            generator=generator,
        )
        selection = train_and_select(denoiser, steps, held_out, decay=self.ema, progress=self.progress)

        self._denoiser: Denoiser | None = None
        if selection.weights is not None:
            denoiser.network.load_state_dict(selection.weights)
            self._denoiser = denoiser.eval().requires_grad_(False)
        self._kind_, self._options_ = kind, self._options(kind)
        self.covariance_ = covariance
        self.noise_level_ = sigma
        self.selected_ = GAUSSIAN_START if selection.step is None else selection.step
        self.history_ = selection.history
        self.interrupted_ = selection.interrupted
        self.training_seconds_ = time.perf_counter() - began

    def validate(self, dims: tuple[str, ...]) -> None:
        """Refuse every setting that cannot be used on states with these dims; ``fit`` calls it before any work.

        Raises
        ------
        InputError
            At the first of them.
        """
        for name, allowed in (
            ("precondition", _PRECONDITIONS),
            ("objective", _OBJECTIVES),
            ("device", _DEVICES),
        ):
            one_of(name, getattr(self, name), allowed)
        number("sigma", self.sigma, low=0.0, optional=True)
        number("max_minutes", self.max_minutes, low=0.0, optional=True)
        number("learning_rate", self.learning_rate, low=0.0, high=1.0, optional=True)
        number("shrinkage", self.shrinkage, low=0.0, high=1.0, closed=True)
        number("ema", self.ema, low=0.0, high=1.0, closed=True)
        integer("max_steps", self.max_steps, 1, 10**9, optional=True)
        integer("batch_size", self.batch_size, 2, 10**7, optional=True)
        integer("seed", self.seed, 0, 2**63 - 1)
        self._options(self._kind(dims))
        self._device()

    def _kind(self, dims: tuple[str, ...]) -> str:
        """Return the registry's name of the network, or of the one whose layout a given module shares."""
        import torch

        periodic = set(dims) <= {"x", "y"} if self.homogeneous is None else self.homogeneous is not False
        field = "resnet" if 1 <= len(dims) <= 2 and periodic else "mlp"
        if isinstance(self.network, torch.nn.Module):
            return field
        one_of("network", self.network, _NETWORKS, " or a torch module F(x, c_noise)")
        if self.network == "resnet" and not 1 <= len(dims) <= 2:
            raise InputError(
                f"network='resnet' needs a field with one or two dims, found the state dims {dims}: use network='mlp'."
            )
        return field if self.network == "auto" else self.network

    def _options(self, kind: str) -> dict[str, int]:
        from gfdt.diffusion.networks import network_options

        return network_options(kind, self.network_options)

    def _network(self, kind: str, shape: tuple[int, ...], generator: torch.Generator) -> torch.nn.Module:
        from gfdt.diffusion.networks import make_network

        if isinstance(self.network, str):
            return make_network(kind, shape, self._options(kind), generator)
        if self.network_options is not None:
            raise InputError("network_options= goes with a network named by a string: set your module's own instead.")
        return copy.deepcopy(self.network)

    def _device(self) -> str:
        import torch

        available = torch.cuda.is_available()
        if self.device == "cuda" and not available:
            raise InputError("device='cuda' was asked for and torch finds no GPU: use device='auto' or 'cpu'.")
        return "cuda" if available and self.device != "cpu" else "cpu"

    def _estimate(self, states: NDArray[Any], dims: tuple[str, ...], kind: str) -> DenseCovariance | SpectralCovariance:
        """Return mean and covariance of the linear part; flat eigenvalues for EDM."""
        wanted = self.homogeneous
        if wanted is None and kind == "resnet":
            wanted = True
        if homogeneous_dims(wanted, dims):
            spectral = SpectralCovariance.estimate(states, self.shrinkage)
            if self.precondition == "gaussian":
                return spectral
            flat = np.full_like(spectral.eigenvalues, states.var(dtype=np.float64))
            return SpectralCovariance(spectral.mean, flat, spectral.shape)
        if self.precondition == "gaussian":
            return DenseCovariance.estimate(states, self.shrinkage)
        mean = states.mean(axis=0, dtype=np.float64).ravel()
        variance = states.var(axis=0, dtype=np.float64).mean()
        return DenseCovariance(mean, np.full(mean.size, variance), np.eye(mean.size))

    # ---- evaluation -------------------------------------------------------------------------------

    def _evaluate(self, batch: NDArray[Any]) -> NDArray[Any]:
        out = np.empty(batch.shape, dtype=batch.dtype)
        size = max(1, 2**18 // math.prod(batch.shape[1:]))
        variance = self.noise_level_**2
        for start in range(0, batch.shape[0], size):
            part = batch[start : start + size].astype(np.float64)
            score = self.covariance_.apply(self.covariance_.centre(part), lambda c: -1.0 / (c + variance))
            out[start : start + size] = score + self._correction(part)
        return out

    def _correction(self, states: NDArray[np.float64]) -> NDArray[np.float64] | float:
        """Return (c_out/σ²) F, in the units of the score; 0 for the Gaussian start."""
        import torch

        denoiser = self._denoiser
        if denoiser is None:
            return 0.0
        device = self._device()
        denoiser.to(device)
        with torch.inference_mode():
            anomalies = torch.from_numpy(_anomalies(states, self.covariance_, denoiser.scale)).to(device)
            level = torch.full((len(anomalies),), self.noise_level_ / denoiser.scale, device=device)
            correction = denoiser.score_correction(anomalies, level)
        return correction.cpu().numpy().astype(np.float64) / denoiser.scale

    # ---- storage ----------------------------------------------------------------------------------

    def _pack(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        if not isinstance(self.network, str):
            raise InputError(
                f"a score with the network {type(self.network).__name__} cannot be saved, its code would have to be "
                "saved too: keep the module and its state_dict, or use a network named by a string."
            )
        arrays = pack_covariance(self.covariance_)
        if self._denoiser is not None:
            weights = self._denoiser.network.state_dict()
            arrays |= {f"network.{name}": value.cpu().numpy() for name, value in weights.items()}
        config = {
            "network": self._kind_,
            "network_options": self._options_,
            "precondition": self.precondition,
            "objective": self.objective,
            "max_steps": self.max_steps,
            "max_minutes": self.max_minutes,
            "batch_size": self.batch_size,
            "learning_rate": self.learning_rate,
            "shrinkage": self.shrinkage,
            "ema": self.ema,
            "seed": self.seed,
            "selected": self.selected_,
            "training_seconds": self.training_seconds_,
            "history": self.history_,
        }
        return config, arrays

    @classmethod
    def _unpack(cls, config: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Self:
        shape = tuple(config["state_shape"])
        kind = config["network"]
        one_of("network", kind, _NETWORKS[1:])
        covariance = unpack_covariance(arrays, shape)
        names = ("precondition", "objective", "max_steps", "max_minutes", "batch_size", "learning_rate")
        settings = {name: config[name] for name in (*names, "network_options", "shrinkage", "ema", "seed")}
        score = cls(
            kind,
            sigma=config["noise_level"],
            homogeneous=isinstance(covariance, SpectralCovariance),
            **settings,
        )
        score.validate(tuple(config["state_dims"]))
        score._kind_, score._options_ = kind, score._options(kind)
        score.covariance_ = covariance
        score.selected_ = _checked_step(config["selected"])
        score.history_ = _checked_history(config["history"])
        number("training_seconds", config["training_seconds"], low=0.0)
        score.training_seconds_ = float(config["training_seconds"])
        weights = {name.removeprefix("network."): a for name, a in arrays.items() if name.startswith("network.")}
        known = {"mean", "eigenvalues", "eigenvectors"} | {f"network.{name}" for name in weights}
        if not known.issuperset(arrays) or (score.selected_ == GAUSSIAN_START and weights):
            raise CheckpointError("the score file holds arrays that do not belong there: it was altered; fit it anew.")
        score._denoiser = None
        if score.selected_ != GAUSSIAN_START:
            score._denoiser = score._restored(weights, shape)
        return score

    def _restored(self, weights: dict[str, NDArray[Any]], shape: tuple[int, ...]) -> Denoiser:
        """Build the denoiser on the meta device and give it the weights, if names, shapes and types all agree."""
        import torch

        from gfdt.diffusion.networks import NETWORKS, make_network
        from gfdt.diffusion.preconditioning import Denoiser

        network = make_network(self._kind_, shape, self._options_)
        expected = {name: (tuple(value.shape), "float32") for name, value in network.state_dict().items()}
        found = {name: (value.shape, str(value.dtype)) for name, value in weights.items()}
        if found != expected:
            wrong = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
            raise CheckpointError(
                f"{len(wrong)} network weights do not fit a {self._kind_} with {self._options_} (the first is "
                f"{wrong[0]!r}): the file was altered; fit the score anew."
            )
        network.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()}, assign=True)
        denoiser = Denoiser(network, self.covariance_, shape, channel=NETWORKS[self._kind_].channel)
        return denoiser.to(self._device()).eval().requires_grad_(False)


def _anomalies(
    states: NDArray[Any], covariance: DenseCovariance | SpectralCovariance, scale: float
) -> NDArray[np.float32]:
    """Return (x - m)/scale in float32; the difference is taken in float64, a few states at a time."""
    out = np.empty(states.shape, dtype=np.float32)
    for start in range(0, len(states), 4096):
        part = slice(start, start + 4096)
        out[part] = covariance.centre(states[part].astype(np.float64)) / scale
    return out


def _thin(index: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Return at most ``most`` entries of ``index``, evenly spaced."""
    if index.size <= most:
        return index
    return index[np.linspace(0, index.size - 1, most).round().astype(np.int64)]


def _checked_step(selected: Any) -> str | int:
    if selected != GAUSSIAN_START:
        integer("selected", selected, 1, 10**9)
    return selected


def _checked_history(history: Any) -> list[dict[str, float]]:
    valid = (
        isinstance(history, list)
        and len(history) <= 10**5
        and all(isinstance(entry, dict) for entry in history)
        and all(type(value) in (int, float) for entry in history for value in entry.values())
    )
    if not valid:
        raise CheckpointError("the score file has no valid training history: it was altered; fit the score anew.")
    return history
