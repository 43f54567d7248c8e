"""Whatever comes over the wire, on either side, ends in a value or in an error of wellkept's: fuzzed, for a
bounded time (`HYPOTHESIS_PROFILE=thorough` for a longer one)."""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import wellkept
from wellkept.codecs import Envelope
from wellkept.conditions import Query
from wellkept.errors import KeptError
from wellkept.remote.backend import RemoteBackend
from wellkept.remote.handlers import VERBS, Desk
from wellkept.remote.stdio import serve_stream
from wellkept.remote.wire import (
    CHUNK,
    DEPTH,
    END,
    HEADER,
    LONGEST,
    REQUEST,
    WireError,
    messages,
    pack,
    raised,
    told,
    unpack,
)
from wellkept.stores.keyring import Trusts
from wellkept.stores.record_format import Body, pack_call, pack_uses, seal
from wellkept.testing import items

KEYS = [items.key(n) for n in range(3)]
CALL = items.call(KEYS[0], 1, 100)
ITEM = pack_call(CALL, Envelope("pickle", b"N.").pack())

leaves = st.one_of(
    *(st.none(), st.booleans(), st.integers(-(1 << 63), (1 << 63) - 1), st.floats()),
    *(
        st.text(max_size=8),
        st.binary(max_size=40),
        st.sampled_from([bytes.fromhex(k) for k in KEYS]),
    ),
    st.sampled_from(
        [ITEM, Body.of(CALL).pack(), Envelope("pickle", b"N.").pack(), seal(b"k" * 32, b"")]
    ),
    st.sampled_from([*KEYS, "calls", "values", "notes", pack_uses(1, 2.0)]),
)
NAMES = """key keys record blobs uses frame body of prefix query name names size start stop room lease
leased damaged later items item grace dry_run conditions order limit problems function before"""
names = st.sampled_from(NAMES.split()) | st.text(max_size=3)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=5),
    max_leaves=12,
)


def same(a: Any, b: Any) -> bool:
    return repr(a) == repr(b)  # nan too


@given(values)
def test_what_is_packed_is_unpacked(value: Any) -> None:
    assert same(unpack(pack(value)), value)


@given(st.binary(max_size=200) | values.map(pack), st.data())
@settings(max_examples=300)
def test_any_bytes_are_a_value_or_an_error(content: bytes, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(content)))
    for each in (content, content[:cut], content + b"N", content[:cut] + b"\xff" + content[cut:]):
        with suppress(WireError):
            found = unpack(each)
            assert same(unpack(pack(found)), found)


def test_what_is_too_deep_or_says_too_much_is_refused_before_it_is_made() -> None:
    deep: Any = 0
    for _ in range(DEPTH + 1):
        deep = [deep]
    with pytest.raises(WireError):
        pack(deep)
    for content in (
        b"l\x01\x00\x00\x00" * 100_000 + b"N",
        b"l\xff\xff\xff\xff",
        b"m\xff\xff\xff\xff",
        b"b\xff\xff\xff\xff",
        b"s\x01\x00\x00\x00\xff",
        b"i",
        b"",
        b"q",
    ):
        with pytest.raises(WireError):
            unpack(content)
    for wrong in (object(), 1 << 63, {1: 2}, {1}, 1j):
        with pytest.raises(WireError):
            pack(wrong)


def reader(content: bytes, sizes: list[int]) -> Any:
    left = [content]
    turns = iter(sizes * (len(content) + 1))

    def read(room: memoryview) -> int:
        some = left[0][: min(len(room), next(turns, 1))]
        left[0] = left[0][len(some) :]
        room[: len(some)] = some
        return len(some)

    return read


parts = st.tuples(st.integers(1, 5), st.integers(0, 3), st.binary(max_size=100))


@given(
    st.lists(parts, max_size=6), st.lists(st.integers(1, 300), min_size=1, max_size=5), st.data()
)
@example([(4, 1, bytes(600_000)), (5, 1, b""), (2, 7, b"x" * 70_000)], [65_536], None)
def test_messages_however_they_are_cut(
    sent: list[tuple[int, int, bytes]], sizes: list[int], data: Any
) -> None:
    content = b"".join(HEADER.pack(len(c), kind, n) + c for kind, n, c in sent)
    got = [(kind, n, bytes(c)) for kind, n, c in messages(reader(content, sizes))]
    assert got == sent
    if data is not None and content:
        cut = data.draw(st.integers(0, len(content) - 1))
        whole = []
        with suppress(WireError):
            whole += [(k, n, bytes(c)) for k, n, c in messages(reader(content[:cut], sizes))]
        assert whole == sent[: len(whole)]


@given(st.binary(max_size=100))
def test_any_bytes_are_messages_or_an_error(content: bytes) -> None:
    with suppress(WireError):
        for kind, _, part in messages(reader(content, [7])):
            assert 1 <= kind <= 5
            assert len(part) <= LONGEST


