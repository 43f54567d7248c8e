"""The pages as files: for whoever has no server, such as the artifacts of a build."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from wellkept.errors import ConfigError, KeptError
from wellkept.hashing import digest
from wellkept.web import render
from wellkept.web.render import HERE, PAGES, STATIC, Frame, as_json
from wellkept.web.site import Site

# Pages of functions, of calls of each, and of runs.
_FUNCTIONS, _CALLS, _RUNS = 100, 10, 30
_PATIENCE = 600.0

Target = tuple[str, tuple[tuple[str, str], ...]]
"""A page, and what it is asked."""


def write(site: Site, directory: Path) -> int:
    """Write all screens, and a page for each of the main functions, their latest calls and the latest runs.

    Args:
        directory: made when needed; what is in it stays, but for files of the same names.

    Returns how many pages were written.

    Raises:
        ConfigError: it can't be written.
        StoreError: the cache can't be read.
    """
    site.summary(_PATIENCE)
    site.totals.get(_PATIENCE)
    site.shares.get(_PATIENCE)
    names = {target: _name(*target) for target in _targets(site)}

    def link(page: str, /, **ask: Any) -> str | None:
        plain = ask.pop("json", False)
        found = names.get(_target(page, ask))
        return None if found is None else f"{found}.json" if plain else f"{found}.html"

    frame = Frame(link, lambda name: name, still=True)
    written = 0
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name in STATIC:
            shutil.copyfile(HERE / "static" / name, directory / name)
        for (name, asked), file in names.items():
            try:
                data = PAGES[name].data(site, dict(asked))
            # It went meanwhile.
            except KeptError:
                continue
            text = render.page(site, name, dict(asked), data, frame)
            (directory / f"{file}.html").write_text(text, encoding="utf-8", errors="replace")
            (directory / f"{file}.json").write_text(as_json(data), "utf-8")
            written += 1
    except OSError as error:
        raise ConfigError(f"can't write pages to {directory}: {error}") from error
    return written


def _target(name: str, ask: Mapping[str, Any]) -> Target:
    return name, tuple(
        sorted((key, str(value)) for key, value in ask.items() if value not in (None, ""))
    )


def _name(name: str, asked: tuple[tuple[str, str], ...]) -> str:
    return (name or "index") + (f"-{digest(asked)[:12]}" if asked else "")


def _targets(site: Site) -> Iterator[Target]:
    for name, one in PAGES.items():
        if one.menu:
            yield name, ()
    today = PAGES[""].data(site, {})
    for call in today["latest"]:
        yield _target("call", {"key": call["key"]})
    functions = PAGES["functions"].data(site, {})["functions"][:_FUNCTIONS]
    for row in functions:
        yield _target("function", {"name": row["function"]})
        calls = site.calls_of(row["function"]).order_by("-created").limit(_CALLS)
        for call in calls:
            yield _target("call", {"key": str(call.key)})
            yield _target("lineage", {"of": str(call.key)})
    for run in PAGES["runs"].data(site, {})["runs"][:_RUNS]:
        yield _target("run", {"id": run["id"]})
    for store in PAGES["state"].data(site, {})["stores"]:
        yield _target("state", {"store": store["store"], "scope": store["scope"]})
