r"""Samples of the score against the record, and samples of different reverse processes against each other.

Drawn are ``n`` samples by the reverse SDE (λ = 0) and half as many by the probability flow (λ = 1), left at the noise
level of the score. Both processes have the density of the record at the end if the score is exact at every noise level;
what differs between them is an error of the score at some level, seen without any data.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from gfdt.certificate.comparison import Comparison, compare
from gfdt.certificate.increments import displacements_of, increments
from gfdt.certificate.modes import Modes, mode_shape, modes_of, second_order
from gfdt.certificate.one_point import density, mean_and_width, per_kind, shape_of, tails
from gfdt.certificate.sliced import SlicedDistance, sliced_distance
from gfdt.certificate.states import States, generated, recorded
from gfdt.certificate.verdict import (
    judge_comparison,
    judge_density,
    judge_modes,
    judge_sliced,
    judge_spread,
    judge_tails,
)
from gfdt.diagnostics.names import Names
from gfdt.diagnostics.sample import spread_of
from gfdt.diagnostics.verdict import Finding
from gfdt.errors import InputError, ReliabilityWarning
from gfdt.responses.layout import Homogeneous
from gfdt.responses.prepare import Prepared
from gfdt.scores.base import Score

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["SampleReport", "Samples", "draw", "judge_samples"]

_STATES_PER_SAMPLE = 4  # of the record: samples are what costs time
_MOST_VALUES = 2**24  # numbers in the states of the record
_BINS, _PLACES, _EXAMPLES = 40, 3, 4  # of the pictures


@dataclass(frozen=True)
class Samples:
    """What a score generated, in the units of the data; (n, *state).

    Attributes
    ----------
    sde, flow : ndarray
        With λ = 0 and with λ = 1.
    doubts : tuple of str
        What the sampler warned of.
    """

    sde: NDArray[np.float64]
    flow: NDArray[np.float64]
    doubts: tuple[str, ...]


@dataclass(frozen=True)
class SampleReport:
    """What came out of the comparisons.

    Attributes
    ----------
    findings : of the samples against the record
    processes : of λ = 1 against λ = 0
    distance, spread : SlicedDistance of the two
    second : Comparison of second order, mean_and_width : of mean and standard deviation
    pictures : Dataset, see :class:`gfdt.certificate.report.Certificate`
    n_states : states of the record
    """

    findings: tuple[Finding, ...]
    processes: tuple[Finding, ...]
    distance: SlicedDistance
    spread: SlicedDistance
    second: Comparison
    mean_and_width: Comparison
    pictures: xr.Dataset
    n_states: int


def draw(score: Score, n_samples: int, seed: int, progress: bool | None) -> Samples | str:
    """Draw the samples, or return why that failed."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            sde = score.sample(n_samples, decode=False, seed=seed, progress=progress)
            flow = score.sample(max(n_samples // 2, 2), method="ode", decode=False, seed=seed + 1, progress=progress)
        except InputError as error:
            return str(error)
    others = [item for item in caught if not issubclass(item.category, ReliabilityWarning)]
    for item in others:
        warnings.warn_explicit(item.message, item.category, item.filename, item.lineno)
    doubts = dict.fromkeys(str(item.message) for item in caught if issubclass(item.category, ReliabilityWarning))
    return Samples(sde.values, flow.values, tuple(doubts))


def judge_samples(
    ready: Prepared, noise_level: float | NDArray[np.float64], samples: Samples, rng: np.random.Generator
) -> SampleReport:
    """Compare the samples with the record.

    Parameters
    ----------
    ready : Prepared
        The record.
    noise_level : float or ndarray
        σ of the score, by which the record is blurred.
    samples : Samples
    rng : Generator
        Of the blur, and of whatever is chosen at random.
    """
    size = max(ready.layout.size, 1)
    most = max(min(_STATES_PER_SAMPLE * len(samples.sde), _MOST_VALUES // size), 2 * len(ready.units))
    record = recorded(ready, noise_level, most, rng)
    sde, flow = generated(samples.sde, ready), generated(samples.flow, ready)
    modes = modes_of(ready, noise_level)
    coordinates = {dim: ready.trajectory[dim].values for dim in ready.layout.dims}
    names = Names(ready.layout, coordinates, modes.where)
    findings, found = _against(record, sde, ready, modes, names, rng)
    distance = sliced_distance(record, sde, rng)
    # As many of λ = 0 as of λ = 1, and the halves of the former show what chance gives.
    first = sde.part(slice(None))
    spread = sliced_distance(first, flow, rng)
    alike, _ = _against(first, flow, ready, modes, names, rng)
    return SampleReport(
        findings=(*findings, judge_sliced(distance)),
        processes=(judge_spread(spread, alike),),
        distance=distance,
        spread=spread,
        second=found["covariance"],
        mean_and_width=found["mean and width"],
        pictures=_pictures(ready, record, {"samples": sde, "samples, lambda = 1": flow}, found, names),
        n_states=len(record),
    )


def _against(
    record: States, samples: States, ready: Prepared, modes: Modes, names: Names, rng: np.random.Generator
) -> tuple[list[Finding], dict[str, Comparison]]:
    """Compare every statistic."""
    layout = ready.layout
    found = {
        "density": compare(density(layout, record), record, samples, rng),
        "tails": compare(tails(layout, record), record, samples, rng),
        "mean and width": compare(mean_and_width(layout), record, samples, rng),
        "shape": compare(shape_of(layout), record, samples, rng),
        "covariance": compare(second_order(modes), record, samples, rng),
        "modes": compare(mode_shape(modes), record, samples, rng),
    }
    kind = _kind_name(names)

    def of(words: tuple[str, str]) -> Callable[[int, int], str]:
        return lambda place, entry: f": {words[entry]}{kind(place)}"

    second = "spectrum" if isinstance(layout, Homogeneous) else "covariance"
    findings = [
        judge_density(found["density"], kind),
        judge_tails(found["tails"], of(("below", "above"))),
        judge_comparison(
            "mean and width",
            found["mean and width"],
            "the mean or the standard deviation of the samples",
            of(("mean", "standard deviation")),
        ),
        judge_comparison("shape", found["shape"], "the skewness or the kurtosis", of(("skewness", "kurtosis"))),
        judge_modes(second, found["covariance"], f"the {second} of the samples", _pair_name(modes, names)),
        judge_modes(
            "shape of modes",
            found["modes"],
            "the fourth moment of single modes of the samples",
            lambda entry: f" at {names.mode(entry)}",
        ),
    ]
    if isinstance(layout, Homogeneous):
        found["increments"] = compare(increments(layout), record, samples, rng)
        findings.append(
            judge_comparison(
                "increments",
                found["increments"],
                "the skewness or flatness of the increments between two points",
                _increment_name(layout, kind),
            )
        )
    return findings, found


def _kind_name(names: Names) -> Callable[[int], str]:
    def name(kind: int) -> str:
        if names.layout.dense:
            return f" at {names.component(kind)}" if names.layout.dims else ""
        return f" of {names.variable(kind)}" if names.layout.several else ""

    return name


def _pair_name(modes: Modes, names: Names) -> Callable[[int], str]:
    def name(entry: int) -> str:
        first, second = modes.pair(entry)
        return f" at {names.mode(first)}" + (f" with {names.mode(second)}" if first != second else "")

    return name


def _increment_name(layout: Homogeneous, kind: Callable[[int], str]) -> Callable[[int, int], str]:
    places = displacements_of(layout)

    def name(place: int, entry: int) -> str:
        axis, cells = places[entry % len(places)]
        word = "skewness" if entry < len(places) else "flatness"
        return f": {word} over {cells} cells along {layout.grid_dims[axis]}{kind(place)}"

    return name


def _pictures(
    ready: Prepared, record: States, samples: dict[str, States], found: dict[str, Comparison], names: Names
) -> xr.Dataset:
    """Histograms of the worst places, the ratio of the spectra, and a few fields."""
    layout = ready.layout
    sources = {"record": record, **samples}
    z = found["density"].z.max(axis=1)
    places = np.sort(np.argsort(-z, kind="stable")[:_PLACES])
    mean = np.broadcast_to(ready.mean, layout.shape).reshape(1, *layout.shape)
    spread = np.broadcast_to(spread_of(ready), layout.shape).reshape(1, *layout.shape)
    shift, scale = (per_kind(layout, np.asarray(item))[0, :, 0] for item in (mean, spread))
    values, heights = [], []
    for place in places:
        x = {name: shift[place] + scale[place] * per_kind(layout, s.values)[:, place] for name, s in sources.items()}
        low, high = np.quantile(x["record"], [0.0005, 0.9995])
        edges = np.linspace(low - 0.1 * (high - low), high + 0.1 * (high - low), _BINS + 1)
        values.append((edges[1:] + edges[:-1]) / 2)
        heights.append([np.histogram(item, edges)[0] / (item.size * (edges[1] - edges[0])) for item in x.values()])
    kind = _kind_name(names)
    second = found["covariance"]
    modes = np.arange(second.found.shape[1])
    if len(names.modes) ** 2 == modes.size:
        modes = modes[:: len(names.modes) + 1]  # the diagonal of all pairs
    out = xr.Dataset(
        {
            "density": (("place", "source", "bin"), np.array(heights), {"long_name": "one-point density"}),
            "value": (("place", "bin"), np.array(values), _attrs_of(ready)),
            "power_ratio": ("mode", 1 + second.departure[0, modes], {"long_name": "variance over the record's"}),
            "power_ratio_stderr": ("mode", second.stderr[0, modes], {"long_name": "standard error of power_ratio"}),
        },
        coords={
            "source": list(sources),
            "place": [kind(int(place)).strip().removeprefix("at ").removeprefix("of ") for place in places],
            "mode_scale": ("mode", *_mode_scale(names)),
        },
    )
    grid = layout.shape[-2:] if len(layout.shape) >= 2 and len(layout.shape) - layout.several == 2 else ()
    if not grid:
        return out
    both = (record, samples["samples"])
    fields = np.stack([s.values[np.linspace(0, len(s) - 1, _EXAMPLES).astype(int)] for s in both])
    fields = ready.mean + spread_of(ready) * fields
    # A state dim may be called like one of the report.
    taken = {"origin", "example", "check", "part", *map(str, out.variables), *map(str, out.dims)}
    own = {dim: f"{dim}_state" if dim in taken else dim for dim in layout.dims}
    dims = ("origin", "example", *own.values())
    coordinates: dict[str, Any] = {name: ready.trajectory[dim].values for dim, name in own.items()}
    example = xr.DataArray(fields, dims=dims, coords=coordinates, attrs=_attrs_of(ready))
    return out.assign(example=example).assign_coords(origin=["record", "samples"])


def _attrs_of(ready: Prepared) -> dict[str, str]:
    attrs = ready.trajectory.attrs
    name = attrs.get("long_name") or ready.trajectory.name or "state"
    return {"long_name": str(name), "units": str(attrs.get("units", ""))}


def _mode_scale(names: Names) -> tuple[NDArray[np.float64], dict[str, str]]:
    """|k|, or the number of the principal component."""
    if names.layout.dense:
        return names.modes[:, 0].astype(np.float64), {"long_name": "principal component"}
    waves = np.meshgrid(*names.wavenumbers().values(), indexing="ij")
    size = np.sqrt(sum(wave.astype(np.float64) ** 2 for wave in waves)).ravel()
    return size[names.modes[:, 0]], {"long_name": "|k|"}
