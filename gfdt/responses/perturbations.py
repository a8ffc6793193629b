r"""What is pushed: the perturbations a response can be asked for, and their conjugate variables.

dx = F(x) dt + G dW (Ito) is perturbed to first order in f(t); delta<A>(t) = int_0^t R_A(t - t') f(t') dt' with
R_A(t) = <A(x(t)) B(x(0))>, s = grad log rho and

    a drift f(t) w(x)                   B = -[div w + w . s]
    the noise amplitude, G -> G + f L   B = 1/2 [M : grad s + s' M s],        M = G L' + L G' (constant in x)

(PRL eq. 3; Giorgini, Falasca & Souza, arXiv:2509.19660, for the second: the Fokker-Planck operator changes by
1/2 div div (M rho), divided by rho). A kick e_j of every component, B_j = -s_j, is the first with constant w.

Either is a sum of inner products of something with the score or its derivative, B = b_0 + sum_i c_i l_i . r_i; the
second factor is what a correction M~ of the score acts on (:mod:`gfdt.responses.correction`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from gfdt.errors import InputError
from gfdt.responses.divergence import AUTODIFF, divergence_of, real_values
from gfdt.scores.base import Score
from gfdt.validation import integer, shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Field = Callable[[NDArray[Any]], NDArray[Any]]

__all__ = [
    "Amplitude",
    "Drift",
    "Kick",
    "NoiseAmplitude",
    "NoiseChange",
    "Pattern",
    "Perturbation",
    "StateDependent",
    "Term",
]

_EXACT_SIZE = 64  # up to this many components traces are summed over all of them
_MOST_PROBES = 10**4


@dataclass(frozen=True)
class Term:
    """c l . r in B.

    Attributes
    ----------
    right : (n, *state), linear in the score: what a correction of the score acts on
    left : (n, *state), or a symmetric operator: l is then the operator applied to the corrected r, and B quadratic
    factor : c
    """

    right: NDArray[np.float64]
    left: NDArray[np.float64] | Field
    factor: float


class Drift:
    """A perturbation f(t) w(x) of the drift, of any dependence on the state.

    Parameters
    ----------
    w : callable or array
        Maps states (n, *state) to w(x) of the same shape, in units of the state per unit time and per unit of f; or
        a constant pattern (*state).
    divergence : callable, "autodiff" or None
        div w as a function of states (n, *state) to (n,); "autodiff": w also takes a torch tensor and is
        differentiated exactly; None (default): zero for a pattern, else central differences, all d of them for d <= 64
        and 16 random directions beyond (unbiased; their noise goes into the error bars).

    Examples
    --------
    The sensitivity to a parameter p of the drift F(x; p) is the response to w = dF/dp:

    >>> import gfdt
    >>> damping = gfdt.Drift(lambda x: -x)
    """

    def __init__(self, w: Field | Any, divergence: Field | str | None = None) -> None:
        if isinstance(w, type | str | bytes) or w is None:
            raise InputError(f"w={shown(w)} is not a drift: pass a function w(x) of states (n, *state), or an array.")
        if divergence is not None and not callable(divergence) and divergence != AUTODIFF:
            raise InputError(
                f"divergence={shown(divergence)} is not known: pass a function div w(x), 'autodiff', or leave it out."
            )
        if divergence is not None and (not callable(w) or isinstance(w, xr.DataArray)):
            raise InputError("divergence belongs to a function w(x), that of a constant pattern is zero: leave it out.")
        self.w = w
        self.divergence = divergence

    def __repr__(self) -> str:
        return f"Drift({getattr(self.w, '__name__', type(self.w).__name__)})"


class NoiseAmplitude:
    r"""A perturbation of the amplitude of additive noise, G -> G + f(t) L.

    Parameters
    ----------
    noise : float, array (*state) or array (*half)
        G as it is: one amplitude for all components (units of the state per square root of time; s of
        dx = f dt + s dW), one for each, or with ``basis="wavenumber"`` one for each wavenumber of the field, in the
        half plane of ``scipy.fft.rfftn`` (or a function of the squared integer wavenumber): mode k of the noise is then
        g_k w_k, w_k that of unit white noise on the grid.
    change : like noise, optional
        L, what one unit of f adds. Default None: 1 everywhere, so that R is the response to a unit change of the
        amplitude itself; ``change=noise`` is a relative change.
    basis : "component" or "wavenumber"
        What the entries of noise and change belong to. "wavenumber" needs a field declared homogeneous.
    n_probes : int, optional
        Random directions for M : grad s. Default None: all d components for d <= 64, else 1 for each state, which is
        unbiased; its noise averages out over states and is in the error bars.
    seed : int
        Of the random directions.

    References
    ----------
    Giorgini, Falasca & Souza, arXiv:2509.19660.
    """

    def __init__(
        self,
        noise: Any,
        *,
        change: Any = None,
        basis: str = "component",
        n_probes: int | None = None,
        seed: int = 0,
    ) -> None:
        if basis not in ("component", "wavenumber"):
            raise InputError(f"basis={shown(basis)} is not known: choose 'component' or 'wavenumber'.")
        integer("n_probes", n_probes, 1, _MOST_PROBES, optional=True)
        integer("seed", seed, 0, 2**63 - 1)
        self.noise = noise
        self.change = change
        self.basis = basis
        self.n_probes = n_probes
        self.seed = seed

    def __repr__(self) -> str:
        return "NoiseAmplitude()"


@dataclass(frozen=True)
class Kick:
    """Every component, by itself, by one unit at t = 0."""

    name: str = "kick of each component"


@dataclass(frozen=True)
class Pattern:
    """One constant pattern; the field it kicks is homogeneous or not."""

    values: NDArray[np.float64]
    name: str = "pattern"

    def terms(self, states: NDArray[np.float64], score: NDArray[np.float64]) -> tuple[NDArray[np.float64], list[Term]]:
        """Return b_0 and the terms of B for states (n, *state) and their scores."""
        left = np.broadcast_to(self.values, states.shape)
        return np.zeros(len(states)), [Term(score, left, -1.0)]

    def direction(self, states: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return w(x)."""
        return np.broadcast_to(self.values, states.shape)


