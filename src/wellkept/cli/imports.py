"""`wellkept import`: what other libraries kept, taken over."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wellkept.cli import text
from wellkept.cli.options import imported, opened
from wellkept.cli.parser import CacheOption, DryRunOption, JsonOption, group
from wellkept.cli.text import Bar
from wellkept.errors import ConfigError
from wellkept.readable import counted

if TYPE_CHECKING:
    from wellkept.integrations.importers import Taken

__all__ = ["import_app"]

_LISTED = 50
PathArgument = Annotated[
    str, typer.Argument(metavar="PATH", help="Its directory; it is only read.")
]
FunctionOption = Annotated[
    str | None,
    typer.Option(
        metavar="FUNCTION",
        help="Whose results to take: module:name, or script.py:name. It is imported.",
    ),
]
TrustOption = Annotated[
    bool, typer.Option("--trust", help="Unpickle values of any type, which may run code.")
]

import_app: typer.Typer = group("Import what other libraries have cached.")


@import_app.command()
def hamilton(
    path: Annotated[
        str, typer.Argument(metavar="PATH", help="The directory: .hamilton_cache, mostly.")
    ],
    trust: Annotated[
        bool, typer.Option("--trust", help="Read results from a directory others can write to.")
    ] = False,
    dry_run: DryRunOption = False,
    cache: CacheOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take over what Hamilton's own stores kept: results, and which run computed them.

    Results are loaded, which runs code. What is in PATH stays as it is.
    """
    from wellkept.integrations.hamilton import take_over

    with opened(cache, make=not dry_run, must=False) as (found, url), Bar() as bar:
        done = take_over(
            path,
            found,
            trust=trust,
            dry_run=dry_run,
            progress=partial(bar.advance, "nodes"),
        )
    if as_json:
        text.emit({"path": path, "cache": url, "dry_run": dry_run} | asdict(done))
        return
    verb = "would take" if dry_run else "took"
    nodes, results = counted(done.nodes, "node"), counted(done.results, "result")
    said = f"{verb} {nodes}, {results} and {counted(done.runs, 'run')}"
    if done.same:
        said += f"; {counted(done.same, 'was', 'were')} so already"
    if done.skipped:
        said += f"; {counted(done.skipped, 'result')} can't be read, to be computed again"
    print(f"{said}: {url}")


@import_app.command()
def diskcache(
    path: PathArgument,
    function: FunctionOption = None,
    name: Annotated[
        str | None, typer.Option(metavar="TEXT", help="What memoize(name=) was, if anything.")
    ] = None,
    ignore: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME|NUMBER", help="What memoize(ignore=) was, one at a time."),
    ] = None,
    stampede: Annotated[
        bool | None,
        typer.Option(help="Whether it was memoize_stampede.", show_default="asked for if in doubt"),
    ] = None,
    into: Annotated[
        str | None,
        typer.Option(
            metavar="DIRECTORY", help="Where wellkept.integrations.diskcache.Cache has it all."
        ),
    ] = None,
    trust: TrustOption = False,
    dry_run: DryRunOption = False,
    cache: CacheOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take over results of a memoized function from diskcache, or, with --into, all entries.

    --into is for programs that go on to use wellkept.integrations.diskcache; keys, tags and expiry stay.
    """
    from wellkept.integrations.importers import from_diskcache

    if (function is None) == (into is None):
        raise ConfigError(
            "say either --function, whose results are taken, or --into, for all entries"
        )
    ignored = [int(one) if one.isdecimal() else one for one in ignore or ()]
    with contextlib.ExitStack() as stack:
        there: Any = None
        if into is None:
            kept, url = stack.enter_context(_target(function, cache, dry_run))
        else:
            from wellkept.integrations.diskcache import Cache

            # Where there is nothing yet, a trial is not to make it.
            there = {} if dry_run and not Path(into).is_dir() else stack.enter_context(Cache(into))
            kept, url = None, into
        bar = stack.enter_context(Bar())
        done = from_diskcache(
            path,
            kept,
            name=name,
            ignore=ignored,
            stampede=stampede,
            into=there,
            trust=trust,
            dry_run=dry_run,
            progress=partial(bar.advance, "entries"),
        )
    _say(done, path, url, dry_run, as_json)


@import_app.command()
def joblib(
    path: PathArgument,
    function: FunctionOption = None,
    trust: TrustOption = False,
    dry_run: DryRunOption = False,
    cache: CacheOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take over what joblib.Memory kept of a function, where its arguments print as literals.

    Without --function, the functions that have results there are listed.
    """
    from wellkept.integrations.importers import from_joblib

    _of_function(from_joblib, path, function, trust, dry_run, cache, as_json)


@import_app.command()
def fleche(
    path: PathArgument,
    function: FunctionOption = None,
    trust: TrustOption = False,
    dry_run: DryRunOption = False,
    cache: CacheOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take over what fleche kept of a function.

    Without --function, the functions that have records there are listed.
    """
    from wellkept.integrations.importers import from_fleche

    _of_function(from_fleche, path, function, trust, dry_run, cache, as_json)


def _of_function(
    importer: Callable[..., Taken],
    path: str,
    function: str | None,
    trust: bool,
    dry_run: bool,
    cache: str | None,
    as_json: bool,
) -> None:
    with _target(function, cache, dry_run) as (kept, url), Bar() as bar:
        progress = partial(bar.advance, "results")
        done = importer(path, kept, trust=trust, dry_run=dry_run, progress=progress)
    _say(done, path, url, dry_run, as_json)


@contextlib.contextmanager
def _target(function: str | None, cache: str | None, dry_run: bool) -> Iterator[tuple[Any, str]]:
    """The kept function, if one is named, which goes to the cache that is meant, and that one's URL."""
    if function is None:
        # What is only listed makes no cache.
        with opened(cache, must=False) as (_, url):
            yield None, url
        return
    with imported(function, cache, make=not dry_run, must=False) as target:
        yield target


def _say(done: Taken, path: str, url: str, dry_run: bool, as_json: bool) -> None:
    counts = {"taken": done.count("taken"), "same": done.count("same")}
    if as_json:
        items = [item._asdict() for item in done.items]
        said = {"path": path, "cache": url, "dry_run": dry_run} | counts
        text.emit(said | {"refused": done.refused, "items": items})
        return
    if dry_run:
        for item in [item for item in done.items if item.outcome == "taken"][:_LISTED]:
            print(text.line(item.what, 200))
        if counts["taken"] > _LISTED:
            print(f"and {counts['taken'] - _LISTED:,} more; --json lists all")
    line = f"{'would take' if dry_run else 'took'} {counted(counts['taken'], 'entry', 'entries')}"
    if counts["same"]:
        line += f"; {counted(counts['same'], 'was', 'were')} there already"
    print(f"{line}: {url}")
    for why, count in list(done.refused.items())[:_LISTED]:
        print(text.line(f"refused {count:,}: {why}", 400))
