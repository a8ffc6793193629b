"""Pages of the reference that are made from the code: public names, modules, and commands.

The names are those of ``gfdt.__all__`` and ``simulators.__all__``, grouped by the module each lives in, so that a new
one has a page without anything being written here; the options are those the two command lines know.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import inspect
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gfdt_sources import DOCS, ROOT, write

if TYPE_CHECKING:
    from sphinx.application import Sphinx

API = "reference/api"

# Title of a group: the start of the module path of its names -> title, in the order of the page.
GROUPS = {
    "gfdt": {
        "trajectory": "Records",
        "scores": "Score estimators",
        "diagnostics.check": "Judging a score",
        "diagnostics.report": "Judging a score",
        "certificate": "Judging a score",
        "responses": "Responses",
        "diagnostics": "Comparing responses",
        "crosschecks": "Cross-checks without a score",
        "forcing": "What follows from a response",
        "density": "Observations of a state",
        "plotting": "Figures",
        "errors": "Errors and warnings",
    },
    "simulators": {
        "ou": "Fields",
        "allen_cahn": "Fields",
        "navier_stokes": "Fields",
        "linear": "Systems of few dimensions",
        "scalar": "Systems of few dimensions",
        "potential2d": "Systems of few dimensions",
        "triad": "Systems of few dimensions",
        "charney_devore": "Systems of few dimensions",
        "lorenz96": "Systems of few dimensions",
        "system": "What all systems have in common",
        "registry": "By name",
        "linearity": "Errors and warnings",
        "errors": "Errors and warnings",
    },
}
INTRODUCTIONS = {
    "gfdt": "Everything that ``import gfdt`` offers. What a name rests on is in :doc:`modules_gfdt`.",
    "simulators": "Everything that ``import simulators`` offers. Neither package imports the other.\n"
    "What a name rests on is in :doc:`modules_simulators`.",
}


def public_groups(package: str) -> dict[str, list[str]]:
    """Return the public names of a package by the title of their group; names of unknown modules come last."""
    module = importlib.import_module(package)
    titles = list(dict.fromkeys(GROUPS[package].values()))
    groups: dict[str, list[str]] = {title: [] for title in [*titles, "Others"]}
    for name in module.__all__:
        home = module._HOME.get(name, "")
        found = next(
            (title for start, title in GROUPS[package].items() if f"{home}.".startswith(f"{start}.")), "Others"
        )
        if name != "__version__":
            groups[found].append(name)
    return {title: sorted(names, key=str.lower) for title, names in groups.items() if names}


def api_page(package: str) -> str:
    """Return the page that lists the public names of a package."""
    lines = [package, "=" * len(package), "", INTRODUCTIONS[package], "", f".. currentmodule:: {package}", ""]
    for title, names in public_groups(package).items():
        lines += [title, "-" * len(title), "", ".. autosummary::", "   :toctree: generated", "   :nosignatures:", ""]
        lines += [*(f"   {name}" for name in names), ""]
    return "\n".join(lines)


def module_names(package: str) -> list[str]:
    """Return the modules of a package that say something: the package first, then in alphabetical order."""
    found = []
    for path in (ROOT / package).rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if parts[-1] != "__main__" and ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))):
            found.append(name)
    return sorted(found)


def modules_page(package: str) -> str:
    """Return the page with the docstrings of all modules of a package."""
    title = f"Modules of {package}"
    lines = [title, "=" * len(title), ""]
    folders: dict[str, list[str]] = {}
    for name in module_names(package):
        parts = name.split(".")
        is_folder = (ROOT / Path(*parts)).is_dir()
        folders.setdefault(name if is_folder else ".".join(parts[:-1]), []).append(name)
    for folder, names in sorted(folders.items()):
        lines += [folder, "-" * len(folder), ""]
        for name in names:
            if name != folder:
                lines += [name, "~" * len(name), ""]
            lines += [f".. automodule:: {name}", ""]
    return "\n".join(lines)


# ---- command lines ------------------------------------------------------------------------------------------------


def commands_page() -> str:
    """Return the page of both command lines."""
    import typer.main

    from gfdt.cli import app
    from simulators.__main__ import _parser

    lines = [
        "# Commands",
        "",
        "`gfdt` is installed with the package; `python -m gfdt` is the same. Results go to files, their path to "
        "stdout, everything else to stderr. Exit code 0: done; 1: a check found the score red; 2: refused or failed, "
        "with one sentence that says why; 130: interrupted. `--config run.toml` takes any option of a "
        "command from a TOML file (`max-lag = 6.0`); what is given on the command line wins.",
        "",
    ]
    command: Any = typer.main.get_command(app)
    for name, sub in command.commands.items():
        lines += [f"(command-{name})=", f"## gfdt {name}", "", _text(inspect.cleandoc(sub.help or "")), ""]
        if name == "simulate":
            lines += ["The options are those of [`python -m simulators`](#python-m-simulators).", ""]
            continue
        arguments = [item for item in sub.params if not item.opts[0].startswith("-")]
        usage = " ".join(["gfdt", name, *(item.name.upper() for item in arguments), "[options]"])
        lines += ["```text", usage, "```", ""]
        lines += _table(("argument", "meaning"), ((f"`{item.name.upper()}`", item.help or "") for item in arguments))
        lines += _table(
            ("option", "meaning"), ((_flags(item), _meaning(item)) for item in sub.params if item.opts[0][0] == "-")
        )
    parser = _parser("python -m simulators")
    (systems,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    lines += [
        "(python-m-simulators)=",
        "## python -m simulators",
        "",
        parser.description or "",
        "",
        "```text",
        "python -m simulators SYSTEM [options] --out run.nc",
        "```",
        "",
    ]
    for index, (name, sub) in enumerate(systems.choices.items()):
        run, parameters = sub._action_groups[2:4]
        if index == 0:
            lines += _table(("option of every system", "meaning"), map(_argument, run._group_actions))
        lines += [f"### {name}", "", f"{sub.description}.", ""]
        lines += _table(("parameter", "meaning"), map(_argument, parameters._group_actions))
    return "\n".join(lines)


def _table(head: tuple[str, str], rows: Iterable[tuple[str, str]]) -> list[str]:
    body = [f"| {left} | {_cell(right)} |" for left, right in rows]
    return [f"| {head[0]} | {head[1]} |", "|---|---|", *body, ""] if body else []


def _cell(text: str) -> str:
    return _text(" ".join(text.split()).replace("|", r"\|"))


def _text(text: str) -> str:
    """Plain text of a help line as Markdown: nothing in it is markup, and options are code."""
    text = text.replace("<", "&lt;").replace("*", r"\*").replace("_", r"\_")
    return re.sub(r"torchrun .*?\.nc|(?<![\w`-])--[a-z][a-z-]*", lambda match: f"`{match.group()}`", text)


def _flags(option: Any) -> str:
    words = ", ".join(f"`{flag}`" for flag in [*option.opts, *option.secondary_opts])
    return words if option.is_flag else f"{words} {option.type_descriptor.annotation.__name__.lower()}"


def _meaning(option: Any) -> str:
    text = option.help or ""
    if option.required:
        return f"{text} Required."
    shown = not option.is_flag and option.default not in (None, "")
    return f"{text} Default: {option.default}." if shown and "default" not in text.lower() else text


def _argument(action: argparse.Action) -> tuple[str, str]:
    flags = ", ".join(f"`{flag}`" for flag in action.option_strings)
    return flags, (action.help or "").replace("%%", "%")


def write_pages() -> None:
    """Write the generated pages of the reference below ``docs/reference``."""
    for package in GROUPS:
        write(DOCS / API / f"{package}.rst", api_page(package))
        write(DOCS / API / f"modules_{package}.rst", modules_page(package))
    write(DOCS / "reference" / "commands.md", commands_page())


def setup(app: Sphinx) -> dict[str, Any]:
    """Write the pages when the configuration is known, before sources are looked for."""
    app.connect("config-inited", lambda *_: write_pages())
    return {"parallel_read_safe": True}
