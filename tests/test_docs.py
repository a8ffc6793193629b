"""The site without building it: every public name has a page, what the pages say runs, and links lead somewhere."""

import ast
import importlib
import re
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

import simulators

DOCS = Path(__file__).parent.parent / "docs"
PAGES = sorted(
    path for folder in ("", "howto", "explanation", "reference", "tutorials") for path in (DOCS / folder).glob("*.md")
)
HOWTO = sorted((DOCS / "howto").glob("*.md"))
# Pages that exist once the site is built: copies, and what is made from the code.
MADE = ("benchmarks/index.md", "benchmarks/speed.md", "reference/commands.md", "results.md")
MADE_API = ("gfdt.rst", "simulators.rst", "modules_gfdt.rst", "modules_simulators.rst")

pytestmark = pytest.mark.skipif(not DOCS.is_dir(), reason="a source distribution has no docs")


@pytest.fixture
def extension(monkeypatch):
    """Import a module of docs/extensions; none of them needs Sphinx."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(DOCS / "extensions")
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if name.startswith("gfdt_"):
            del sys.modules[name]


# ---- reference ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("package", ["gfdt", "simulators"])
def test_every_public_name_is_listed_once_under_a_title_of_its_own(extension, package):
    groups = extension("gfdt_api").public_groups(package)
    assert "Others" not in groups, f"no group for {groups.get('Others')}: add its module to GROUPS of gfdt_api.py"
    listed = [name for names in groups.values() for name in names]
    assert sorted(listed) == sorted(set(importlib.import_module(package).__all__) - {"__version__"})


@pytest.mark.parametrize("package", ["gfdt", "simulators"])
def test_the_page_of_a_package_makes_a_page_for_each_name(extension, package):
    page = extension("gfdt_api").api_page(package)
    for name in set(importlib.import_module(package).__all__) - {"__version__"}:
        assert re.search(rf"^   {name}$", page, re.M)
    assert page.count("   :toctree: generated") == len(extension("gfdt_api").public_groups(package))


def test_the_commands_page_has_every_option_of_both_command_lines(extension):
    import typer.main

    from gfdt.cli import app

    page = extension("gfdt_api").commands_page()
    for name, command in typer.main.get_command(app).commands.items():
        section = page.partition(f"## gfdt {name}\n")[2].partition("\n## ")[0]
        for parameter in command.params:
            for flag in parameter.opts if name != "simulate" else ():
                assert f"`{flag}`" in section or f"`{flag.upper()}`" in section, (name, flag)
    for name in simulators.SYSTEMS:
        assert f"### {name}\n" in page
    assert "`--dealias`, `--no-dealias`" in page


def test_modules_that_are_referred_to_have_an_entry(extension):
    known = {name for package in ("gfdt", "simulators") for name in extension("gfdt_api").module_names(package)}
    named = {name for page in PAGES for name in re.findall(r"\{mod\}`([\w.]+)`", page.read_text())}
    assert "gfdt.responses.correction" in named
    assert named <= known


def test_formulas_of_docstrings_stay_as_they_are_written(extension):
    to_rst = extension("gfdt_docstrings").to_rst
    docstring = ["B is |s|^2 and s_k* of ``a_``:", "", "    B = -s_k*", "      + x_", "", "Parameters", "----------"]
    docstring += ["sigma_ : float or ndarray of shape (*state)", "    Of |x|.", "", "See :mod:`gfdt.x_` and *now*."]
    assert to_rst(docstring) == [
        r"B is \|s\|^2 and s_k\* of ``a_``:",
        "",
        "::",
        "",
        "    B = -s_k*",
        "      + x_",
        "",
        "",
        "Parameters",
        "----------",
        r"sigma_ : float or ndarray of shape (\*state)",
        r"    Of \|x\|.",
        "",
        "See :mod:`gfdt.x_` and *now*.",
    ]


def test_names_of_attributes_keep_their_last_letter(extension):
    lines = [":ivar noise_level_: Of the score.", ":vartype noise_level_: float", ":ivar label: A word."]
    extension("gfdt_docstrings").keep_underscores(None, "class", "", None, None, lines)
    assert lines == [r":ivar noise_level\_: Of the score.", r":vartype noise_level\_: float", ":ivar label: A word."]


def test_notebooks_run_again_when_code_changes_and_not_when_words_do(extension):
    code = extension("gfdt_sources")._code
    told, changed = 'def f(x):\n    """Say {}."""\n    return x  # {}', "def f(x):\n    return 2 * x"
    assert code(told.format("this", "why")) == code(told.format("that", "how"))
    assert code(told) != code(changed)


# ---- pages --------------------------------------------------------------------------------------------------------


def blocks(page):
    """Return the Python of a page, in order."""
    return re.findall(r"^```(?:python|\{code-cell\} python)\n(.*?)^```", page.read_text(), flags=re.DOTALL | re.M)


@pytest.mark.parametrize("page", [page for page in HOWTO if blocks(page)], ids=lambda page: page.stem)
def test_the_python_of_a_how_to_page_runs(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    if "run.nc" in "".join(blocks(page)):
        field = simulators.OrnsteinUhlenbeck(n=16)
        field.simulate(32, 100.0, 1.0, seed=0, out=tmp_path / "run.nc", progress=False).close()
    names = {}
    for code in blocks(page):
        quick = code.replace("max_minutes=30", "max_steps=2").replace('"max_steps": 60', '"max_steps": 5')
        exec(compile(quick, page.name, "exec"), names)
    plt.close("all")
    printed = capsys.readouterr().out
    assert printed.strip()
    if page.stem == "read_certificate":
        assert names["certificate"].verdict == "green"
        assert names["wrong"].verdict == "red"
    if page.stem == "predict":
        linear, measured = names["linear"], names["measured"]
        error = float(linear["stderr"] ** 2 + measured["stderr"] ** 2) ** 0.5
        assert abs(float(linear["response"] - measured["response"])) < 4 * error


def test_python_that_is_not_run_is_at_least_python():
    for page in PAGES:
        for code in blocks(page):
            ast.parse(code)


def exists(page, target):
    """Whether a target, relative to a page, is a page or a file, now or once the site is built."""
    path = (page.parent / target).resolve()
    made = [DOCS / name for name in MADE] + [DOCS / "reference" / "api" / name for name in MADE_API]
    return any(
        item.is_file() or item in made
        for item in (path, path.with_name(path.name + ".md"), path.with_name(path.name + ".rst"))
    )


def test_links_between_pages_lead_somewhere():
    found = 0
    for page in PAGES:
        fence = re.compile(r"^```(?!\{(?:toctree|include|literalinclude|image))[^\n]*\n.*?^```$", re.DOTALL | re.M)
        whole = re.compile(r"^```\{(?:toctree|include|literalinclude|image)[^\n]*\n.*?^```$", re.DOTALL | re.M)
        text = fence.sub("", whole.sub("", page.read_text())) + "\n".join(whole.findall(page.read_text()))
        text = re.sub(r"\$\$.*?\$\$|\$[^$]*\$", "", text, flags=re.DOTALL)
        targets = re.findall(r"\]\((?!https?:|#)([^)#\s]+)(?:#[^)]*)?\)", text)
        targets += re.findall(r"^:link: (\S+)$", text, flags=re.M)
        targets += re.findall(r"^```\{(?:include|literalinclude|image)\} (\S+)$", text, flags=re.M)
        for tree in re.findall(r"^```\{toctree\}\n(.*?)^```", text, flags=re.DOTALL | re.M):
            targets += [line for line in tree.splitlines() if line and not line.startswith(":") and "*" not in line]
        for target in targets:
            assert exists(page, target), f"{page.relative_to(DOCS)} links to {target}"
            found += 1
    assert found > 50


def test_equations_that_are_cited_exist_once():
    text = {page: page.read_text() for page in PAGES}
    labels = [label for page in text for label in re.findall(r"^\$\$ \((\w+)\)$", text[page], flags=re.M)]
    assert len(labels) == len(set(labels))
    cited = {label for page in text for label in re.findall(r"\{eq\}`(\w+)`", text[page])}
    assert len(cited) > 5
    assert cited <= set(labels)


def test_every_section_of_the_site_is_in_a_table_of_contents():
    for folder in ("howto", "explanation", "reference"):
        index = (DOCS / folder / "index.md").read_text()
        for page in (DOCS / folder).glob("*.md"):
            assert page.stem == "index" or re.search(rf"^{page.stem}$", index, re.M), page
