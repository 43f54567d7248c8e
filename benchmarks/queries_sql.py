"""Queries over a million calls in PostgreSQL, with records as `@keep` writes them.

.venv/bin/python benchmarks/queries_sql.py
.venv/bin/python benchmarks/queries_sql.py --calls 100000 --check

Starts a server of its own, as the tests do.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import psycopg
from queries import Timed, shown, timed
from tests.services import Service, start_postgresql

import wellkept
from wellkept.stores.record_format import pack_call
from wellkept.stores.sql import encoded
from wellkept.stores.terms import terms_of


def fill(service: Service, cache: wellkept.Cache, calls: int) -> Any:
    """Load so many calls of one function, in bulk; the function."""

    @wellkept.keep(name="bench:sample", version=1, cache=cache, strict=True)
    def sample(n: int, seed: int = 0, rate: float = 0.5) -> int:
        return n

    sample(0)
    like = sample.call(0)
    envelope = cache.backend.fetch(like.key.raw).envelope.pack()
    first = time.time() - calls

    def made(n: int) -> Any:
        found = sample.locate((n, n // 10, n / 2))
        return like.replace(
            key=wellkept.Digest.of(found.key),
            arguments=dict(found.arguments()),
            created=first + n,
        )

    with psycopg.connect(service.url) as connection, connection.cursor() as cursor:
        name = "wellkept"
        cursor.execute(f"ALTER TABLE {name}_terms DISABLE TRIGGER ALL")
        terms = []
        with cursor.copy(f"COPY {name} (name, item) FROM STDIN (FORMAT BINARY)") as copy:
            copy.set_types(["text", "bytea"])
            for n in range(1, calls):
                call = made(n)
                copy.write_row((f"calls/{call.key}", pack_call(call, envelope)))
                terms.append((f"calls/{call.key}", terms_of(call)))
        columns = f"COPY {name}_terms (name, field, value) FROM STDIN (FORMAT BINARY)"
        with cursor.copy(columns) as copy:
            copy.set_types(["text", "text", "bytea"])
            for key, found in terms:
                for field, value in found.items():
                    copy.write_row((key, field, encoded(value)))
        cursor.execute(f"ALTER TABLE {name}_terms ENABLE TRIGGER ALL")
    with psycopg.connect(service.url, autocommit=True) as connection:
        connection.execute(f"VACUUM ANALYZE {name}, {name}_terms")
    return sample


def rows(calls: int) -> list[Timed]:
    """Every line; every answer is checked."""
    service = start_postgresql()
    try:
        with wellkept.open(service.url) as cache:
            sample = fill(service, cache, calls)
            some = calls // 20 + 3  # ten calls have it

            def ten() -> int:
                return len(list(sample.query(seed=some)))

            def first() -> Any:
                return sample.query(some).one().arguments["n"]

            def three() -> int:
                return len(list(sample.query(some, some // 10, some / 2)))

            return [
                Timed("PostgreSQL: 10 calls by argument", calls, timed(ten, (10).__eq__), 10),
                Timed("PostgreSQL: one call by argument", calls, timed(first, some.__eq__), 10),
                Timed("PostgreSQL: by three arguments", calls, timed(three, (1).__eq__), 10),
            ]
    finally:
        service.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=1_000_000)
    parser.add_argument("--check", action="store_true", help="exit code 1 if a bound is not met")
    asked = parser.parse_args()
    return shown(rows(asked.calls), check=asked.check)


if __name__ == "__main__":
    sys.exit(main())
