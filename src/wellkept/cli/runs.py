"""`wellkept runs` and `wellkept lineage`: what happened, and where results come from."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated, Any

import typer

from wellkept.cli import text
from wellkept.cli.options import is_key, matching, opened, span, sure
from wellkept.cli.parser import ArgOption, CacheOption, JsonOption, YesOption, function_names
from wellkept.errors import ConfigError
from wellkept.readable import counted


class By(StrEnum):
    """What is a line of a run."""

    call = "call"
    function = "function"
    cause = "cause"


class Form(StrEnum):
    """How a graph is written."""

    tree = "tree"
    dot = "dot"
    mermaid = "mermaid"
    svg = "svg"


def runs(
    run: Annotated[
        str | None,
        typer.Argument(help="Show this run: its id or name, or the beginning of one."),
    ] = None,
    compare: Annotated[
        str | None, typer.Option(metavar="RUN", help="Compare it with an earlier run.")
    ] = None,
    functions: Annotated[
        bool, typer.Option("--functions", help="A line for each function, not each call.")
    ] = False,
    by: Annotated[
        By | None,
        typer.Option(
            metavar="call|function|cause",
            help="A line for each: call, function, or cause of a miss.",
        ),
    ] = None,
    graph: Annotated[
        Form | None,
        typer.Option(
            metavar="tree|dot|mermaid|svg", help="Who called whom, and what was made of what."
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(metavar="GLOB", help="List the runs of this name or id.")
    ] = None,
    tag: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="List those with this tag.")
    ] = None,
    limit: Annotated[
        int, typer.Option(min=0, metavar="N", help="At most so many lines; 0: all.")
    ] = 50,
    forget: Annotated[
        bool, typer.Option("--forget", help="Forget what was recorded; results stay.")
    ] = False,
    older: Annotated[
        str | None, typer.Option(metavar="SPAN", help="With --forget: begun so long ago.")
    ] = None,
    yes: YesOption = False,
    cache: CacheOption = None,
    as_json: JsonOption = False,
) -> None:
    """List runs, or what happened in one."""
    from wellkept.runs.run import Runs

    if run is None and (compare is not None or functions or graph or by):
        raise ConfigError("which run? wellkept runs RUN --compare, --functions, --by or --graph")
    if functions and by not in (None, By.function):
        raise ConfigError(f"--functions is --by function: leave out one of it and --by {by}")
    if compare is not None and (functions or by is By.function):
        raise ConfigError("runs are compared by call or by cause, not by function")
    way = By.function if functions else by or By.call
    if older is not None and not forget:
        raise ConfigError("--older says which runs --forget is about")
    with opened(cache) as (found, url):
        known = Runs(found, name, dict(map(_tag, tag or ())))
        if forget:
            sure("forget what was recorded of these runs", yes)
            gone = known.forget(run, older=span("--older", older))
            text.emit({"cache": url, "runs": gone}) if as_json else print(_forgotten(gone))
        elif run is None:
            table = known.table()
            if not table.rows and not as_json:
                print(f"no runs in {url}")
            else:
                _show(table, {"cache": url}, "runs", limit, as_json)
        else:
            one = known[run]
            if compare is not None:
                other = Runs(found)[compare]
                table, part = (
                    one.compare(other, by="cause" if way is By.cause else "call").table(),
                    f"{way.value}s",
                )
            elif graph is not None:
                _draw(one.graph(), graph, url, as_json)
                return
            else:
                table, part = one.table(way.value), f"{way.value}s"
            (about,) = (row for row in Runs(found, one.id).table().rows if row["id"] == one.id)
            _show(table, {"cache": url, "run": about}, part, limit, as_json)


def _show(table: Any, about: dict[str, Any], part: str, limit: int, as_json: bool) -> None:
    if as_json:
        text.emit(about | {"total": len(table), part: table.rows[: limit or None]})
    else:
        text.show(table, limit or None)


def _tag(said: str) -> tuple[str, Any]:
    name, equals, value = said.partition("=")
    if not equals:
        raise ConfigError(f"--tag {said!r} is not NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _forgotten(gone: list[str]) -> str:
    return f"forgot {counted(len(gone), 'run')}"


def _draw(graph: Any, form: Form, url: str, as_json: bool) -> None:
    if as_json:
        text.emit({"cache": url} | graph.to_dict())
    elif form is Form.tree:
        width = text.width()
        for line in str(graph).split("\n"):
            print(line if len(line) <= width else f"{line[: width - 1]}…")
    else:
        print(getattr(graph, f"to_{form.value}")().rstrip("\n"))


def lineage(
    of: Annotated[
        str,
        typer.Argument(
            metavar="KEY|DIGEST|FUNCTION",
            help="Of a call or a value, or its first digits (4 or more); or a function, with --arg.",
            autocompletion=function_names,
        ),
    ],
    arg: ArgOption = None,
    up: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="At most so many steps to where it came from."),
    ] = None,
    down: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="At most so many steps to what came of it."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="At most so many calls.")] = 500,
    form: Annotated[
        Form, typer.Option("--format", metavar="tree|dot|mermaid|svg", help="How it is written.")
    ] = Form.tree,
    cache: CacheOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show where a result came from, and what became of it."""
    from wellkept.conditions import matches
    from wellkept.errors import NotKept
    from wellkept.runs.lineage import lineage as traced

    with opened(cache) as (found, url):
        digits = is_key(of) and not any(
            matches(row.function, of) for row in found.backend.functions()
        )
        if digits and arg:
            raise ConfigError(f"--arg goes with a function, and {of} is a key")
        asked: Any = of if digits else matching(found, of, arg=arg)
        try:
            graph = traced(asked, up=up, down=down, limit=limit, cache=found)
        except NotKept:
            said = " and ".join(arg or ())
            raise NotKept(
                f"no call or value {of} is kept in {url}"
                if digits
                else f"no call of {of} in {url} has {said}"
            ) from None
        _draw(graph, form, url, as_json)
