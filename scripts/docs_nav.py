"""The navigation of the site: what the lists of docs/index.md link, under their headings.

So a page has its place where readers look for it, and there is no second list to keep.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

HOME = "index.md"
_LINE = re.compile(r"(?P<marks>##+) (?P<heading>.+)|\s*[-*] (?P<item>.+)")
_LINK = re.compile(r"\[(?P<title>[^\]]+)\]\((?P<page>[^)#]+\.md)\)(?:: (?P<about>.+))?")


@dataclass(frozen=True)
class Entry:
    """A page, where it is listed: the headings above it, what it is called there and said to be."""

    page: str
    title: str
    about: str
    headings: tuple[str, ...]


def entries(home: str) -> Iterator[Entry]:
    """Give the pages that the lists of a page link, in their order, each once."""
    seen = {HOME}
    headings: list[str] = []
    joined = re.sub(r"\n {2,}(?![-*] )", " ", home)
    for line in joined.splitlines():
        found = _LINE.match(line)
        if found is None:
            continue
        if found["heading"]:
            headings[len(found["marks"]) - 2 :] = [found["heading"]]
            continue
        for link in _LINK.finditer(found["item"]):
            if headings and link["page"] not in seen:
                seen.add(link["page"])
                about = (link["about"] or "").strip()
                yield Entry(link["page"], link["title"], about, tuple(headings))


def navigation(listed: Iterator[Entry] | list[Entry]) -> list[object]:
    """Return the navigation as the generator takes it: titles of pages, and of sections of them."""
    tree: list[object] = [{"Home": HOME}]
    sections: dict[tuple[str, ...], list[object]] = {(): tree}
    for entry in listed:
        for depth in range(1, len(entry.headings) + 1):
            path = entry.headings[:depth]
            if path not in sections:
                sections[path] = []
                sections[path[:-1]].append({path[-1]: sections[path]})
        sections[entry.headings].append({entry.title: entry.page})
    return tree
