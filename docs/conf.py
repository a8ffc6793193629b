"""Configuration of the documentation site; ``make docs`` builds it."""

import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "extensions"))
os.environ.setdefault("GFDT_QUICK", "1")  # notebooks in their small setting; GFDT_QUICK=0 make docs: as they are
os.environ.pop("MPLBACKEND", None)  # kernels then draw into the page

os.environ["PYTHONWARNINGS"] = "ignore:IProgress not found"  # a bar needs a person who waits; pages show none
# Kernels with no settings but these: not those of whoever builds, and no notes on how they are connected.
os.environ["IPYTHONDIR"] = str(HERE / "_build" / "ipython")

from gfdt_sources import code_key, write  # noqa: E402

from gfdt import __version__  # noqa: E402

write(
    Path(os.environ["IPYTHONDIR"]) / "profile_default" / "ipython_kernel_config.py",
    "get_config().IPKernelApp.log_level = 40\n",
)

project = "gfdt"
author = "The gfdt developers"
copyright = f"2026, {author}"
version = release = __version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx-mathjax-offline",
    "myst_nb",
    "sphinx_design",
    "sphinx_copybutton",
    "gfdt_sources",
    "gfdt_api",
    "gfdt_docstrings",
]
exclude_patterns = ["_build", "conf.py", "pictures.py", "extensions", "**/.ipynb_checkpoints"]
templates_path = ["templates"]
root_doc = "index"
smartquotes_action = "D"  # dashes, but quotes that can be copied
highlight_language = "none"  # a literal block is a formula or a shell command, unless it says otherwise
numfig = True  # equations are numbered by page, (1.3), so that another page can cite them
numfig_secnum_depth = 1

# ---- API ----------------------------------------------------------------------------------------------------------
autosummary_generate = True
autodoc_typehints = "none"  # the numpydoc sections say what an argument is, and in which units
autodoc_member_order = "bysource"
napoleon_google_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
napoleon_use_admonition_for_references = False

# ---- pages and notebooks ------------------------------------------------------------------------------------------
myst_enable_extensions = ["amsmath", "attrs_inline", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
myst_dmath_double_inline = True
nb_custom_formats = {".py": ["jupytext.reads", {"fmt": "py:percent"}]}
nb_execution_mode = "cache"
# A change of the code of either package, or of the setting, makes the notebooks run again.
nb_execution_cache_path = str(HERE / "_build" / "notebooks" / code_key())
nb_execution_timeout = 1800
nb_execution_in_temp = True
nb_execution_show_tb = True
nb_merge_streams = True

# ---- looks --------------------------------------------------------------------------------------------------------
html_theme = "pydata_sphinx_theme"
html_title = "gfdt"
html_static_path = ["static"]
html_css_files = ["gfdt.css"]
html_show_sourcelink = False
html_theme_options = {
    "show_prev_next": False,
    "navigation_with_keys": False,
    "show_nav_level": 1,
    "navigation_depth": 3,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "pygments_light_style": "tango",
}
html_sidebars = {"index": [], "changelog": []}
