"""No space left in a medium: the result is returned, one warning says what to do, and when there is
space again results are kept again."""

import contextlib
import os
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.services import Service, _mariadb_run

import wellkept
from wellkept import Cache, KeptWarning, StoreError, keep

BYTES = 200_000


class Small(NamedTuple):
    """A medium of little room."""

    cache: Cache
    disk: Path | None
    service: Service | None
    database: str = ""

    def fill(self) -> None:
        if self.disk is not None:
            free = os.statvfs(self.disk).f_bavail * os.statvfs(self.disk).f_frsize
            (self.disk / "filler").write_bytes(bytes(free))
            return
        assert self.service is not None
        if self.service.name == "redis":
            _redis(self.service, 1)
        elif self.service.name == "mariadb":
            # Really full, it crashes, or is never free again: so a trigger says what it would.
            says = "SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 1114, MESSAGE_TEXT = 'is full'"
            _mariadb_run(
                self.service,
                f"CREATE TRIGGER {self.database}.full BEFORE INSERT ON {self.database}.kept "
                f"FOR EACH ROW {says}",
            )
        else:
            (self.service.directory / "full").touch()

    def empty(self) -> None:
        if self.disk is not None:
            (self.disk / "filler").unlink()
            return
        assert self.service is not None
        if self.service.name == "redis":
            _redis(self.service, 0)
        elif self.service.name == "mariadb":
            _mariadb_run(self.service, f"DROP TRIGGER {self.database}.full")
        else:
            (self.service.directory / "full").unlink()


def _redis(service: Service, most: int) -> None:
    import redis

    redis.Redis.from_url(service.url).config_set("maxmemory", most)


@contextlib.contextmanager
def disk(place: Path, size: str, user: str = "root") -> Iterator[Path]:
    """A file system of its own."""
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700,uid={user}", "none", place]
    try:
        done = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        done = False
    if not done:
        pytest.skip("a file system can't be mounted here")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)
        place.rmdir()


@contextlib.contextmanager
def postgresql(service: Service, url: str) -> Iterator[Small]:
    """Tables in a tablespace on a small disk."""
    import psycopg

    name = url.rpartition("/")[2]
    with disk(service.directory / "small", "12m", service.user or "root") as place:
        with psycopg.connect(service.url, autocommit=True) as admin:
            admin.execute(f"CREATE TABLESPACE small LOCATION '{place}'")
            admin.execute(f"ALTER DATABASE {name} SET default_tablespace = small")
        try:
            with wellkept.open(url) as cache:
                yield Small(cache, place, service)
        finally:
            with psycopg.connect(service.url, autocommit=True) as admin:
                admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
                admin.execute("DROP TABLESPACE small")


S3 = pytest.param("s3", marks=pytest.mark.long)  # its client asks again for seconds


@pytest.fixture(params=["files", "sqlite", "postgresql", "mariadb", "redis", S3])
def small(request: pytest.FixtureRequest, home: Path) -> Iterator[Small]:
    kind = request.param
    if kind in ("files", "sqlite"):
        with disk(home / "disk", "3m") as place:
            url = (
                f"sqlite:///{place / 'items.db'}" if kind == "sqlite" else f"{kind}:{place / 'in'}"
            )
            with wellkept.open(url) as cache:
                yield Small(cache, place, None)
        return
    service = request.getfixturevalue(kind)
    url, options = "", {}
    if kind == "postgresql":
        with postgresql(service, request.getfixturevalue("postgresql_url")) as made:
            yield made
        return
    if kind in ("redis", "mariadb"):
        url = request.getfixturevalue(f"{kind}_url")
    else:
        url = f"s3://{request.getfixturevalue('s3_bucket')}/wellkept"
        options = {"endpoint": service.url, "region": "us-east-1", "access_key_id": "test"}
        options["secret_access_key"] = "test"
    with wellkept.open(url, **options) as cache:
        yield Small(cache, None, service, url.rpartition("/")[2])


def test_a_full_medium(small: Small) -> None:
    @keep(cache=small.cache, version=1)
    def f(x: int) -> bytes:
        return b"%6d" % x * (BYTES // 6)

    @keep(cache=small.cache, version=1)
    def g(x: int) -> list[int]:
        return [x]

    assert f(1) == f.__wrapped__(1)
    small.fill()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for x in range(2, 8):
            assert f(x) == f.__wrapped__(x)
    assert [one.category for one in told] == [KeptWarning], [str(one.message) for one in told]
    text = str(told[0].message)
    assert "full" in text or "No space" in text or "no space" in text, text
    assert "\n" not in text
    assert f.stats().unavailable > 0
    assert f(1) == f.__wrapped__(1)
    assert f.contains(1)

    @keep(cache=small.cache, version=1, strict=True)
    def strictly(x: int) -> bytes:
        return b"%6d" % x * BYTES

    with pytest.raises(StoreError):
        strictly(1)
    small.empty()
    assert f(1001) == f.__wrapped__(1001)
    assert g(1) == [1]
    assert f.contains(1001)
    assert g.contains(1)
    assert small.cache.verify().ok
