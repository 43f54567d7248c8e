"""Commands that only look: `where`, `ls`, `show`, `stats`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from kept.cli import text
from kept.cli.urls import CacheOption, JsonOption, chosen, exists, opened

__all__ = ["list_calls", "ls", "show", "stats", "where"]

_SHORT = 12  # digits of a key in a table


def where(cache: CacheOption = None, as_json: JsonOption = False) -> None:
    """Say which cache is meant here, and why."""
    from kept.caches import settings

    spec, source = chosen(cache)
    url, options = spec.shown, dict(spec.options)
    caches = {name: found.shown for name, found in settings().caches.items()}
    there = exists(spec)
    if as_json:
        text.emit(
            {
                "cache": url,
                "source": source,
                "exists": there,
                "options": options,
                "caches": caches,
            }
        )
        return
    note = {True: "", False: "  (nothing is kept there yet)", None: ""}[there]
    print(f"cache  {url}{note}")
    print(f"from   {source}")
    for option, value in options.items():
        print(f"       {option} = {value!r}")
    for name, found in caches.items():
        print(f"named  {name}: {found}")


def ls(
    function: Annotated[
        str | None,
        typer.Argument(help="List the calls of this function; * and ? stand for any text."),
    ] = None,
    calls: Annotated[bool, typer.Option("--calls", help="List calls, not functions.")] = False,
    limit: Annotated[
        int, typer.Option(min=0, help="List at most so many calls, the latest first; 0: all.")
    ] = 50,
    cache: CacheOption = None,
    as_json: JsonOption = False,
) -> None:
    """List functions and what is kept of them, or the calls of one."""
    from kept.caches import summary

    with opened(cache) as (found, url):
        rows = summary.chosen(found, function) if function else summary.functions(found)
        if function is None and not calls:
            _list_functions(rows, url, as_json)
            return
        names = [row.function for row in rows]
        listed = list(summary.calls(found, names, limit or None)) if names else []
        list_calls(listed, names, sum(row.calls for row in rows), url, as_json)


def _list_functions(rows: list[Any], url: str, as_json: bool) -> None:
    if as_json:
        text.emit({"cache": url, "functions": [_function_data(row) for row in rows]})
        return
    if not rows:
        print(f"nothing is kept in {url} yet")
        return
    console = text.console()
    columns = ("function", "calls", "size", "computed", "uses", "saved", "last used")
    table = text.table(*columns, left=("function",))
    cells = [
        (
            f"{row.calls:,}",
            text.size(row.bytes),
            text.duration(row.seconds),
            f"{row.uses:,}",
            text.duration(row.saved),
            text.age(row.used),
        )
        for row in rows
    ]
    rest = sum(
        2 + max(len(title), *(len(line[i]) for line in cells))
        for i, title in enumerate(columns[1:])
    )
    for row, line in zip(rows, cells, strict=True):
        table.add_row(text.name(row.function, max(16, console.width - rest)), *line)
    console.print(table)


def _function_data(row: Any) -> dict[str, Any]:
    return {
        "function": row.function,
        "codes": row.codes,
        "calls": row.calls,
        "bytes": row.bytes,
        "seconds": row.seconds,
        "uses": row.uses,
        "seconds_saved": row.saved,
        "last_computed": row.created,
        "last_used": row.used,
    }


def list_calls(calls: list[Any], names: list[str], total: int, url: str, as_json: bool) -> None:
    """Print calls of functions as a table that fits the terminal, or as JSON."""
    if as_json:
        text.emit({"cache": url, "total": total, "calls": [call_data(call) for call in calls]})
        return
    if not calls:
        print(f"nothing is kept in {url} yet")
        return
    console = text.console()
    several = len(names) > 1
    if not several:
        console.print(text.name(names[0], console.width), style="bold")
    columns = ("key", "call" if several else "arguments", "size", "computed", "uses", "age")
    table = text.table(*columns, left=columns[:2])
    cells = [
        (
            text.size(call.size),
            text.duration(call.seconds),
            f"{call.uses:,}",
            text.age(call.created),
        )
        for call in calls
    ]
    rest = (
        _SHORT
        + 2
        + sum(
            2 + max(len(title), *(len(line[i]) for line in cells))
            for i, title in enumerate(columns[2:])
        )
    )
    width = max(16, console.width - rest)
    for call, line in zip(calls, cells, strict=True):
        shown = _arguments(call)
        if several:
            shown = f"{call.function.rpartition(':')[2]}({shown})"
        if call.state == "failed":
            shown = f"{shown} (raised)"
        shown = text.plain(shown).replace("\n", " ")
        shown = shown if len(shown) <= width else f"{shown[: width - 1]}…"
        table.add_row(call.key[:_SHORT], shown, *line)
    console.print(table)
    if total > len(calls):
        console.print(f"{total - len(calls):,} more; --limit 0 lists all", style="dim")


def _arguments(call: Any) -> str:
    return ", ".join(
        f"{name}={argument.value!r}" if argument.shown else f"{name}=<{argument.digest[:8]}>"
        for name, argument in call.arguments.items()
    )


def call_data(call: Any) -> dict[str, Any]:
    """A call as JSON shows it."""
    return {
        "key": str(call.key),
        "function": call.function,
        "code": call.code,
        "arguments": {
            name: {"digest": str(argument.digest)}
            | ({"value": argument.value} if argument.shown else {})
            for name, argument in call.arguments.items()
        },
        "result": str(call.result),
        "state": call.state,
        "bytes": call.size,
        "seconds": call.seconds,
        "uses": call.uses,
        "computed": call.created,
        "last_used": call.used,
        "expires": call.expires,
        "metadata": dict(call.metadata),
    }


def show(
    key: Annotated[str, typer.Argument(help="The key of a call, or its first digits (4 or more).")],
    value: Annotated[
        bool, typer.Option("--value", help="Load the result and show it; that may run code.")
    ] = False,
    cache: CacheOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one call; unpickle nothing, unless asked to by --value."""
    from kept.cli.result import describe

    with opened(cache) as (found, url):
        call = found.calls.get(found.expand(key))
        if call is None:
            from kept.errors import NotKept

            raise NotKept(f"no call {key} is kept in {url}")
        result = describe(found, call, load=value)
        if as_json:
            text.emit({"cache": url} | call_data(call) | {"kept": result})
            return
        _print_call(call, result)


