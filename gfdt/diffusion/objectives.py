"""What training minimises, in units in which the objectives and noise levels can be compared.

In the notation of :mod:`gfdt.diffusion.preconditioning`, with f = q F, g the linear score and ln σ ~ N(ln level,
spread²), each objective is an average over states of

    dsm      λ |F(y) - F_target|²/d,  y = a ± σ z             denoising (Vincent 2011)
    ssm      [|s|²/2 + v·∇s v](y)/(d κ),   y = a + σ z       sliced (Song et al. 2019, arXiv:1905.07088)
    fd-ssm   the same with v·[s(y + εv) - s(y - εv)]/2ε      finite differences (Pang et al. 2020,
             and [s(y + εv) + s(y - εv)]/2 for s             arXiv:2007.03317): forward passes only

with v of random signs and κ = tr[(C + σ²)⁻¹]/d. All three are minimal at the score of the blurred density; ssm and
fd-ssm with ``level`` 0 use the states as they are (y = a), and learn the score of the density itself.

λ = σ⁴q²/c_out² at the median level: the loss there is |D(y) - a|²/(d c_out²), and every level counts alike in F, so in
the score. (With the weight of Karras et al. 2022, σ⁴q²/c_out² at each level, the highest levels would count most; for a
bimodal density in one dimension the error of the score was 0.15 with it against 0.09.)

Selection and training only need what F adds, and that is small beside the loss itself. ``excess`` is the loss less
that of F = 0, in closed form: the linear part cancels exactly,

    dsm      λ/d F·(F - 2 F_target)                    ssm      [g·f + |f|²/2 + v·∇f v]/(d κ),

so that F = 0 gives exactly 0 and its gradient has no noise from the Gaussian part. ``baseline`` is the loss of F = 0
itself: on Gaussian data on average 1 for dsm at the median level (λ |F_target|²/d), -1/2 for ssm and fd-ssm.

With a ``top`` the noise levels of one state in three are spread evenly in ln σ from ``level`` to ``top`` instead, so
that the scores of all blurred densities are learned and the density can be sampled (:mod:`gfdt.density`). There

    λ -> λ ω,   ω = (n(σ)/n(level))^½,   n(σ) = σ² tr[C (C + σ²)⁻²]

with n the nats of the likelihood that an error of order 1 in every direction of F would cost per unit of ln σ: up to
d/4 where the noise is of the size of the data, less than one where it drowns all but the largest scale. Weighting by n
(maximum likelihood) would leave those large scales unlearned, no weight would drown everything else in their favour.

Almost all of F_target is the noise z, which no network can predict. In dsm every state is therefore used with +z and
-z: what the two have in common is left, and the noise of the gradient falls by a factor of order σ. Levels are
stratified over the batch for the same reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from gfdt.diffusion.preconditioning import Denoiser
from gfdt.validation import number, one_of

__all__ = [
    "OBJECTIVES",
    "DenoisingObjective",
    "FiniteDifferenceSlicedObjective",
    "Objective",
    "SlicedObjective",
    "make_objective",
]

_LOCAL = 2 / 3  # share of the states whose noise is of about the level of evaluation
_LEAST_LEVEL = 0.02  # where the range to ``top`` begins if ``level`` is 0
_STEP = 0.1  # of σ: the blurred density varies over σ, and the error of the difference is (0.1)²/6 of it
_CLEAN_STEP = 0.01  # of the data's rms at σ = 0: far above the rounding of float32, 1e-6/0.01 of F


@dataclass(frozen=True)
class Objective:
    """What the objectives share: how noise levels are drawn.

    Parameters
    ----------
    level : float
        Median of σ in training, in units of the anomalies.
    spread : float
        Standard deviation of ln σ.
    top : float
        Largest σ of the states that are spread over all levels; 0: none are.
    """

    level: float
    spread: float
    top: float = 0.0
    evaluations_per_state: ClassVar[int] = 2

    def draw(self, anomalies: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return what is random in the loss of states (n, *state): (z, level), to be passed on as they are."""
        return self._draw_noise(anomalies, generator), self.draw_levels(anomalies, generator)

    def draw_at(self, anomalies: Tensor, level: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return the same as held-out evaluation needs it: one noise level for all states, unless there is a top."""
        if self.top:
            return self.draw(anomalies, generator)
        levels = torch.full((len(anomalies),), level, device=anomalies.device, dtype=anomalies.dtype)
        return self._draw_noise(anomalies, generator), levels

    def draw_levels(self, anomalies: Tensor, generator: torch.Generator) -> Tensor:
        """Return a noise level for each state, one from each of as many equally likely intervals."""
        count = len(anomalies)
        kind: Any = {"device": anomalies.device, "dtype": anomalies.dtype}
        jitter = torch.rand(count, generator=generator, **kind)
        # In random order: states have their places in other sequences too, such as the elements of a symmetry group.
        order = torch.randperm(count, generator=generator, device=anomalies.device)
        uniform = ((torch.arange(count, **kind) + jitter) / count)[order]
        if not self.top:
            return self._about_level(uniform)
        low = self.lowest
        wide = low * (self.top / low) ** ((uniform - _LOCAL) / (1 - _LOCAL)).clamp(0, 1)
        return torch.where(uniform < _LOCAL, self._about_level((uniform / _LOCAL).clamp(max=1)), wide)

    @property
    def lowest(self) -> float:
        """Where the levels that reach to ``top`` begin."""
        return self.level or _LEAST_LEVEL

    def excess(self, denoiser: Denoiser, anomalies: Tensor, z: Tensor, level: Tensor) -> Tensor:
        """Return for each state the loss less that of F = 0, shape (n,); differentiable."""
        raise NotImplementedError

    def baseline(self, denoiser: Denoiser, anomalies: Tensor, z: Tensor, level: Tensor) -> Tensor:
        """Return for each state the loss of F = 0, shape (n,)."""
        raise NotImplementedError

    def _about_level(self, uniform: Tensor) -> Tensor:
        return self.level * torch.exp(self.spread * torch.special.ndtri(uniform.clamp(1e-6, 1 - 1e-6)))

    def _emphasis(self, denoiser: Denoiser, level: Tensor) -> Tensor:
        """Return ω; 1 up to the lowest of the wide levels."""
        if not self.top:
            return torch.ones_like(level)
        least = torch.full_like(level[:1], self.lowest)
        ratio = level * denoiser.output_scale(level) / (least * denoiser.output_scale(least))
        return torch.where(level > least, ratio, 1.0)

    def _draw_noise(self, anomalies: Tensor, generator: torch.Generator) -> Tensor:
        return torch.randn(anomalies.shape, generator=generator, device=anomalies.device, dtype=anomalies.dtype)


class DenoisingObjective(Objective):
    """Denoising score matching with antithetic noise; z is (n, *state)."""

    def excess(self, denoiser: Denoiser, anomalies: Tensor, z: Tensor, level: Tensor) -> Tensor:
        """Return λ/d F·(F - 2 F_target), averaged over +z and -z."""
        states, noise, levels = _antithetic(anomalies, z, level)
        target = denoiser.target(states, noise, levels)
        learned = denoiser.residual(states + _beside(levels, states) * noise, levels, copies=2)
        product = _mean(learned * (learned - 2 * target)).reshape(2, -1).mean(dim=0)
        return self._weight(denoiser, level) * product

    def baseline(self, denoiser: Denoiser, anomalies: Tensor, z: Tensor, level: Tensor) -> Tensor:
        """Return λ/d |F_target|², averaged over +z and -z."""
        target = denoiser.target(*_antithetic(anomalies, z, level))
        return self._weight(denoiser, level) * _mean(target.square()).reshape(2, -1).mean(dim=0)

    def _weight(self, denoiser: Denoiser, level: Tensor) -> Tensor:
        """Return λ, which is the same for all levels near the median one, times ω."""
        median = torch.full_like(level[:1], self.level)
        equal = (median**2 * denoiser.output_scale(median) / denoiser.posterior_scale(median)) ** 2
        return equal * self._emphasis(denoiser, level)


class SlicedObjective(Objective):
    """Sliced score matching with the exact derivative; z is (n, 2, *state), the noise and the probe v."""

    def draw_levels(self, anomalies: Tensor, generator: torch.Generator) -> Tensor:
        """Return noise levels as for denoising, exactly 0 for those near ``level`` if that is."""
        if self.level == 0 and not self.top:
            return anomalies.new_zeros(len(anomalies))
        return super().draw_levels(anomalies, generator)

    def excess(self, denoiser: Denoiser, anomalies: Tensor, z: Tensor, level: Tensor) -> Tensor:
        """Return [g·f + |f|²/2 + v·∇f v]/(d κ)."""
        y, probe = _blurred(anomalies, z, level)
        correction, derivative = self._correction(denoiser, y, probe, level)
        linear = denoiser.linear_score(y, level)
        terms = linear * correction + correction.square() / 2 + probe * derivative
        return self._weight(denoiser, level) * _mean(terms)

    def baseline(self, denoiser: Denoiser, anomalies: Tensor, z: Tensor, level: Tensor) -> Tensor:
        """Return [|g|²/2 + div g]/(d κ), the divergence exact: |g|²/(2 d κ) - 1."""
        if not denoiser.has_linear_part:
            return torch.zeros_like(level)
        y, _ = _blurred(anomalies, z, level)
        linear = denoiser.linear_score(denoiser.project(y), level)
        weight = self._weight(denoiser, level)
        return weight * (_mean(linear.square()) / 2 - denoiser.mean_precision(level))

    def _weight(self, denoiser: Denoiser, level: Tensor) -> Tensor:
        """Return 1/κ, and ω/q² at the wide levels, where κ would be that of the noise."""
        scale = torch.where(level > self.lowest, denoiser.output_scale(level) ** 2, denoiser.mean_precision(level))
        return self._emphasis(denoiser, level) / (scale if self.top else denoiser.mean_precision(level))

    def _correction(self, denoiser: Denoiser, y: Tensor, probe: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        """Return f and (∇f)ᵀv, whose product with v is that of ∇f v: reverse mode needs one pass for both."""
        value, pull_back = torch.func.vjp(lambda state: denoiser.score_correction(state, level), y)[:2]
        return value, pull_back(probe)[0]

    def _draw_noise(self, anomalies: Tensor, generator: torch.Generator) -> Tensor:
        noise = super()._draw_noise(anomalies, generator)
        bits = torch.randint(2, anomalies.shape, generator=generator, device=anomalies.device)
        return torch.stack([noise, (2 * bits - 1).to(noise.dtype)], dim=1)


class FiniteDifferenceSlicedObjective(SlicedObjective):
    """Sliced score matching by finite differences of ε = 0.1 σ (0.01 at σ = 0) per component; z as in ssm."""

    def _correction(self, denoiser: Denoiser, y: Tensor, probe: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        step = _beside(torch.where(level > 0, _STEP * level, _CLEAN_STEP), y)
        pair = torch.cat([y + step * probe, y - step * probe])
        plus, minus = denoiser.score_correction(pair, level.repeat(2), copies=2).chunk(2)
        return (plus + minus) / 2, (plus - minus) / (2 * step)


OBJECTIVES: dict[str, type[Objective]] = {
    "dsm": DenoisingObjective,
    "ssm": SlicedObjective,
    "fd-ssm": FiniteDifferenceSlicedObjective,
}


def make_objective(name: str, level: float, spread: float, top: float = 0.0) -> Objective:
    """Return the objective of that name, for noise levels about ``level`` and, with ``top``, from there to ``top``.

    Raises
    ------
    InputError
        For an unknown name, a negative level or spread, or dsm at level 0 (which needs noise to remove).
    """
    one_of("objective", name, tuple(OBJECTIVES))
    number("sigma", level, low=0.0, closed=name != "dsm")
    number("spread", spread, low=0.0, closed=True)
    number("top", top, low=0.0, closed=True)
    return OBJECTIVES[name](float(level), float(spread), float(top))


def _antithetic(anomalies: Tensor, z: Tensor, level: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return torch.cat([anomalies, anomalies]), torch.cat([z, -z]), torch.cat([level, level])


def _blurred(anomalies: Tensor, z: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
    """Return y and the probe."""
    return anomalies + _beside(level, anomalies) * z[:, 0], z[:, 1]


def _mean(values: Tensor) -> Tensor:
    return values.flatten(1).mean(dim=1)


def _beside(values: Tensor, states: Tensor) -> Tensor:
    return values.reshape(-1, *[1] * (states.ndim - 1))
