"""The names of a state's components, which tell two records of the same shape apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from gfdt.errors import InputError
from gfdt.validation import shown

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["checked_labels", "in_order", "labels_of"]

_MOST, _LONGEST = 4096, 200  # names that are kept, and letters of one


def labels_of(array: xr.DataArray, dims: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return the names along each of these dims that has some; numbers are coordinates, not names."""
    found = {}
    for dim in dims:
        values = array[dim].values.tolist() if dim in array.coords else []
        named = bool(values) and all(isinstance(value, str) and len(value) <= _LONGEST for value in values)
        if named and len(values) == len(set(values)) <= _MOST:
            found[dim] = tuple(values)
    return found


def checked_labels(given: Any, dims: list[str], shape: list[int]) -> dict[str, tuple[str, ...]]:
    """Return the labels of a score file.

    Raises
    ------
    ValueError
        If they are not names of its state dims.
    """
    sizes = dict(zip(dims, shape, strict=True))
    if not isinstance(given, dict) or not set(given) <= set(sizes):
        raise ValueError("labels of other dims")
    for dim, names in given.items():
        fits = isinstance(names, list) and len(names) == len(set(map(str, names))) == sizes[dim] <= _MOST
        if not fits or not all(isinstance(name, str) and len(name) <= _LONGEST for name in names):
            raise ValueError("labels are not names")
    return {dim: tuple(names) for dim, names in given.items()}


def in_order(states: xr.DataArray, labels: Mapping[str, tuple[str, ...]]) -> xr.DataArray:
    """Put the components of states in the order of a score's; those without names on either side are left alone.

    Raises
    ------
    InputError
        If they have other names.
    """
    own = labels_of(states, labels)
    for dim, wanted in labels.items():
        have = own.get(dim)
        if have is None or have == wanted:
            continue
        if set(have) != set(wanted):
            missing = sorted(set(wanted) - set(have)) or sorted(set(have) - set(wanted))
            raise InputError(
                f"the score was fitted on {dim} = {shown(list(wanted))}, these states have {shown(list(have))} "
                f"(not in both: {shown(missing)}): use a record of the same components, or fit the score on this one."
            )
        states = states.isel({dim: [have.index(name) for name in wanted]})
    return states
