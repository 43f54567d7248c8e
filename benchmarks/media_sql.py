"""What a hit in a database costs beside a bare driver's fetch of the same row, in one run.

    .venv/bin/python benchmarks/media_sql.py            # point reads and writes
    .venv/bin/python benchmarks/media_sql.py --million  # and finding 10 of a million calls

Starts servers of its own, as the tests do. Each row is the best of many short rounds, which take turns,
so that a busy machine slows all rows alike.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import psycopg
import pymysql
from blake3 import blake3
from tests.services import PASSWORD, Service, start_mariadb, start_postgresql

import wellkept
from wellkept.stores.sql import Sql
from wellkept.stores.sqlite_items import Sqlite

_KEY = f"calls/{'ab' * 32}"
_ITEM = blake3(b"item").digest(1000)
_READ = "SELECT item FROM kept WHERE name = %s"
_TERMS = {"function": "module:f", "result": "cd" * 32, "argument.n": "ef" * 32}


def best(rows: dict[str, Callable[[], Any]], rounds: int = 80, times: int = 40) -> dict[str, float]:
    """Seconds that each takes."""
    found = dict.fromkeys(rows, float("inf"))
    for work in rows.values():
        for _ in range(200):
            work()
    for _ in range(rounds):
        for name, work in rows.items():
            began = time.perf_counter()
            for _ in range(times):
                work()
            found[name] = min(found[name], (time.perf_counter() - began) / times)
    return found


def bare_postgresql(service: Service) -> tuple[Callable[..., Any], Callable[[], Any]]:
    connection = psycopg.connect(service.url, autocommit=True)
    write = "INSERT INTO bare VALUES (%s, %s) ON CONFLICT (name) DO UPDATE SET item = excluded.item"
    connection.execute("CREATE TABLE bare (name TEXT PRIMARY KEY, item BYTEA)")
    return (
        lambda name=_KEY: connection.execute(_READ, (name,)).fetchone(),
        lambda: connection.execute(write, (_KEY, _ITEM)),
    )


def bare_mariadb(service: Service) -> tuple[Callable[..., Any], Callable[[], Any]]:
    connection = pymysql.connect(
        host="127.0.0.1",
        port=service.port,
        user="wellkept",
        password=PASSWORD,
        database="wellkept",
        autocommit=True,
    )
    write = "INSERT INTO bare VALUES (%s, %s) ON DUPLICATE KEY UPDATE item = VALUES(item)"

    def run(statement: str, values: tuple[Any, ...]) -> Any:
        with connection.cursor() as cursor:
            cursor.execute(statement, values)
            return cursor.fetchone()

    run("CREATE TABLE bare (name VARCHAR(255) PRIMARY KEY, item LONGBLOB)", ())
    return lambda name=_KEY: run(_READ, (name,)), lambda: run(write, (_KEY, _ITEM))


def result(size: int) -> bytes:
    """What is kept."""
    return b"x" * size


def points(name: str, service: Service, bare: Any) -> None:
    """Print the ratios of a hit and of a put."""
    store = Sql(service.url)
    store.put(_KEY, _ITEM, terms=_TERMS)
    read, write = bare(service)
    assert store.get(_KEY) == read()[0] == _ITEM
    reads = best({"bare": read, "wellkept": lambda: store.get(_KEY)})
    writes = best(
        {
            "bare": write,
            "wellkept": lambda: store.put("values/x", _ITEM),
            "kept, 3 terms": lambda: store.put(_KEY, _ITEM, terms=_TERMS),
        },
        rounds=40,
    )
    with wellkept.open(service.url) as cache:
        f = wellkept.keep(cache=cache, strict=True)(result)
        f(800)
        row_name = f"calls/{f.key(800)}"
        assert read(row_name) is not None
        hits = best({"bare": lambda: read(row_name), "@keep": lambda: f(800)})
    for what, rows in (("get", reads), ("put", writes), ("hit", hits)):
        for row, seconds in rows.items():
            ratio = seconds / rows["bare"]
            print(f"{name:<12}{what}  {row:<15}{seconds * 1e6:8.1f} us  {ratio:5.2f} x bare")
    store.close()


def million(service: Service, number: int = 1_000_000) -> None:
    """Print what finding 10 of a million calls costs."""
    store = Sql(service.url, table="many")
    store.get("none")  # makes the tables
    from wellkept.stores.sql import encoded

    began = time.perf_counter()
    with psycopg.connect(service.url) as connection, connection.cursor() as cursor:
        cursor.execute("ALTER TABLE many_terms DISABLE TRIGGER ALL")
        with cursor.copy("COPY many (name, item) FROM STDIN (FORMAT BINARY)") as copy:
            copy.set_types(["text", "bytea"])
            for n in range(number):
                copy.write_row((f"calls/{blake3(b'%d' % n).hexdigest()}", _ITEM[:200]))
        with cursor.copy("COPY many_terms (name, field, value) FROM STDIN (FORMAT BINARY)") as copy:
            copy.set_types(["text", "text", "bytea"])
            function = encoded("module:f")
            for n in range(number):
                key = f"calls/{blake3(b'%d' % n).hexdigest()}"
                copy.write_row((key, "function", function))
                copy.write_row((key, "argument.n", encoded(n // 10)))
        cursor.execute("ALTER TABLE many_terms ENABLE TRIGGER ALL")
    print(f"a million calls loaded in {time.perf_counter() - began:.0f} s")
    for analyzed in ("as loaded", "analyzed"):
        if analyzed == "analyzed":
            with psycopg.connect(service.url, autocommit=True) as connection:
                connection.execute("VACUUM ANALYZE many, many_terms")
        search(f"PostgreSQL, {analyzed}", store, number)
    store.close()


def million_in_sqlite(path: Path, number: int = 1_000_000) -> None:
    """The same in a SQLite file."""
    store = Sqlite(path)
    for n in range(number):
        key = f"calls/{blake3(b'%d' % n).hexdigest()}"
        store.put(key, _ITEM[:200], {"function": "module:f", "argument.n": n // 10})
    list(store.find({"argument.n": 0}))  # what was put since is indexed by the first search
    search("SQLite", store, number)
    store.close()


def search(where: str, store: Any, number: int) -> None:
    """Print how long finding ten calls takes, in three ways."""
    for name, wanted in (
        ("by argument", lambda n: {"argument.n": n}),
        ("by function and argument", lambda n: {"function": "module:f", "argument.n": n}),
        ("by function and range", lambda n: {"function": "module:f", "argument.n": (n, n)}),
    ):
        took = []
        for n in range(0, number // 10, number // 500):
            began = time.perf_counter()
            found = list(store.find(wanted(n), "calls/"))
            took.append(time.perf_counter() - began)
            assert len(found) == 10
        took.sort()
        print(
            f"10 of a million {name:<26}{where:<22}"
            f"median {took[len(took) // 2] * 1e3:6.2f} ms, slowest {took[-1] * 1e3:6.2f} ms"
        )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--million", action="store_true")
    wanted = options.parse_args()
    for name, start, bare in (
        ("PostgreSQL", start_postgresql, bare_postgresql),
        ("MariaDB", start_mariadb, bare_mariadb),
    ):
        service = start()
        try:
            points(name, service, bare)
            if wanted.million and name == "PostgreSQL":
                million(service)
                with tempfile.TemporaryDirectory() as place:
                    million_in_sqlite(Path(place) / "items.sqlite")
        finally:
            service.close()


if __name__ == "__main__":
    main()
