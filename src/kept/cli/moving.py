"""Commands about the whole of a cache: `gc`, `transfer`, `migrate`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated, Any

import typer

from kept.cli import text
from kept.cli.bar import Bar
from kept.cli.urls import CacheOption, JsonOption, opened
from kept.errors import ConfigError

__all__ = ["gc", "migrate", "transfer"]

DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]
_CACHE = "a directory, a name from the configuration, or a URL"


def gc(
    grace: Annotated[
        str,
        typer.Option(
            metavar="SPAN",
            help="On a server or in files: what was seen unreferenced so long ago, and still is.",
        ),
    ] = "1 h",
    dry_run: DryRun = False,
    cache: CacheOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove results and blobs that no call needs; safe while others write."""
    with opened(cache, must=True) as (found, url), Bar() as bar:
        bar.advance("collecting", 0, 0)
        done = found.gc(grace=grace, dry_run=dry_run)
    if as_json:
        text.emit({"cache": url} | done._asdict() | {"dry_run": dry_run})
    elif not done.items:
        print(f"nothing in {url} is to be collected")
    else:
        count = f"{done.items:,} item{'' if done.items == 1 else 's'}"
        print(f"{'would remove' if dry_run else 'removed'} {count}: {text.size(done.bytes)}")


def transfer(
    source: Annotated[str, typer.Argument(metavar="SRC", help=f"From where: {_CACHE}.")],
    target: Annotated[str, typer.Argument(metavar="DST", help="To where; made when needed.")],
    function: Annotated[
        str | None,
        typer.Option(metavar="GLOB", help="Calls of this function; * and ? stand for any text."),
    ] = None,
    move: Annotated[bool, typer.Option("--move", help="Forget them in SRC afterwards.")] = False,
    dry_run: DryRun = False,
    as_json: JsonOption = False,
) -> None:
    """Copy calls with their results to another cache, or move them."""
    from kept.caches.evict import matches
    from kept.stores.openers import scheme_of

    if (scheme := scheme_of(target)) in ("memory", "void"):
        raise ConfigError(
            f"{scheme}: has nothing left when this command ends: name a place that has"
        )

    def wanted(call: Any) -> bool:
        return function is None or matches(call.function, function)

    with (
        opened(source, must=True) as (found, url),
        opened(target, make=not dry_run) as (other, there),
        Bar() as bar,
    ):
        progress = _told(bar, "calls")
        done = found.transfer(other, wanted, move=move, dry_run=dry_run, progress=progress)
    if as_json:
        said = {"source": url, "target": there, "move": move, "dry_run": dry_run}
        text.emit(said | asdict(done))
        return
    verb = {
        (False, False): "copied",
        (True, False): "moved",
        (False, True): "would copy",
        (True, True): "would move",
    }[move, dry_run]
    print(f"{verb} {_calls(done.calls)} ({text.size(done.bytes)}) to {there}{_rest(done)}")


def migrate(
    dry_run: DryRun = False, cache: CacheOption = None, as_json: JsonOption = False
) -> None:
    """Give calls the keys that they would have today, without computing anything.

    For when a type's digest, or the digest scheme, has changed. Results are loaded, which runs code.
    """
    with opened(cache, must=True) as (found, url), Bar() as bar:
        done = found.migrate(dry_run=dry_run, progress=_told(bar, "calls"))
    if as_json:
        text.emit({"cache": url, "dry_run": dry_run} | asdict(done))
        return
    print(f"{'would migrate' if dry_run else 'migrated'} {_calls(done.calls)}{_rest(done)}")


def _told(bar: Bar, stage: str) -> Callable[[int, int], None]:
    return lambda done, total: bar.advance(stage, done, total)


def _calls(count: int) -> str:
    return f"{count:,} call{'' if count == 1 else 's'}"


def _rest(done: Any) -> str:
    said = ""
    if done.same:
        said += f"; {done.same:,} {'was' if done.same == 1 else 'were'} so already"
    if done.skipped:
        said += f"; {done.skipped:,} left: damaged, or without a result"
    return said
