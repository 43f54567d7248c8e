"""`wellkept ui` and `wellkept top`: a cache on a page, and in a terminal."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wellkept.cli import text
from wellkept.cli.options import chosen, exists, opened
from wellkept.cli.parser import CacheOption, JsonOption
from wellkept.errors import ConfigError
from wellkept.readable import ago, data_size, duration

if TYPE_CHECKING:
    from rich.console import Group

    from wellkept.web.site import Site


def ui(
    where: Annotated[
        str | None,
        typer.Argument(
            metavar="PATH|NAME|URL",
            help="The cache, as --cache takes it.",
            show_default="the active one",
        ),
    ] = None,
    port: Annotated[
        int, typer.Option(min=0, max=65535, metavar="PORT", help="0: any that is free.")
    ] = 0,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open it in the browser.")
    ] = True,
    write: Annotated[
        bool, typer.Option("--write", help="Let the page throw results away, when it is asked to.")
    ] = False,
    price: Annotated[
        str | None,
        typer.Option(metavar="AMOUNT UNIT", help="Of an hour of processor time: '0.05 EUR'."),
    ] = None,
    export: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write the pages as files, and end.")
    ] = None,
    cache: CacheOption = None,
) -> None:
    """Show a cache in the browser.

    What was saved, what ran again and why, what takes the room.
    """
    try:
        from wellkept.web.export import write as write_files
        from wellkept.web.serving import Serving
    except ImportError as error:
        raise ConfigError(
            f"wellkept ui needs {error.name}, which is not installed: pip install 'wellkept[ui]'"
        ) from error
    if where is not None and cache is not None:
        raise ConfigError("the cache is named twice: give it as the argument, or with --cache")
    with _site(cache if where is None else where, write=write, price=price) as site:
        if export is not None:
            print(f"wrote {write_files(site, export):,} pages to {export}")
            return
        serving = Serving(site, port)
        # It listens already: who connects now is answered in a moment.
        print(serving.url, flush=True)
        print(
            f"shows {site.name}, {'and may change it' if site.write else 'read-only'}; Ctrl-C ends it"
        )
        if browser:
            import webbrowser

            webbrowser.open(serving.url)
        with contextlib.suppress(KeyboardInterrupt):
            serving.run()


@contextlib.contextmanager
def _site(cache: str | None, *, write: bool = False, price: str | None = None) -> Iterator[Site]:
    from wellkept.web.site import Site

    how: dict[str, Any] = {"where": cache or "", "write": write, "price": _price(price)}
    spec, _ = chosen(cache)
    with contextlib.ExitStack() as stack:

        def open_it() -> Any:
            return stack.enter_context(opened(cache))[0]

        def later() -> Any:
            return None if exists(spec) is False else (open_it(), open_it())

        found = open_it()
        if (
            cache is None and exists(spec) is False
            # The usual place of a user, where nothing is kept yet.
        ):
            yield Site(found, later=later, name=spec.shown, **how)
            return
        # In memory there is only one of it.
        again = not spec.shown.startswith(("memory:", "void:"))
        yield Site(found, behind=open_it() if again else None, **how)


def _price(said: str | None) -> Any:
    from wellkept.web.site import Price

    if said is None:
        return None
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(\D{0,12})", said)
    if found is None:
        raise ConfigError(f"--price {said!r} is not an amount and a unit, such as '0.05 EUR'")
    return Price(float(found[1]), found[2].strip())


def top(
    every: Annotated[
        float, typer.Option(min=0.2, metavar="SECONDS", help="Between two looks.")
    ] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Look once, and end.")] = False,
    cache: CacheOption = None,
    as_json: JsonOption = False,
) -> None:
    """Watch a cache in the terminal.

    What was saved, what ran again and why, what runs now.
    """
    from wellkept.web import overview

    with _site(cache) as site:
        if as_json:
            site.summary(3600)
            text.emit({"today": overview.today(site, {}), "live": overview.live(site, {})})
            return
        if once:
            site.summary(3600)
            text.console().print(_screen(site))
            return
        from rich.live import Live

        console = text.console()
        with contextlib.suppress(KeyboardInterrupt), Live(console=console, screen=True) as live:
            while True:
                site.look()
                live.update(_screen(site), refresh=True)
                time.sleep(every)


def _screen(site: Site) -> Group:
    from rich.console import Group
    from rich.text import Text

    from wellkept.web import overview

    today, live = overview.today(site, {}), overview.live(site, {})
    parts: list[Any] = [Text(text.plain(site.name), style="bold")]
    if today["complete"]:
        saved = today["saved"]
        said = f"saved {duration(saved['seconds']) or '0 s'} by {saved['uses']:,} hits; "
        for name, cost in saved["costs"].items():
            said += f"{cost['saved']:,.4g} {text.plain(name)}; "
        said += f"{today['calls']:,} calls of {today['functions']:,} functions, {data_size(today['bytes'])}"
        parts.append(Text(said))
        parts.append(_table("computed again because", ("calls", "took", "latest"), [
            (text.plain(one["label"]), f"{one['calls']:,}", duration(one["seconds"]), ago(one["latest"]))
            for one in today["again"][:10]
        ]))  # fmt: skip
    else:
        parts.append(Text(f"adding up {today['calls']:,} calls", style="dim"))
    parts.append(_table("computing", ("process", "since"), [
        (text.plain(one["call"] or one["command"] or one["key"][:12]), str(one["pid"] or one["host"]),
         ago(one["since"]) if one["since"] else "-")
        for one in live["leases"]
    ]))  # fmt: skip
    for one in live["waits"]:
        parts.append(
            Text(f"process {one['pid']} waits for {one['waits'][:12]}, of {one['for'] or '?'}")
        )
    parts.append(_table("run", ("for", "hits", "computed", "failed"), [
        (text.plain(one["name"] or one["id"]), duration(one["seconds"]), f"{one['hits']:,}",
         f"{one['computed']:,}", f"{one['failed']:,}")
        for one in live["runs"]
    ]))  # fmt: skip
    parts.append(_table("jobs", tuple(overview.STATES), [
        (text.plain(one["store"]), *(f"{one['counts'][state]:,}" for state in overview.STATES))
        for one in live["jobs"]
    ]))  # fmt: skip
    return Group(*parts)


def _table(title: str, columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> Any:
    from rich.text import Text

    if not rows:
        return Text(f"{title}: nothing", style="dim")
    made = text.table(title, *columns, left=(title,))
    for row in rows:
        made.add_row(*row)
    return made
