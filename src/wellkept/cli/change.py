"""Commands that change a cache: evict, clear, gc, verify, transfer, migrate, bless, import."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Annotated, Any

import typer

from wellkept.cli import text
from wellkept.cli.options import (
    find_modules,
    imported,
    key_of,
    matching,
    named,
    opened,
    size,
    span,
    sure,
)
from wellkept.cli.parser import (
    ArgOption,
    CacheOption,
    DryRunOption,
    FunctionArgument,
    JsonOption,
    RunOption,
    TagOption,
    WhereOption,
    YesOption,
    function_names,
)
from wellkept.cli.text import Bar
from wellkept.errors import ConfigError
from wellkept.readable import counted, data_size

_LISTED = 50


def evict(
    what: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY|FUNCTION",
            help="Keys, or their first digits; or a function, * and ? standing for any text.",
            autocompletion=function_names,
        ),
    ] = None,
    function: Annotated[
        str | None,
        typer.Option(metavar="GLOB", help="Calls of this function; * and ? stand for any text."),
    ] = None,
    arg: ArgOption = None,
    tag: TagOption = None,
    run: RunOption = None,
    where: WhereOption = None,
    older: Annotated[
        str | None, typer.Option(metavar="SPAN", help="Calls computed so long ago: 30d, '12 h'.")
    ] = None,
    free: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE", help="Results until so much is free, the cheapest to have again first."
        ),
    ] = None,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    cache: CacheOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete (invalidate) cached calls and their results.

    A call goes that matches all that is said: one of this function that also has this argument.
    """
    filters: dict[str, Any] = {"arg": arg, "tag": tag, "run": run, "where": where}
    chosen = any(one is not None for one in (function, *filters.values()))
    if free is not None:
        if what or chosen or older is not None:
            raise ConfigError("--free chooses by itself: give it alone")
        _free(free, dry_run, yes, cache, as_json)
        return
    if not what and not chosen and older is None:
        raise ConfigError(
            "say what to delete: keys, a function, --arg, --tag, --run, --where, --older or --free "
            "(wellkept evict --help)"
        )
    age = span("--older", older)
    with opened(cache) as (found, url):
        function = function and named(function)
        asked: dict[str, Any] = {"function": function, "older": age}
        given = {one: key_of(found, one) for one in what or ()}
        names = [one for one, key in given.items() if key is None]
        if len(names) > 1 or (names and (len(given) > 1 or function is not None)):
            raise ConfigError(f"say keys or one function, not {' '.join(names)} with others")
        if keys := [key for key in given.values() if key is not None]:
            asked["keys"] = keys
        if names or any(one is not None for one in filters.values()):
            asked["function"] = matching(found, names[0] if names else function, **filters)
        _deleted(lambda trial: found.evict(**asked, dry_run=trial), url, dry_run, yes, as_json)


