"""`kept serve`: a cache for others."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from kept.errors import ConfigError

__all__ = ["serve"]


def serve(
    cache: Annotated[
        str | None,
        typer.Argument(metavar="PATH|NAME|URL", help="What is served; made when needed."),
    ] = None,
    stdio: Annotated[
        bool, typer.Option("--stdio", help="Serve one client over standard input and output.")
    ] = False,
    readonly: Annotated[
        bool, typer.Option("--read-only", help="Let clients read, and change nothing.")
    ] = False,
) -> None:
    """Serve a cache to other machines: over ssh, which runs this by itself, or over http."""
    from kept.cli.urls import opened

    if not stdio:
        raise ConfigError("kept serve needs --stdio")
    from kept.remote.desk import READ, Desk  # few serve
    from kept.remote.stdio import serve_stream

    # Whatever is printed in this process must not get between the messages.
    source, target = os.dup(0), os.dup(1)
    os.dup2(2, 1)
    sys.stdin = open(os.devnull)  # noqa: SIM115, PTH123  for as long as the process lives
    os.dup2(sys.stdin.fileno(), 0)
    with opened(cache, make=True) as (found, _):
        desk = Desk(found)
        try:
            serve_stream(desk, source, target, READ if readonly else "admin")
        finally:
            desk.close()
