"""A trained denoiser as a function of states in the units of the data.

    s(x) = [g(a) + q F(a)]/scale,        J v = [g(u) + q (∇F) u]/scale,    a = (x - m)/scale,  u = v/scale

with g the linear part (:mod:`gfdt.diffusion.linear`) in float64 and F in float32, a bounded number of states at a time.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import Tensor

from gfdt.diffusion.distributed import local_device
from gfdt.diffusion.energy import log_density
from gfdt.errors import InputError, ReliabilityWarning
from gfdt.validation import shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gfdt.diffusion.execution import Execution
    from gfdt.diffusion.linear import Linear
    from gfdt.diffusion.preconditioning import Denoiser
    from gfdt.diffusion.selection import Selection

__all__ = ["LEVEL_SPREAD", "MEDIAN_LEVEL", "Fitted"]

MEDIAN_LEVEL = 1.0  # median of σ in training, in units of the level that is asked for
LEVEL_SPREAD = 0.5  # standard deviation of ln σ in training
_BEYOND = 2.0  # factor outside the trained range at which a network is still asked, with a warning
_BATCH_VALUES = 2**18  # numbers evaluated at once


@dataclass(frozen=True)
class Fitted:
    """The outcome of :func:`gfdt.diffusion.fitting.fit`.

    Attributes
    ----------
    linear : units, covariance and noise level
    denoiser : what the network adds; None for the Gaussian start
    selection : how it was chosen
    seconds : wall-clock time of fitting
    execution : how the network was run
    trained_level : the level the network was trained for, in units of ``scale``
    trained_top : the largest level of a network that was trained at all of them; 0 of one that knows only those around
        ``trained_level``
    """

    linear: Linear
    denoiser: Denoiser | None
    selection: Selection
    seconds: float
    execution: Execution
    trained_level: float
    trained_top: float = 0.0

    def score(self, x: NDArray[Any], device: str) -> NDArray[np.float64]:
        """Return s for states x (batch, *state)."""
        scale = self.linear.units.scale
        out = np.empty(x.shape)
        for part in _parts(x.shape):
            a = self.linear.units.anomalies(x[part])
            out[part] = self.linear.score(a) / scale
            if self.denoiser is not None:
                out[part] += self._run(_correction, device, self.linear.level, a) / scale
        return out

    def jvp(self, x: NDArray[Any], v: NDArray[np.float64], device: str) -> NDArray[np.float64]:
        """Return J v for states x and directions v, both (batch, *state)."""
        return self._product(_correction_jvp, x, v, device)

    def transposed_jvp(self, x: NDArray[Any], v: NDArray[np.float64], device: str) -> NDArray[np.float64]:
        """Return J' v, at a third of the cost of :meth:`jvp`."""
        return self._product(_correction_vjp, x, v, device)

    def _product(self, run: Any, x: NDArray[Any], v: NDArray[np.float64], device: str) -> NDArray[np.float64]:
        scale = self.linear.units.scale
        out = np.empty(x.shape)
        for part in _parts(x.shape):
            u = v[part] / scale
            out[part] = self.linear.score(u) / scale
            if self.denoiser is not None:
                # The derivative is linear in u, which may be of any size in the units of the data.
                size = np.abs(u).max() or 1.0
                a = self.linear.units.anomalies(x[part])
                out[part] += size * self._run(run, device, self.linear.level, a, u / size) / scale
        return out

    def log_density(self, x: NDArray[Any], device: str) -> NDArray[np.float64]:
        """Return ln rho + const for states x (batch, *state), shape (batch,)."""
        out = np.empty(len(x))
        for part in _parts(x.shape):
            a = self.linear.units.anomalies(x[part])
            if self.denoiser is None:
                out[part] = (a * self.linear.score(a)).reshape(len(a), -1).sum(axis=1) / 2
            else:
                out[part] = self._run(log_density, device, self.linear.level, a)
        return out

    def correction(self, a: NDArray[np.float64], level: float, device: str) -> NDArray[np.float64]:
        """Return q F at any level for anomalies a (batch, *state), in units of 1/scale."""
        out = np.empty(a.shape)
        for part in _parts(a.shape):
            out[part] = self._run(_correction, device, level, a[part])
        return out

    def correction_jvp(
        self, a: NDArray[np.float64], level: float, u: NDArray[np.float64], device: str
    ) -> NDArray[np.float64]:
        """Return q (∇F) u at any level for anomalies and directions (batch, *state)."""
        out = np.empty(a.shape)
        for part in _parts(a.shape):
            out[part] = self._run(_correction_jvp, device, level, a[part], u[part])
        return out

    def correction_vjp(
        self, a: NDArray[np.float64], level: float, u: NDArray[np.float64], device: str
    ) -> NDArray[np.float64]:
        """Return q u (∇F), the transposed product, which costs a third of :meth:`correction_jvp`."""
        out = np.empty(a.shape)
        for part in _parts(a.shape):
            out[part] = self._run(_correction_vjp, device, level, a[part], u[part])
        return out

    def without_linear_part(self) -> Self:
        """Return only what the network adds."""
        return dataclasses.replace(self, linear=dataclasses.replace(self.linear, precondition="none"))

    def trained_range(self) -> tuple[float, float]:
        """Return the lowest and highest noise level of training (95 % of those about one), in units of ``scale``."""
        factor = math.exp(2 * LEVEL_SPREAD)
        low, high = MEDIAN_LEVEL * self.trained_level / factor, MEDIAN_LEVEL * self.trained_level * factor
        return low, max(high, self.trained_top)

    def at(self, sigma: float | NDArray[np.float64]) -> Self:
        """Return the same at another noise level in the units of the data; see ``DSMScore.at_noise_level``."""
        units = self.linear.units
        ratio = np.asarray(sigma, dtype=np.float64) / units.scale
        level = float(np.ravel(ratio)[0])
        if not (np.isfinite(ratio).all() and level >= 0 and np.allclose(ratio, level, rtol=1e-6, atol=0.0)):
            raise InputError(
                f"sigma={shown(sigma)} is not a multiple of the noise level of this score, which goes with the "
                f"standard deviations of the components (now {shown(self.linear.noise_level)}): pass e.g. "
                "2 * score.noise_level_."
            )
        self._check_trained(level, sigma)
        noise_level = units.in_data_units(level) if np.ndim(sigma) else float(sigma)
        return dataclasses.replace(self, linear=self.linear.at(level, noise_level))

    def _check_trained(self, level: float, sigma: Any) -> None:
        low, high = self.trained_range()
        # From the level in use, which was chosen on held-out states or warned of before, nothing on the way is news.
        if self.denoiser is None or min(low, self.linear.level) <= level <= max(high, self.linear.level):
            return
        if not high:
            raise InputError(
                f"sigma={shown(sigma)}: the network was trained on the data without noise, and knows no other level: "
                "fit a score with sigma=."
            )
        factor, end = (level / low, "lowest") if level < low else (level / high, "highest")
        text = f"sigma={shown(sigma)} is {factor:.3g} times the {end} noise level that the network was trained at"
        if not low <= level * _BEYOND <= high * _BEYOND**2:
            raise InputError(f"{text}: fit a score with another sigma=.")
        warnings.warn(f"{text}: what it says there is extrapolated.", ReliabilityWarning, stacklevel=4)

    def _run(
        self,
        function: Callable[..., Tensor],
        device: str,
        level: float,
        a: NDArray[np.float64],
        *more: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """Return ``function(denoiser, a, level, *more)``, computed in float32 on the device."""
        assert self.denoiser is not None
        place = local_device(device)
        denoiser, now = self.denoiser, next(self.denoiser.parameters()).device
        # Moving a network to where it is takes 10 microseconds for every tensor of it.
        if now.type != place.type or place.index not in (None, now.index):
            denoiser.to(place)
        states, *others = (torch.from_numpy(values.astype(np.float32)).to(place) for values in (a, *more))
        levels = torch.full((len(states),), level, device=place)
        # Not inference_mode: energies are derivatives of their own.
        with torch.no_grad():
            value = function(denoiser, states, levels, *others)
        return value.cpu().numpy().astype(np.float64)


def _correction(denoiser: Denoiser, a: Tensor, level: Tensor) -> Tensor:
    return denoiser.score_correction(a, level)


def _correction_jvp(denoiser: Denoiser, a: Tensor, level: Tensor, u: Tensor) -> Tensor:
    """Return J u as the derivative of Jᵀw with respect to w: reverse mode, which every network has."""
    pull_back = torch.func.vjp(lambda state: denoiser.score_correction(state, level), a)[1]
    push_forward = torch.func.vjp(lambda w: pull_back(w)[0], torch.zeros_like(a))[1]
    derivative: Tensor = push_forward(u)[0]
    return derivative


def _correction_vjp(denoiser: Denoiser, a: Tensor, level: Tensor, u: Tensor) -> Tensor:
    pull_back = torch.func.vjp(lambda state: denoiser.score_correction(state, level), a)[1]
    derivative: Tensor = pull_back(u)[0]
    return derivative


def _parts(shape: tuple[int, ...]) -> Iterator[slice]:
    """Yield slices of a batch that bound the memory of an evaluation."""
    size = max(1, _BATCH_VALUES // max(1, math.prod(shape[1:])))
    for start in range(0, shape[0], size):
        yield slice(start, start + size)
