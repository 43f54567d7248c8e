"""`kept bless`: the results of a function's earlier code hold for its code of today."""

from __future__ import annotations

from typing import Annotated

import typer

from kept.cli import text
from kept.cli.functions import imported
from kept.cli.urls import CacheOption, JsonOption

__all__ = ["bless"]


def bless(
    function: Annotated[
        str, typer.Argument(metavar="FUNCTION", help="module:name, or script.py:name.")
    ],
    code: Annotated[
        str | None,
        typer.Option(
            metavar="CODE",
            help="Whose results: a code that `kept show` tells, or the "
            "beginning of one; by default the latest other.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done.")
    ] = False,
    cache: CacheOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say that a change of code changed no result: those of the code before it become hits.

    The function is imported, so that its code of today is known.
    """
    from kept.memo.blessing import bless as blessed

    with imported(function, cache) as (found, url):
        done = blessed(found, code=code, dry_run=dry_run)
    if as_json:
        text.emit({"cache": url} | done._asdict())
        return
    if not done.before:
        print(f"{done.function} has no results of other code in {url}")
        return
    would = "would bless" if dry_run else "blessed"
    said = f"{would} {done.calls:,} {'call' if done.calls == 1 else 'calls'} of {done.function}"
    if done.same:
        said += f"; {done.same:,} computed already"
    if done.skipped:
        said += f"; {done.skipped:,} skipped"
    print(said)
    print(f"from  {done.before}")
    print(f"to    {done.code}")
