"""Whatever comes over the wire, on either side, ends in a value or in an error of wellkept's: fuzzed, for a
bounded time (`HYPOTHESIS_PROFILE=thorough` for a longer one)."""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import wellkept
from wellkept.codecs import Envelope
from wellkept.conditions import Choice, Condition, Equal, Is, Query, Span
from wellkept.errors import KeptError
from wellkept.records import Digest
from wellkept.remote import wire
from wellkept.remote.handlers import Handlers
from wellkept.remote.line import Line
from wellkept.remote.remote_backend import RemoteBackend
from wellkept.remote.stdio import serve_stream
from wellkept.remote.wire import (
    CHUNK,
    END,
    HEADER,
    LONGEST,
    REQUEST,
    REQUESTS,
    Uncarried,
    WireError,
    messages,
    pack,
    raised,
    read_query,
    told,
    unpack,
    write_query,
)
from wellkept.stores.keyring import Trusts
from wellkept.stores.record_format import Body, pack_call, pack_uses, seal
from wellkept.stores.reports import Chosen
from wellkept.testing import items

KEYS = [items.key(n) for n in range(3)]
CALL = items.call(KEYS[0], 1, 100)
ITEM = pack_call(CALL, Envelope("pickle", b"N.").pack())

leaves = st.one_of(
    *(st.none(), st.booleans(), st.integers(-(1 << 63), (1 << 63) - 1), st.floats()),
    *(st.text(max_size=8), st.binary(max_size=40)),
    st.sampled_from([bytes.fromhex(key) for key in KEYS]),
    st.sampled_from(
        [ITEM, Body.of(CALL).pack(), Envelope("pickle", b"N.").pack(), seal(b"k" * 32, b"")]
    ),
    st.sampled_from([*KEYS, "call", "value", "meta", "blob", pack_uses(1, 2.0)]),
)
NAMES = {name for kind in REQUESTS.values() for name in kind.__struct_fields__}
NAMES |= {*wire.Row.__struct_fields__, "conditions", "order", "limit", "problems"}
names = st.sampled_from(sorted(NAMES)) | st.text(max_size=3)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=5),
    max_leaves=12,
)


def fields_of(kind: type[wire.Request]) -> Any:
    """Fields of a verb, most of which are as they should be."""
    drawn = {}
    for field in msgspec.structs.fields(kind):
        about = repr(field.type)
        if field.name == "record":
            good: Any = st.just(ITEM)
        elif field.name in ("owner", "prefix", "function"):
            good = st.text(max_size=20)
        elif about.startswith("typing.Literal"):
            good = st.sampled_from(get_args(field.type))
        elif "bool" in about:
            good = st.booleans()
        elif field.name in ("key", "name"):
            good = st.sampled_from([*KEYS, *map(bytes.fromhex, KEYS)])
        elif field.name in ("keys", "names", "values"):
            good = st.lists(st.sampled_from([*KEYS, *map(bytes.fromhex, KEYS)]), max_size=3)
        elif field.name == "items":
            good = st.dictionaries(st.sampled_from(KEYS), values, max_size=2)
        else:
            good = st.integers(0, 1 << 20)
        drawn[field.name] = good | values
    return st.fixed_dictionaries({}, optional=drawn)


requests = st.sampled_from(sorted(REQUESTS)).flatmap(
    lambda verb: st.tuples(st.just(verb), fields_of(REQUESTS[verb]) | values)
) | st.tuples(st.text(max_size=5), values)


def same(a: Any, b: Any) -> bool:
    return repr(a) == repr(b)  # nan too


@given(values)
def test_what_is_packed_is_unpacked(value: Any) -> None:
    assert same(unpack(pack(value), Any), value)


@given(st.binary(max_size=200) | values.map(pack), st.data())
@settings(max_examples=300)
def test_any_bytes_are_a_message_or_an_error(content: bytes, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(content)))
    for each in (content, content[:cut], content + b"N", content[:cut] + b"\xff" + content[cut:]):
        for kind in (Any, list[wire.Row], *REQUESTS.values()):
            with suppress(WireError):
                unpack(each, kind)


def test_what_is_too_deep_or_says_too_much_is_refused_before_it_is_made() -> None:
    deep: Any = 0
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(Uncarried):
        pack(deep)
    while isinstance(deep, list):
        (deep,) = deep  # to free it all at once would go as deep
    for content in (
        b"\x91" * 100_000 + b"\xc0",
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xa1\xff",
        b"\xd3",
        b"",
        b"\xc1",
        b"\xc0\xc0",
    ):
        with pytest.raises(WireError):
            unpack(content, Any)
    for wrong in (object(), 1 << 64, 1j, "\udc80", bytes(LONGEST)):
        with pytest.raises(Uncarried):
            pack(wrong)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"keys": [b"short"]},
        {"keys": [bytes(33)]},
        {"keys": [bytes(32)] * 2001},
        {"keys": [bytes(32)], "room": -1},
        {"keys": [bytes(32)], "room": 1 << 60},
        {"keys": [bytes(32)], "lease": 1},
        {"keys": [bytes(32)], "more": True},
        {"keys": "x"},
        [[bytes(32)]],
    ],
)
def test_fields_that_are_none_of_a_request(fields: Any) -> None:
    with pytest.raises(WireError, match="can't be read"):
        wire.request("fetch", pack(fields))


