"""A response function taken apart: values, errors, and which dims are observed, displaced and perturbed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from scipy import stats

from gfdt.diagnostics.compare import response_variable
from gfdt.errors import InputError
from gfdt.validation import is_number

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ResponseFunction", "read_response"]

_MAX_LAGS = 4000  # the cardinal splines are a dense (lag, lag) matrix with four coefficients each


@dataclass(frozen=True)
class ResponseFunction:
    """R on its lags, with axes (lag, *observed, *displacement, *perturbed).

    Attributes
    ----------
    lags : (n_lags,), from 0 on, increasing
    values : (n_lags, *shape)
    observed, displacement, perturbed : tuple of str
        Names of the dims after ``lag``. Displacements are periodic and centred: zero at index n // 2.
    sizes : dict of dim name to size
    coords : dict of dim name to coordinate
    stderr : shape of values, or None
    influence : (unit, *shape of values), or None
    quantile : float
        Half-width of the band in standard errors; NaN without error bars.
    confidence : float or "none"
    unit : str
        Of the lags.
    source : Dataset
        What was passed in.
    """

    lags: NDArray[np.float64]
    values: NDArray[np.float64]
    observed: tuple[str, ...]
    displacement: tuple[str, ...]
    perturbed: tuple[str, ...]
    sizes: Mapping[str, int]
    coords: Mapping[str, Any]
    stderr: NDArray[np.float64] | None
    influence: NDArray[np.float64] | None
    quantile: float
    confidence: float | str
    unit: str
    source: xr.Dataset

    @property
    def dims(self) -> tuple[str, ...]:
        """Dims after ``lag``, in the order of the axes."""
        return (*self.observed, *self.displacement, *self.perturbed)

    @property
    def sites(self) -> tuple[str, ...]:
        """Names of the space dims that the displacements belong to: dy, dx are displacements along y, x."""
        return tuple(dim[1:] for dim in self.displacement)

    def shape(self, dims: tuple[str, ...]) -> tuple[int, ...]:
        """Sizes of some dims."""
        return tuple(self.sizes[dim] for dim in dims)

    @property
    def n_observed(self) -> int:
        """Number of observables (at one site, for a homogeneous field)."""
        return math.prod(self.shape(self.observed))

    @property
    def n_perturbed(self) -> int:
        """Number of perturbed directions (at one site, for a homogeneous field)."""
        return math.prod(self.shape(self.perturbed))

    @property
    def source_dims(self) -> tuple[str, ...]:
        """Dims a forcing pattern has: the sites of a homogeneous field, then the perturbed dims."""
        return (*self.sites, *self.perturbed)

    @property
    def source_shape(self) -> tuple[int, ...]:
        """Shape of a forcing pattern."""
        return (*self.shape(self.displacement), *self.shape(self.perturbed))

    @property
    def target_dims(self) -> tuple[str, ...]:
        """Dims the change of the observables has: observed dims, then the sites of a homogeneous field."""
        return (*self.observed, *self.sites)

    @property
    def target_shape(self) -> tuple[int, ...]:
        """Shape of the change of the observables."""
        return (*self.shape(self.observed), *self.shape(self.displacement))

    @property
    def natural(self) -> NDArray[np.float64] | None:
        """Standard deviation of the observables in the record, with axes (*observed, *sites) to broadcast, if known."""
        if "observable_std" not in self.source or set(self.source["observable_std"].dims) - set(self.observed):
            return None
        std = self.source["observable_std"]
        dims = [dim for dim in self.observed if dim in std.dims]
        sizes = tuple(self.sizes[dim] if dim in dims else 1 for dim in self.observed)
        values = np.asarray(std.transpose(*dims).values, dtype=np.float64)
        return values.reshape((*sizes, *(1 for _ in self.displacement)))

    def side_coords(self, dims: tuple[str, ...]) -> dict[str, Any]:
        """Coordinates of those dims that have one (the sites of a homogeneous field have none)."""
        return {dim: self.coords[dim] for dim in dims if dim in self.coords}


def read_response(response: xr.Dataset | xr.DataArray, what: str = "R") -> ResponseFunction:
    """Take a response function apart.

    Parameters
    ----------
    response : Dataset with ``response``, or DataArray
        What ``gfdt.response``, ``exact_response`` or ``direct_response`` returned. Dims are sorted by the attributes
        ``perturbation_dims`` and ``displacement_dims``; without these, dims that end in ``_src`` or are called
        ``perturbation`` are perturbed, and if all dims are centred displacements ``d<name>`` the field is homogeneous.
    what : str
        Its name in messages.

    Raises
    ------
    InputError
        No response, a step response, NaN, or lags that do not increase from 0.
    """
    array = response_variable(response, what)
    dataset = response if isinstance(response, xr.Dataset) else array.to_dataset(name="response")
    attrs = {**array.attrs, **dataset.attrs}
    if attrs.get("kind") == "step":
        raise InputError(f"{what} is a step response: pass the response function R(t) that it was integrated from.")
    displacement, perturbed = _sides(array, attrs)
    observed = tuple(str(dim) for dim in array.dims if dim not in ("lag", *displacement, *perturbed))
    dims = ("lag", *observed, *displacement, *perturbed)
    values = np.asarray(array.transpose(*dims).values, dtype=np.float64)
    if not np.isfinite(values).all():
        raise InputError(f"{what} holds NaN or inf: pass a response without missing values.")
    stderr, influence = _errors(dataset, dims)
    quantile, confidence = _quantile(dataset, attrs, influence)
    return ResponseFunction(
        lags=_lags(array, what),
        values=values,
        observed=observed,
        displacement=displacement,
        perturbed=perturbed,
        sizes={str(dim): size for dim, size in array.sizes.items()},
        coords={str(dim): array[dim] for dim in array.dims if dim in array.coords},
        stderr=stderr,
        influence=influence,
        quantile=quantile if stderr is not None else math.nan,
        confidence=confidence if stderr is not None else "none",
        unit=str(array["lag"].attrs.get("units", "time units")),
        source=dataset,
    )


def _sides(array: xr.DataArray, attrs: Mapping[Any, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Displacement dims and perturbed dims, by the attributes or else by name."""
    rest = [str(dim) for dim in array.dims if dim != "lag"]
    if "displacement_dims" in attrs and "perturbation_dims" in attrs:
        found = tuple(tuple(str(attrs[key]).split()) for key in ("displacement_dims", "perturbation_dims"))
        missing = [dim for dim in (*found[0], *found[1]) if dim not in rest]
        # A selection of one component drops its dim but keeps the attributes: what is left is a scalar amplitude.
        displaced = tuple(dim for dim in found[0] if dim not in missing)
        if len(displaced) < len(found[0]):
            raise InputError(
                f"the response has lost its displacement dims {', '.join(sorted(set(found[0]) - set(displaced)))}: a "
                "forcing of a field needs them all; select after this call, not before."
            )
        return displaced, tuple(dim for dim in found[1] if dim not in missing)
    perturbed = tuple(dim for dim in rest if dim.endswith("_src") or dim == "perturbation")
    others = [dim for dim in rest if dim not in perturbed]
    centred = others and not perturbed and all(_is_displacement(array, dim) for dim in others)
    return (tuple(others) if centred else ()), perturbed


