"""From what a user asks to be pushed to perturbations of a record's states, validated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from gfdt.errors import InputError
from gfdt.responses.divergence import divergence_of
from gfdt.responses.one_by_one import require_one_by_one
from gfdt.responses.perturbations import (
    Amplitude,
    Drift,
    Kick,
    NoiseAmplitude,
    NoiseChange,
    Pattern,
    Perturbation,
    StateDependent,
)
from gfdt.scores.base import Score
from gfdt.validation import is_number, shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gfdt.responses.layout import Layout

__all__ = ["find_perturbation"]

_EXAMPLES = 8  # states on which a user's w is tried


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
            bound = StateDependent(value, name or ("drift" if found == "<lambda>" else found))
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
) -> NoiseChange:
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
        return NoiseChange(value, score, lambda v: v * product, product, rng, name)
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
    return NoiseChange(value, score, operator, diagonal, rng, name)


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
