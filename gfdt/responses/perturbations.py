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

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from gfdt.errors import InputError
from gfdt.responses.divergence import AUTODIFF, divergence_of, real_values
from gfdt.responses.one_by_one import require_one_by_one
from gfdt.scores.base import Score
from gfdt.validation import integer, is_number, shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gfdt.responses.layout import Layout

    Field = Callable[[NDArray[Any]], NDArray[Any]]

__all__ = ["Amplitude", "Drift", "Kick", "NoiseAmplitude", "Pattern", "Perturbation", "Term", "find_perturbation"]

_EXACT_SIZE = 64  # up to this many components traces are summed over all of them
_MOST_PROBES = 10**4
_EXAMPLES = 8  # states on which a user's w is tried


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
class _StateDependent:
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
class _NoiseChange:
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
        random = math_prod(states.shape[1:]) > _EXACT_SIZE or self.settings.n_probes is not None
        share = 0.5 / (len(directions) if random else 1)
        for z in directions:
            derivative = np.asarray(self.score.jvp(states, z), dtype=np.float64)
            terms.append(Term(derivative, self.operator(z), share))
        return np.zeros(len(states)), terms

    def _directions(self, shape: tuple[int, ...]) -> Iterator[NDArray[np.float64]]:
        if math_prod(shape[1:]) <= _EXACT_SIZE and self.settings.n_probes is None:
            for index in np.ndindex(*shape[1:]):
                z = np.zeros(shape)
                z[:, *index] = 1.0
                yield z
        else:
            for _ in range(self.settings.n_probes or 1):
                yield self.rng.choice(np.array([-1.0, 1.0]), shape)


def math_prod(shape: tuple[int, ...]) -> int:
    """Return the number of components."""
    return int(np.prod(shape, dtype=np.int64))


Amplitude = Pattern | _StateDependent | _NoiseChange
Perturbation = Kick | Sequence[Amplitude]


def find_perturbation(value: Any, trajectory: xr.DataArray, layout: Layout, score: Score) -> tuple[Perturbation, bool]:
    """Return what is to be perturbed, and whether it was one amplitude (which then has no dim of its own).

    Parameters
    ----------
    value : None, array, Drift, NoiseAmplitude, or a mapping or sequence of the last three
    trajectory, layout, score
        The record, how its states are laid out, and the score, which must know its state dims.

    Raises
    ------
    InputError
        If it is none of these, or does not fit the state.
    """
    if value is None:
        return Kick(), False
    if isinstance(value, Mapping):
        if not value or not all(isinstance(name, str) and name for name in value):
            raise InputError("perturbation names nothing: pass {name: pattern or Drift}, with at least one.")
        return [_amplitude(item, trajectory, layout, score, name) for name, item in value.items()], False
    if isinstance(value, list | tuple) and not value:
        raise InputError("perturbation is an empty list: pass patterns, Drift or NoiseAmplitude in it, or None.")
    if isinstance(value, list | tuple) and not all(np.isscalar(item) for item in value):
        named = [_amplitude(item, trajectory, layout, score, None) for item in value]
        return [_renamed(item, f"{item.name} {index}") for index, item in enumerate(named)], False
    return [_amplitude(value, trajectory, layout, score, None)], True


def _renamed(item: Amplitude, name: str) -> Amplitude:
    return type(item)(**{**item.__dict__, "name": name})


def _amplitude(value: Any, trajectory: xr.DataArray, layout: Layout, score: Score, name: str | None) -> Amplitude:
    if isinstance(value, NoiseAmplitude):
        return _bind_noise(value, trajectory, layout, score, name or "noise amplitude")
    if isinstance(value, str):
        return Pattern(_labelled_component(value, trajectory, layout), name or value)
    if isinstance(value, Drift):
        if callable(value.w) and not isinstance(value.w, xr.DataArray):
            found = getattr(value.w, "__name__", "drift")
            bound = _StateDependent(value, name or ("drift" if found == "<lambda>" else found))
            states = trajectory.values[0]
            states = states[~np.isnan(states.reshape(len(states), -1)[:, 0])][:_EXAMPLES].astype(np.float64)
            hint = "components are x[..., i], not x[i]"
            require_one_by_one(bound.direction, states, "w of the Drift", hint)
            if callable(value.divergence):
                require_one_by_one(
                    lambda x: divergence_of(value.w, value.divergence, x), states, "the divergence of the Drift", hint
                )
            return bound
        value = value.w
    elif callable(value):
        raise InputError("perturbation is a bare function: wrap it, gfdt.Drift(w), so that its divergence is seen to.")
    return Pattern(_on_state(value, trajectory, layout.dims, layout.shape, "perturbation"), name or "pattern")


def _labelled_component(value: str, trajectory: xr.DataArray, layout: Layout) -> NDArray[np.float64]:
    """A unit push of the component (or of the variable, at every site) that has this label."""
    named = {str(dim): [str(label) for label in trajectory[dim].values] for dim in layout.dims}
    found = [dim for dim, labels in named.items() if value in labels and trajectory[dim].dtype.kind in "UO"]
    if len(found) != 1:
        labels = [label for dim in named if trajectory[dim].dtype.kind in "UO" for label in named[dim]]
        known = f"a component by name ({', '.join(labels[:8])}), " if labels else ""
        raise InputError(
            f"perturbation={shown(value)} is not known: pass None, {known}an array of the state's shape "
            f"{layout.shape}, gfdt.Drift or gfdt.NoiseAmplitude."
        )
    pattern = np.zeros(layout.shape)
    axis = layout.dims.index(found[0])
    np.moveaxis(pattern, axis, 0)[named[found[0]].index(value)] = 1.0
    return pattern