def _deleted(go: Callable[[bool], Any], url: str, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Delete, once that is agreed to, and say what went.

    Args:
        go: deletes, or only says what it would.
    """
    if not dry_run and not yes:
        # Whether nobody is there to ask must not depend on what is kept.
        would = _amount(go(True)) if sys.stdin.isatty() else "it"
        if would:
            sure(f"delete {would}", yes)
    done = go(dry_run)
    if as_json:
        text.emit({"cache": url} | asdict(done))
    elif gone := _amount(done):
        print(f"{'would delete' if dry_run else 'deleted'} {gone}")
    else:
        print(f"there is nothing to delete in {url}")


def _amount(done: Any) -> str:
    """Return what goes, as text; nothing where there is nothing."""
    from wellkept.caches.maintenance import Freed

    size = data_size(done.bytes)
    if isinstance(done, Freed):
        seconds = text.duration(done.seconds)
        said = f"{counted(done.results, 'result')} ({size}), which take {seconds} to compute again"
        return said if done.results else ""
    calls, values = counted(done.calls, "call"), counted(done.values, "result")
    said = f"{calls}, {values} and {counted(done.blobs, 'blob')}: {size}"
    return said if done.calls or done.bytes else ""


def clear(
    function: FunctionArgument = None,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    cache: CacheOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete all calls of a function, or of the whole cache.

    Runs and named state stay. Where there is nobody to ask, it needs --yes.
    """
    from wellkept.caches import maintenance

    with opened(cache) as (found, url):
        if function is not None and (dry_run or yes or sys.stdin.isatty()):
            # A misspelt name is an error here.
            maintenance.chosen(found, function := named(function))

        def go(trial: bool) -> Any:
            return (
                found.clear(dry_run=trial)
                if function is None
                else found.evict(function, dry_run=trial)
            )

        _deleted(go, url, dry_run, yes, as_json)


def _free(said: str, dry_run: bool, yes: bool, cache: str | None, as_json: bool) -> None:
    from wellkept.caches.maintenance import free

    wanted = size("--free", said)
    with opened(cache) as (found, url):
        _deleted(lambda trial: free(found, wanted, dry_run=trial), url, dry_run, yes, as_json)


def verify(
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Remove what is damaged or stray; salvage what can be."),
    ] = False,
    discard: Annotated[
        bool, typer.Option("--discard", help="With --repair: delete salvaged index files.")
    ] = False,
    function: Annotated[
        str | None,
        typer.Option(
            metavar="FUNCTION",
            help="Compute calls of this one again, and compare: module:name, or script.py:name.",
        ),
    ] = None,
    sample: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="Of its calls, from 0 to 1.", show_default="0.1"),
    ] = None,
    cache: CacheOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check every byte of a cache, or compute results again and compare.

    The exit code is 1 if problems are left, or if a result differs.
    """
    if discard and not repair:
        raise ConfigError("--discard goes with --repair")
    if function is not None:
        if repair:
            raise ConfigError("--repair goes without --function: wellkept bless, or rerun, decides")
        _verify_function(function, 0.1 if sample is None else sample, cache, as_json)
        return
    if sample is not None:
        raise ConfigError("--sample goes with --function")
    with opened(cache) as (found, url), Bar() as bar:
        report = found.verify(repair=repair, discard=discard, progress=bar.advance)
    if as_json:
        problems = [asdict(problem) for problem in report.problems]
        rest = {k: v for k, v in asdict(report).items() if k != "problems"}
        text.emit({"cache": url, "ok": report.ok} | rest | {"problems": problems})
    else:
        _print_report(report)
    if not report.ok:
        raise typer.Exit(1)


def _verify_function(function: str, sample: float, cache: str | None, as_json: bool) -> None:
    from wellkept.cli.options import imported
    from wellkept.memo.verify import verify as verified

    with imported(function, cache) as (found, url):
        done = verified(found, sample=sample)
    if as_json:
        checked = [one._asdict() for one in done.checked]
        text.emit({"cache": url, "ok": not done.drifted} | done._asdict() | {"checked": checked})
    else:
        for one in done.drifted[:_LISTED]:
            line = f"{one.key[:12]}  {one.call} {one.outcome}: {one.detail}"
            print(text.line(line, 400))
        unknown = next((one for one in done.checked if one.outcome == "unknown"), None)
        outcomes = ("same", "differs", "raised", "unknown")
        counts = {name: n for name in outcomes if (n := done.tally(name))}
        said = ", ".join(f"{count:,} {name}" for name, count in counts.items())
        looked = f"{len(done.checked):,} of {counted(done.kept, 'call')} of {done.function}"
        print(f"{looked}: {said or 'nothing to compare'}")
        if unknown is not None:
            print(f"unknown, such as {text.plain(unknown.call, 80)}: {unknown.detail}")
    if done.drifted:
        raise typer.Exit(1)


def _print_report(report: Any) -> None:
    console = text.console()
    if report.problems:
        table = text.table("problem", "of", "", left=("problem", "of", ""))
        table.columns[-1].no_wrap = False
        for problem in report.problems[:_LISTED]:
            what = problem.what if len(problem.what) < 40 else problem.what[:12]
            repaired = " (repaired)" if problem.repaired else ""
            detail = text.line(problem.detail, 300)
            table.add_row(problem.kind, text.plain(what), f"{detail}{repaired}")
        console.print(table)
        if len(report.problems) > _LISTED:
            console.print(f"{len(report.problems) - _LISTED:,} more; --json lists all")
        console.print()
    looked = f"{counted(report.calls, 'call')}, {counted(report.values, 'result')} and "
    looked += f"{counted(report.blobs, 'blob')} ({data_size(report.bytes)})"
    if report.salvaged_calls:
        looked += f"; {counted(report.salvaged_calls, 'call')} salvaged"
    left = len(report.left)
    if not report.problems:
        said = "all is well"
    elif not left:
        said = "all problems are repaired"
    else:
        repair = "" if len(report.problems) > left else ": wellkept verify --repair"
        said = f"{counted(left, 'problem')}{' left' if not repair else ''}{repair}"
    console.print(f"{looked}: {said}", soft_wrap=True)


_CACHE = "a directory, a name from the configuration, or a URL"


def gc(
    grace: Annotated[
        str,
        typer.Option(
            metavar="SPAN",
            help="On a server or in files: what was seen unreferenced so long ago, and still is.",
        ),
    ] = "1 h",
    dry_run: DryRunOption = False,
    cache: CacheOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete results that no call needs; safe while others write."""
    with opened(cache) as (found, url), Bar() as bar:
        bar.advance("collecting", 0, 0)
        done = found.gc(grace=span("--grace", grace) or 0.0, dry_run=dry_run)
    if as_json:
        text.emit({"cache": url} | done._asdict() | {"dry_run": dry_run})
    elif not done.items:
        print(f"nothing in {url} is to be collected")
    else:
        verb = "would remove" if dry_run else "removed"
        print(f"{verb} {counted(done.items, 'item')}: {data_size(done.bytes)}")


