"""The commands together, and what becomes of errors: one line on standard error."""

from __future__ import annotations

import os
import sys
import warnings
from typing import Annotated, Any, TextIO

import typer

from wellkept import __version__
from wellkept.caches.option_text import redacted
from wellkept.cli import (
    change,
    inspect,
    runs,
    serve,
    setup,
    state,
)
from wellkept.errors import AmbiguousDigest, ConfigError, KeptError, KeptWarning

__all__ = ["app", "run"]

app = typer.Typer(
    name="wellkept",
    help="Look after what kept functions have kept.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (
    inspect.where,
    inspect.ls,
    inspect.show,
    inspect.stats,
    inspect.query,
    runs.runs,
    runs.lineage,
    inspect.explain,
    inspect.profile,
    inspect.du,
    setup.config,
    change.evict,
    change.gc,
    change.transfer,
    change.migrate,
    change.verify,
    change.bless,
    serve.serve,
):
    app.command()(command)
app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(setup.demo)
app.add_typer(state.app, name="store")
app.add_typer(serve.tokens_app, name="tokens")
app.add_typer(serve.keys_app, name="keys")
app.add_typer(change.import_app, name="import")


@app.callback(invoke_without_command=True)
def about(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version and leave.")] = False,
) -> None:
    """Look after what kept functions have kept."""
    if version:
        typer.echo(f"wellkept {__version__}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


def run(arguments: list[str]) -> int:
    """Run a command; its exit code. 1: it failed, 2: it was asked for what can't be."""
    warnings.showwarning = _show_warning
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal that lacks a letter
    try:
        code = app(arguments, prog_name="wellkept", standalone_mode=False)
        sys.stdout.flush()
    except (AmbiguousDigest, ConfigError) as error:
        return _fail(str(error), 2)
    except KeptError as error:
        return _fail(str(error), 1)
    except BrokenPipeError:  # the reader of our output has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        return _fail(str(error), 1)
    except Exception as error:
        # Typer has its errors from click, or brings its own copy of it.
        if type(error).__name__ == "Abort":
            return _fail("stopped", 1)
        message = getattr(error, "format_message", None)
        if message is None:
            raise
        context: Any = getattr(error, "ctx", None)
        path = context.command_path if context else "wellkept"
        return _fail(f"{message()} (see {path} --help)", 2)
    return int(code or 0)


def _fail(message: str, code: int) -> int:
    line = " ".join(redacted(message).split())
    print(f"wellkept: {line}", file=sys.stderr)
    return code


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    if issubclass(category, KeptWarning):
        _fail(f"warning: {message}", 0)
