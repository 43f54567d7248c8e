"""Pages as HTML: every value is escaped, and nothing in a page comes from elsewhere."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from wellkept.readable import ago, data_size, duration, plain
from wellkept.runs.graph import Graph, Node, draw
from wellkept.web import function_pages, overview, pictures, run_pages, upkeep_pages
from wellkept.web.site import Site

HERE = Path(__file__).parent
STATIC = {"ui.css": "text/css", "ui.js": "text/javascript", "icon.svg": "image/svg+xml"}


class Page(NamedTuple):
    """One kind of page."""

    title: str
    data: Callable[[Site, Mapping[str, str]], dict[str, Any]]
    template: str
    menu: str = ""
    """Its word in the menu; nothing of a page that others lead to."""


PAGES = {
    "": Page("Today", overview.today, "today.html", "Today"),
    "functions": Page("Functions", function_pages.functions, "functions.html", "Functions"),
    "function": Page("Function", function_pages.function, "function.html"),
    "call": Page("Call", function_pages.call, "call.html"),
    "runs": Page("Runs", run_pages.runs, "runs.html", "Runs"),
    "run": Page("Run", run_pages.run, "run.html"),
    "compare": Page("Two runs", run_pages.compare, "compare.html"),
    "live": Page("Live", overview.live, "live.html", "Live"),
    "disk": Page("Disk", upkeep_pages.disk, "disk.html", "Disk"),
    "lineage": Page("Lineage", function_pages.lineage_page, "lineage.html", "Lineage"),
    "state": Page("State", upkeep_pages.state, "state.html", "State"),
    "health": Page("Health", upkeep_pages.well, "health.html", "Health"),
}
"""By path. The words of the menu are in this order."""

Link = Callable[..., str | None]
"""From a page's name and what it is asked to its address; None where that page is not there."""


def address(base: str, page: str, ask: Mapping[str, Any]) -> str:
    """Return the address of a page."""
    said = {name: value for name, value in ask.items() if value not in (None, "")}
    if said.pop("json", False):
        page = f"{page or 'index'}.json"
    return f"{base}/{page}" + (f"?{urlencode(said)}" if said else "")


class Frame(NamedTuple):
    """What stands around a page."""

    link: Link
    static: Callable[[str], str]
    form: str | None = None
    """The secret that forms send back; None: there are no forms."""
    still: bool = False
    """Whether it is a file, which never changes."""


def page(
    site: Site, name: str, ask: Mapping[str, str], data: Any, frame: Frame, note: str = ""
) -> str:
    """Return a page as HTML.

    Args:
        data: what the page's function gave.
        note: what was done, as a sentence.
    """
    found = PAGES[name]
    template = environment().get_template(found.template)
    menu = [(key, one.menu) for key, one in PAGES.items() if one.menu]
    return template.render(
        d=data, ask=ask, site=site, page=name, title=found.title, menu=menu, note=note,
        link=frame.link, static=frame.static, form=frame.form, still=frame.still,
        treemap=lambda tiles: Markup(pictures.treemap(tiles, frame.link)),
        waterfall=lambda run: Markup(pictures.waterfall(run, frame.link)),
        graph=lambda graph: Markup(_graph(graph, frame.link)),
    )  # fmt: skip


def trouble(site: Site | None, status: int, message: str, frame: Frame) -> str:
    """Return a page that says what went wrong."""
    template = environment().get_template("trouble.html")
    menu = [(key, one.menu) for key, one in PAGES.items() if one.menu] if site else []
    return template.render(
        site=site, page=None, title="Trouble", menu=menu, status=status, message=message, note="",
        link=frame.link, static=frame.static, form=None, still=frame.still,
    )  # fmt: skip


def as_json(data: Any) -> str:
    """Return the data of a page as JSON; null for what JSON has no number for."""
    try:
        return json.dumps(data, allow_nan=False, default=str)
    except ValueError:
        return json.dumps(_finite(data), default=str)


def _finite(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _finite(item) for key, item in data.items()}
    if isinstance(data, (list, tuple)):
        return [_finite(item) for item in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


def _graph(data: Mapping[str, Any], link: Link) -> str:
    def where(node: Node) -> str | None:
        return link("call", key=node.id) if node.function else link("lineage", of=node.id)

    return draw(Graph.from_dict(data), where)


@lru_cache(1)
def environment() -> Environment:
    """Return what has the templates, all of them read."""
    found = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {
        "ago": ago,
        "size": data_size,
        "duration": lambda seconds: duration(seconds) or "-",
        "amount": lambda number: f"{number:,.4g}",
        "count": lambda number: f"{number:,}",
        "plain": lambda text: plain(str(text)),
        "clean": lambda text: "\n".join(map(plain, str(text).split("\n"))),
        "short": lambda name: plain(str(name)).rpartition(":")[2],
        "stamp": lambda at: pictures.stamp(at) if at else "-",
        "percent": lambda share: f"{100 * share:.0f} %",
    }
    found.globals |= {
        "bars": lambda chart: Markup(pictures.bars(chart)),
        "spread": lambda found, size=False: Markup(pictures.spread(found, size)),
        "cost": lambda line, plan: Markup(pictures.cost(line, plan)),
    }
    # Now, and not while somebody waits for a page.
    for name in found.list_templates():
        found.get_template(name)
    return found
