"""`kept query`: the calls that fit all that is said."""

from __future__ import annotations

import datetime
import json
import re
from typing import Annotated, Any

import typer

from kept.cli import text
from kept.cli.looking import list_calls
from kept.cli.urls import CacheOption, JsonOption, opened
from kept.errors import ConfigError

__all__ = ["query"]

_ASKED = re.compile(r"(?P<name>[^=<>]+?)(?:(?P<sign><=|>=|=|<|>)(?P<value>.*))?", re.DOTALL)
_RANGE = re.compile(r"(-?[\d.][\d.eE+-]*?)\.\.(-?[\d.][\d.eE+-]*)")


def query(
    function: Annotated[
        str | None, typer.Argument(help="Calls of this function; * and ? stand for any text.")
    ] = None,
    arg: Annotated[
        list[str] | None,
        typer.Option(
            "--arg",
            "-a",
            metavar="NAME=VALUE",
            help="With this argument: n=3, n=1..10, 'n>=2', name=text, data=@DIGEST; n alone: any.",
        ),
    ] = None,
    key: Annotated[str | None, typer.Option(help="With a key that begins so.")] = None,
    result: Annotated[
        str | None, typer.Option(metavar="VALUE", help="With this result: a value, or @DIGEST.")
    ] = None,
    module: Annotated[str | None, typer.Option(metavar="GLOB", help="Of this module.")] = None,
    version: Annotated[str | None, typer.Option(help="Of this version.")] = None,
    state: Annotated[str | None, typer.Option(help="done, failed or items.")] = None,
    since: Annotated[
        str | None, typer.Option(metavar="WHEN", help='Computed since: "2 d" ago, or 2026-01-31.')
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="WHEN", help="Computed until.")] = None,
    run: Annotated[str | None, typer.Option(metavar="ID", help="Of this run.")] = None,
    tag: Annotated[
        list[str] | None, typer.Option(metavar="NAME[=VALUE]", help="With this tag.")
    ] = None,
    meta: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME[=VALUE]", help="With this metadata: git, 'git.commit=abc'."),
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="FIELD>VALUE", help="'seconds>2', size<=1000, uses=0: what it took."),
    ] = None,
    order: Annotated[
        str, typer.Option(metavar="FIELD", help="-created, seconds, an argument; - for descending.")
    ] = "-created",
    limit: Annotated[int, typer.Option(min=0, help="At most so many; 0: all.")] = 50,
    count: Annotated[bool, typer.Option("--count", help="Only say how many.")] = False,
    cache: CacheOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the calls that fit all that is said, the latest first."""
    filters: dict[str, Any] = {
        "function": function,
        "module": module,
        "version": None if version is None else _value(version),
        "state": state,
        "key": key,
        "since": None if since is None else _when(since),
        "until": None if until is None else _when(until),
        "run": run,
    }
    with opened(cache) as (found, url):
        matches = found.query(**{name: said for name, said in filters.items() if said is not None})
        if result is not None:
            matches = matches.where(result=_value(result))
        for said in arg or ():
            name, test = _asked(said)
            matches = matches.where(arguments={name: test})
        for said in tag or ():
            name, test = _asked(said)
            matches = matches.where(tags={name: test} if re.search("[=<>]", said) else name)
        for said in meta or ():
            name, test = _asked(said)
            for part in reversed(name.split(".")):
                test = {part: test}
            matches = matches.where(metadata=test)
        for said in where or ():
            name, test = _asked(said)
            matches = matches.where(**{name: test})
        total = matches.count()
        if count:
            text.emit({"cache": url, "total": total}) if as_json else print(f"{total:,}")
            return
        calls = list(matches.order_by(order).limit(limit or None).calls())
        names = list(dict.fromkeys(call.function for call in calls))
        if not total and not as_json:
            print(f"no call in {url} fits")
            return
        list_calls(calls, names, total, url, as_json)


def _asked(said: str) -> tuple[str, Any]:
    """A name, and what is wanted of it."""
    from kept.query import ANY, above, at_least, at_most, below, between

    found = _ASKED.fullmatch(said)
    if found is None:
        raise ConfigError(f"{said!r} is not NAME=VALUE, NAME>VALUE, or the like")
    name, sign, value = found["name"].strip(), found["sign"], found["value"]
    if sign is None:
        return name, ANY
    if sign == "=":
        ends = _RANGE.fullmatch(value.strip())
        return name, between(*map(_value, ends.groups())) if ends else _value(value)
    made = {"<": below, "<=": at_most, ">": above, ">=": at_least}[sign]
    return name, made(_value(value))


def _value(said: str) -> Any:
    """A value as JSON has it, a digest behind an @, or else the text itself."""
    from kept.query import named

    if said.startswith("@"):
        return named(said[1:])
    try:
        return json.loads(said)
    except ValueError:
        return said


def _when(said: str) -> Any:
    from kept.caches.sizes import parse_duration

    try:
        return datetime.datetime.fromisoformat(said)
    except ValueError:
        return datetime.timedelta(seconds=parse_duration(said))
