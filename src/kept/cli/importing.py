"""`kept import`: results that other libraries kept."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from kept.cli import text
from kept.cli.bar import Bar
from kept.cli.urls import CacheOption, JsonOption, opened

__all__ = ["app"]

app = typer.Typer(
    name="import",
    help="Take over what other libraries kept.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.callback()
def about() -> None:
    """Take over what other libraries kept."""


@app.command()
def hamilton(
    path: Annotated[
        str, typer.Argument(metavar="PATH", help="The directory: .hamilton_cache, mostly.")
    ],
    trust: Annotated[
        bool, typer.Option("--trust", help="Read results from a directory others can write to.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done.")
    ] = False,
    cache: CacheOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take over what Hamilton's own stores kept: results, and which run computed them.

    Results are loaded, which runs code. What is in PATH stays as it is.
    """
    from kept.integrations.hamilton import take_over

    with opened(cache, make=not dry_run) as (found, url), Bar() as bar:
        done = take_over(
            path,
            found,
            trust=trust,
            dry_run=dry_run,
            progress=lambda at, total: bar.advance("nodes", at, total),
        )
    if as_json:
        text.emit({"path": path, "cache": url, "dry_run": dry_run} | asdict(done))
        return
    verb = "would take" if dry_run else "took"
    nodes, results = _count(done.nodes, "node"), _count(done.results, "result")
    said = f"{verb} {nodes}, {results} and {_count(done.runs, 'run')}"
    if done.same:
        said += f"; {done.same:,} {'was' if done.same == 1 else 'were'} so already"
    if done.skipped:
        said += f"; {_count(done.skipped, 'result')} can't be read, to be computed again"
    print(f"{said}: {url}")


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
