"""Which members of an ensemble a run simulates: their number, or a range of them.

Member k depends on (seed, k) alone (`simulators.streams`), so that runs over ranges that cover 0 ... n - 1 are, side by
side, the run of n members bit for bit.
"""

import re
from collections.abc import Mapping
from typing import Any

from simulators.checks import require_integer, show
from simulators.errors import ParameterError

__all__ = ["first_and_number", "members_from_text", "require_members", "with_members", "words"]

# More than any machine simulates; exact in integers and in floats.
_MAX_COUNT = 10**15

# What a run may be told about its members, in a file or by the record of another run.
_KEYS = ("n_members", "members", "first_member")


def require_members(value: Any) -> range:
    """Return the members that `value` stands for, or say what is wrong with it.

    Parameters
    ----------
    value : int or range
        n for the members 0 ... n - 1, or a range with step 1.

    Returns
    -------
    range
        Not empty, with step 1.

    Raises
    ------
    ParameterError
        If it is neither, or holds no member.
    """
    if not isinstance(value, range):
        return range(require_integer("n_members", value, at_least=1, at_most=_MAX_COUNT))
    if value.step != 1 or not value or value.start < 0 or value.stop > _MAX_COUNT:
        raise ParameterError(
            f"n_members = {show(value)}: expected members one after the other, first:last + 1 with 0 <= first <= last; "
            "pass for example n_members=range(64, 128), which are 64 members"
        )
    return value


def members_from_text(text: str) -> int | range:
    """Return the number or the range that is written as "64" or "64:128", ends as in Python.

    Raises
    ------
    ParameterError
        If it is neither.
    """
    found = re.fullmatch(r"\s*(-?\d{1,18})\s*(?::\s*(-?\d{1,18})\s*)?", text)
    if found is None:
        raise ParameterError(
            f"members = {show(text)}: expected a number, or a range as 64:128 (from member 64 up to but not including "
            "member 128)"
        )
    first, stop = found.groups()
    return int(first) if stop is None else range(int(first), int(stop))


def with_members(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments of ``simulate`` with their members as one ``n_members``, number or range.

    A config file may write ``members = "64:128"`` or ``members = 64``; ``config_json`` of a part of an ensemble has
    ``first_member`` beside ``n_members``.

    Raises
    ------
    ParameterError
        If they contradict each other or cannot be read.
    """
    given = {key: arguments[key] for key in _KEYS if key in arguments}
    rest = {key: value for key, value in arguments.items() if key not in _KEYS}
    if "members" in given and len(given) > 1:
        raise ParameterError(
            f"found members and {' and '.join(key for key in given if key != 'members')}: expected one of them; keep "
            'members = "64:128"'
        )
    value = given.get("members", given.get("n_members"))
    if isinstance(value, str):
        value = members_from_text(value)
    if "first_member" in given:
        first = require_integer("first_member", given["first_member"], at_least=0, at_most=_MAX_COUNT)
        n_members = require_integer("n_members", 1 if value is None else value, at_least=1, at_most=_MAX_COUNT)
        value = range(first, first + n_members)
    return rest if value is None else rest | {"n_members": value}


def first_and_number(members: range) -> dict[str, int]:
    """Return the entries for a range in the record of a run; a first member 0 is left out.

    Files from before there was a choice then have the same record, and can be resumed.
    """
    return {"n_members": len(members)} | ({"first_member": members.start} if members.start else {})


def words(members: range) -> str:
    """Return a range for a message."""
    last = members.stop - 1
    return f"member {last}" if len(members) == 1 else f"members {members.start} to {last}"
