"""The rules of import: two packages that meet only in data, and torch only where it is used."""

import ast
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
COMPOSITION = ("gfdt/cli/", "gfdt/experiments/")  # the only places in gfdt that may know the simulators


def imports(path, *, at_import_time=False):
    """Top-level names of all modules a file imports; with ``at_import_time`` only those outside functions."""
    tree = ast.parse(path.read_text())
    inside = set()
    if at_import_time:
        for node in ast.walk(tree):
            typing_only = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or typing_only:
                inside |= set(ast.walk(node))
    for node in ast.walk(tree):
        if node in inside:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.split(".")[0]


def files(package):
    found = sorted((ROOT / package).rglob("*.py"))
    assert found
    return found


@pytest.mark.parametrize("path", files("simulators"), ids=lambda p: str(p.relative_to(ROOT)))
def test_simulators_know_neither_gfdt_nor_torch(path):
    assert not {"gfdt", "torch", "typer", "pydantic", "matplotlib"} & set(imports(path))


@pytest.mark.parametrize("path", files("gfdt"), ids=lambda p: str(p.relative_to(ROOT)))
def test_gfdt_knows_the_simulators_only_where_things_are_put_together(path):
    name = path.relative_to(ROOT).as_posix()
    if not name.startswith(COMPOSITION):
        assert "simulators" not in set(imports(path))
    if not name.startswith("gfdt/diffusion/"):
        assert "torch" not in set(imports(path, at_import_time=True))


HELP = """
from gfdt.cli import app
from typer.testing import CliRunner
assert CliRunner().invoke(app, ["--help"]).exit_code == 0
"""


@pytest.mark.parametrize(
    "code",
    [
        "import gfdt",
        "import simulators",
        "import gfdt; gfdt.GaussianScore, gfdt.response, gfdt.compare, gfdt.DSMScore()",
        "from gfdt.cli import app",
        HELP,
    ],
)
def test_torch_is_not_imported_before_it_is_needed(code):
    check = f"{code}\nimport sys\nassert 'torch' not in sys.modules, 'torch was imported'"
    subprocess.run([sys.executable, "-c", check], check=True, timeout=60)


@pytest.mark.parametrize("code", ["import gfdt", "import simulators", "from gfdt.cli import app"])
def test_importing_loads_no_slow_library(code):
    slow = "{'torch', 'numba', 'xarray', 'matplotlib', 'scipy'}"
    check = f"{code}\nimport sys\nfound = {slow} & set(sys.modules)\nassert not found, found"
    subprocess.run([sys.executable, "-c", check], check=True, timeout=60)


def test_help_lists_every_command_within_seconds():
    start = time.perf_counter()
    got = subprocess.run(
        [sys.executable, "-m", "gfdt", "--help"], check=True, capture_output=True, text=True, timeout=60
    )
    seconds = time.perf_counter() - start
    for command in ("simulate", "train", "respond", "compare", "plot", "info", "demo"):
        assert command in got.stdout
    # 0.1 s on an idle machine; torch alone would cost 3 s, so 2 s tells them apart on a busy one.
    assert seconds < 2.0


def test_every_public_name_exists_and_is_documented():
    import gfdt
    import simulators

    for module in (gfdt, simulators):
        for name in module.__all__:
            assert getattr(module, name) is not None
            if callable(getattr(module, name)):
                assert getattr(module, name).__doc__, f"{module.__name__}.{name} has no docstring"
        with pytest.raises(AttributeError, match="no_such_name"):
            module.no_such_name  # noqa: B018
