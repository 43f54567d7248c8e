"""`kept du`: what takes how much room."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from kept.cli import text
from kept.cli.urls import CacheOption, JsonOption, opened

__all__ = ["du"]


def du(
    function: Annotated[
        str | None, typer.Argument(help="Only this function; * and ? stand for any text.")
    ] = None,
    cache: CacheOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what takes how much room: each function's results, and the whole on disk."""
    from kept.caches import summary

    with opened(cache, must=True) as (found, url):
        rows = summary.chosen(found, function) if function else summary.functions(found)
        totals = found.size()
    if as_json:
        functions = [{"function": r.function, "calls": r.calls, "bytes": r.bytes} for r in rows]
        sums = {name: getattr(totals, name) for name in ("calls", "values", "blobs", "bytes")}
        text.emit({"cache": url} | sums | {"functions": functions})
        return
    _print(rows, totals, whole=function is None)


def _print(rows: list[Any], totals: Any, *, whole: bool) -> None:
    console = text.console()
    table = text.table("size", "share", "calls", "function", left=("function",))
    of = sum(row.bytes for row in rows) or 1
    cells = [(text.size(r.bytes), f"{100 * r.bytes / of:.0f} %", f"{r.calls:,}") for r in rows]
    rest = sum(2 + max((len(line[i]) for line in cells), default=0) for i in range(3)) + 4
    for row, line in zip(rows, cells, strict=True):
        table.add_row(*line, text.name(row.function, max(16, console.width - rest)))
    console.print(table)
    if whole:
        console.print(
            f"{text.size(totals.bytes)} in all: {totals.calls:,} calls, {totals.values:,} different "
            f"results, {totals.blobs:,} blobs",
            soft_wrap=True,
        )