def transfer(
    source: Annotated[str, typer.Argument(metavar="SRC", help=f"From where: {_CACHE}.")],
    target: Annotated[str, typer.Argument(metavar="DST", help="To where; made when needed.")],
    function: Annotated[
        str | None,
        typer.Option(metavar="GLOB", help="Calls of this function; * and ? stand for any text."),
    ] = None,
    move: Annotated[bool, typer.Option("--move", help="Forget them in SRC afterwards.")] = False,
    overwrite: Annotated[
        str,
        typer.Option(
            metavar="WHEN", help="What of other results in DST goes: never, older, always."
        ),
    ] = "never",
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Copy calls with their results to another cache, or move them."""
    from wellkept.conditions import matches
    from wellkept.stores.openers import scheme_of

    if (scheme := scheme_of(target)) in ("memory", "void"):
        raise ConfigError(
            f"{scheme}: has nothing left when this command ends: name a place that has"
        )

    choices: dict[str, bool | str] = {"never": False, "older": "older", "always": True}
    if (when := choices.get(overwrite, "")) == "":
        raise ConfigError(f"--overwrite is one of {', '.join(choices)}, not {overwrite!r}")

    def wanted(call: Any) -> bool:
        return function is None or matches(call.function, function)

    with (
        opened(source) as (found, url),
        opened(target, make=not dry_run, must=False) as (other, there),
        Bar() as bar,
    ):
        progress = partial(bar.advance, "calls")
        done = found.transfer(
            other, wanted, move=move, overwrite=when, dry_run=dry_run, progress=progress
        )
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
    print(f"{verb} {counted(done.calls, 'call')} ({data_size(done.bytes)}) to {there}{_rest(done)}")


def migrate(
    dry_run: DryRunOption = False, cache: CacheOption = None, as_json: JsonOption = False
) -> None:
    """Give calls the keys of today's digests, computing nothing.

    For when a type's digest, or the digest scheme, has changed. Results are loaded, which runs code.
    """
    find_modules()
    with opened(cache) as (found, url), Bar() as bar:
        done = found.migrate(dry_run=dry_run, progress=partial(bar.advance, "calls"))
    if as_json:
        text.emit({"cache": url, "dry_run": dry_run} | asdict(done))
        return
    print(
        f"{'would migrate' if dry_run else 'migrated'} {counted(done.calls, 'call')}{_rest(done)}"
    )


def _rest(done: Any) -> str:
    said = ""
    if done.same:
        said += f"; {counted(done.same, 'was', 'were')} so already"
    if done.skipped:
        said += f"; {done.skipped:,} left: damaged, or without a result"
    if done.other:
        said += f"; {done.other:,} left: another result is there (see --overwrite)"
    if done.replaced:
        said += f"; {done.replaced:,} in place of another result"
    if done.merged:
        said += f"; {done.merged:,} became the same as another"
    return said


def bless(
    function: Annotated[
        str, typer.Argument(metavar="FUNCTION", help="module:name, or script.py:name.")
    ],
    code: Annotated[
        str | None,
        typer.Option(
            metavar="CODE",
            help="Whose results: a code that `wellkept show` tells, or the "
            "beginning of one; by default the latest other.",
        ),
    ] = None,
    dry_run: DryRunOption = False,
    cache: CacheOption = None,
    as_json: JsonOption = False,
) -> None:
    """Accept the results of the code before a change as hits.

    For a change that changed no result.

    The function is imported, so that its code of today is known.
    """
    from wellkept.memo.verify import bless as blessed

    with imported(function, cache) as (found, url):
        done = blessed(found, code=code, dry_run=dry_run)
    if as_json:
        text.emit({"cache": url} | done._asdict())
        return
    if not done.before:
        print(f"{done.function} has no results of other code in {url}")
        return
    would = "would bless" if dry_run else "blessed"
    said = f"{would} {counted(done.calls, 'call')} of {done.function}"
    if done.same:
        said += f"; {done.same:,} computed already"
    if done.skipped:
        said += f"; {done.skipped:,} skipped"
    print(said)
    print(f"from  {done.before}")
    print(f"to    {done.code}")