def _on_state(
    value: Any, trajectory: xr.DataArray, dims: tuple[str, ...], shape: tuple[int, ...], what: str
) -> NDArray[np.float64]:
    """Return an array over the state, labelled ones put in the order of the state's dims and labels."""
    if isinstance(value, xr.DataArray):
        if set(value.dims) - set(dims):
            raise InputError(f"{what} has the dims {tuple(value.dims)}, the state has {dims}: rename or select first.")
        for dim in value.dims:
            if dim not in value.coords and value.sizes[dim] != trajectory.sizes[dim]:
                raise InputError(
                    f"{what} has {value.sizes[dim]} entries along {str(dim)!r}, the state has {trajectory.sizes[dim]}: "
                    "pass one number for each."
                )
            if dim in value.coords:
                try:
                    value = value.sel({dim: trajectory[dim].values})
                except KeyError as error:
                    raise InputError(
                        f"{what} has other labels along {dim!r} than the trajectory: give it the same, or none "
                        f"(drop_vars({str(dim)!r}))."
                    ) from error
        value = value.broadcast_like(trajectory.isel(member=0, time=0, drop=True)).transpose(*dims).values
    try:
        array = np.asarray(value)
        if np.iscomplexobj(array):
            raise TypeError
        array = array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{what}={shown(value)} is not known: pass None, an array of the state's shape {shape}, gfdt.Drift or "
            "gfdt.NoiseAmplitude."
        ) from error
    if array.shape != shape:
        raise InputError(f"{what} has shape {array.shape}, the state {dims} has {shape}: pass one number for each.")
    if not np.isfinite(array).all() or not array.any():
        raise InputError(f"{what} holds NaN or inf, or is zero everywhere: pass a finite pattern.")
    return array


def _bind_noise(
    value: NoiseAmplitude, trajectory: xr.DataArray, layout: Layout, score: Score, name: str
) -> _NoiseChange:
    rng = np.random.default_rng(value.seed)
    if value.basis == "component":
        noise, change = (
            _per_component(item, trajectory, layout, what)
            for what, item in (("noise", value.noise), ("change", 1.0 if value.change is None else value.change))
        )
        if noise.min() < 0:
            raise InputError(f"noise goes down to {noise.min():.3g}: an amplitude is not negative; pass its size.")
        product = 2 * noise * change
        if not np.isfinite(product).all() or not product.any():
            raise InputError("noise or its change is zero or not finite everywhere: pass the amplitude G of the noise.")
        return _NoiseChange(value, score, lambda v: v * product, product, rng, name)
    if layout.dense:
        raise InputError(
            "basis='wavenumber' needs a field that looks the same everywhere: pass homogeneous=('y', 'x') too, or use "
            "basis='component'."
        )
    modes = 2 * _per_mode(value.noise, layout) * _per_mode(1.0 if value.change is None else value.change, layout)

    def operator(v: NDArray[np.float64]) -> NDArray[np.float64]:
        series: Any = layout.transform(v)
        return layout.to_states(series * (modes[:, None] if layout.several else modes))

    unit = np.zeros((1, *layout.shape))
    unit.reshape(layout.n_variables, -1)[:, 0] = 1.0
    diagonal = np.full(layout.shape, operator(unit)[(0, *[0] * len(layout.shape))])
    return _NoiseChange(value, score, operator, diagonal, rng, name)


def _per_component(value: Any, trajectory: xr.DataArray, layout: Layout, what: str) -> NDArray[np.float64]:
    if not isinstance(value, xr.DataArray) and np.ndim(value) == 0:
        one = value.item() if isinstance(value, np.ndarray) else value
        if not is_number(one):
            raise InputError(
                f"{what}={shown(value)} is not an amplitude of the noise: pass a finite number, or an array of the "
                f"state's shape {layout.shape}."
            )
        return np.broadcast_to(float(one), layout.shape)
    return _on_state(value, trajectory, layout.dims, layout.shape, what)


def _per_mode(value: Any, layout: Layout) -> NDArray[np.float64]:
    half = layout.half  # type: ignore[union-attr]
    if callable(value):
        axes = [np.fft.fftfreq(size, 1 / size) for size in layout.grid[:-1]]
        axes.append(np.arange(half[-1], dtype=np.float64))
        value = value(sum(axis**2 for axis in np.meshgrid(*axes, indexing="ij")))
    array = np.asarray(value)
    if array.ndim == 0:
        array = np.broadcast_to(array, half)
    real = np.issubdtype(array.dtype, np.floating) or np.issubdtype(array.dtype, np.integer)
    if array.shape != half or not real or not np.isfinite(array).all() or not array.any():
        raise InputError(
            f"noise per wavenumber has shape {array.shape} and type {array.dtype}: expected finite real numbers of "
            f"shape {half}, the half plane of scipy.fft.rfftn of a field, not all zero."
        )
    return array.astype(np.float64).ravel()
