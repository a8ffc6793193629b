"""The labelled trajectory every simulator writes: dimensions, coordinates, attributes.

One variable, or several alike, with dimensions (member, time, *state); 1-D coordinates for each; ``time`` is a
float with units "1" (so that nothing decodes it to dates); attributes are text, because netCDF has no bool, None,
dict or 128-bit integer.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Layout", "Schema", "component_layout", "field_layout", "make_schema"]

_PACKAGES = ("numpy", "scipy", "numba", "rocket-fft", "xarray", "netCDF4")


@dataclass(frozen=True)
class Layout:
    """How the state of a system is labelled.

    Attributes
    ----------
    variable : str
        Name of the data variable.
    coordinates : dict of str to ndarray
        State dimensions in order, each with its 1-D coordinate.
    long_name : str
        What the variable is.
    coordinate_long_name : str
        What the coordinates are.
    extra : dict of str to str
        Further variables with the same dims, name to long_name: for example a forcing field saved beside the state.
        The stepper fills one array for each (`simulators.engine.Stepper`).
    """

    variable: str
    coordinates: dict[str, NDArray[Any]]
    long_name: str
    coordinate_long_name: str
    extra: dict[str, str] = field(default_factory=dict)

    @property
    def variables(self) -> dict[str, str]:
        """All variables in order, name to long_name; the state comes first."""
        return {self.variable: self.long_name} | self.extra

    @property
    def dims(self) -> tuple[str, ...]:
        """Names of the state dimensions."""
        return tuple(self.coordinates)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one state."""
        return tuple(len(values) for values in self.coordinates.values())

    @property
    def size(self) -> int:
        """Numbers in one snapshot of one member, all variables together."""
        return len(self.variables) * math.prod(self.shape)


def component_layout(d: int) -> Layout:
    """Return the layout of a d-dimensional state vector ``x(component)``."""
    return Layout("x", {"component": np.arange(d)}, "state", "index of the state component")


def field_layout(positions: NDArray[np.float64], long_name: str, variable: str = "u") -> Layout:
    """Return the layout of a square periodic field ``variable(y, x)`` at the grid `positions`."""
    return Layout(variable, {"y": positions, "x": positions.copy()}, long_name, "position in a box of length 2 pi")


@dataclass(frozen=True)
class Schema:
    """Everything about a trajectory except its numbers; the same for a Dataset in memory and for a file.

    `variables` are the series, `constants` what does not change with member and time: dims, values and attributes of
    each, for dims that may be other than those of the state.
    """

    variables: dict[str, dict[str, str]]
    coordinates: dict[str, tuple[NDArray[Any], dict[str, str]]]
    attrs: dict[str, str]
    dtype: str
    constants: dict[str, tuple[tuple[str, ...], NDArray[np.float64], dict[str, str]]] = field(default_factory=dict)

    @property
    def dims(self) -> tuple[str, ...]:
        """Dimensions in order: member, time, state."""
        return tuple(self.coordinates)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of each data variable."""
        return tuple(len(values) for values, _ in self.coordinates.values())

    @property
    def n_bytes(self) -> int:
        """Size of the data variables in bytes."""
        return len(self.variables) * math.prod(self.shape) * np.dtype(self.dtype).itemsize

    def dataset(self, data: Sequence[NDArray[Any]]) -> "xr.Dataset":
        """Return one array (member, time, *state) for each variable as a labelled Dataset."""
        import xarray as xr

        dataset = xr.Dataset(
            {
                name: (self.dims, values, attrs)
                for (name, attrs), values in zip(self.variables.items(), data, strict=True)
            }
            | self.constants,
            coords={name: (name, values, attrs) for name, (values, attrs) in self.coordinates.items()},
            attrs=self.attrs,
        )
        for name in dataset.variables:
            # xarray would otherwise declare NaN a missing value in the file; here it can only be an error
            dataset[name].encoding["_FillValue"] = None
        return dataset


def make_schema(
    *,
    layout: Layout,
    title: str,
    references: str,
    config: dict[str, Any],
    entropy: int,
    n_snapshots: int,
    dtype: str,
    extra_attrs: Mapping[str, str] | None = None,
    constants: Mapping[str, tuple[tuple[str, ...], NDArray[np.float64], dict[str, str]]] | None = None,
) -> Schema:
    """Return the schema of one run.

    Parameters
    ----------
    layout : Layout
        Labels of the state.
    title, references : str
        Of the system.
    config : dict
        System name, its parameters and the arguments of ``simulate``: enough to repeat the run.
    entropy : int
        Root of the random streams.
    n_snapshots : int
        Length of the time axis, saved at ``save_every * (0 .. n_snapshots - 1)``.
    dtype : str
        Of the data variables.
    extra_attrs : mapping, optional
        Further attributes of the data set.
    constants : mapping, optional
        Variables beside the series: dims, values and attributes by name.

    Returns
    -------
    Schema
    """
    request = config["simulate"]
    created = datetime.now(UTC).isoformat(timespec="seconds")
    first = request.get("first_member", 0)
    coordinates: dict[str, tuple[NDArray[Any], dict[str, str]]] = {
        "member": (np.arange(first, first + request["n_members"]), {"long_name": "ensemble member", "units": "1"}),
        "time": (
            request["save_every"] * np.arange(n_snapshots, dtype=float),
            {"long_name": "time since the end of the spin-up", "units": "1"},
        ),
    }
    for name, values in layout.coordinates.items():
        coordinates[name] = (values, {"long_name": layout.coordinate_long_name, "units": "1"})
    software = _version("gfdt")
    return Schema(
        variables={name: {"long_name": meaning, "units": "1"} for name, meaning in layout.variables.items()},
        coordinates=coordinates,
        attrs={
            "Conventions": "CF-1.11",
            "title": title,
            "source": f"simulators {software}, system {config['system']}",
            "history": f"{created} simulated by simulators {software}",
            "references": references,
            "config_json": json.dumps(config),
            "seed_entropy": str(entropy),
            "package_versions": ", ".join(f"{name} {_version(name)}" for name in _PACKAGES),
            "dtype": dtype,
            "created": created,
            **(extra_attrs or {}),
        },
        dtype=dtype,
        constants=dict(constants or {}),
    )


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:  # run from a source tree that was never installed
        return "unknown"
