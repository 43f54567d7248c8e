"""`kept demo`: runs the program that the wheel, or the clone, holds as an example."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import typer

from kept.cli import text
from kept.cli.urls import CacheOption, JsonOption, chosen

__all__ = ["demo"]

_NAME = "digits_sweep.py"
_NEEDS = ("sklearn", "matplotlib", "numpy")


def demo(context: typer.Context, cache: CacheOption = None, as_json: JsonOption = False) -> None:
    """Run a real job, kept; then run it again.

    Further arguments go to the program (--help after a lone -- shows them).
    """
    from kept.errors import ConfigError, StoreError

    program = _program()
    if program is None:
        raise StoreError(f"the example {_NAME} is not installed with this kept")
    if missing := [name for name in _NEEDS if find_spec(name) is None]:
        raise ConfigError(f"the demo needs {', '.join(missing)}: pip install 'kept[demo]'")
    spec, _ = chosen(cache)
    environment = dict(os.environ)
    if cache is not None:
        environment["KEPT_CACHE"] = cache if _is_name(cache) or spec.url is None else spec.url
    began = time.perf_counter()
    code = _run([sys.executable, str(program), *context.args], environment, as_json)
    if as_json:
        seconds = time.perf_counter() - began
        text.emit({"cache": spec.shown, "program": str(program), "seconds": seconds, "exit": code})
    raise typer.Exit(code)


def _is_name(cache: str) -> bool:
    from kept.caches import settings

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