@dataclass(frozen=True)
class StateDependent:
    """Drift with w a function."""

    drift: Drift
    name: str

    def direction(self, states: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return w(x)."""
        try:
            returned = self.drift.w(states.copy())
        except InputError:
            raise
        except Exception as error:
            raise InputError(
                f"w of the Drift failed on a numpy array of states (n, *state) = {states.shape} "
                f"({type(error).__name__}: {error}): write it for such arrays, with components x[..., i]."
            ) from error
        value = real_values(returned, "w")
        if value.shape != states.shape:
            raise InputError(
                f"w returned shape {value.shape} for states of shape {states.shape}: it must map (n, *state) to the "
                "same shape."
            )
        return value

    def terms(self, states: NDArray[np.float64], score: NDArray[np.float64]) -> tuple[NDArray[np.float64], list[Term]]:
        """Return b_0 = -div w and the term -w . s."""
        w = self.direction(states)
        return -divergence_of(self.drift.w, self.drift.divergence, states), [Term(score, w, -1.0)]


@dataclass(frozen=True)
class NoiseChange:
    """NoiseAmplitude bound to a state: M is applied by ``operator``."""

    settings: NoiseAmplitude
    score: Score
    operator: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    diagonal: NDArray[np.float64]  # M_ii, (*state)
    rng: np.random.Generator
    name: str = "noise amplitude"

    def terms(self, states: NDArray[np.float64], score: NDArray[np.float64]) -> tuple[NDArray[np.float64], list[Term]]:
        """Return 0 and the terms of 1/2 [M : grad s + s' M s]."""
        terms = [Term(score, self.operator, 0.5)]
        directions = list(self._directions(states.shape))
        random = n_components(states.shape[1:]) > _EXACT_SIZE or self.settings.n_probes is not None
        share = 0.5 / (len(directions) if random else 1)
        for z in directions:
            derivative = np.asarray(self.score.jvp(states, z), dtype=np.float64)
            terms.append(Term(derivative, self.operator(z), share))
        return np.zeros(len(states)), terms

    def _directions(self, shape: tuple[int, ...]) -> Iterator[NDArray[np.float64]]:
        if n_components(shape[1:]) <= _EXACT_SIZE and self.settings.n_probes is None:
            for index in np.ndindex(*shape[1:]):
                z = np.zeros(shape)
                z[:, *index] = 1.0
                yield z
        else:
            for _ in range(self.settings.n_probes or 1):
                yield self.rng.choice(np.array([-1.0, 1.0]), shape)


def n_components(shape: tuple[int, ...]) -> int:
    """Return the number of components."""
    return int(np.prod(shape, dtype=np.int64))


Amplitude = Pattern | StateDependent | NoiseChange
Perturbation = Kick | Sequence[Amplitude]
