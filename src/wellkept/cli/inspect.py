"""Commands that show what is kept: where, ls, show, stats, du, query, explain, profile."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

from wellkept.cli import text
from wellkept.cli.options import (
    checked_order,
    chosen,
    exists,
    find_modules,
    key_of,
    matching,
    named,
    one_call,
    opened,
    read,
)
from wellkept.errors import ConfigError
from wellkept.readable import ago, counted, data_size, plain
from wellkept.runs.table import Column, Table, call_data, function_data, shortened

if TYPE_CHECKING:
    import typer

    from wellkept.cli.parser import (
        ArgOption,
        CacheOption,
        FunctionArgument,
        JsonOption,
        RunOption,
        TagOption,
        WhatArgument,
        WhereOption,
    )

_LINES, _CHARACTERS, _WIDTH = 30, 8000, 200


def describe(cache: Any, call: Any, *, load: bool) -> dict[str, Any]:
    """Codec, number of blobs, and a text that shows the result: of JSON always, else if loaded.

    Raises:
        DecodeError: it is damaged, or can't be decoded here.
    """
    held = cache.backend.fetch(call.key.raw)
    envelope = None if held is None else held.envelope
    if envelope is None:
        return {"codec": None, "blobs": 0, "loaded": False, "text": None}
    shown = None
    if load:
        find_modules()
        from wellkept.codecs import decoder
        from wellkept.stores.parts import opened

        payload, buffers = opened(cache.backend.load, envelope)
        value = decoder(envelope.codec)(payload, buffers)
        if call.state == "failed" and isinstance(value, list) and value:
            value = value[0]  # its causes follow
        shown = _text(value)
    elif envelope.codec == "file":
        from wellkept.codecs.file import says

        said = says(cache.backend.load(envelope)[0])
        shown = (
            f"a file of the format {said['format']}, read by {said['loader']}; --value does that"
        )
    elif envelope.codec == "json":  # nothing runs when JSON is read
        payload, _ = cache.backend.load(envelope)
        shown = _short(bytes(payload[: 4 * _CHARACTERS]).decode(errors="replace"))
    return {"codec": envelope.codec, "blobs": len(envelope.blobs), "loaded": load, "text": shown}


def _text(value: Any) -> str:
    from rich.pretty import pretty_repr

    try:
        return _short(pretty_repr(value, max_length=20, max_string=500, max_depth=6))
    except Exception as error:  # noqa: BLE001  a repr may do anything
        return f"<a {type(value).__qualname__}, whose repr fails: {type(error).__name__}>"


def _short(text: str) -> str:
    lines = text[:_CHARACTERS].split("\n")
    whole = len(text) <= _CHARACTERS and len(lines) <= _LINES
    shown = [line if len(line) <= _WIDTH else f"{line[:_WIDTH]}…" for line in lines[:_LINES]]
    return "\n".join(shown if whole else [*shown, "…"])


# Digits of a key in a table, and characters of a function's name before arguments.
_SHORT, _NAME = 12, 28


def where(cache: CacheOption = None, as_json: JsonOption = False) -> None:
    """Show which cache is used here, and why."""
    from wellkept.caches import settings

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
    function: FunctionArgument = None,
    calls: Annotated[bool, typer.Option("--calls", help="List calls, not functions.")] = False,
    limit: Annotated[
        int,
        typer.Option(
            min=0, metavar="N", help="List at most so many calls, the latest first; 0: all."
        ),
    ] = 50,
    cache: CacheOption = None,
    as_json: JsonOption = False,
) -> None:
    """List functions and what is cached of them, or the calls of one."""
    from wellkept.caches import maintenance

    with opened(cache) as (found, url):
        rows = maintenance.chosen(found, named(function)) if function else found.backend.functions()
        if function is None and not calls:
            _list_functions(rows, _costs(found), url, as_json)
            return
        names = [row.function for row in rows]
        listed = list(found.backend.calls_of(names, limit or None)) if names else []
        list_calls(found, listed, names, sum(row.calls for row in rows), url, as_json)


def _costs(found: Any) -> dict[str, dict[str, Any]]:
    """What the calls of functions cost besides time, by function."""
    from wellkept.runs.recorder import COSTS

    if found.backend.notes.get(COSTS) is None:
        return {}
    # Loaded on first use: most caches have none.
    from wellkept.query import ANY

    costly = found.query(metadata={"cost": ANY}).group_by("function")
    return {name: calls.costs() for name, calls in costly}


def _list_functions(
    rows: list[Any], costs: dict[str, dict[str, Any]], url: str, as_json: bool
) -> None:
    data = [
        function_data(row)
        | {"costs": {name: cost._asdict() for name, cost in costs.get(row.function, {}).items()}}
        for row in rows
    ]
    if as_json:
        text.emit({"cache": url, "functions": data})
        return
    if not rows:
        print(f"nothing is kept in {url} yet")
        return
    columns: list[Column] = [
        ("function", lambda row: row["function"]),
        ("calls", lambda row: f"{row['calls']:,}"),
        ("size", lambda row: data_size(row["bytes"])),
        ("computed", lambda row: text.duration(row["seconds"])),
        ("uses", lambda row: f"{row['uses']:,}"),
        ("saved", lambda row: text.duration(row["seconds_saved"])),
        ("last used", lambda row: ago(row["last_used"])),
    ]
    names = sorted({name for some in costs.values() for name in some})
    for name in names:
        for title, what in ((name, "spent"), (f"{name} saved", "saved")):
            columns.append((title, partial(_amount, name, what)))
    titles = [title for title, _ in columns[1:]]
    drop = ("last used", "computed", "saved", "uses", "size", *titles[6:])
    text.show(Table(data, columns, "function", drop=drop, right=titles))


def _amount(name: str, what: str, row: Any) -> str:
    cost = row["costs"].get(name)
    return "" if cost is None else f"{cost[what]:.4g}"


def list_calls(
    cache: Any, calls: list[Any], names: list[str], total: int, url: str, as_json: bool
) -> None:
    """Print calls of functions as a table that fits the terminal, or as JSON."""
    if as_json:
        text.emit({"cache": url, "total": total, "calls": [call_data(call) for call in calls]})
        return
    if not calls:
        print(f"nothing is kept in {url} yet")
        return
    from wellkept.query.noted import described
    from wellkept.stores.base import get_many

    # What arguments look like that no record shows; in one trip.
    notes = get_many(cache.backend.notes, [f"leaves/{call.key}" for call in calls])
    several = len(names) > 1
    if not several:
        print(shortened(plain(names[0]), text.width()))

    def shown(row: Any) -> str:
        said = described(notes, row["call"])
        if several:
            name = row["call"].function.rpartition(":")[2]
            said = f"{shortened(name, _NAME)}({said})"
        return f"{said} (raised)" if row["call"].state == "failed" else said

    what = "call" if several else "arguments"
    columns: list[Column] = [
        ("key", lambda row: row["call"].key[:_SHORT]),
        (what, shown),
        ("size", lambda row: data_size(row["call"].size)),
        ("computed", lambda row: text.duration(row["call"].seconds)),
        ("uses", lambda row: f"{row['call'].uses:,}"),
        ("age", lambda row: ago(row["call"].created)),
    ]
    right = [title for title, _ in columns[2:]]
    more = f"{total - len(calls):,} more; --limit 0 lists all" if total > len(calls) else ""
    rows = [{"call": call} for call in calls]
    text.show(Table(rows, columns, what, more, drop=("uses", "size", "computed"), right=right))


def show(
    what: WhatArgument,
    arg: ArgOption = None,
    value: Annotated[
        bool, typer.Option("--value", help="Load the result and show it; that may run code.")
    ] = False,
    cache: CacheOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one call: its arguments, code, times and result.

    Nothing is unpickled, unless --value asks for it.
    """
    with opened(cache) as (found, url):
        call = one_call(found, what, arg)
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
        ("computed", f"{stamp} ({ago(call.created)}), took {text.duration(call.seconds)}"),
        ("used", f"{call.uses:,} x, last {ago(call.used)}" if call.uses else "not yet"),
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
    about = f"{data_size(call.size)}, {result['codec'] or 'not kept'}"
    if result["blobs"]:
        about += f", {counted(result['blobs'], 'blob')}"
    about += {"failed": ", an exception", "items": ", of a generator"}.get(call.state, "")
    lines.append(("", about))
    if result["text"] is not None:
        lines += [("" if i else "value", part) for i, part in enumerate(result["text"].split("\n"))]
    elif result["codec"]:
        lines.append(("value", "not loaded: that may run code; --value does"))
    for title, content in lines:
        console.print(f"{title:<10} {text.plain(content)}", soft_wrap=True)


