"""Pages of the site that are kept elsewhere: notebooks, the benchmarks' README files, and the key of the cache.

They are copied below ``docs/`` before Sphinx looks for its sources, since it reads nothing outside that directory; a
copy is only written where it differs, so that unchanged pages are not built again.
"""

from __future__ import annotations

import ast
import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

DOCS = Path(__file__).resolve().parents[1]
ROOT = DOCS.parent

# Copy below docs/ -> original, and what its links become there.
COPIES = {
    "benchmarks/index.md": (
        "benchmarks/README.md",
        {"[speed/README.md](speed/README.md)": "[Speed against other solvers](speed.md)"},
    ),
    "benchmarks/speed.md": ("benchmarks/speed/README.md", {"[results](results)": "`benchmarks/speed/results`"}),
}
IMAGES = {"](../docs/images/": "](../images/", "](../../docs/images/": "](../images/"}
ADDED = {"benchmarks/index.md": "\n```{toctree}\n:hidden:\n\nspeed\n```\n"}
NOTEBOOKS = "tutorials"
_NOT_RUN = ("cli", "experiments", "__main__.py")  # what notebooks do not use


def write(path: Path, text: str) -> None:
    """Write ``text``, unless the file holds just that."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def copy_sources() -> None:
    """Bring the pages that are kept elsewhere below ``docs/``, and remove copies of notebooks that are gone."""
    for name, (original, links) in COPIES.items():
        text = (ROOT / original).read_text(encoding="utf-8")
        for old, new in (IMAGES | links).items():
            text = text.replace(old, new)
        write(DOCS / name, text + ADDED.get(name, ""))
    originals = {path.name: path for path in (ROOT / "notebooks").glob("*.py")}
    for copy in (DOCS / NOTEBOOKS).glob("*.py"):
        if copy.name not in originals:
            copy.unlink()
    for name, path in originals.items():
        write(DOCS / NOTEBOOKS / name, path.read_text(encoding="utf-8"))


def drop_missing(_app: Sphinx, page: str, text: list[str]) -> None:
    """Take out of the landing page what is only there after a full run: the page of results."""
    if page == "index" and not (DOCS / "results.md").exists():
        text[0] = text[0].replace("\nresults\n", "\n")


def code_key() -> str:
    """Return a digest of what the notebooks run: the code of both packages, without docstrings and comments."""
    digest = hashlib.blake2b(os.environ.get("GFDT_QUICK", "").encode(), digest_size=8)
    for package in ("gfdt", "simulators"):
        for path in sorted((ROOT / package).rglob("*.py")):
            if path.relative_to(ROOT / package).parts[0] in _NOT_RUN:
                continue
            digest.update(str(path.relative_to(ROOT)).encode())
            digest.update(_code(path.read_text(encoding="utf-8")).encode())
    return digest.hexdigest()


def _code(text: str) -> str:
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node, clean=False):
            node.body = node.body[1:]
    return ast.dump(tree)


def setup(app: Sphinx) -> dict[str, Any]:
    """Copy when the configuration is known, before sources are looked for."""
    app.connect("config-inited", lambda *_: copy_sources())
    app.connect("source-read", drop_missing)
    return {"parallel_read_safe": True}
