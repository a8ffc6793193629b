"""Docstrings as reStructuredText: they are written to be read as they stand, with formulas in plain text.

- An indented block outside the numpydoc sections is a formula: it becomes a literal block, line by line.
- In running text ``|s|`` is an absolute value, ``sigma_`` a name and ``*`` a product or a conjugate: they lose the
  meaning that reStructuredText would give them.
"""

from __future__ import annotations

import re
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

# Sections whose entries are indented; elsewhere indentation marks a formula.
_ENTRIES = ("Parameters", "Attributes", "Returns", "Yields", "Raises", "Warns", "Other Parameters")
_TOKEN = re.compile(r"(``.+?``|:[\w:]+:`[^`]+`|`[^`]+`_{0,2})")
_ENTRY = re.compile(r"^[\w, *'\"{}\[\]().-]+ : ")
_EMPHASIS = re.compile(r"(?<![\w*\\])(\*{1,2})(?=[^\s*])([^*\n]*[^\s*])\1(?![\w*])")


def to_rst(lines: list[str]) -> list[str]:
    """Return a docstring (dedented lines) with formulas as literal blocks and signs escaped."""
    out: list[str] = []
    section, index = "", 0
    while index < len(lines):
        line = lines[index]
        underline = lines[index + 1].strip() if index + 1 < len(lines) else ""
        if line.strip() and re.fullmatch(r"-{3,}|={3,}", underline):
            section = line.strip()
            out += [line, lines[index + 1]]
            index += 2
            continue
        first = not out or not out[-1].strip()
        if first and section not in _ENTRIES and (height := _table_height(lines, index)):
            out += ["::", "", *(f"    {row}" for row in lines[index : index + height]), ""]
            index += height
            continue
        starts = line.startswith("    ") and first and section not in _ENTRIES
        if starts or _opens_literal(out):
            block, index = _block(lines, index)
            before = next((item for item in reversed(out) if item.strip()), "")
            table = block[0].strip().startswith("==")
            if not before.rstrip().endswith("::") and not before.startswith((".. ", "- ")) and not table:
                out += ["::", ""]
            out += block
            continue
        if line.lstrip().startswith((">>>", "... ", ".. ")):
            out.append(line)
        elif entry := _ENTRY.match(line):  # napoleon itself escapes the name before the colon
            out.append(entry.group() + _escape(line[entry.end() :]))
        else:
            out.append(_escape(line))
        index += 1
    return out


def _opens_literal(out: list[str]) -> bool:
    return len(out) >= 2 and not out[-1].strip() and out[-2].rstrip().endswith("::")


def _table_height(lines: list[str], start: int) -> int:
    """Number of lines of the paragraph if it is a table in columns (deeply indented continuations), else 0."""
    end = start
    while end < len(lines) and lines[end].strip():
        end += 1
    rows = lines[start:end]
    plain = rows and not rows[0].startswith((" ", "- ", "..", ">>>", "* ")) and not re.match(r"\d+\. ", rows[0])
    return end - start if plain and any(row.startswith(" " * 8) for row in rows[1:]) else 0


def _block(lines: list[str], start: int) -> tuple[list[str], int]:
    """Return the indented lines from ``start`` on, and where they end."""
    end = start
    while end < len(lines) and (not lines[end].strip() or lines[end].startswith("  ")):
        end += 1
    while end > start + 1 and not lines[end - 1].strip():
        end -= 1
    return [*lines[start:end], ""], end


def _escape(line: str) -> str:
    """Escape what reStructuredText would take for markup, outside inline code and roles."""
    bullet = re.match(r"\s*\* ", line)
    if bullet:
        return bullet.group() + _escape(line[bullet.end() :])
    parts = _TOKEN.split(line)
    parts[::2] = [_escape_text(part) for part in parts[::2]]
    return "".join(parts)


def _escape_text(text: str) -> str:
    text = text.replace("|", r"\|")
    text = re.sub(r"(?<=\w)_(?!\w)", r"\\_", text)
    kept: list[str] = []

    def keep(match: re.Match[str]) -> str:
        kept.append(match.group())
        return f"\0{len(kept) - 1}\0"

    text = _EMPHASIS.sub(keep, text)
    text = re.sub(r"(?<!\\)\*", r"\\*", text)
    return re.sub("\0(\\d+)\0", lambda match: kept[int(match.group(1))], text)


def process(_app: Sphinx, what: str, _name: str, obj: Any, _options: Any, lines: list[str]) -> None:
    """Handler of ``autodoc-process-docstring``; it comes before numpydoc sections are read (napoleon, 500)."""
    if what == "data" and getattr(obj, "__doc__", None) == type(obj).__doc__:
        lines.clear()  # the docstring of dict, str and the like says nothing about a value
    lines[:] = to_rst(lines)


def keep_underscores(_app: Sphinx, _what: str, _name: str, _obj: Any, _options: Any, lines: list[str]) -> None:
    """Keep the last letter of names such as ``noise_level_`` among the attributes that napoleon has read."""
    lines[:] = [re.sub(r"^(:(?:ivar|vartype) \w*)_:", r"\1\\_:", line) for line in lines]


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect, and call attributes what numpydoc calls them."""
    from sphinx.domains.python import PyObject

    for field in PyObject.doc_field_types:
        if field.name == "variable":
            field.label = "Attributes"
    app.connect("autodoc-process-docstring", process, priority=400)
    app.connect("autodoc-process-docstring", keep_underscores, priority=600)
    # A change of this file makes Sphinx read all pages again, as it does for one of conf.py.
    return {"parallel_read_safe": True, "env_version": zlib.crc32(Path(__file__).read_bytes())}
