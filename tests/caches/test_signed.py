"""`signed=True`: who can write to a medium runs nothing here, on every medium."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import wellkept
from wellkept import Cache, keep
from wellkept.codecs.envelope import Key
from wellkept.records import Value
from wellkept.stores.keyring import Keyring

pytestmark = pytest.mark.filterwarnings("ignore::wellkept.KeptWarning")  # that it is not trusted


class Evil:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (self.path,)


@pytest.fixture(params=["directory", "sqlite", "files", "items", "redis", "s3"])
def opened(
    request: pytest.FixtureRequest, home: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Cache]:
    kind = request.param
    options: dict[str, Any] = {}
    monkeypatch.setenv("WELLKEPT_KEYS", str(home / "keys"))
    urls = {
        "directory": str(home / "c"),
        "sqlite": f"sqlite:///{home}/c.db",
        "files": f"files:{home}/c",
        "items": f"files:{home}/zstd",
    }
    if kind == "redis":
        url = request.getfixturevalue("redis_url")
    elif kind == "s3":
        url = f"s3://{request.getfixturevalue('s3_bucket')}/wellkept"
        options = {
            "endpoint": request.getfixturevalue("s3_url"),
            "region": "us-east-1",
            "access_key_id": "test",
            "secret_access_key": "test",
        }
    else:
        url = urls[kind]
    if kind == "items":
        options["compression"] = "gzip"
    return lambda **more: wellkept.open(url, memory=0, **options, **more)


def key_of(home: Path) -> None:
    key = Key.new()
    (home / "keys").write_text(f"{key.secret.hex()} 2026-01-01 mine\n")
    (home / "keys").chmod(0o600)
    assert Keyring(home / "keys").known()


class Own:
    """Of no plain type."""

    def __init__(self, x: int) -> None:
        self.x = x

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Own) and other.x == self.x

    __hash__ = None  # type: ignore[assignment]  # compared only


@keep(name="made", version=1)
def made(n: int) -> Any:
    return [Own(n), bytearray(100_000 if n > 5 else 10)]


@keep(name="plain", version=1)
def plain(n: int) -> Any:
    return {"n": n}


def test_what_a_key_signed_is_a_hit_and_else_only_what_is_plain(
    opened: Callable[..., Cache], home: Path
) -> None:
    key_of(home)
    for _ in range(2):
        with opened(signed=True) as cache, wellkept.use(cache):
            before = made.stats().computed
            assert [made(n) for n in (1, 9)] == [
                [Own(1), bytearray(10)],
                [Own(9), bytearray(100_000)],
            ]
            assert plain(1) == {"n": 1}
            assert cache.load(made.call(1).result) == made(1)
    assert made.stats().computed == before, "hits, in another cache object"
    (home / "keys").unlink()
    key_of(home)  # another one: nobody's signature is believed
    with opened(signed=True) as cache, wellkept.use(cache):
        was = plain.stats().computed
        assert made(1) == [Own(1), bytearray(10)]
        assert plain(1) == {"n": 1}
        assert made.stats().computed == before + 1
        assert plain.stats().computed == was


def test_nothing_hostile_runs(opened: Callable[..., Cache], home: Path) -> None:
    key_of(home)
    evil = pickle.dumps(Evil(str(home / "ran")))
    with opened(signed=True) as cache, wellkept.use(cache):
        plain(1)
        key = plain.key(1)
    with opened() as stranger:  # who has no key, and writes what he likes
        call = stranger.calls.get(key)
        assert call is not None
        stranger.backend.commit(call, Value("pickle", evil))
        stranger.values.put(call.result, Value("pickle", evil))
    with opened(signed=True) as cache, wellkept.use(cache):
        assert plain(1) == {"n": 1}
        assert list(plain.map([1])) == [{"n": 1}]
        with pytest.raises(wellkept.DecodeError):
            cache.load(call.result)
    assert not (home / "ran").exists()
    with opened() as cache, wellkept.use(cache):
        cache.backend.commit(call, Value("pickle", evil))
        plain(1)
    assert (home / "ran").exists(), "as whoever does not sign must trust them"
