"""Messages of the library in the words of the shell: ``max_lag=-1.0`` is ``--max-lag -1.0`` here."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from typing import Any

__all__ = ["in_words_of_the_shell", "option_names"]

# A Python literal after "name=", or a word; the stop that ends a sentence is not part of it.
_VALUE = r"(\([^()]*\)|\[[^\[\]]*\]|\{[^{}]*\}|'[^']*'|\"[^\"]*\"|[^\s,;:()]*[^\s,;:().])?"


def option_names(command: Any) -> dict[str, str]:
    """Return the options of a command by their names in Python, ``{"max_lag": "--max-lag", ...}``."""
    longs = (option for parameter in command.params for option in parameter.opts if option.startswith("--"))
    return {option[2:].replace("-", "_"): option for option in longs}


def in_words_of_the_shell(message: str, options: Mapping[str, str]) -> str:
    """Return a message with the arguments it names written as options, and their values as the shell takes them.

    Examples
    --------
    >>> in_words_of_the_shell("var=['u', 'v'] has other dims: name one with var=.", {"var": "--var"})
    '--var u,v has other dims: name one with --var.'
    """
    if not options:
        return message
    names = "|".join(sorted(options, key=len, reverse=True))

    def written(found: re.Match[str]) -> str:
        value = _written(found[2] or "")
        return f"{options[found[1]]} {value}" if value else options[found[1]]

    message = re.sub(rf"(?<![\w.-])({names})={_VALUE}", written, message)
    return re.sub(rf"\bleave ({names}) out\b", lambda found: f"leave {options[found[1]]} out", message)


def _written(text: str) -> str:
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
    if isinstance(value, Mapping):
        return ",".join(f"{key}={item}" for key, item in value.items())
    return ",".join(map(str, value)) if isinstance(value, tuple | list) else str(value) if value is not None else text
