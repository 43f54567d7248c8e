"""Whether a cache is well."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.caches import places

import wellkept
from wellkept import keep
from wellkept.caches import health


def states(cache: wellkept.Cache) -> dict[str, str]:
    return {one.name: one.state for one in health.examine(cache)}


@places.every
def test_a_cache_that_is_well(kind: str) -> None:
    with places.new(kind) as cache:
        keep(cache=cache, name="f", version=1)(lambda: 1)()
        found = states(cache)
        assert set(found.values()) <= {"ok", "info"} | ({"warn", "bad"} if _full() else set())
        assert found["answers"] == "ok"
        assert {"leases", "contents", "versions"} <= set(found)


def _full() -> bool:
    """Whether the disk of the tests is nearly full, which is told as it should be."""
    import shutil

    found = shutil.disk_usage(Path.cwd())
    return found.free < 0.1 * found.total


def test_others_may_write(home: Path) -> None:
    with wellkept.open(home / "c", trust=True) as cache:
        (home / "c").chmod(0o777)
        assert states(cache)["directory"] == "warn"


def test_a_full_disk(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    with wellkept.open(home / "c") as cache:
        for free, state in ((50, "ok"), (5, "warn"), (1, "bad")):
            usage = SimpleNamespace(total=100, free=free)
            monkeypatch.setattr(health.shutil, "disk_usage", lambda _, usage=usage: usage)
            assert states(cache)["space"] == state


def test_a_stack_and_a_view(home: Path) -> None:
    with wellkept.open(home / "a") as near, wellkept.open(f"files:{home / 'b'}") as far:
        names = [one.name for one in health.examine(wellkept.Stack(near, far))]
        assert names.count("answers") == 2
        assert "writes" in states(near.readonly())


def test_what_a_check_of_every_byte_found(home: Path) -> None:
    with wellkept.open(home / "c") as cache:
        keep(cache=cache, name="f", version=1)(lambda: b"x" * 300_000)()
        assert [one.state for one in health.verified(cache.verify())] == ["ok"]
        (blob,) = [path for path in (home / "c" / "blobs").rglob("*") if path.is_file()]
        blob.chmod(0o600)
        blob.write_bytes(b"y" * 300_000)
        first, *rest = health.verified(cache.verify())
        assert (first.state, first.command) == ("bad", "wellkept verify --repair")
        assert any(one.name == "blob" for one in rest)
