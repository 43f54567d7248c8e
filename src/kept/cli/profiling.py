"""`kept profile`: of which functions keeping pays."""

from __future__ import annotations

from typing import Annotated

import typer

from kept.cli import text
from kept.cli.urls import CacheOption, JsonOption, opened

__all__ = ["profile"]


def profile(
    function: Annotated[
        str | None, typer.Argument(help="Only these functions; * and ? stand for any text.")
    ] = None,
    load: Annotated[
        bool, typer.Option("--load", help="Decode results, too; that may run code.")
    ] = False,
    cache: CacheOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say whether keeping pays: what looking up and reading takes, against computing."""
    from kept.runs.profiles import profiles

    with opened(cache) as (found, url):
        table = profiles(found, function, load=load)
    if as_json:
        text.emit({"cache": url, "functions": list(table)})
    elif not len(table):
        print(f"nothing is kept in {url} yet")
    else:
        print(table.text(text.console().width))
