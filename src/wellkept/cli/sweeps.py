"""Commands for before and after a change: plan, review."""

from __future__ import annotations

import itertools
import json
import sys
from typing import Annotated, Any

import typer

from wellkept.cli import text
from wellkept.cli.options import imported, opened, sure
from wellkept.cli.parser import CacheOption, JsonOption, YesOption
from wellkept.errors import ConfigError
from wellkept.readable import ago, counted

# Lines of what changed.
_LINES = 30


def plan(
    function: Annotated[
        str, typer.Argument(metavar="FUNCTION", help="module:name, or script.py:name.")
    ],
    items: Annotated[
        list[str] | None,
        typer.Argument(metavar="ITEM", help="Values of its first argument: JSON, or text."),
    ] = None,
    arg: Annotated[
        list[str] | None,
        typer.Option(
            "--arg",
            "-a",
            metavar="NAME=VALUE",
            help="Another argument; one that is said several times is varied, with all others.",
        ),
    ] = None,
    file: Annotated[
        typer.FileText | None,
        typer.Option(
            "--items",
            metavar="FILE",
            help="A call a line, as JSON: an object of arguments, or the first one; - for standard input.",
        ),
    ] = None,
    cache: CacheOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say which calls would be computed, why, and at what cost.

    The function is imported. Nothing is computed or written.
    """
    given: dict[str, list[Any]] = {}
    for said in arg or ():
        name, equals, value = said.partition("=")
        if not equals:
            raise ConfigError(f"--arg {said!r} is not NAME=VALUE")
        given.setdefault(name, []).append(_value(value))
    # A call with no argument at all is one, where nothing else is said.
    firsts: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
        ((_value(item),), {}) for item in items or ()
    ]
    firsts += [_line(number, line) for number, line in enumerate(file or (), 1) if line.strip()]
    if not firsts and file is None:
        firsts = [((), {})]
    calls = [
        (args, kwargs | dict(zip(given, some, strict=True)))
        for args, kwargs in firsts
        for some in itertools.product(*given.values())
    ]
    with imported(function, cache) as (found, url):
        try:
            made = found._plan(calls)
        except TypeError as error:
            raise ConfigError(f"{function}: {error}") from error
    if as_json:
        text.emit({"cache": url} | made.to_dict())
    else:
        text.console().print(made.__rich__(), soft_wrap=True)


def _value(said: str) -> Any:
    try:
        return json.loads(said)
    except (ValueError, RecursionError):
        return said


def _line(number: int, line: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"--items: line {number} is no JSON: {error}") from error
    return ((), value) if isinstance(value, dict) else ((value,), {})


def review(
    functions: Annotated[
        list[str] | None,
        typer.Argument(metavar="FUNCTION", help="module:name, or script.py:name; all by default."),
    ] = None,
    accept: Annotated[
        bool, typer.Option("--accept", help="What other code gave is what today's would give.")
    ] = False,
    recompute: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            help="Compute so many of the calls again, from 0 to 1, and compare; with --accept, accept "
            "where nothing differs.",
        ),
    ] = None,
    forget: Annotated[
        bool, typer.Option("--forget", help="Throw away what other code gave.")
    ] = False,
    code: Annotated[
        str | None, typer.Option(metavar="CODE", help="Only this other code, or its beginning.")
    ] = None,
    yes: YesOption = False,
    cache: CacheOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show which results a change of code invalidated, and accept them.

    Functions with results of other code than now: what changed, and what it cost.

    The functions are imported. On a terminal it asks what becomes of each. The exit code is 1 if a
    result differs.
    """
    if forget and (accept or recompute is not None):
        raise ConfigError("--forget goes without --accept and --recompute")
    acts = forget or accept or recompute is not None
    if acts and not functions:
        raise ConfigError(
            "which functions? wellkept review FUNCTION --accept, --recompute or --forget"
        )
    if forget:
        sure("delete what other code gave", yes)
    asks = not acts and not as_json and sys.stdin.isatty()
    rows, left = [], []
    for name in functions or _known(cache):
        try:
            rows += _reviewed(name, cache, code, accept, recompute, forget, asks, as_json)
        except ConfigError as error:
            if functions:
                raise
            left.append({"function": name, "error": str(error)})
    if as_json:
        text.emit({"functions": rows, "left": left})
    else:
        if not rows:
            print("nothing is kept of other code than now")
        for one in left:
            print(text.plain(f"{one['function']} can't be looked at: {one['error']}", 200))
    if any(former.get("differs") for row in rows for former in row["former"]):
        raise typer.Exit(1)


def _known(cache: str | None) -> list[str]:
    with opened(cache) as (found, _):
        return [row.function for row in found.backend.functions()]


def _reviewed(
    name: str,
    cache: str | None,
    code: str | None,
    accept: bool,
    recompute: float | None,
    forget: bool,
    asks: bool,
    as_json: bool,
) -> list[dict[str, Any]]:
    """Look at one function, and do what is said with what its former code gave."""
    from wellkept.memo.reviewing import review as reviewed

    with imported(name, cache) as (function, url):
        found = reviewed(function)
        some = [one for one in found.former if code is None or _begins(one.code, code)]
        if not some:
            return []
        row = found.to_dict() | {"cache": url, "former": []}
        for one in some:
            said = one.to_dict()
            if not as_json:
                _print(found, one)
            choice = _asked() if asks else ""
            share = 0.1 if choice == "r" else recompute
            if share is not None:
                said |= _compared(function, one.code, share, as_json)
            if choice == "r":
                choice = _asked()
            # Where it was to be compared, nothing is accepted that could not be.
            unsure = share is not None and (said["differs"] or not said["same"])
            if forget or choice == "f":
                query = function.cache.query(function=found.function, code=one.code)
                said["forgotten"] = query.evict().calls
            elif choice == "a" or (accept and not unsure):
                from wellkept.memo.verify import bless

                said["accepted"] = bless(function, code=one.code).calls
            if not as_json:
                for what in ("accepted", "forgotten"):
                    if what in said:
                        print(f"  {what:<13} {said[what]:,} calls")
            row["former"].append(said)
        return [row]


def _begins(code: str, said: str) -> bool:
    return code.startswith(said) or code.partition(":")[2].startswith(said)


def _print(found: Any, one: Any) -> None:
    console = text.console()
    console.print(text.plain(found.function), style="bold")
    calls = f"{counted(one.calls, 'call')} of other code, the last {ago(one.latest)}"
    there = f" ({one.there:,} of them there of today's too)" if one.there else ""
    console.print(f"  {'kept':<13} {calls}{there}; {found.kept:,} of today's", soft_wrap=True)
    costs = "".join(f", {amount:.4g} {name}" for name, amount in one.costs.items())
    console.print(f"  {'took':<13} {text.duration(one.seconds)}{costs}", soft_wrap=True)
    console.print(f"  {'why':<13} {text.plain(one.change.text)}", soft_wrap=True)
    for line in one.change.lines[:_LINES]:
        console.print(f"  {'':<13} {text.plain(line.text)}", soft_wrap=True)


def _asked() -> str:
    while True:
        said: str = typer.prompt(
            "  [a]ccept, [r]ecompute a sample, [f]orget, or [s]kip", default="s", err=True
        )
        if said[:1].lower() in tuple("arfs"):
            return said[:1].lower()


def _compared(function: Any, code: str, share: float, as_json: bool) -> dict[str, Any]:
    from wellkept.memo.verify import verify

    done = verify(function, sample=share, code=code)
    if not as_json:
        names = ("same", "differs", "raised", "unknown")
        said = ", ".join(f"{count:,} {name}" for name in names if (count := done.tally(name)))
        print(f"  {'recomputed':<13} {said or 'nothing'}")
        for one in done.drifted[:_LINES]:
            print(text.plain(f"  {one.key[:12]}  {one.call} {one.outcome}: {one.detail}", 400))
    return {
        "checked": [one._asdict() for one in done.checked],
        "same": done.tally("same"),
        "differs": [one.key for one in done.drifted],
    }