def _print_call(call: Any, result: dict[str, Any]) -> None:
    import time

    console = text.console()
    stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(call.created))
    lines = [
        ("key", call.key),
        ("function", call.function),
        ("code", call.code),
        ("computed", f"{stamp} ({text.age(call.created)}), took {text.duration(call.seconds)}"),
        ("used", f"{call.uses:,} x, last {text.age(call.used)}" if call.uses else "not yet"),
    ]
    if call.expires is not None:
        late = call.expires <= time.time()
        until = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(call.expires))
        lines.append(("expires", f"{until}{' (it has expired)' if late else ''}"))
    if call.metadata:
        lines.append(("metadata", ", ".join(f"{k}={v!r}" for k, v in call.metadata.items())))
    for i, (name, argument) in enumerate(call.arguments.items()):
        shown = repr(argument.value) if argument.shown else f"<{argument.digest[:_SHORT]}>"
        lines.append(("" if i else "arguments", f"{name} = {shown}"))
    lines.append(("result", str(call.result)))
    about = f"{text.size(call.size)}, {result['codec'] or 'not kept'}"
    if result["blobs"]:
        about += f", {result['blobs']} blob{'s' if result['blobs'] > 1 else ''}"
    about += {"failed": ", an exception", "items": ", of a generator"}.get(call.state, "")
    lines.append(("", about))
    if result["text"] is not None:
        lines += [("" if i else "value", part) for i, part in enumerate(result["text"].split("\n"))]
    elif result["codec"]:
        lines.append(("value", "not loaded: that may run code; --value does"))
    for title, content in lines:
        console.print(f"{title:<10} {text.plain(content)}", soft_wrap=True)


def stats(cache: CacheOption = None, as_json: JsonOption = False) -> None:
    """Add up the whole cache."""
    from kept.caches import summary

    with opened(cache) as (found, url):
        totals = summary.totals(found)
    if as_json:
        text.emit({"cache": url} | totals.to_dict())
        return
    lines = [
        ("cache", url),
        ("functions", f"{totals.functions:,}"),
        ("calls", f"{totals.calls:,}"),
        ("results", f"{totals.values:,} different, {text.size(totals.result_bytes)} in all calls"),
        ("blobs", f"{totals.blobs:,}, {text.size(totals.blob_bytes)}"),
        ("on disk", text.size(totals.bytes)),
        ("computed", text.duration(totals.seconds)),
        ("saved", f"{text.duration(totals.seconds_saved)} by {totals.uses:,} uses"),
    ]
    if totals.schema is not None:
        lines.append(("index", f"schema {totals.schema}, journal mode {totals.journal}"))
    if totals.damaged_files:
        lines.append(("set aside", f"{totals.damaged_files} damaged: kept verify --repair"))
    for title, content in lines:
        print(f"{title:<10} {content}")