def _is_displacement(array: xr.DataArray, dim: str) -> bool:
    size = array.sizes[dim]
    if not dim.startswith("d") or len(dim) < 2 or dim not in array.coords:
        return False
    labels = array[dim].values
    return bool(np.issubdtype(labels.dtype, np.number) and np.array_equal(labels, np.arange(size) - size // 2))


def _lags(array: xr.DataArray, what: str) -> NDArray[np.float64]:
    lags = np.asarray(array["lag"].values, dtype=np.float64)
    if lags.size < 2 or lags[0] != 0 or not (np.diff(lags) > 0).all() or not np.isfinite(lags).all():
        raise InputError(
            f"{what} has {lags.size} lag(s) {lags[:3]} ...: at least two lags that start at 0 and increase are needed, "
            "because the integrals over R begin at its t = 0 value."
        )
    if lags.size > _MAX_LAGS:
        raise InputError(
            f"{what} has {lags.size} lags, at most {_MAX_LAGS} are handled: thin them with lag_stride, or with "
            "R.isel(lag=slice(None, None, 4))."
        )
    return lags


def _errors(
    dataset: xr.Dataset, dims: tuple[str, ...]
) -> tuple[NDArray[np.float64] | None, NDArray[np.float64] | None]:
    stderr = np.asarray(dataset["stderr"].transpose(*dims).values, np.float64) if "stderr" in dataset else None
    if "influence" not in dataset:
        return stderr, None
    influence = np.asarray(dataset["influence"].transpose("unit", *dims).values, np.float64)
    if stderr is None:
        n_units = influence.shape[0]
        stderr = np.sqrt((influence**2).sum(axis=0) * n_units / max(n_units - 1, 1))
    return stderr, influence


def _quantile(
    dataset: xr.Dataset, attrs: Mapping[Any, Any], influence: NDArray[np.float64] | None
) -> tuple[float, float | str]:
    """Half-width of the band in standard errors: t with n - 1 degrees of freedom, or that of the band there is."""
    stated = attrs.get("confidence", 0.95)
    level = float(stated) if is_number(stated) and 0 < stated < 1 else 0.95
    if influence is not None:
        return float(stats.t.ppf(0.5 + level / 2, max(influence.shape[0] - 1, 1))), level
    if {"stderr", "lower", "upper"} <= set(dataset.data_vars):
        width = (dataset["upper"] - dataset["lower"]) / 2
        ratio = (width / dataset["stderr"].where(dataset["stderr"] > 0)).values
        if np.isfinite(ratio).any():
            return float(np.nanmedian(ratio)), level
    return float(stats.norm.ppf(0.5 + level / 2)), level
