"""Answers page by page: each call once, whatever comes and goes meanwhile."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from tests.caches import places

import wellkept
from wellkept import ConfigError, keep
from wellkept.query.pages import page


def pages(matches: wellkept.Matches, size: int) -> list[list[str]]:
    found, after = [], ""
    for _ in itertools.count():
        some, after = page(matches, size, after)
        found.append([str(call.key) for call in some])
        if not after:
            return found
    raise AssertionError


@places.every
@pytest.mark.parametrize("order", ["-created", "created", "-size", "seconds"])
def test_each_call_is_on_one_page(kind: str, order: str) -> None:
    with places.new(kind, memory=0) as cache:
        for name in ("f", "g"):
            made = keep(cache=cache, name=f"lab:{name}", version=1)(lambda x: b"x" * (x // 3))
            for x in range(10):
                made(x)
        matches = cache.query().order_by(order)
        every = [str(call.key) for call in matches.calls()]
        for size in (1, 7, 20, 30):
            found = pages(matches, size)
            assert list(itertools.chain(*found)) == every
            assert all(len(some) == size for some in found[:-1])


def test_what_comes_and_goes_moves_nothing() -> None:
    with places.new("embedded", memory=0) as cache:
        made = keep(cache=cache, name="lab:f", version=1)(lambda x: x)
        keys = [made.key(x) for x in range(9) if made(x) is not None]
        matches = cache.query().order_by("-created")
        first, after = page(matches, 3)
        made(100)
        # The one that the next page begins behind.
        cache.evict(keys=[first[-1].key])
        second, _ = page(matches, 3, after)
        assert [str(call.key) for call in (*first, *second)] == keys[::-1][:6]


@pytest.mark.parametrize("mark", ["x", "[]", "[1,2,3]", '["a",1,2,3]', "{}", "null", "[[1],2,3,4]"])
def test_another_mark_is_refused(mark: str) -> None:
    with places.new("memory") as cache, pytest.raises(ConfigError, match="no mark of a page"):
        page(cache.query(), 5, mark)


def test_what_has_no_pages() -> None:
    asked: Any
    with places.new("memory") as cache:
        for asked in (cache.query().order_by("function"), cache.query().filter(bool)):
            with pytest.raises(ConfigError, match="has no pages"):
                page(asked, 5)
