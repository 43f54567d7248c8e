"""`downstream` and `upstream` of matches: everything that is made of a result, from every medium."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.caches.places import every, new

import wellkept


@wellkept.keep(name="lab:load", version=1)
def load(path: str) -> list[str]:
    return [path, "rows"]


@wellkept.keep(name="lab:clean", version=1)
def clean(table: list[str]) -> list[Any]:
    return [*table, 0.5]


@wellkept.keep(name="lab:count", version=1)
def count(table: list[Any]) -> int:
    return len(table) + 1000


@wellkept.keep(name="lab:note", version=1)
def note(text: str) -> str:
    return text + "!"


@wellkept.keep(name="lab:report", version=1)
def report(number: int) -> str:
    return note(f"about {number}")


@wellkept.keep(name="lab:study", version=1)
def study(path: str) -> list[Any]:
    before = note("begin " + path)
    rows = load(path)
    return [before, rows, note(f"{len(rows)} of {path}")]


@pytest.fixture
def cache(request: pytest.FixtureRequest, home: Any) -> Iterator[wellkept.Cache]:
    with new(request.param) as made, wellkept.use(made):
        yield made


everywhere = pytest.mark.parametrize(
    "cache", ["embedded", "files", "sqlite", "memory"], indirect=True
)


def names(matches: wellkept.Matches) -> list[str]:
    return sorted(repr(match)[1:-1] for match in matches)


@everywhere
def test_what_is_made_of_a_result_goes_with_it(cache: wellkept.Cache) -> None:
    for path in ("bad", "good"):
        report(count(clean(load(path))))
    report(7)
    # The scalar 1003 is what both gave, so both reports may be of it.
    there = load.query("bad").downstream()
    assert [name.partition("(")[0] for name in names(there)] == [
        "clean", "count", "load", "note", "report",
    ]  # fmt: skip
    assert there.evict(dry_run=True).calls == 5
    assert there.evict().calls == 5
    assert not load.contains("bad")
    assert load.contains("good")
    assert clean.contains(["good", "rows"])
    assert report.contains(7)
    assert note.contains("about 7")


@everywhere
def test_a_body_that_made_a_result_holds_it_and_what_it_made_afterwards(
    cache: wellkept.Cache,
) -> None:
    study("bad")
    study("good")
    assert names(load.query("bad").downstream()) == [
        "load(path='bad')", "note(text='2 of bad')", "study(path='bad')",
    ]  # fmt: skip
    # What a body called before, and what the one that is asked about called, is not made of it.
    assert names(study.query("bad").downstream()) == ["study(path='bad')"]
    assert names(study.query("bad").upstream()) == [
        "load(path='bad')", "note(text='2 of bad')", "note(text='begin bad')", "study(path='bad')",
    ]  # fmt: skip


@everywhere
def test_the_other_way(cache: wellkept.Cache) -> None:
    report(count(clean(load("one"))))
    clean(load("two"))
    assert [name.partition("(")[0] for name in names(note.query().upstream())] == [
        "clean", "count", "load", "note", "report",
    ]  # fmt: skip
    found = count.query().upstream().where(function="lab:load")
    assert names(found) == ["load(path='one')"]


@everywhere
def test_elements_of_results_connect(cache: wellkept.Cache) -> None:
    pair = wellkept.keep(name="lab:pair", version=1, share="elements")(lambda x: [[x], [x, x]])
    last = wellkept.keep(name="lab:last", version=1)(lambda one: one[-1])
    last(pair(5)[1])
    assert [match.function for match in pair.query().downstream()] == ["lab:pair", "lab:last"]
    assert [match.function for match in last.query().upstream()] == ["lab:pair", "lab:last"]


@every
def test_what_is_nobodys_connects_nothing(kind: str, home: Any) -> None:
    with new(kind) as made, wellkept.use(made):
        nothing = wellkept.keep(name="lab:nothing", version=1)(lambda x: None)
        nothing(1)
        nothing(nothing(2))
        assert nothing.query(1).downstream().count() == 1
        assert nothing.query(5).downstream().count() == 0
