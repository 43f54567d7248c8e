"""What has no identity is refused by its path, and not consumed."""

from __future__ import annotations

import asyncio
import collections
import concurrent.futures
import contextvars
import dataclasses
import io
import itertools
import mmap
import multiprocessing
import queue
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import types
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from wellkept.errors import Undigestible
from wellkept.hashing import cycles, digest, digest_bytes, encoding


class Reader:
    """An iterator of one's own."""

    def __init__(self) -> None:
        self.at = 0

    def __iter__(self) -> Reader:
        return self

    def __next__(self) -> int:
        self.at += 1
        return self.at


class Restartable(Reader):
    def __reduce__(self) -> Any:
        return Restartable, (), {"at": self.at}


class Unpicklable:
    def __reduce__(self) -> Any:
        raise RuntimeError("not today")


def made() -> Iterator[tuple[str, Any]]:
    items = [1, 2]
    yield "generator", (i for i in items)
    yield "list iterator", iter(items)
    yield "reversed", reversed(items)
    yield "dict iterator", iter({"a": 1})
    yield "set iterator", iter({1})
    yield "range iterator", iter(range(3))
    yield "text iterator", iter("ab")
    yield "sentinel iterator", iter(int, 1)
    yield "map", map(str, items)
    yield "zip", zip(items, items, strict=True)
    yield "filter", filter(None, items)
    yield "enumerate", enumerate(items)
    yield "count", itertools.count()
    yield "chain", itertools.chain(items)
    yield "islice", itertools.islice(items, 1)
    yield "tee", itertools.tee(items)[0]
    yield "own iterator", Reader()
    yield "text stream", io.StringIO("a")
    yield "byte stream", io.BytesIO(b"a")
    yield "lock", threading.Lock()
    yield "rlock", threading.RLock()
    yield "condition", threading.Condition()
    yield "event", threading.Event()
    yield "semaphore", threading.Semaphore()
    yield "thread", threading.Thread()
    yield "local", threading.local()
    yield "queue", queue.Queue()
    yield "simple queue", queue.SimpleQueue()
    yield "process", multiprocessing.Process()
    yield "future", concurrent.futures.Future()
    yield "context variable", contextvars.ContextVar("v")
    yield "context", contextvars.copy_context()
    yield "frame", sys._getframe()
    yield "weak reference", weakref.ref(Reader)
    yield "weak set", weakref.WeakSet()
    yield "asyncio lock", asyncio.Lock()
    yield "unpicklable", Unpicklable()


@pytest.mark.parametrize(("name", "value"), list(made()), ids=lambda v: v if type(v) is str else "")
def test_refused_by_path(name: str, value: Any) -> None:
    with pytest.raises(Undigestible, match=r"^value: "):
        digest(value)
    holder = types.SimpleNamespace(stream=value)
    with pytest.raises(Undigestible) as caught:
        digest_bytes({"a": [1, holder]}, label='arguments["config"]')
    assert str(caught.value).startswith('arguments["config"]["a"][1].stream: ')


