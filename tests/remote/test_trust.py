"""Which values from a remote cache are decoded, and that no others are, on either side."""

from __future__ import annotations

import dataclasses
import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.caches.places import Counted, new

import wellkept
from wellkept import KeptWarning, Stack, StoreError, UntrustedSource
from wellkept.codecs import Envelope
from wellkept.records import Value
from wellkept.stores.keyring import Keyring, keys_path


@dataclasses.dataclass
class Box:
    """Nobody registered it."""

    x: int


def as_another_user(monkeypatch: pytest.MonkeyPatch, home: Path, name: str) -> Keyring:
    monkeypatch.setenv("WELLKEPT_KEYS", str(home / f"keys of {name}"))
    return Keyring()


class Evil:
    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> Any:
        return open, (self.path, "w")


class Telling:
    """Comes back as what it was, and leaves a file behind."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return _telling, (self.path,)


def _telling(path: str) -> Telling:
    Path(path).touch()
    return Telling(path)


def planted(host: Any, f: Any, x: Any, path: Path, codec: str = "pickle") -> None:
    """What somebody who may write there puts in the place of a result."""
    key = str(f.key(x))
    call = host.cache.calls.get(key)
    assert call is not None
    value = Value(codec, pickle.dumps(Evil(path)))
    host.cache.backend.commit(call, value)


@pytest.mark.parametrize("codec", ["pickle", "cloudpickle", "dill"])
def test_what_is_planted_there_is_never_run(host: Any, home: Path, codec: str) -> None:
    path = home / "was run"
    with host.client() as cache:
        counted = Counted(lambda x: x + 1)
        f = counted.into(cache, strict=True)
        f(1)
        planted(host, f, 1, path, codec)
        with pytest.warns(KeptWarning, match="not trusted and will be computed again"):
            assert f(1) == 2
        assert counted.runs == 2
        planted(host, f, 1, path, codec)
        call = f.call(1)
        with pytest.raises(UntrustedSource):
            cache.load(call.result)
        with pytest.raises(wellkept.NotKept):
            f.load(1)
        near = Stack(new("embedded"), cache)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", KeptWarning)
            assert counted.into(near)(1) == 2
        planted(host, f, 1, path, codec)
        copied = new("embedded")
        cache.transfer(copied)
        with pytest.raises((wellkept.DecodeError, wellkept.NotKept)):
            copied.load(call.result)
    assert not path.exists()


def test_a_server_decodes_nothing(host: Any, home: Path) -> None:
    path = home / "was run"
    with host.client() as cache:
        f = Counted(lambda x: Telling(str(path))).into(cache)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", KeptWarning)
            for x in (1, 2):
                f(x)
        cache.flush()
        path.unlink(missing_ok=True)  # here a result of a new type is looked at when it is kept
        assert len(list(cache.query().where(arguments={"x": 1}))) == 1
        assert cache.size().calls == 2
        assert cache.verify().ok
        assert cache.verify(repair=True).ok
        cache.gc(grace=0)
        f.forget(1)
        cache.evict("counted")
    assert not path.exists()


def test_plain_values_need_no_keys(host: Any) -> None:
    with host.client() as cache:
        counted = Counted(lambda x: {"x": x, "array": np.arange(30_000.0), "text": "a"})
        f = counted.into(cache, strict=True)
        f(1)
        assert f(1)["array"].sum() == np.arange(30_000).sum()
        assert counted.runs == 1


def test_others_need_a_key_that_both_have(
    host: Any, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = Counted(Box)
    mine = as_another_user(monkeypatch, home, "me")
    mine.make()
    with host.client() as cache:
        f = counted.into(cache, strict=True)
        f(1)
        assert f(1) == Box(1)
        assert counted.runs == 1
        envelope = host.cache.backend.fetch(f.key(1).raw).envelope
        assert isinstance(envelope, Envelope)
        assert len(envelope.signature) == 40
    theirs = as_another_user(monkeypatch, home, "them")
    with host.client() as cache:
        f = counted.into(cache, strict=True)
        with pytest.warns(KeptWarning, match="wellkept keys"):
            assert f(1) == Box(1)
        assert counted.runs == 2
        # It is there now as they made it: unsigned.
        theirs.make()
        theirs.add(mine.path.read_text(), "mine")
        f.rerun(1)
        assert f(1) == Box(1)
        assert counted.runs == 3
    as_another_user(monkeypatch, home, "me")
    mine.add(theirs.path.read_text(), "theirs")
    with host.client() as cache:
        assert counted.into(cache, strict=True)(1) == Box(1)
        assert counted.runs == 3
        mine.drop(theirs.known()[0].key.name.hex()[:6])
        with pytest.warns(KeptWarning, match="not trusted"):
            counted.into(cache, strict=True)(1)
        assert counted.runs == 4


def test_rotated(host: Any, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ring = as_another_user(monkeypatch, home, "me")
    old = ring.make("first")
    counted = Counted(Box)
    with host.client() as cache:
        f = counted.into(cache, strict=True)
        f(1)
        fresh = ring.make("second")
        assert [one.label for one in ring.known()] == ["second", "first"]
        f(2)
        assert (f(1), f(2)) == (Box(1), Box(2))
        assert counted.runs == 2
        signed = [host.cache.backend.fetch(f.key(x).raw).envelope.signature[:8] for x in (1, 2)]
        assert signed == [old.key.name, fresh.key.name]


def test_a_signature_is_of_one_value(
    host: Any, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signed result is not believed in the place of another."""
    as_another_user(monkeypatch, home, "me").make()
    counted = Counted(Box)
    with host.client() as cache:
        f = counted.into(cache, strict=True)
        f(1), f(2)
        other = host.cache.backend.fetch(f.key(2).raw).envelope
        call = host.cache.calls.get(str(f.key(1)))
        host.cache.backend.record([(call, other)])
        with pytest.warns(KeptWarning, match="not trusted"):
            assert f(1) == Box(1)


