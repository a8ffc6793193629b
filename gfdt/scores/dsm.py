"""The learned score: a neural network, started at the Gaussian answer.

A network F learns what the Gaussian score misses (:mod:`gfdt.diffusion.preconditioning`). In units of the standard
deviations, a = (x - m)/scale,

    s(x) = [-(C + level²)⁻¹ a + q F(a; level)]/scale,        noise_level_ = level * scale,

the score of rho * N(0, diag(noise_level_)²): of the density blurred at that noise level, a bias of O(level²) on the
score of rho. The first term is computed in float64, F in float32. Where F does not demonstrably help on held-out blocks
of time, F = 0 is returned.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

import numpy as np
import xarray as xr

from gfdt.errors import InputError
from gfdt.processes import launched
from gfdt.scores.base import Score
from gfdt.scores.choosing import candidates, choose
from gfdt.shares import open_unread
from gfdt.trajectory import Source, state_dims

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gfdt.covariance import Covariance
    from gfdt.density.family import Family
    from gfdt.diffusion.data import Data
    from gfdt.diffusion.fitted import Fitted
    from gfdt.diffusion.settings import Settings
    from gfdt.scores.extrapolated import ExtrapolatedScore

__all__ = ["DSMScore"]

GAUSSIAN_START = "gaussian start"


class DSMScore(Score):
    """Score learned by score matching with a neural network.

    Parameters
    ----------
    network : {"auto", "mlp", "resnet", "unet"} or torch Module, or a list
        "mlp" for vectors, "resnet" (exactly equivariant to shifts) and "unet" (more weights, for large fields) for
        periodic fields in one or two dimensions, of one or several variables.
        "auto": resnet for one or two state dims that ``homogeneous`` declares periodic, or that are called ``x``
        and ``y``, also after a first dim ``variable``; else mlp. A module is called as F(x, c_noise), x of shape
        (batch, variables, *grid) where auto would choose resnet and (batch, d) otherwise, c_noise of shape (batch,); it
        is copied, not changed, and such a score cannot be saved. Of ``network``, ``precondition``, ``objective`` and
        ``sigma`` lists may be passed: every combination is trained, each with the whole budget, and the one with the
        largest likelihood of held-out states is kept (:mod:`gfdt.scores.choosing`).
    precondition : {"gaussian", "edm", "none"}
        What F = 0 stands for: the Gaussian of the data's covariance C, that of tr C/d · I (Karras et al. 2022), or
        nothing. Default gaussian: training then only adds the non-Gaussian rest.
    objective : {"dsm", "ssm", "fd-ssm"}
        Denoising score matching, or sliced score matching with exact or finite-difference derivatives, which can do
        without noise (:mod:`gfdt.diffusion.objectives`). Default dsm: it learns a smooth density, whatever that of
        the data is like. Where that is smooth itself, fd-ssm costs the same and was more accurate in every comparison
        made (``benchmarks/README.md``).
    energy : bool
        Make F the gradient of a scalar, so that the score is the gradient of ``log_density``. Default False: a step
        costs 2.4 to 3 times as much.
    symmetries : sequence of str
        Symmetries of the density that the score is to have exactly, e.g. ``("sign", "reflect_x")``
        (:mod:`gfdt.diffusion.symmetries`).
    sigma : float, optional
        Noise level of the score, in the units of the data, the same for all components. Default: trained about 0.05
        of the standard deviation of *each* component of a vector (of each variable of a field), or less if that would
        cost more than 5 % of the score, <σ²/(C_k + σ²)>_k > 0.05 (steep spectra), but never less than 0.02; used at
        the level, between a quarter and 1.4 of that, whose score is nearest to that of the data on held-out states
        (:mod:`gfdt.diffusion.evaluation_level`). The sliced objectives have 0: the score of the density itself.
    noise_range : {"all", "local"}
        "all": a third of the examples of training is spread over all noise levels, up to the one that drowns the data
        (three standard deviations of the widest mode), so that the score can be sampled, has a likelihood and can be
        certified. "local": all of them are about ``sigma``; the score is known there only.
    homogeneous : None, bool or sequence of str
        As in :class:`gfdt.GaussianScore`: C diagonal in Fourier space. Default None: yes for resnet and unet, no for
        mlp.
    max_steps, max_minutes : optional
        Budget of training; what is reached first ends it. Default: that of the network in
        :data:`gfdt.diffusion.networks.NETWORKS`. Only ``max_steps`` alone gives the same result every time.
    batch_size : int, optional
        Network evaluations per step, on all processes together. Default as above.
    learning_rate : float, optional
        The largest of the schedule. Default as above.
    network_options : dict, optional
        Size of the network: ``width`` and ``depth`` (mlp, resnet), ``width``, ``levels`` and ``blocks`` (unet).
    shrinkage : float in [0, 1) or "ledoit-wolf"
        As in :class:`gfdt.GaussianScore`.
    ema : float in [0, 1)
        Decay of the moving average of the weights. Default 0.99: about the last 100 steps, at the end of which the
        learning rate is zero anyway.
    patience : int
        Training ends early after so many evaluations in a row (of 20 in the budget) that are significantly worse on the
        held-out blocks than the best. Default 5.
    precision : {"auto", "float32", "bf16"}
        Of the network in training. Default auto: float32 on CPUs, the faster of both on GPUs.
    channels_last, compile : bool, optional
        Memory layout of fields, and ``torch.compile``. Default None: no on CPUs, what is faster on GPUs.
    tune : bool, optional
        Measure what is faster before training, among the choices left open by the last three. Default None: on GPUs
        only (:mod:`gfdt.diffusion.speed`).
    device : {"auto", "cpu", "cuda"}
        Where the network runs; auto takes the GPU if there is one.
    seed : int
        Of weights, batches and noise. The same seed, budget in steps and machine give the same score.
    progress : bool, optional
        Progress bar on stderr. Default None: only in a terminal.
    checkpoint : path, optional
        File from which an interrupted ``fit`` of the same data and settings goes on, bit for bit, and to which it is
        written every ``checkpoint_minutes`` and at Ctrl-C. At the end it stays, and a repeated ``fit`` returns its
        result at once. On another number of processes it goes on too, with other random numbers.
    checkpoint_minutes : float
        Default 5; 0 writes after every step.
    log : path, optional
        A ``.csv`` file with one line for every step, or a directory for TensorBoard.

    Attributes
    ----------
    noise_level_ : float or ndarray broadcastable to ``state_shape_``
        σ in the units of the data; a float where it is the same for all components.
    covariance_ : DenseCovariance, SpectralCovariance or CrossSpectralCovariance
        m and C in the units of the data.
    choices_ : list of dict
        Where lists were passed: for each candidate what it is, its ``elbo`` (nats per held-out state), the
        ``difference`` from the best one and its ``error``. Not saved with the score.
    noise_sweep_ : list of dict
        What decided the noise level: for each candidate ``level`` (in standard deviations) the held-out loss J, its
        ``difference`` from the chosen one and the ``error`` of that. Empty where there was nothing to decide.
    selected_ : "gaussian start" or int
        The step whose (averaged) weights were kept; "gaussian start" if none beat it by two standard errors.
    history_ : list of dict
        One entry per held-out evaluation (see :class:`gfdt.diffusion.selection.Selection`).
    stopped_ : str
        Why training ended: "budget", "patience", "interrupted" or "not finite".
    execution_ : str
        How the network was run in training, e.g. "bf16 + channels_last".
    interrupted_ : bool
        Whether ``fit`` was ended by Ctrl-C; the best weights so far were kept.
    training_seconds_ : float
        Wall-clock time of ``fit``, that of interrupted runs included.

    Notes
    -----
    Where nothing beats the Gaussian start on held-out data, the score is that of :class:`gfdt.GaussianScore`, without
    blur (unless ``sigma`` is given).

    All directions are learned with the same weight. Where the variances of C span more than a few decades, what is not
    Gaussian in the directions of large variance is a tiny part of the score and may go unlearned: look at the "modes"
    line of :func:`gfdt.check_score`, and take such directions out or study them by themselves.

    Under ``torchrun`` the processes, on one machine or several, share the training: each keeps its share of the states
    (:mod:`gfdt.shares`) and takes its part of every batch (:mod:`gfdt.diffusion.distributed`). Arrays in memory, and
    lists of candidates, are held whole by each.

    References
    ----------
    Vincent, Neural Computation 23, 1661 (2011); Karras et al., arXiv:2206.00364 (2022), section 5;
    Song et al., arXiv:1905.07088 (2019); Pang et al., arXiv:2007.03317 (2020);
    Giorgini et al., Phys. Rev. Lett. 133, 267302 (2024).
    """

    label: ClassVar[str] = "generative"
    choices_: list[dict[str, Any]]
    history_: list[dict[str, float]]
    selected_: str | int
    stopped_: str
    _settings: Settings

    def __init__(
        self,
        network: Any = "auto",
        *,
        precondition: str | Sequence[str] = "gaussian",
        objective: str | Sequence[str] = "dsm",
        energy: bool = False,
        symmetries: Sequence[str] = (),
        sigma: float | Sequence[float | None] | None = None,
        noise_range: str = "all",
        homogeneous: bool | str | Sequence[str] | None = None,
        max_steps: int | None = None,
        max_minutes: float | None = None,
        batch_size: int | None = None,
        learning_rate: float | None = None,
        network_options: Mapping[str, Any] | None = None,
        shrinkage: float | str = 0.0,
        ema: float = 0.99,
        patience: int = 5,
        precision: str = "auto",
        channels_last: bool | None = None,
        compile: bool | None = None,
        tune: bool | None = None,
        device: str = "auto",
        seed: int = 0,
        progress: bool | None = None,
        checkpoint: str | Path | None = None,
        checkpoint_minutes: float = 5.0,
        log: str | Path | None = None,
    ) -> None:
        self.network = network
        self.precondition = precondition
        self.objective = objective
        self.energy = energy
        self.symmetries = symmetries
        self.sigma = sigma
        self.noise_range = noise_range
        self.homogeneous = homogeneous
        self.max_steps = max_steps
        self.max_minutes = max_minutes
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.network_options = network_options
        self.shrinkage = shrinkage
        self.ema = ema
        self.patience = patience
        self.precision = precision
        self.channels_last = channels_last
        self.compile = compile
        self.tune = tune
        self.device = device
        self.seed = seed
        self.progress = progress
        self.checkpoint = checkpoint
        self.checkpoint_minutes = checkpoint_minutes
        self.log = log

    def validate(self, dims: tuple[str, ...], shape: tuple[int, ...] | None = None) -> None:
        """Refuse every setting that cannot be used on states with these dims; ``fit`` does so before any work.

        Raises
        ------
        InputError
            At the first of them.
        """
        from gfdt.diffusion.settings import resolve

        for one in candidates(self):
            resolve(one, dims, shape)

    def _learn_from(self, trajectory: Source, **labels: Any) -> tuple[xr.DataArray, str, NDArray[np.float64]]:
        if not launched() or len(candidates(self)) > 1:
            return super()._learn_from(trajectory, **labels)
        array = open_unread(trajectory, **labels)
        data = self._learn(array)
        return array, data.fingerprint, data.deviation

    def _fit(self, trajectory: xr.DataArray) -> None:
        found = candidates(self)
        if len(found) == 1:
            self._learn(trajectory)
            return
        self.validate(tuple(str(dim) for dim in trajectory.dims[2:]), trajectory.shape[2:])
        self._chosen, self.choices_ = choose(found, trajectory)
        self._settings = self._chosen._settings
        self._take(self._chosen._fitted)

    def _learn(self, array: xr.DataArray) -> Data:
        """Train on a record ([member,] time, *state); return what it was made of."""
        from gfdt.diffusion.fitting import fit
        from gfdt.diffusion.running import Outputs
        from gfdt.diffusion.settings import resolve

        (self._chosen,) = candidates(self)
        names = state_dims(array)
        settings = resolve(self._chosen, names, tuple(array.sizes[name] for name in names))
        module = None if isinstance(self._chosen.network, str) else self._chosen.network
        outputs = Outputs(self.progress, self.checkpoint, self.checkpoint_minutes, self.log)
        fitted, data = fit(array, settings, outputs, module=module)
        self._settings = settings
        self._take(fitted)
        return data

    def _take(self, fitted: Fitted) -> None:
        """Set the learned attributes."""
        self._fitted = fitted
        selection = fitted.selection
        self.noise_level_ = fitted.linear.noise_level
        self.noise_sweep_ = selection.sweep
        self.selected_ = GAUSSIAN_START if selection.step is None else selection.step
        self.history_ = selection.history
        self.stopped_ = selection.stopped
        self.execution_ = str(fitted.execution)
        self.interrupted_ = selection.stopped == "interrupted"
        self.training_seconds_ = fitted.seconds

    @property
    def covariance_(self) -> Covariance:
        """Mean and covariance of the data, in their units."""
        self._require_fit()
        return self._fitted.linear.covariance_of_data()

    # ---- evaluation -------------------------------------------------------------------------------

    def at_noise_level(self, sigma: float | NDArray[np.float64]) -> Self:
        """Return the same fitted score, evaluated at another noise level.

        Parameters
        ----------
        sigma : float or ndarray
            In the units of the data, a multiple of ``noise_level_``, e.g. ``2 * score.noise_level_``. The network was
            trained from 0.37 times the level ``sigma`` asks for or stands for up to the top of its ``noise_range``
            (with "local" 2.7 times that level, 95 % of its examples).

        Raises
        ------
        InputError
            If sigma is not a multiple, or more than a factor of 2 outside that range (of a network: the Gaussian start
            can be used at every level).

        Warns
        -----
        ReliabilityWarning
            If sigma is outside that range.
        """
        self._require_fit()
        twin = copy.copy(self)
        twin._take(self._fitted.at(sigma))
        return twin

    def extrapolated(self, ratio: float = 2**0.5) -> ExtrapolatedScore:
        """Return the score extrapolated to noise level 0 (:mod:`gfdt.scores.extrapolated`).

        Parameters
        ----------
        ratio : float
            Of the two noise levels that are used, ``noise_level_`` and this times it. Default 2^½, which keeps both
            well inside the range of training.
        """
        from gfdt.scores.extrapolated import ExtrapolatedScore

        self._require_fit()
        return ExtrapolatedScore(self, ratio)

    def log_density(self, x: NDArray[Any] | xr.DataArray) -> NDArray[np.float64]:
        """Return ln rho(x) of the blurred density up to a constant, of a score with ``energy=True``.

        Parameters
        ----------
        x : ndarray of shape (..., *state) or DataArray with the state dims
            States, in the units of the data.

        Returns
        -------
        ndarray of shape (...)
            Its gradient is the score. Differences between states mean something, the values do not.

        Raises
        ------
        InputError
            If the score was not trained as the gradient of a density.
        """
        self._require_fit()
        if not self.energy and self._fitted.denoiser is not None:
            raise InputError("the network of this score is not the gradient of a density: fit with energy=True.")
        values = np.asarray(self._ordered(x).values if isinstance(x, xr.DataArray) else x)
        lead = values.shape[: values.ndim - len(self.state_shape_)]
        return self._fitted.log_density(self._batch(values), self._device()).reshape(lead)

    def _family(self) -> Family:
        from gfdt.diffusion.family import make_family

        return make_family(self._fitted, self._device())

    def _evaluate(self, batch: NDArray[Any]) -> NDArray[Any]:
        return self._fitted.score(batch, self._device())

    def _jvp(self, batch: NDArray[np.float64], v: NDArray[np.float64]) -> NDArray[np.float64]:
        return self._fitted.jvp(batch, v, self._device())

    def _transposed_jvp(self, batch: NDArray[np.float64], v: NDArray[np.float64]) -> NDArray[np.float64]:
        return self._fitted.transposed_jvp(batch, v, self._device())

    def _hutchinson(
        self, batch: NDArray[np.float64], n_probes: int, rng: np.random.Generator
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        learned = copy.copy(self)
        learned._fitted = self._fitted.without_linear_part()
        # Only what the network adds needs probes; the trace of the linear part is known.
        mean, stderr = super(DSMScore, learned)._hutchinson(batch, n_probes, rng)
        return mean + self._fitted.linear.divergence(), stderr

    def _device(self) -> str:
        from gfdt.diffusion.settings import find_device

        return find_device(self.device)

    # ---- storage ----------------------------------------------------------------------------------

    def _pack(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        from gfdt.diffusion.packing import pack

        chosen = copy.copy(getattr(self, "_chosen", self))
        chosen._settings, chosen._fitted = self._settings, self._fitted
        return pack(chosen)

    @classmethod
    def _unpack(cls, config: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Self:
        from gfdt.diffusion.packing import unpack

        return cast("Self", unpack(cls, config, arrays))
