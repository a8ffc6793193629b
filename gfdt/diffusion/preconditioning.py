"""The Gaussian-preconditioned denoiser: a network that starts at the exact Gaussian answer.

Notation, used throughout :mod:`gfdt.diffusion`: a = (x - m)/scale is a state less its mean, in units that make its
components of order 1; C is the covariance of a, d the number of components, y = a + σ z the state blurred by white
noise z ~ N(0, I) of level σ. The score of the blurred density is modelled as

    s(y; σ) = -(C + σ²)⁻¹ y + q(σ) F(c_in y; c_noise)
    q² = tr[C (C + σ²)⁻²]/d,      c_in = 1/sqrt(tr C/d + σ²),      c_noise = ln(max(σ, 1e-3))/4,

F a network, and the denoiser follows from it by Tweedie's formula: D(y; σ) = E[a | y] = y + σ² s(y; σ), computed as
C (C + σ²)⁻¹ y + σ² q F. The linear terms are the answers for Gaussian data, so F = 0 *is* the Gaussian answer and F
has only the rest to learn.

q is the rms of the part C^½ (C + σ²)⁻¹ of the Gaussian score that comes from the state. Karras et al. 2022 scale F by
the rms error of the denoiser instead, c_out/σ² with c_out² = tr[C σ² (C + σ²)⁻¹]/d, which is the size of the noise in
the training target and grows as 1/σ: F then has to be ever smaller for smaller σ. With q it keeps its size
down to σ = 0 (measured on Allen-Cahn at σ = 0.02: relative error of the score 0.135 against 0.45, equal training).

Variants (``precondition``): "edm" puts tr C/d · I for C, so that the linear term is that of Karras et al. 2022
(arXiv:2206.00364, table 1); "none" is the plain variance-exploding network s = F(y; c_noise)/σ of Song et al. 2021
(arXiv:2011.13456) and of the PRL.

Networks of the registry are shown a second version of the state beside c_in y, the mean of the state given y if the
data were Gaussian, p(σ) C (C + σ²)⁻¹ y with p that makes its components of order 1. At small σ it is y again; at large
σ, where y is nearly all noise, it holds what can still be seen.

Along directions without variance (eigenvalue 0 of C) F is zero and is shown nothing: the blurred density is an
exact Gaussian there. At σ = 0 the inverses are pseudo-inverses.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from gfdt.covariance import Covariance, CrossSpectralCovariance, DenseCovariance
from gfdt.diffusion.bases import make_basis
from gfdt.diffusion.symmetries import make_group
from gfdt.errors import InputError
from gfdt.validation import one_of

__all__ = ["PRECONDITIONS", "Denoiser", "count_grid_dims"]

PRECONDITIONS = ("gaussian", "edm", "none")
_TINY = 1e-30  # of C + σ², where both are 0
_LEAST_NOISE = 1e-3  # of c_noise: the network cannot tell smaller σ apart, and does not have to


class Denoiser(nn.Module):
    """The score and denoiser of the module docstring, around a network F.

    Every state ``a`` is (batch, *state_shape), an anomaly in units of its scale; every ``level`` is σ in those
    units, (batch,).

    Parameters
    ----------
    network : Module
        F(x, c_noise), returns the shape of x: (batch, d) if ``channel`` is False, else (batch, V, *grid) with V = 1
        for a single field; c_noise is (batch,).
    covariance : DenseCovariance, SpectralCovariance or CrossSpectralCovariance
        C, already of a; its mean is not used.
    state_shape : tuple of int
        The shape of one state: any for vectors, (*grid) or (V, *grid) for fields.
    channel : bool
        Whether F takes fields, or flat vectors.
    precondition : {"gaussian", "edm", "none"}
        The linear term. Default gaussian: the exact answer for Gaussian data.
    symmetries : tuple of str
        Names of generators, see :mod:`gfdt.diffusion.symmetries`. C should have them too
        (:func:`~gfdt.diffusion.symmetries.symmetrise_covariance`).
    state_dims : tuple of str, optional
        The names of the state's dims, for ``symmetries``. Default: the grid's are y, x.
    n_grid : int, optional
        How many of the last dims are the grid of a field. Default: :func:`count_grid_dims`.
    inputs : int
        Versions of the state that the network is shown: 1, or 2 with the Gaussian posterior mean. Default 1.

    Attributes
    ----------
    next_element : int
        The element of the symmetry group that the first state of the next training batch is given; all that a
        training has to restore of the denoiser, beside the weights, to be continued exactly.
    """

    def __init__(
        self,
        network: nn.Module,
        covariance: Covariance,
        state_shape: tuple[int, ...],
        *,
        channel: bool,
        precondition: str = "gaussian",
        symmetries: tuple[str, ...] = (),
        state_dims: tuple[str, ...] = (),
        n_grid: int | None = None,
        inputs: int = 1,
    ) -> None:
        super().__init__()
        one_of("precondition", precondition, PRECONDITIONS)
        self.inputs = inputs
        self.network = network
        self.state_shape = tuple(state_shape)
        self.channel = channel
        self.precondition = precondition
        if n_grid is None:
            n_grid = count_grid_dims(covariance, self.state_shape) if channel else 0
        start = len(self.state_shape) - n_grid
        self.grid = self.state_shape[start:]
        dims = tuple(state_dims[start:]) if state_dims else ("y", "x")[2 - n_grid :]
        self.group = make_group(symmetries, dims, self.grid)
        self.basis = make_basis(covariance)
        support = self.basis.eigenvalues > 0
        self.has_absent_directions = not bool(support.all())
        self.register_buffer("support", support)
        # float64: a mean over many single-precision numbers of very different size
        self.variance = float(covariance.trace(lambda c: c) / torch.Size(self.state_shape).numel())
        flat = torch.full_like(self.basis.eigenvalues, self.variance)
        self.register_buffer("eigenvalues", flat if precondition == "edm" else self.basis.eigenvalues)
        self.support: Tensor
        self.eigenvalues: Tensor
        self.next_element = 0

    @property
    def has_linear_part(self) -> bool:
        """Whether F = 0 stands for a Gaussian answer; False for precondition "none"."""
        return self.precondition != "none"

    # ---- the score --------------------------------------------------------------------------------

    def forward(self, a: Tensor, level: Tensor) -> Tensor:
        """Return D(y; σ), the same as :meth:`denoise`."""
        return self.denoise(a, level)

    def linear_score(self, a: Tensor, level: Tensor) -> Tensor:
        """Return -(C + σ²)⁻¹ y, zero for precondition "none"."""
        if not self.has_linear_part:
            return torch.zeros_like(a)
        return self._filter(a, -self._precision(level))

    def score_correction(self, a: Tensor, level: Tensor, copies: int = 1) -> Tensor:
        """Return q F, what the network adds to the linear score; ``copies`` as in :meth:`residual`."""
        return self._expand(self.output_scale(level)) * self.residual(a, level, copies)

    def score(self, a: Tensor, level: Tensor) -> Tensor:
        """Return s(y; σ), the score of the blurred density."""
        return self.linear_score(a, level) + self.score_correction(a, level)

    def denoise(self, a: Tensor, level: Tensor) -> Tensor:
        """Return D(y; σ) = y + σ² s(y; σ), without taking the difference of two nearly equal numbers."""
        correction = self._expand(level**2 * self.output_scale(level)) * self.residual(a, level)
        if not self.has_linear_part:
            return a + correction
        return self._filter(a, self.eigenvalues * self._precision(level)) + correction

    def residual(self, a: Tensor, level: Tensor, copies: int = 1) -> Tensor:
        """Return F at y: symmetric when evaluated, one element of the group per state when trained.

        Parameters
        ----------
        a, level : Tensor
            y and σ.
        copies : int
            The batch is this many versions of the same states, one after the other (such as +z and -z); versions
            of a state are given the same element of the group.
        """
        a = self.project(a)
        if len(self.group) == 1:
            return self.project(self._network(a, level))
        if not self.training:
            return self.project(self.group.average(lambda moved: self._network(moved, level), a))
        count = len(a) // copies
        element = (torch.arange(count, device=a.device) + self.next_element) % len(self.group)
        self.next_element = (self.next_element + count) % len(self.group)
        element = element.repeat(copies)
        return self.project(self.group.undo(self._network(self.group.act(a, element), level), element))

    # ---- what training needs ----------------------------------------------------------------------

    def target(self, a: Tensor, z: Tensor, level: Tensor) -> Tensor:
        """Return what F should be at y = a + σ z if it is to denoise: [(C + σ²)⁻¹ a - C (C + σ²)⁻¹ z/σ]/q.

        Which is (-z/σ - linear score)/q free of cancellation; its mean over all (a, z) with the same y is the exact
        F. Needs σ > 0. For precondition "none" it is -z.
        """
        if not self.has_linear_part:
            return self.project(-z)
        precision = self._precision(level) * self.support
        from_noise = self.eigenvalues * precision / self._beside(level)
        difference = self._filter(a, precision) - self._filter(z, from_noise)
        if self._is_flat:
            difference = self.project(difference)
        return difference / self._expand(self.output_scale(level))

    def output_scale(self, level: Tensor) -> Tensor:
        """Return q(σ), shape (batch,); for precondition "none" 1/σ, and 1 at σ = 0."""
        if not self.has_linear_part:
            return torch.where(level > 0, 1 / torch.where(level > 0, level, 1.0), 1.0)
        return self.basis.average(self.eigenvalues * self._precision(level) ** 2).sqrt()

    def posterior_scale(self, level: Tensor) -> Tensor:
        """Return c_out(σ), shape (batch,): the rms error of the denoiser with F = 0 if the data are Gaussian."""
        if not self.has_linear_part:
            return level
        return self.basis.average(self.eigenvalues * self._beside(level**2) * self._precision(level)).sqrt()

    def mean_precision(self, level: Tensor) -> Tensor:
        """Return tr[(C + σ²)⁻¹]/d over the directions with variance, shape (batch,)."""
        return self.basis.average(self._precision(level) * self.support)

    def project(self, x: Tensor) -> Tensor:
        """Return x without its part along the directions that carry no variance."""
        if not self.has_absent_directions:
            return x
        return self.basis.apply_gain(x, self.support.to(x.dtype).expand(len(x), *self.support.shape))

    def network_input(self, a: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        """Return c_in y, beside it p C (C + σ²)⁻¹ y if there are two inputs, in the network's layout; and c_noise."""
        scaled = a * self._expand(self.input_scale(level))
        layout = scaled.reshape(len(a), -1, *self.grid) if self.channel else scaled.reshape(len(a), -1)
        if self.inputs == 2:
            mean = self._posterior_mean(a, level)
            layout = torch.cat([layout, mean.reshape(layout.shape)], dim=1)
        return layout, level.clamp(min=_LEAST_NOISE).log() / 4

    def _posterior_mean(self, a: Tensor, level: Tensor) -> Tensor:
        """Return p C (C + σ²)⁻¹ y, p one over its rms for Gaussian data."""
        gain = self.basis.eigenvalues / (self.basis.eigenvalues + self._beside(level**2)).clamp(min=_TINY)
        size = self.basis.average(self.basis.eigenvalues * gain).sqrt()
        return self.basis.apply_gain(a, gain) / self._expand(size)

    def input_scale(self, level: Tensor) -> Tensor:
        """Return c_in(σ), shape (batch,); 1 for precondition "none"."""
        return (self.variance + level**2).rsqrt() if self.has_linear_part else torch.ones_like(level)

    def with_network(self, network: nn.Module) -> Denoiser:
        """Return a denoiser with another network and the same (shared) buffers."""
        twin = copy.copy(self)
        twin._modules = {**self._modules, "network": network}
        return twin

    # ---- helpers ----------------------------------------------------------------------------------

    @property
    def _is_flat(self) -> bool:
        return self.precondition == "edm"

    def _network(self, a: Tensor, level: Tensor) -> Tensor:
        value: Tensor = self.network(*self.network_input(a, level))
        return value.reshape(a.shape)

    def _precision(self, level: Tensor) -> Tensor:
        """Return 1/(C + σ²) on the eigenvalues, (batch, *eigenvalues); 0 where C + σ² is."""
        blurred = self.eigenvalues + self._beside(level**2)
        return torch.where(blurred > 0, 1 / torch.where(blurred > 0, blurred, 1.0), 0.0)

    def _filter(self, x: Tensor, gain: Tensor) -> Tensor:
        """Return f(C) x; a gain that is the same for all eigenvalues needs no transform."""
        if self._is_flat:
            return x * self._expand(gain.flatten(1)[:, -1])
        return self.basis.apply_gain(x, gain)

    def _beside(self, values: Tensor) -> Tensor:
        return values.reshape(-1, *[1] * self.eigenvalues.ndim)

    def _expand(self, values: Tensor) -> Tensor:
        return values.reshape(-1, *[1] * len(self.state_shape))


def count_grid_dims(covariance: Covariance, state_shape: tuple[int, ...]) -> int:
    """Return how many of the last dims of a field are its grid; the one before, if any, counts its variables.

    All of them for a spectral covariance, all but the first for a cross-spectral one. A dense covariance does not
    say: of three dims the first counts the variables, one or two are the grid.

    Raises
    ------
    InputError
        If that leaves no grid of one or two dims.
    """
    n_grid = len(state_shape)
    if isinstance(covariance, CrossSpectralCovariance) or (isinstance(covariance, DenseCovariance) and n_grid == 3):
        n_grid -= 1
    if not 1 <= n_grid <= 2:
        raise InputError(
            f"a convolutional network needs a field over one or two dims, found states of shape {state_shape} with a "
            f"{type(covariance).__name__}: use network='mlp'."
        )
    return n_grid