def test_a_query_is_carried_as_what_it_is_or_not_at_all() -> None:
    """What MessagePack would write as something else is never sent: other calls would fit."""
    import datetime
    import decimal

    good = Choice((Is(Digest(KEYS[0]), 1, True), Equal([1, {"a": None}]), Span(0.5, None, True)))
    query = Query((Condition("argument", ("x",), good),), limit=3)
    assert read_query(unpack(pack(write_query(query)), Any)) == query
    for wrong in (
        (1, 2),
        {1, 2},
        decimal.Decimal("1.5"),
        datetime.datetime(2026, 1, 1),
        datetime.date(2026, 1, 1),
        [True, (1,)],
        1 << 70,
        "\udc80",
        pytest.approx(1),
    ):
        with pytest.raises(Uncarried):
            pack(write_query(Query((Condition("argument", ("x",), Equal(wrong)),))))


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


class Anything(Line):
    """A server that answers anything."""

    def __init__(self) -> None:
        super().__init__("there", 30.0)
        self.answer: Any = None

    def _ask(self, request: Any, content: bytes, sink: Any, first: bool) -> bytes:
        if sink is not None and isinstance(self.answer, bytes):
            sink(self.answer)
        return pack(self.answer)

    def _send(self, request: Any, content: memoryview) -> None:
        pack(request)

    def _unheard(self, request: Any, content: bytes) -> None:
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
    "evict": lambda p: p.evict(Chosen("f"), False),
    "verify": lambda p: p.verify(False, False, lambda *_: None),
    "totals": lambda p: p.totals(),
    "calls.get": lambda p: p.calls.get(KEYS[0]),
    "calls.keys": lambda p: list(p.calls.keys()),
    "calls.pairs": lambda p: list(p.calls.pairs()),
    "values.get": lambda p: p.values.get(KEYS[0]),
    "notes.get": lambda p: p.notes.get(KEYS[0]),
    "notes.create": lambda p: p.notes.create(KEYS[0], b""),
    "acquire": lambda p: p.locks.acquire(RAW),
    "release": lambda p: p.locks.release(RAW),
    "told": lambda p: raised(pack(p.line.answer), "there"),
}
rows = st.fixed_dictionaries({}, optional=dict.fromkeys(("body", "frame", "blobs"), values))


@given(values | st.lists(rows, max_size=2))
@settings(max_examples=150)
@example([{"body": Body.of(CALL).pack(), "frame": b"kv\x01\x00\x06pickle\xff\xff\xff\xff"}])
@example([{"later": True}])
@example(RAW + struct.pack("<IH", len(ITEM), 0) + ITEM)
def test_a_client_is_told_of_any_answer(answer: Any) -> None:
    line = Anything()
    place = RemoteBackend(line, Trusts())
    line.answer = answer
    for ask in ASKS.values():
        with suppress(KeptError):
            ask(place)
    place.close()


@pytest.fixture(scope="module")
def handlers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Handlers]:
    with wellkept.open(tmp_path_factory.mktemp("served") / "c") as cache:
        made = Handlers(cache)
        yield made
        made.close()


@given(requests)
@settings(max_examples=300)
def test_a_server_is_told_of_any_request(handlers: Handlers, request_: tuple[str, Any]) -> None:
    try:
        request = wire.request(request_[0], pack(request_[1]))
        if isinstance(request, wire.Collect | wire.Verify):
            return  # takes long, and has no more to read
        if isinstance(request, wire.Send):
            handlers.upload(request, "me", "admin").drop()
        elif request.parts:
            for part in handlers.stream(request, "admin"):
                assert isinstance(part, bytes)
        else:
            unpack(pack(handlers.answer(request, "me", "admin")), request.answer)
    except KeptError as error:
        pack(told(error))


def sent(request: tuple[str, Any]) -> bytes:
    return request[0].encode() + b"\0" + pack(request[1])


@given(
    st.binary(max_size=300)
    | st.lists(
        st.tuples(
            st.sampled_from([REQUEST, CHUNK, END, 2, 9]),
            st.integers(0, 2),
            st.binary(max_size=50) | requests.map(sent),
        ),
        max_size=6,
    ).map(lambda sent: b"".join(HEADER.pack(len(c), kind, n) + c for kind, n, c in sent))
)
@settings(max_examples=60)
def test_a_server_ends_with_any_stream(handlers: Handlers, content: bytes) -> None:
    source, into = os.pipe()
    out, target = os.pipe()
    got = bytearray()

    def listen() -> None:
        while data := os.read(out, 65536):
            got.extend(data)

    listening = threading.Thread(target=listen, daemon=True)
    listening.start()
    serving = threading.Thread(target=serve_stream, args=(handlers, source, target), daemon=True)
    serving.start()
    os.write(into, content)
    os.close(into)
    serving.join(30)
    assert not serving.is_alive(), "it hangs"
    os.close(target)
    listening.join(30)
    assert got.startswith(b"\0kept-wire 2\n")
    os.close(source)
    os.close(out)
