"""Commands that show the configuration and run the demo."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from wellkept.cli import text
from wellkept.cli.options import chosen
from wellkept.cli.parser import CacheOption, JsonOption


def config(
    as_toml: Annotated[
        bool, typer.Option("--toml", help="Only the TOML, to be written to a file.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the configuration in force here, and which file it is from.

    Passwords are masked; ${NAME} stands for a variable of the environment.
    """
    from wellkept.caches import settings
    from wellkept.caches.option_text import redacted

    found = settings()
    if as_json:
        text.emit(
            {
                "source": found.source,
                "cache": found.name or redacted(found.url),
                "options": dict(found.options),
                "caches": {name: _masked(spec.table()) for name, spec in found.caches.items()},
            }
        )
        return
    if not as_toml:
        print(f"# from {found.source}")
    print(redacted(found.to_toml()), end="")


def _masked(table: dict[str, object]) -> dict[str, object]:
    from wellkept.caches.option_text import redacted

    return {
        name: redacted(value)
        if isinstance(value, str)
        else [redacted(str(part)) for part in value]
        if isinstance(value, list)
        else value
        for name, value in table.items()
    }


_NAME = "digits_sweep.py"
_NEEDS = ("sklearn", "matplotlib", "numpy")


def demo(context: typer.Context, cache: CacheOption = None, as_json: JsonOption = False) -> None:
    """Run an example job whose results are cached; run it twice.

    Further arguments go to the program (--help after a lone -- shows them).
    """
    from wellkept.errors import ConfigError, StoreError

    program = _program()
    if program is None:
        raise StoreError(f"the example {_NAME} is not installed with this kept")
    if missing := [name for name in _NEEDS if find_spec(name) is None]:
        raise ConfigError(f"the demo needs {', '.join(missing)}: pip install 'wellkept[demo]'")
    spec, _ = chosen(cache)
    environment = dict(os.environ)
    if cache is not None:
        environment["WELLKEPT_CACHE"] = cache if _is_name(cache) or spec.url is None else spec.url
    began = time.perf_counter()
    code = _run([sys.executable, str(program), *context.args], environment, as_json)
    if as_json:
        seconds = time.perf_counter() - began
        text.emit({"cache": spec.shown, "program": str(program), "seconds": seconds, "exit": code})
    raise typer.Exit(code)


def _is_name(cache: str) -> bool:
    from wellkept.caches import settings

    return cache in settings().caches


def _run(command: list[str], environment: dict[str, str], quiet: bool) -> int:
    stdout = sys.stderr if quiet else None  # nothing but JSON goes to standard output
    process = subprocess.Popen(command, env=environment, stdout=stdout)
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:  # the program got it too, and ends in its own way
            continue


def _program() -> Path | None:
    """The example, in the wheel or in the clone."""
    package = Path(__file__).resolve().parents[1]
    for directory in (package / "examples", package.parents[1] / "examples"):
        if (directory / _NAME).is_file():
            return directory / _NAME
    return None