def test_trust_said(host: Any) -> None:
    counted = Counted(Box)
    with host.client(trust=True) as cache:
        f = counted.into(cache, strict=True)
        f(1)
        assert f(1) == Box(1)
        assert counted.runs == 1


def test_keys_that_others_can_read_are_not_used(
    host: Any, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ring = as_another_user(monkeypatch, home, "me")
    ring.make()
    assert ring.path.stat().st_mode & 0o777 == 0o600
    ring.path.chmod(0o644)
    with pytest.raises(UntrustedSource, match="chmod 600"):
        Keyring().known()
    with host.client() as cache:
        f = Counted(Box).into(cache)
        with pytest.warns(KeptWarning, match="others can read the keys"):
            assert f(1) == Box(1)


def test_a_line_that_is_no_key_is_not_quoted(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ring = as_another_user(monkeypatch, home, "me")
    secret = ring.make().key.secret.hex()
    ring.path.write_text(f"{secret[:-2]} 2026-01-01\n")
    with pytest.raises(wellkept.ConfigError, match=":1: not a key") as caught:
        ring.known()
    assert secret[:20] not in str(caught.value)


def test_where_the_keys_are(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert keys_path() == home / ".config/wellkept/keys"
    monkeypatch.setenv("WELLKEPT_KEYS", "~/elsewhere")
    assert keys_path() == home / "elsewhere"


def test_a_reader_may_not_write(serve: Any, home: Path) -> None:
    with serve(home / "far") as first, first.client() as cache:
        Counted(lambda x: x).into(cache, strict=True)(1)
    with serve(home / "far", right="read") as host, host.client() as cache:
        counted = Counted(lambda x: x)
        f = counted.into(cache)
        assert f(1) == 1
        assert counted.runs == 0
        with pytest.warns(KeptWarning, match="permission denied"):
            assert f(2) == 2
        for change in (
            lambda: f.forget(1),
            lambda: cache.evict("counted"),
            lambda: cache.gc(grace=0),
            lambda: cache.verify(repair=True),
            lambda: cache.values.put("0" * 64, Value("pickle", b"N.")),
            lambda: cache.backend.notes.put("a", b"b"),
            lambda: cache.backend.locks.acquire(b"k" * 32),
            lambda: cache.backend.line.send(b"k" * 32, memoryview(b"abc")),
        ):
            with pytest.raises(StoreError, match="permission denied"):
                change()
        assert f(1) == 1
        assert cache.verify().ok