def test_resources_are_refused(tmp_path: Any) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"abc")

    async def wait() -> None: ...

    async def produce() -> Any:
        yield 1

    coroutine = wait()
    loop = asyncio.new_event_loop()
    process = subprocess.Popen([sys.executable, "-c", ""])
    with (
        path.open() as text,
        path.open("rb") as binary,
        tempfile.NamedTemporaryFile() as named,
        socket.socket() as sock,
        sqlite3.connect(":memory:") as database,
        mmap.mmap(binary.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
        concurrent.futures.ThreadPoolExecutor() as executor,
    ):
        found = [text, binary, named, sock, database, database.cursor(), mapped, executor]
        for value in [*found, coroutine, produce(), loop, process]:
            with pytest.raises(Undigestible, match=r"value\[0\]"):
                digest([value])
        try:
            raise ValueError
        except ValueError as error:
            with pytest.raises(Undigestible):
                digest(error.__traceback__)
    coroutine.close()
    loop.close()
    process.wait()
    database.close()


def test_nothing_is_consumed() -> None:
    generator = (i for i in range(3))
    stream = io.StringIO("abc")
    for value in (generator, [generator], {"a": stream}, zip([1], generator, strict=False)):
        with pytest.raises(Undigestible):
            digest(value)
    assert list(generator) == [0, 1, 2]
    assert stream.read() == "abc"


def test_an_iterator_that_says_what_it_is_has_a_digest() -> None:
    one, other = Restartable(), Restartable()
    assert digest(one) == digest(other)
    next(other)
    assert digest(one) != digest(other)


def test_the_cause_is_kept() -> None:
    with pytest.raises(Undigestible, match="not today") as caught:
        digest({"a": Unpicklable()})
    assert isinstance(caught.value.__cause__, RuntimeError)


@dataclasses.dataclass
class Config:
    name: str
    stream: Any


Row = collections.namedtuple("Row", "a stream")


@pytest.mark.parametrize(
    ("build", "path"),
    [
        (lambda bad: bad, "value"),
        (lambda bad: [0, bad], "value[1]"),
        (lambda bad: {"a": {"b c": bad}}, 'value["a"]["b c"]'),
        (lambda bad: {1: bad}, "value[1]"),
        (lambda bad: Config("a", bad), "value.stream"),
        (lambda bad: [Config("a", 1), Config("a", [bad])], "value[1].stream[0]"),
        (lambda bad: Row(1, bad), "value.stream"),
        (lambda bad: types.SimpleNamespace(a=(bad,)), "value.a[0]"),
        (lambda bad: holding(bad), "value.held"),
    ],
)
def test_paths(build: Any, path: str) -> None:
    with pytest.raises(Undigestible) as caught:
        digest(build(iter([])))
    assert str(caught.value).split(": ")[0] == path


def holding(held: Any) -> Any:
    value = Reader.__new__(type("Holder", (), {}))
    value.held = held
    return value


def test_paths_in_cycles() -> None:
    loop: list[Any] = [1]
    loop += [loop, {"a": iter([])}]
    with pytest.raises(Undigestible, match=r'^value\[2\]\["a"\]: '):
        digest(loop)


class Endless:
    def __reduce_ex__(self, protocol: Any) -> Any:
        return Endless, (), {"inner": Endless()}


class Wide:
    def __reduce_ex__(self, protocol: Any) -> Any:
        return Wide, ([Wide() for _ in range(100)],)


class Standing:
    def __digest__(self) -> Any:
        return [1, {"inner": Standing()}]


class Fresh:
    """Its state is made anew each time, of what is there."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __getstate__(self) -> Any:
        return {"held": [dict(self.__dict__)]}


class Looped:
    def __init__(self, inner: Any) -> None:
        self.first, self.second = self, inner


@pytest.mark.parametrize("kind", [Endless, Wide, Standing])
@pytest.mark.parametrize("around", [lambda value: value, lambda value: {"a": [value]}, Looped])
def test_a_value_without_an_end_is_refused(
    monkeypatch: pytest.MonkeyPatch, kind: Any, around: Any
) -> None:
    monkeypatch.setattr(cycles, "_MANY", 1000)
    with pytest.raises(Undigestible, match="new objects without end") as caught:
        digest(around(kind()))
    assert len(str(caught.value)) < 700


def test_a_value_that_is_deep_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    # Each is looked at twice, for values of a third of the size.
    monkeypatch.setattr(encoding, "_DEEP", 300)
    monkeypatch.setattr(cycles, "_MANY", 1000)
    value: Any = None
    for _ in range(1000):
        value = Fresh(value)
    assert digest(value) == digest(Fresh(value.inner))
    assert digest(value) != digest(value.inner)
    assert digest(Looped(value)) == digest(Looped(value))


def test_what_a_reduction_raises_is_told_with_the_path() -> None:
    class Pair(collections.namedtuple("Pair", "a b")):
        def __iter__(self) -> Any:
            raise KeyError("c")

    with pytest.raises(Undigestible, match=r"""value\["a"\]: a .*Pair can't be.*KeyError: 'c'"""):
        digest({"a": Pair(1, 2)})