class Line:
    """A server that answers anything."""

    where = "there"

    def __init__(self) -> None:
        self.answer: Any = None

    def ask(self, verb: str, fields: Any, sink: Any = None, *, wait: bool = True) -> Any:
        pack([verb, fields])
        if sink is not None and isinstance(self.answer, bytes):
            sink(self.answer)
        return self.answer

    def send(self, fields: Any, content: memoryview) -> None:
        pack(fields)

    def close(self) -> None:
        pass


RAW = bytes.fromhex(KEYS[0])
ASKS: dict[str, Any] = {
    "fetch": lambda p: p.fetch(RAW),
    "claim": lambda p: p.claim(RAW),
    "fetch_many": lambda p: p.fetch_many([RAW]),
    "load": lambda p: (f := p.fetch(RAW)) and f.envelope and p.load(f.envelope),
    "commit": lambda p: p.commit(CALL, items.value(1, 3_000_000)),
    "find": lambda p: list(p.find(Query())),
    "found": lambda p: p.found(Query()),
    "gc": lambda p: p.collect(0.0, False),
    "free": lambda p: p.free([KEYS[0]]),
    "evict": lambda p: p.evict("f", None, None, False),
    "verify": lambda p: p.verify(False, False),
    "totals": lambda p: p.totals(),
    "calls.get": lambda p: p.calls.get(KEYS[0]),
    "calls.keys": lambda p: list(p.calls.keys()),
    "calls.pairs": lambda p: list(p.calls.pairs()),
    "values.get": lambda p: p.values.get(KEYS[0]),
    "notes.get": lambda p: p.notes.get(KEYS[0]),
    "notes.create": lambda p: p.notes.create(KEYS[0], b""),
    "acquire": lambda p: p.locks.acquire(RAW),
    "release": lambda p: p.locks.release(RAW),
    "told": lambda p: raised(p.line.answer, "there"),
}
rows = st.fixed_dictionaries({}, optional=dict.fromkeys(("body", "frame", "blobs"), values))


@given(values | rows | st.lists(rows, max_size=2))
@settings(max_examples=150)
@example({"body": Body.of(CALL).pack(), "frame": b"kv\x01\x00\x06pickle\xff\xff\xff\xff"})
@example([{"later": True}])
@example([KEYS[0], ITEM, b"{}"])
@example(RAW + struct.pack("<IH", len(ITEM), 0) + ITEM)
def test_a_client_is_told_of_any_answer(answer: Any) -> None:
    line = Line()
    place = RemoteBackend(line, Trusts())
    line.answer = answer
    for ask in ASKS.values():
        with suppress(KeptError):
            ask(place)
    place.close()


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with wellkept.open(tmp_path_factory.mktemp("desk") / "c") as cache:
        made = Desk(cache)
        yield made
        made.close()


HARMLESS = sorted(VERBS.keys() - {"verify", "repair", "gc"})
requests = st.tuples(
    st.sampled_from([*HARMLESS, "blob.put"]) | st.text(max_size=5),
    st.dictionaries(names, values, max_size=6) | values,
)


@given(requests)
@settings(max_examples=300)
def test_a_server_is_told_of_any_request(desk: Desk, request_: tuple[str, Any]) -> None:
    verb, fields = request_
    try:
        if verb == "blob.put":
            desk.upload(fields, "me", "admin").drop()
        elif desk.streams(verb):
            for part in desk.stream(verb, fields, "admin") or ():
                assert isinstance(part, bytes)
        else:
            pack(desk.answer(verb, fields, "me", "admin"))
    except Exception as error:  # noqa: BLE001  whatever it is, it is told
        pack(told(error))


@given(
    st.binary(max_size=300)
    | st.lists(
        st.tuples(
            st.sampled_from([REQUEST, CHUNK, END, 2, 9]),
            st.integers(0, 2),
            st.binary(max_size=50) | requests.map(list).map(pack),
        ),
        max_size=6,
    ).map(lambda sent: b"".join(HEADER.pack(len(c), kind, n) + c for kind, n, c in sent))
)
@settings(max_examples=60)
def test_a_server_ends_with_any_stream(desk: Desk, content: bytes) -> None:
    source, into = os.pipe()
    out, target = os.pipe()
    got = bytearray()

    def listen() -> None:
        while data := os.read(out, 65536):
            got.extend(data)

    listening = threading.Thread(target=listen, daemon=True)
    listening.start()
    serving = threading.Thread(target=serve_stream, args=(desk, source, target), daemon=True)
    serving.start()
    os.write(into, content)
    os.close(into)
    serving.join(30)
    assert not serving.is_alive(), "it hangs"
    os.close(target)
    listening.join(30)
    assert got.startswith(b"\0kept-wire 1\n")
    os.close(source)
    os.close(out)
