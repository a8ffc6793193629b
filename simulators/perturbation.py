"""The kicks of a twin experiment, and how a response is read from what they do.

A restart gives one or several kicks, displacements q of the state at time 0. `half` is half the difference of the
twins kicked by +q and -q, (x+(t) - x-(t)) / 2. With an amplitude a, the readings are

    vector, "pixel":    q = a_j e_j for every j in turn        R_ij(t) = half_i(t) / a_j
    vector, "pattern":  q_j = a_j p_j, <p p^T> = I             R_ij(t) = half_i(t) p_j / a_j
    field, "pixel":     q = a at one random site x0            R(r, t) = half(x0 + r, t) / a
    field, "pattern":   q(x) = a p(x), |p_hat_k|^2 = N         R(r, t) = N^-1 sum_x p(x) half(x + r, t) / a
    array or function:  q = a w(x(0))                          response(t) = half(t) / a

N is the number of sites. The pattern of a vector is a random direction of length sqrt(d) (a random sign if d = 1). The
pattern of a field has random phases and a flat spectrum: like random signs it has <p(x) p(x + r)> = delta(r), but
here every single pattern has it exactly, so R(0) is the identity in every pair.

For a field either kick gives the whole response from every pair, with about the same rms error over all r: "pixel" sees
the response of one state at one site, "pattern" the mean over sites, but mixed with the response to all other sites.
"pattern" spreads the error evenly, "pixel" has it near the kick. Measured with 64 members x 2 restarts of Allen-Cahn
(n = 32, no advection, lag 1): standard error 0.0106 ("pixel") and 0.0014 ("pattern") at r = 0, where R = 0.77; rms over
the field 6.2e-4 and 6.4e-4. "pattern" kicks all sites, and so leaves the linear range earlier: with an amplitude of a
tenth of the standard deviation (n = 16, lag 1) the bias of R(0) was 0.1 % and 0.9 %; hence its smaller default.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from simulators.checks import MAX_MAGNITUDE, require_array, show
from simulators.errors import ParameterError
from simulators.grid import displacements
from simulators.schema import Layout

__all__ = ["DisplacementField", "Perturbation", "check_kicks", "find_perturbation", "in_order"]

Array = NDArray[np.float64]
DisplacementField = Callable[[Array], Array]

# A kick smaller than this part of the state loses more than eight digits when the twins are subtracted.
_SMALLEST_KICK = 1e-8
# Sites or components with less than this part of the largest spread do not limit the amplitude: they are at rest.
_AT_REST = 1e-9


@dataclass(frozen=True)
class Perturbation(ABC):
    """One kind of kick.

    Attributes
    ----------
    layout : Layout
        Labels of the state.
    name : str
        For the record.
    """

    layout: Layout
    name: str

    # The default amplitude, in standard deviations. The bias of R is then at most 1.7e-3 of it in the double well and
    # 1.4e-3 in the scalar climate model (lags up to 8); smaller kicks make the response of a chaotic system noisier.
    part: ClassVar[float] = 0.1

    @property
    def given(self) -> Array | None:
        """The displacement for amplitude 1, where it was given as an array."""
        return None

    @property
    @abstractmethod
    def axes(self) -> dict[str, NDArray[Any]]:
        """Dimensions of the response after ``lag``, each with its coordinate."""

    @abstractmethod
    def amplitude(self, states: Array) -> Array:
        """Return the amplitude that kicks no component by more than `part` of its standard deviation over `states`.

        `states` has the shape (sample, *state); a homogeneous field has one standard deviation for all of its sites.
        """

    @abstractmethod
    def kicks(self, state: Array, amplitude: Array, rng: Generator) -> Array:
        """Return the displacements q to give to `state`, shape (kick, *state)."""

    @abstractmethod
    def read(self, half: Array, kicks: Array, amplitude: Array) -> Array:
        """Return the response, shape (lag, *axes), from half the difference of the twins, (kick, lag, *state)."""

    def read_even(self, half: Array, kicks: Array, amplitude: Array) -> Array:
        """Return the even part, shape (lag, ...), as a `pure` number, from (x+ + x- - 2 x0) / 2, (kick, lag, *state).

        Its mean square over a state is to that of `pure` as the even displacement is to the odd one.
        """
        return self.pure(self.read(half, kicks, amplitude), amplitude)

    def pure(self, response: Array, amplitude: Array) -> Array:  # noqa: ARG002
        """Return the response as pure numbers that may be summed over components of different units."""
        return response


# ---- vectors: the full matrix


@dataclass(frozen=True)
class _Vector(Perturbation):
    @property
    def axes(self) -> dict[str, NDArray[Any]]:
        (dim,) = self.layout.dims
        return {dim: self.layout.coordinates[dim], f"{dim}_src": self.layout.coordinates[dim]}

    def amplitude(self, states: Array) -> Array:
        spread = states.std(axis=0, ddof=1)
        return self.part * np.where(spread > _AT_REST * spread.max(), spread, spread.max())

    def pure(self, response: Array, amplitude: Array) -> Array:
        """R_ij a_j / a_i: by default the amplitudes are parts of the standard deviations."""
        return response * amplitude / np.broadcast_to(amplitude, response.shape[-1])[:, None]


class _VectorPixel(_Vector):
    def kicks(self, state: Array, amplitude: Array, rng: Generator) -> Array:  # noqa: ARG002
        return np.diag(np.broadcast_to(amplitude, state.shape))

    def read(self, half: Array, kicks: Array, amplitude: Array) -> Array:  # noqa: ARG002
        return np.moveaxis(half, 0, -1) / amplitude


class _VectorPattern(_Vector):
    def kicks(self, state: Array, amplitude: Array, rng: Generator) -> Array:
        direction = rng.standard_normal(state.shape)
        return (amplitude * direction * np.sqrt(state.size) / np.linalg.norm(direction))[None]

    def read(self, half: Array, kicks: Array, amplitude: Array) -> Array:
        return half[0, :, :, None] * (kicks[0] / amplitude**2)

    def read_even(self, half: Array, kicks: Array, amplitude: Array) -> Array:  # noqa: ARG002
        # quadratic in the pattern: correlated with it, it would vanish; |R p|^2 is |R|^2 on average
        return half[0] / amplitude


# ---- homogeneous fields: displacement from the kick


@dataclass(frozen=True)
class _Field(Perturbation):
    @property
    def axes(self) -> dict[str, NDArray[Any]]:
        return {f"d{dim}": displacements(len(values)) for dim, values in self.layout.coordinates.items()}

    def amplitude(self, states: Array) -> Array:
        return self.part * states.std(ddof=1)

    @property
    def _dims(self) -> tuple[int, ...]:
        """Positions of the state dimensions, counted from the end."""
        return tuple(range(-len(self.layout.shape), 0))


class _FieldPixel(_Field):
    def kicks(self, state: Array, amplitude: Array, rng: Generator) -> Array:
        kick = np.zeros(state.shape)
        kick.flat[rng.integers(state.size)] = amplitude
        return kick[None]

    def read(self, half: Array, kicks: Array, amplitude: Array) -> Array:
        site = np.unravel_index(int(np.argmax(kicks[0])), self.layout.shape)
        shift = [n // 2 - int(i) for n, i in zip(self.layout.shape, site, strict=True)]
        return np.roll(half[0], shift, self._dims) / amplitude


class _FieldPattern(_Field):
    part: ClassVar[float] = 0.05

    def kicks(self, state: Array, amplitude: Array, rng: Generator) -> Array:
        # the phases of white noise: uniform, and those of -k opposite to those of k
        spectrum = np.fft.rfftn(rng.standard_normal(state.shape))
        flat = np.sqrt(state.size) * spectrum / np.abs(spectrum)
        return amplitude * np.fft.irfftn(flat, s=state.shape, axes=self._dims)[None]

    def read(self, half: Array, kicks: Array, amplitude: Array) -> Array:
        pattern_hat = np.fft.rfftn(kicks[0] / amplitude)
        spectrum = np.fft.rfftn(half[0], axes=self._dims) * pattern_hat.conj()
        response = np.fft.irfftn(spectrum, s=self.layout.shape, axes=self._dims) / (kicks[0].size * amplitude)
        return np.fft.fftshift(response, axes=self._dims)

    def read_even(self, half: Array, kicks: Array, amplitude: Array) -> Array:  # noqa: ARG002
        # quadratic in the pattern: correlated with it, it would vanish; its mean over patterns is a constant field
        return half[0].mean(axis=self._dims) / amplitude


# ---- given displacements: response of the state


@dataclass(frozen=True)
class _Given(Perturbation):
    displacement: DisplacementField | Array

    @property
    def given(self) -> Array | None:
        return None if callable(self.displacement) else self.displacement

    @property
    def axes(self) -> dict[str, NDArray[Any]]:
        return self.layout.coordinates

    def amplitude(self, states: Array) -> Array:
        size = np.sqrt(np.mean([self._checked(state) ** 2 for state in states], axis=0))
        if not size.any():
            raise ParameterError(
                f"the displacement of {self.name} is 0 in {len(states)} states of the system: expected one that moves "
                "it; pass an amplitude if it is rarely different from 0"
            )
        spread = states.std(axis=0, ddof=1) if "component" in self.layout.dims else states.std(ddof=1)
        spread = np.broadcast_to(spread, size.shape)
        spread = np.where(spread > _AT_REST * spread.max(), spread, spread.max())
        return np.asarray(self.part / (size / spread).max())

    def kicks(self, state: Array, amplitude: Array, rng: Generator) -> Array:  # noqa: ARG002
        return (amplitude * self._checked(state))[None]

    def read(self, half: Array, kicks: Array, amplitude: Array) -> Array:  # noqa: ARG002
        return half[0] / amplitude

    def _checked(self, state: Array) -> Array:
        if not callable(self.displacement):
            return self.displacement
        # a copy: a function that changes its argument must not change the state
        displacement = require_array(
            f"the displacement of {self.name}",
            in_order(self.displacement(state.copy()), self.layout),
            f"an array of shape {state.shape}",
        )
        if displacement.shape != state.shape or not np.all(np.abs(displacement) <= MAX_MAGNITUDE):
            raise ParameterError(
                f"the displacement of {self.name} has shape {displacement.shape} and largest magnitude "
                f"{np.abs(displacement).max(initial=0):.3g}: expected finite numbers of shape {state.shape}, one for "
                "each component of the state; return that from the function"
            )
        return displacement


_VECTOR: dict[str, type[_Vector]] = {"pixel": _VectorPixel, "pattern": _VectorPattern}
_FIELD: dict[str, type[_Field]] = {"pixel": _FieldPixel, "pattern": _FieldPattern}


def in_order(value: Any, layout: Layout) -> Any:
    """Return a labelled array with its dims in the order of the state, anything else as it is."""
    if not (hasattr(value, "dims") and hasattr(value, "transpose")):
        return value
    if set(value.dims) != set(layout.dims):
        raise ParameterError(
            f"the perturbation has dims {tuple(value.dims)}: expected {layout.dims}; rename or select first"
        )
    return value.transpose(*layout.dims)


def find_perturbation(value: Any, layout: Layout) -> Perturbation:
    """Return the perturbation a user asked for.

    Parameters
    ----------
    value : str, array_like or callable
        As in `simulators.system.System.direct_response`.
    layout : Layout
        Labels of the state; "component" states are vectors, all others homogeneous periodic fields.

    Returns
    -------
    Perturbation

    Raises
    ------
    ParameterError
        If it is none of these, or an array of another shape, not finite or zero.
    """
    kinds: dict[str, Any] = _VECTOR if "component" in layout.dims else _FIELD
    expected = (
        f"'pixel', 'pattern', an array of shape {layout.shape}, or a function from a state of that shape to such an "
        "array; pass perturbation='pixel'"
    )
    if isinstance(value, str):
        if value not in kinds:
            raise ParameterError(f"perturbation = {show(value)}: expected {expected}")
        return kinds[value](layout, value)
    if callable(value):
        return _Given(layout, getattr(value, "__qualname__", type(value).__name__), value)
    array = require_array("perturbation", in_order(value, layout), expected)
    if array.shape != layout.shape or not np.all(np.abs(array) <= MAX_MAGNITUDE) or not array.any():
        raise ParameterError(
            f"perturbation is an array of shape {array.shape}, largest magnitude {np.abs(array).max(initial=0):.3g}: "
            f"expected {expected}, with finite numbers that are not all 0"
        )
    array.setflags(write=False)
    return _Given(layout, "array", array)


def check_kicks(kicks: Array, state: Array) -> None:
    """Raise if the difference of twins with these `kicks` of `state` would be mostly rounding.

    Raises
    ------
    ParameterError
        With the size found and the size needed.
    """
    found, needed = float(np.abs(kicks).max()), _SMALLEST_KICK * float(np.abs(state).max())
    if 0 < found < needed:
        raise ParameterError(
            f"the kick is {found:.3g} on a state as large as {np.abs(state).max():.3g}: expected at least "
            f"{needed:.3g}, below which the difference of the twins is lost in rounding; pass a larger amplitude"
        )
