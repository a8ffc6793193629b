"""The commands put together, and the one place where errors become a sentence and an exit code."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from typing import Annotated, Any, NoReturn

import typer

from gfdt._version import __version__
from gfdt.cli.certify import certify
from gfdt.cli.check import check
from gfdt.cli.compare import compare
from gfdt.cli.demo import demo
from gfdt.cli.info import info
from gfdt.cli.plot import plot
from gfdt.cli.predict import predict
from gfdt.cli.reproduce import reproduce
from gfdt.cli.respond import respond
from gfdt.cli.sample import sample
from gfdt.cli.simulate import simulate
from gfdt.cli.step import step
from gfdt.cli.susceptibility import susceptibility
from gfdt.cli.train import train
from gfdt.cli.words import in_words_of_the_shell, option_names
from gfdt.errors import GfdtError

__all__ = ["app", "main"]

app = typer.Typer(
    name="gfdt",
    help="How does a system respond when it is pushed a little? Learned from its unperturbed trajectory.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

# `simulate` hands its arguments on to the simulators' own parser, --help among them.
_PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
app.command(context_settings=_PASS_ON)(simulate)
_STEPS = (train, check, certify, sample, respond, predict, step, susceptibility, compare)
for command in (*_STEPS, plot, info, demo, reproduce):
    app.command()(command)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"gfdt {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Take the options that come before a command."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit.

    Parameters
    ----------
    arguments : sequence of str, optional
        Default: those of the process.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = _options(given)

    def show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
        print(f"gfdt: warning: {in_words_of_the_shell(str(message), options)}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.showwarning = show_warning
        try:
            code = app(args=given, standalone_mode=False)
        except _UsageError as error:
            if error.ctx is not None and type(error).__name__ == "NoArgsIsHelpError":
                print(error.ctx.get_help())
                sys.exit(2)
            where = error.ctx.command_path if error.ctx is not None else "gfdt"
            _fail(f"{error.format_message().rstrip('.')}{_about_patterns(given, error)}; see {where} --help")
        except (GfdtError, OSError) as error:
            _fail(in_words_of_the_shell(str(error), options) or type(error).__name__)
        except (KeyboardInterrupt, typer.Abort):
            code = _INTERRUPTED
        except Exception as error:
            if os.environ.get("GFDT_DEBUG"):
                raise
            _fail(f"unexpected {type(error).__name__}: {error}; set GFDT_DEBUG=1 to see where, and please report it")
    # The parser may turn Ctrl-C into this code by itself; the simulators then have said their own sentence already.
    if code == _INTERRUPTED and "simulate" not in given[:1]:
        print("gfdt: interrupted; no unfinished file was left under its final name", file=sys.stderr)
    sys.exit(code or 0)


_INTERRUPTED = 130


_UsageError: type[Any] = typer.BadParameter.__mro__[1]  # typer does not export it


def _fail(message: str) -> NoReturn:
    print("gfdt: error: " + " ".join(message.split()), file=sys.stderr)
    sys.exit(2)


def _about_patterns(arguments: Sequence[str], error: Any) -> str:
    """What to do about a pattern that the shell has turned into its files before the command could see it."""
    files = [argument for argument in arguments if argument.endswith((".nc", ".zarr")) and os.path.exists(argument)]
    one = error.ctx is not None and any(parameter.name == "trajectory" for parameter in error.ctx.command.params)
    return '; parts of one record are one argument, in quotes: "run_*.nc"' if one and len(files) > 1 else ""


def _options(arguments: Sequence[str]) -> dict[str, str]:
    """The options of the command that is called, by their names in Python."""
    command = getattr(typer.main.get_command(app), "commands", {}).get(arguments[0] if arguments else None)
    return option_names(command) if command is not None else {}