def stats(cache: CacheOption = None, as_json: JsonOption = False) -> None:
    """Show totals of the cache: calls, results, size, time saved."""

    with opened(cache) as (found, url):
        totals = found.size()
    if as_json:
        text.emit({"cache": url} | totals.to_dict())
        return
    lines = [
        ("cache", url),
        ("functions", f"{totals.functions:,}"),
        ("calls", f"{totals.calls:,}"),
        ("results", f"{totals.values:,} different, {data_size(totals.result_bytes)} in all calls"),
        ("blobs", f"{totals.blobs:,}, {data_size(totals.blob_bytes)}"),
        ("on disk", data_size(totals.bytes)),
        ("computed", text.duration(totals.seconds)),
        ("saved", f"{text.duration(totals.seconds_saved)} by {totals.uses:,} uses"),
    ]
    if totals.schema is not None:
        lines.append(("index", f"schema {totals.schema}, journal mode {totals.journal}"))
    if totals.damaged_files:
        lines.append(("set aside", f"{totals.damaged_files} damaged: wellkept verify --repair"))
    for title, content in lines:
        print(f"{title:<10} {content}")


def du(
    function: FunctionArgument = None,
    cache: CacheOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show how much space each function's results take."""
    from wellkept.caches import maintenance

    with opened(cache) as (found, url):
        rows = maintenance.chosen(found, named(function)) if function else found.backend.functions()
        totals = found.size()
    if as_json:
        functions = [{"function": r.function, "calls": r.calls, "bytes": r.bytes} for r in rows]
        sums = {name: getattr(totals, name) for name in ("calls", "values", "blobs", "bytes")}
        text.emit({"cache": url} | sums | {"functions": functions})
        return
    _print(rows, totals, whole=function is None)


def _print(rows: list[Any], totals: Any, *, whole: bool) -> None:
    of = sum(row.bytes for row in rows) or 1
    columns: list[Column] = [
        ("size", lambda row: data_size(row["bytes"])),
        ("share", lambda row: f"{100 * row['bytes'] / of:.0f} %"),
        ("calls", lambda row: f"{row['calls']:,}"),
        ("function", lambda row: row["function"]),
    ]
    text.show(
        Table(
            [row._asdict() for row in rows],
            columns,
            "function",
            drop=("calls", "share"),
            right=("size", "share"),
        )
    )
    if whole:
        print(
            f"{data_size(totals.bytes)} in all: {totals.calls:,} calls, {totals.values:,} different "
            f"results, {totals.blobs:,} blobs"
        )


def query(
    function: FunctionArgument = None,
    arg: ArgOption = None,
    key: Annotated[
        str | None, typer.Option(metavar="KEY", help="With a key that begins so.")
    ] = None,
    result: Annotated[
        str | None, typer.Option(metavar="VALUE", help="With this result: a value, or @DIGEST.")
    ] = None,
    module: Annotated[str | None, typer.Option(metavar="GLOB", help="Of this module.")] = None,
    version: Annotated[str | None, typer.Option(metavar="VERSION", help="Of this version.")] = None,
    state: Annotated[
        str | None, typer.Option(metavar="done|failed|items", help="How it ended.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(metavar="WHEN", help='Computed since: "2 d" ago, or 2026-01-31.')
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="WHEN", help="Computed until.")] = None,
    run: RunOption = None,
    tag: TagOption = None,
    meta: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME[=VALUE]", help="With this metadata: git, 'git.commit=abc'."),
    ] = None,
    where: WhereOption = None,
    order: Annotated[
        str, typer.Option(metavar="FIELD", help="-created, seconds, an argument; - for descending.")
    ] = "-created",
    limit: Annotated[int, typer.Option(min=0, metavar="N", help="At most so many; 0: all.")] = 50,
    count: Annotated[bool, typer.Option("--count", help="Only say how many.")] = False,
    csv: Annotated[
        bool, typer.Option("--csv", help="Write CSV: a line a call, a column an argument.")
    ] = False,
    cache: CacheOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the calls that match all filters, the latest first."""
    # What only looks does not pay for it.
    from wellkept.caches.filter_text import asked, value_of, when

    if csv and (as_json or count):
        raise ConfigError("--csv goes without --json and --count")
    with opened(cache) as (found, url):
        matches = matching(
            found,
            function,
            arg=arg,
            tag=tag,
            where=where,
            module=module,
            version=None if version is None else value_of(version),
            state=state,
            key=key,
            since=None if since is None else read("--since", when, since),
            until=None if until is None else read("--until", when, until),
            run=run,
        )
        if result is not None:
            matches = matches.where(result=value_of(result))
        for said in meta or ():
            name, test = read("--meta", asked, said)
            for part in reversed(name.split(".")):
                test = {part: test}
            matches = matches.where(metadata=test)
        total = matches.count()
        if count:
            text.emit({"cache": url, "total": total}) if as_json else print(f"{total:,}")
            return
        some = matches.order_by(checked_order(order, matches)).limit(limit or None)
        if csv:
            from wellkept.query.exports import write_csv

            write_csv(some, sys.stdout)
            return
        calls = list(some.calls())
        names = list(dict.fromkeys(call.function for call in calls))
        if not total and not as_json:
            print(f"no call in {url} matches")
            return
        list_calls(found, calls, names, total, url, as_json)


def explain(
    what: WhatArgument,
    arg: ArgOption = None,
    limit: Annotated[
        int,
        typer.Option(
            min=1, metavar="N", help="Of a function, at most so many calls, the latest first."
        ),
    ] = 20,
    cache: CacheOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say whether a call is a cache hit, or why it is computed.

    Of a function, why its latest calls were computed.
    """
    from wellkept.runs.explain import explain_function, explain_key

    with opened(cache) as (found, url):
        key = None if arg else key_of(found, what)
        more: Any = ()
        if arg:
            these = matching(found, what, arg=arg)
            more = these.query.conditions
            key = next(these.calls()).key if these.count() == 1 else None
        if key is not None:
            explained = explain_key(found, key)
            if as_json:
                text.emit({"cache": url} | explained.to_dict())
            else:
                text.console().print(explained.__rich__(), soft_wrap=True)
            return
        table = explain_function(found, named(what), limit, more)
    if as_json:
        text.emit({"cache": url, "calls": list(table)})
    else:
        text.show(table)


def profile(
    function: FunctionArgument = None,
    load: Annotated[
        bool, typer.Option("--load", help="Decode results, too; that may run code.")
    ] = False,
    cache: CacheOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show for which functions caching pays.

    What looking up and reading a result takes, against computing it.
    """
    from wellkept.runs.profile import profiles

    if load:
        find_modules()
    with opened(cache) as (found, url):
        table = profiles(found, function and named(function), load=load)
    if as_json:
        text.emit({"cache": url, "functions": list(table)})
    elif not len(table):
        print(f"nothing is kept in {url} yet")
    else:
        text.show(table)
