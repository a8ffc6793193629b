"""The command line ``gfdt``: results go to files, their path to stdout, everything else to stderr.

Exit codes: 0 done, 2 refused or failed (one sentence says why), 130 interrupted. Modules that compute are imported
inside the commands, so that ``gfdt --help`` answers at once.
"""

from gfdt.cli.commands import app, main

__all__ = ["app", "main"]
