r"""Where several estimates of one response agree within their errors.

For two estimates R_a, R_b of the same response, at every lag and entry,

    z = (R_a - R_b) / SE[R_a - R_b],

and rms z over the entries of a lag, which is 1 on average if the two differ by sampling noise alone. The error of the
difference comes from the units' contributions, SE^2 = n/(n - 1) sum_u (e_a,u - e_b,u)^2, where both were made with the
same units of the same record: what the two have in common then cancels. Otherwise SE^2 = SE_a^2 + SE_b^2, right for
independent records and too large for estimates from one (z is then too small: agreement is not proof). An exact
response has no error of its own.

Agreement speaks of sampling errors only; estimates that share a bias agree on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from gfdt.diagnostics.compare import response_variable
from gfdt.errors import InputError
from gfdt.responses.sums import standard_error

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["agreement"]

_LAG_RTOL = 1e-6
_ROUNDING = 1e-9  # a difference below this part of the largest response is none


def agreement(responses: Mapping[str, xr.Dataset | xr.DataArray]) -> xr.Dataset:
    """Compare every two of several estimates in units of their combined standard error.

    Parameters
    ----------
    responses : mapping of str to Dataset or DataArray
        Two or more estimates by name, of one kind and state, e.g. ``{"gaussian": R1, "noise": R2, "exact": R3}``; of
        any two at least one must have ``stderr``.

    Returns
    -------
    Dataset
        ``z`` (pair, lag, *response dims), NaN where the error is unknown or a lag is not common; ``rms_z`` and
        ``max_z`` (pair, lag); ``rms_z_overall``, ``difference`` (rms of R_a - R_b) (pair), with coordinates ``pair``
        ("a - b"), ``first`` and ``second``; ``shared_units`` (pair): whether the error of the difference was taken unit
        by unit. Entries equal to rounding have z = 0 and are left out of the means (R(0) = I of both is no agreement).

    Raises
    ------
    InputError
        Fewer than two; other dims, sizes, observables or lags; no error bars on either side.
    """
    if isinstance(responses, xr.Dataset | xr.DataArray) or not isinstance(responses, Mapping) or len(responses) < 2:
        raise InputError('agreement needs two or more responses by name, e.g. {"gaussian": R1, "noise": R2}.')
    pairs = list(combinations(responses, 2))
    rows = [_pair(a, responses[a], b, responses[b]) for a, b in pairs]
    names = xr.Variable("pair", [f"{a} - {b}" for a, b in pairs])
    out = xr.concat(rows, names, join="outer", coords="minimal", compat="override")
    out = out.assign_coords(first=("pair", [a for a, _ in pairs]), second=("pair", [b for _, b in pairs]))
    texts = {
        "z": "difference over its standard error",
        "rms_z": "rms of z over the entries",
        "max_z": "largest |z| of the entries",
        "rms_z_overall": "rms of z over entries and lags",
        "difference": "rms of the difference over entries and lags",
        "shared_units": "whether common errors were cancelled unit by unit",
    }
    for key, text in texts.items():
        out[key].attrs = {"long_name": text} | ({"units": "1"} if key != "shared_units" else {})
    return out


def _pair(a: str, one: xr.Dataset | xr.DataArray, b: str, other: xr.Dataset | xr.DataArray) -> xr.Dataset:
    first, second = response_variable(one, repr(a)), response_variable(other, repr(b))
    kinds = [str(item.attrs.get("observable", "mean")) for item in (one, other)]
    if kinds[0] != kinds[1]:
        raise InputError(
            f"{a!r} is the response of the {kinds[0]}, {b!r} that of the {kinds[1]}: compare like with like."
        )
    if dict(first.isel(lag=0).sizes) != dict(second.isel(lag=0).sizes):
        raise InputError(
            f"{a!r} has dims {dict(first.sizes)}, {b!r} {dict(second.sizes)}: compare responses of one kind and state."
        )
    mine, theirs = _common_lags(first, second)
    if mine.size == 0:
        raise InputError(f"{a!r} and {b!r} have no lag in common: compute both at the same lags.")
    dims = first.dims
    difference = first.values[mine] - second.transpose(*dims).values[theirs]
    error, shared = _error_of_difference(one, mine, other, theirs, tuple(str(dim) for dim in dims))
    if error is None:
        raise InputError(f"neither {a!r} nor {b!r} has error bars: estimate one of them with confidence=0.95.")
    size = float(np.abs(first.values[mine]).max())
    equal = np.abs(difference) <= _ROUNDING * size
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(equal, 0.0, difference / np.where(error > 0, error, np.nan))
    squares = np.where(equal, np.nan, z**2)
    axes = tuple(range(1, z.ndim))
    labelled = first.isel(lag=mine).copy(data=z)
    labelled.attrs = {}
    return xr.Dataset(
        {
            "z": labelled,
            "rms_z": ("lag", np.sqrt(_mean(squares, axes))),
            "max_z": ("lag", np.sqrt(_largest(squares, axes))),
            "rms_z_overall": float(np.sqrt(_mean(squares, tuple(range(z.ndim))))),
            "difference": float(np.sqrt((difference**2).mean())),
            "shared_units": shared,
        }
    )


def _common_lags(first: xr.DataArray, second: xr.DataArray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    tolerance = _LAG_RTOL * max(float(np.abs(first["lag"]).max()), 1e-300)
    mine, theirs = np.nonzero(np.abs(first["lag"].values[:, None] - second["lag"].values[None, :]) <= tolerance)
    return mine.astype(np.int64), theirs.astype(np.int64)


def _error_of_difference(
    one: xr.Dataset | xr.DataArray,
    mine: NDArray[np.int64],
    other: xr.Dataset | xr.DataArray,
    theirs: NDArray[np.int64],
    dims: tuple[str, ...],
) -> tuple[NDArray[np.float64] | None, bool]:
    """Return SE[R_a - R_b] and whether it was taken unit by unit."""
    parts = [
        (item, chosen)
        for item, chosen in ((one, mine), (other, theirs))
        if isinstance(item, xr.Dataset) and "stderr" in item
    ]
    same = len(parts) == 2 and all("influence" in item for item, _ in parts)
    # Units that only happen to be as many have unrelated e_u: the sum of squares is then SE_a^2 + SE_b^2 on average.
    same = same and len({item.sizes["unit"] for item, _ in parts}) == 1
    if same:
        e = [item["influence"].transpose("unit", *dims).values[:, chosen] for item, chosen in parts]
        return standard_error(e[0] - e[1]), True
    if not parts:
        return None, False
    return np.sqrt(sum(item["stderr"].transpose(*dims).values[chosen] ** 2 for item, chosen in parts)), False


def _mean(squares: NDArray[np.float64], axes: tuple[int, ...]) -> NDArray[np.float64]:
    """Mean over what is known; NaN where nothing is."""
    known = np.isfinite(squares)
    total = np.where(known, squares, 0.0).sum(axis=axes)
    count = known.sum(axis=axes)
    return np.divide(total, count, out=np.full(np.shape(total), np.nan), where=count > 0)


def _largest(squares: NDArray[np.float64], axes: tuple[int, ...]) -> NDArray[np.float64]:
    return np.where(
        np.isfinite(squares).any(axis=axes), np.where(np.isfinite(squares), squares, 0.0).max(axis=axes), np.nan
    )
