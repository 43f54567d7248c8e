"""Named state on servers: tables that a newer wellkept made, half made ones, dropped ones."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

import wellkept
from wellkept.errors import NewerSchema


@pytest.fixture(params=["postgresql", "mariadb", "redis"])
def url(request: pytest.FixtureRequest) -> str:
    found: str = request.getfixturevalue(f"{request.param}_url")
    return found


@pytest.fixture(params=["postgresql", "mariadb"])
def tables(request: pytest.FixtureRequest) -> str:
    found: str = request.getfixturevalue(f"{request.param}_url")
    return found


def run(url: str, statement: str) -> None:
    scheme, _, rest = url.partition(":")
    if scheme == "redis":
        import redis

        with contextlib.closing(redis.Redis.from_url(url)) as client:
            client.execute_command(*statement.split())
        return
    import sqlalchemy

    driver = {"postgresql": "postgresql+psycopg", "mariadb": "mariadb+pymysql"}[scheme]
    engine = sqlalchemy.create_engine(f"{driver}:{rest}", poolclass=sqlalchemy.pool.NullPool)
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text(statement))


@contextlib.contextmanager
def opened(url: str) -> Iterator[Any]:
    with wellkept.open(url) as cache:
        yield wellkept.store("s", cache=cache)


def test_a_newer_schema_is_refused_and_left_alone(url: str) -> None:
    redis = url.startswith("redis")
    older, newer = (
        f"SET kept:state:schema {version}"
        if redis
        else f"UPDATE kept_state_head SET version = {version}"
        for version in (1, 2)
    )
    with opened(url) as store:
        store["k"] = 1
    run(url, newer)
    with opened(url) as store:
        for use in (
            lambda: store["k"],
            lambda: store.set("k", 2),
            lambda: store.list_keys(),
            lambda: store.service.cleanup(),
            lambda: store.increment("k"),
        ):
            with pytest.raises(NewerSchema, match=r"schema 2; this one knows 1.*upgrade wellkept"):
                use()
    run(url, older)
    with opened(url) as store:
        assert dict(store.items()) == {"k": 1}


def test_tables_that_are_half_made_are_made(tables: str) -> None:
    with opened(tables) as store:
        store.get("k")
    run(tables, "DELETE FROM kept_state_head")  # as another process sees them in between
    with opened(tables) as store:
        store["k"] = 1
        assert store["k"] == 1


def test_dropped_tables_are_made_again(tables: str) -> None:
    with opened(tables) as store:
        store["k"] = 1
        for name in ("kept_state", "kept_state_stores", "kept_state_log", "kept_state_head"):
            run(tables, f"DROP TABLE {name}")
        assert store.get("k") is None
        store["k"] = 2
        assert dict(store.items()) == {"k": 2}
