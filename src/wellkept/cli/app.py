"""Running a command, and what becomes of errors: one line on standard error."""

from __future__ import annotations

import os
import re
import sys
import warnings
from itertools import pairwise
from typing import Any, TextIO

from wellkept.errors import AmbiguousDigest, ConfigError, KeptError, KeptWarning

__all__ = ["run"]

# What is often asked with no option, or with the cache alone. The library that reads options takes longer
# to import than these take; the defaults are those of the functions.
_PLAIN = ("where", "ls", "stats", "du")


def run(arguments: list[str]) -> int:
    """Run a command; its exit code.

    0: done. 1: what was asked for is not there, can't be done, or the answer of a check is no. 2: it was
    asked for what can't be: the command line or the configuration has to change. 130: interrupted.
    """
    warnings.showwarning = _show_warning
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal that lacks a letter
    as_json = "--json" in arguments
    try:
        code = _run(arguments)
        sys.stdout.flush()
    except (AmbiguousDigest, ConfigError) as error:
        return _fail(_of_options(error, arguments), 2, as_json)
    except BrokenPipeError:  # the reader of our output has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130
    except (KeptError, OSError) as error:
        return _fail(error, 1, as_json)
    except Exception as error:
        # Typer has its errors from click, or brings its own copy of it.
        if type(error).__name__ == "Abort":
            return _fail("stopped", 1, as_json)
        message = getattr(error, "format_message", None)
        if message is None:
            raise
        context: Any = getattr(error, "ctx", None)
        path = context.command_path if context else "wellkept"
        said = _of_values(message().replace("Value error, ", "").rstrip("."), arguments)
        if context and not context.parent and said.startswith("No such option"):
            said += "; options of a command stand behind it"
        return _fail(f"{said} (see {path} --help)", 2, as_json)
    return int(code or 0)


def _of_options(error: Exception, arguments: list[str]) -> Exception:
    """An error that names options as one types them, where the library speaks of its parameters."""

    given = {one.partition("=")[0] for one in arguments}

    def typed(found: re.Match[str]) -> str:
        option = f"--{found[1].replace('_', '-')}"
        return f"{option}{found[2]} " if option in given else found[0]

    said = re.sub(r"\b([a-z_]+)=(:?) ", typed, str(error))
    # Some commands take caches as arguments.
    return type(error)(said if "--cache" in given else said.removeprefix("--cache: "))


def _of_values(said: str, arguments: list[str]) -> str:
    """Return a message on an option's value that has the value, too."""
    found = re.match(r"Invalid value for '(--[a-z-]+)'(?= ?[:/])", said)
    given = [after for option, after in pairwise(arguments) if found and option == found[1]]
    if not found or not given or repr(given[-1]) in said:
        return said
    return f"{found[1]} {given[-1]}{said[found.end() :]}"


def _run(arguments: list[str]) -> Any:
    if arguments and arguments[0] in _PLAIN:
        from wellkept.cli import inspect

        name, *rest = arguments
        if not rest:
            return getattr(inspect, name)()
        if len(rest) == 2 and rest[0] == "--cache" and not rest[1].startswith("-"):
            return getattr(inspect, name)(cache=rest[1])
    from wellkept.cli.parser import parser

    asked = arguments[:1] or (_typed() if "_WELLKEPT_COMPLETE" in os.environ else [])
    return parser(asked)(arguments, prog_name="wellkept", standalone_mode=False)


def _typed() -> list[str]:
    """Return the command that a shell completes the arguments of, for which no other has to be imported."""
    said = os.environ.get("COMP_WORDS") or os.environ.get("_TYPER_COMPLETE_ARGS", "")
    words = said.split()
    return words[1:2] if len(words) > 2 or said[-1:].isspace() else []


def _fail(error: Exception | str, code: int, as_json: bool) -> int:
    # Imported with the first message.
    from wellkept.caches.option_text import redacted

    line = " ".join(redacted(str(error)).split())
    if as_json:
        # What reads the output as JSON reads the error there, too.
        from wellkept.cli.text import emit

        kind = "UsageError" if isinstance(error, str) else type(error).__name__
        emit({"error": {"kind": kind, "message": line, "exit": code}})
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
        _fail(f"warning: {message}", 0, False)
