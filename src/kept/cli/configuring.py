"""`kept config`: what is in force, and from which file."""

from __future__ import annotations

from typing import Annotated

import typer

from kept.cli import text
from kept.cli.urls import JsonOption

__all__ = ["config"]


def config(
    as_toml: Annotated[
        bool, typer.Option("--toml", help="Only the TOML, to be written to a file.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the configuration that is in force here, and which file it is from.

    Passwords are masked; ${NAME} stands for a variable of the environment.
    """
    from kept.caches import settings
    from kept.caches.secrets import redacted

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
    from kept.caches.secrets import redacted

    return {
        name: redacted(value)
        if isinstance(value, str)
        else [redacted(str(part)) for part in value]
        if isinstance(value, list)
        else value
        for name, value in table.items()
    }
