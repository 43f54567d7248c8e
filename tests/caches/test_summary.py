"""What a cache holds, added up: in SQL the same as call by call."""

import sqlite3
from pathlib import Path

import pytest

import wellkept
from wellkept import Cache, NotKept, keep
from wellkept.caches import maintenance


@keep(name="one", version=1)
def one(i: int) -> int:
    return i


@keep(name="pkg:two", version=1)
def two(i: int) -> str:
    return "x" * (i + 1) * 1000


def fill(cache: Cache) -> None:
    with wellkept.use(cache):
        for i in range(20):
            one(i)
            two(i)
        keep(name="one", version=2)(lambda i: i)(0)


def test_sql_and_scan_give_the_same(home: Path) -> None:
    with wellkept.open(home / "sql") as sql, wellkept.open("memory:") as scan:
        fill(sql)
        fill(scan)
        for a, b in zip(sql.backend.functions(), scan.backend.functions(), strict=True):
            assert (a.function, a.codes, a.calls) == (b.function, b.codes, b.calls)
            assert (a.bytes, a.uses, a.used) == (b.bytes, b.uses, b.used)
            assert a.seconds > 0
            assert a.seconds == pytest.approx(
                sum(call.seconds for call in sql.backend.calls_of([a.function]))
            )
        for cache in (sql, scan):
            names = [row.function for row in cache.backend.functions()]
            assert names == ["pkg:two", "one"]
            calls = list(cache.backend.calls_of(["one"], 5))
            assert len(calls) == 5
            assert [call.created for call in calls] == sorted(
                (call.created for call in calls), reverse=True
            )
            totals = cache.backend.totals()
            assert (totals.functions, totals.calls) == (2, 41)
            assert totals.values == 40
            with pytest.raises(NotKept, match="did you mean 'two'"):
                maintenance.chosen(cache, "twoo")


def test_uses_count_with_what_they_saved(home: Path) -> None:
    with wellkept.open(home / "uses") as cache, wellkept.use(cache):
        for _ in range(4):
            one(1)
        cache.flush()
        (row,) = cache.backend.functions()
        assert row.uses == 3
        assert row.saved == pytest.approx(3 * row.seconds)
        assert row.used is not None
        assert row.created is not None
        assert row.used >= row.created


def test_damaged_columns_break_no_sum(home: Path) -> None:
    with wellkept.open(home / "damaged") as cache:
        fill(cache)
    with sqlite3.connect(home / "damaged" / "index.sqlite") as c:
        c.execute("UPDATE calls SET size = 'x', seconds = x'00ff', created = 'y' WHERE id < 0")
        c.execute("UPDATE functions SET name = CAST(x'ff' AS TEXT) WHERE name = 'one'")
    c.close()
    with wellkept.open(home / "damaged") as cache:
        rows = cache.backend.functions()
        assert sum(row.calls for row in rows) == 41
        assert {row.function for row in rows} == {"pkg:two", "\ufffd"}
        assert cache.backend.totals().calls == 41
        assert len(list(cache.backend.calls_of(["pkg:two"]))) < 20
