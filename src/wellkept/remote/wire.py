"""The wire format: typed requests, answers and errors as MessagePack; never a pickle.

A request is a verb and the `Request` of that verb, whose types bound what it may hold: a request that does
not fit is refused before anything is done. In a stream of bytes each message has a header; over http it is
the body of a request or response.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from types import NoneType
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import msgspec
from blake3 import blake3

from wellkept import conditions
from wellkept.conditions import Choice, Condition, Is, Order, Query
from wellkept.errors import (
    AmbiguousDigest,
    ConfigError,
    DamagedValue,
    DecodeError,
    KeptError,
    NewerSchema,
    NotKept,
    StoreError,
    UntrustedSource,
)
from wellkept.records import Digest

T = TypeVar("T")
R = TypeVar("R", bound="Request")
VERSION = 2
LONGEST = 16 * 1024 * 1024
"""Bytes of the longest message."""


class WireError(StoreError):
    """Bytes that were received are no valid message, or a message that is to be sent is not valid."""


class Uncarried(WireError):  # noqa: N818  says what happened, as wellkept's errors do
    """A message that is to be sent is too large, or has a type that the wire does not carry."""


class Refused(StoreError):  # noqa: N818  says what happened, as wellkept's errors do
    """The server does not permit this client to do that."""


# -- messages -----------------------------------------------------------------------------------------


def pack(message: Any) -> bytes:
    """Return the bytes of a message.

    Raises:
        Uncarried: it holds a type that the wire does not carry, or is too long.
    """
    try:
        content = msgspec.msgpack.encode(message)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise Uncarried(f"the wire does not carry this: {error}") from error
    # In a stream the verb stands before it.
    if len(content) > LONGEST - 64:
        raise Uncarried(f"a message of {len(content):,} bytes is too long for the wire")
    return content


def unpack(content: bytes | bytearray | memoryview, kind: type[T] | Any) -> T:
    """Return the message of a kind from its bytes.

    Raises:
        WireError: the bytes are not exactly one such message.
    """
    try:
        found: T = msgspec.msgpack.decode(content, type=kind)
    except (msgspec.MsgspecError, ValueError, TypeError, RecursionError) as error:
        raise WireError(f"a message can't be read: {error}"[:300]) from error
    return found


def digest(content: bytes) -> str:
    """Return the checksum that is sent with a message."""
    return blake3(content).hexdigest(16)


# -- requests -----------------------------------------------------------------------------------------

# Every type bounds its size. Without bounds a message of a few megabytes could make the server work for
# minutes.
Right = Literal["read", "write", "admin"]
Kind = Literal["call", "value", "meta"]
"""Kinds of items: records of calls, encoded values, metadata records."""
Key = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
Text = Annotated[str, msgspec.Meta(max_length=1000)]
Size = Annotated[int, msgspec.Meta(ge=0, lt=1 << 60)]
Times = Annotated[int, msgspec.Meta(ge=0, lt=1 << 40)]
Texts = Annotated[list[Text], msgspec.Meta(max_length=1000)]
Keys = Annotated[list[Key], msgspec.Meta(max_length=100_000)]
Sent = Annotated[list[bytes | None], msgspec.Meta(max_length=1_000_000)]
"""Blobs that travel with their envelope, in its order; None for one that was sent before."""


class Request(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A request of a client: the fields of one verb."""

    # Unknown fields are refused: a server that ignored one would do another thing than the client asked for.

    verb: ClassVar[str]
    right: ClassVar[Right] = "read"
    """The right that it needs."""
    answer: ClassVar[Any] = None
    """The type of its answer."""
    parts: ClassVar[bool] = False
    """Whether the answer comes in parts, which are bytes."""
    once: ClassVar[bool] = False
    """Whether it must not be done twice; then it is not repeated after a connection that broke."""
    apart: ClassVar[bool] = False
    """Whether it may overtake earlier requests that do not wait for their answers."""
    slow: ClassVar[bool] = False
    """Whether its answer may take minutes; the server then sends signs of life."""


REQUESTS: dict[str, type[Request]] = {}


def _verb(name: str, **about: Any) -> Callable[[type[R]], type[R]]:
    """Register a class of requests under its verb, with the class variables that differ from `Request`."""

    def named(kind: type[R]) -> type[R]:
        REQUESTS[name] = kind
        for key, value in {"verb": name, **about}.items():
            setattr(kind, key, value)
        return kind

    return named


class Row(msgspec.Struct, omit_defaults=True):
    """What a fetch finds under one key: nothing, a record, or a record and its result."""

    body: bytes | None = None
    envelope: bytes | None = None
    blobs: list[bytes] | None = None
    leased: bool = False
    """Whether nothing was found and the client has the lease."""
    later: bool = False
    """Whether it is too large for this answer, and has to be fetched by itself."""
    damaged: str | None = None


@_verb("hello")
class Hello(Request):
    """Open a connection, under the name that an earlier one had, so that its leases stay valid."""

    owner: Annotated[str, msgspec.Meta(min_length=8, max_length=64)]


@_verb("fetch", answer=list[Row], apart=True)
class Fetch(Request):
    """Look up calls and their results; with `lease`, take the lease of a call that is missing."""

    keys: Annotated[list[Key], msgspec.Meta(max_length=2000)]
    room: Size = 0
    """Bytes of blobs that may travel with the answer."""
    lease: bool = False
    again: bool = False
    """Whether an earlier answer was lost, so that the client may have the lease already."""


@_verb("commit", right="write", apart=True)
class Commit(Request):
    """Keep a call and its result."""

    key: Key
    record: bytes
    blobs: Sent = []
    uses: dict[Key, Times] = {}
    release: bool = False


@_verb("use", apart=True)
class Use(Request):
    """Add to the counts of uses; ignored from a client that may only read."""

    uses: dict[Key, Times]


@_verb("get", answer=dict[str, bytes])
class Get(Request):
    """Return the items of a kind that exist, by key."""

    kind: Kind
    keys: Texts


@_verb("put", right="write")
class Put(Request):
    """Keep items of a kind; blobs go with a single value."""

    kind: Kind
    items: dict[Text, bytes]
    blobs: Sent = []


@_verb("create", right="write", answer=bool, once=True)
class Create(Request):
    """Keep a metadata record if there is none under its key; return whether there was none."""

    key: Text
    item: bytes


@_verb("delete", right="write", slow=True)
class Delete(Request):
    """Delete items of a kind; blobs only if they are damaged, so that they can be sent again."""

    kind: Literal["call", "value", "meta", "blob"]
    keys: Texts


@_verb("keys", parts=True)
class List(Request):
    """Return the keys of a kind, a line each."""

    kind: Kind
    prefix: Text = ""


@_verb("find", parts=True)
class Find(Request):
    """Return the records of the calls that fit a query, or of all; or only how many fit."""

    query: Any = None
    count: bool = False


@_verb("blob", parts=True, apart=True)
class Read(Request):
    """Return the bytes of a blob from `start` to `stop`."""

    name: Key
    size: Size
    start: Size = 0
    stop: Size | None = None
    piece: Annotated[int, msgspec.Meta(ge=1)] = 512 * 1024


@_verb("send", right="write", apart=True)
class Send(Request):
    """Send a blob, which is staged until a record names it."""

    name: Key
    size: Size


@_verb("have", answer=list[int | None])
class Have(Request):
    """Return the sizes of blobs, None for each that is missing."""

    names: Annotated[list[Key], msgspec.Meta(max_length=10_000)]


@_verb("lease", right="write", answer=list[Key])
class Lease(Request):
    """Take leases, renew them, or release them; return those that the client has."""

    keys: Keys
    do: Literal["take", "keep", "release"] = "take"

    @property
    def once(self) -> bool:  # type: ignore[override]  # it depends on the other fields
        # If the answer is lost, the lease may be held already, and a second request would be refused.
        return self.do == "take"

    @property
    def apart(self) -> bool:  # type: ignore[override]  # it depends on the other fields
        # Not a release: it must not overtake the commit before it.
        return self.do == "keep"


@_verb("collect", right="admin", answer=tuple[int, int], once=True, slow=True)
class Collect(Request):
    """Delete what nothing references, or these values and what only they needed.

    The answer is how many items and bytes.
    """

    grace: float = 0.0
    dry_run: bool = False
    values: Keys | None = None


@_verb("evict", right="admin", answer=tuple[int, int, int, int], slow=True)
class Evict(Request):
    """Delete the calls of a function, old ones, or these.

    The answer is how many calls, values, blobs and bytes.
    """

    function: str | None = None
    before: float | None = None
    keys: Keys | None = None
    dry_run: bool = False


@_verb("verify", answer=dict[str, Any], slow=True)
class Verify(Request):
    """Look for damage, and with `repair` delete what is damaged."""

    repair: bool = False
    discard: bool = False

    @property
    def right(self) -> Right:  # type: ignore[override]  # it depends on the other fields
        return "admin" if self.repair else "read"


@_verb("totals", answer=dict[str, Any], slow=True)
class Totals(Request):
    """Return how many calls and bytes there are."""


def request(verb: str, content: bytes | bytearray | memoryview) -> Request:
    """Return the request of a verb from its bytes.

    Raises:
        WireError: there is no such verb, or the bytes are no request of it.
    """
    kind = REQUESTS.get(verb)
    if kind is None:
        raise WireError(f"there is no request {verb[:40]!r}")
    return unpack(content, kind)


# -- errors -------------------------------------------------------------------------------------------

# Looked through in this order, so a class stands before its base.
_KINDS: dict[str, type[KeptError]] = {
    kind.__name__: kind
    for kind in (
        DamagedValue,
        DecodeError,
        NewerSchema,
        UntrustedSource,
        Refused,
        StoreError,
        ConfigError,
        AmbiguousDigest,
        NotKept,
    )
}


class Failure(msgspec.Struct):
    """An error as it is sent: its kind and its message, but nothing of where it was raised."""

    kind: str
    text: str


def told(error: Exception) -> Failure:
    """Return an error as it is sent."""
    for name, kind in _KINDS.items():
        if isinstance(error, kind):
            text = str(error).encode("utf-8", "replace").decode()
            return Failure(name, text[:2000])
    # Of an unexpected error only the kind: its message may hold data of the cache, or paths of the server.
    return Failure("StoreError", f"the server failed: {type(error).__name__}")


def raised(content: bytes | bytearray | memoryview, where: str) -> KeptError:
    """Return the error that a server sent, from its bytes."""
    try:
        said: Failure = unpack(content, Failure)
    except WireError:
        return StoreError(f"{where}: its answer can't be read")
    return _KINDS.get(said.kind, StoreError)(f"{where}: {said.text}")


def another_version(where: str, version: str) -> StoreError:
    """Return the error for a server that speaks another version of the wire."""
    return StoreError(
        f"{where} speaks version {version[:20]} of the wire, and this wellkept version {VERSION}: "
        "upgrade the older of the two"
    )


# -- messages in a stream -----------------------------------------------------------------------------

BANNER = b"\0kept-wire %d\n"
HEADER = struct.Struct("<IBI")
REQUEST, ANSWER, ERROR, CHUNK, END = range(1, 6)
CHUNK_SIZE = 512 * 1024
_ROOM = CHUNK_SIZE
# Bytes that are read at once while the next header is awaited: many short messages take one system call.
_AHEAD = 64 * 1024
_SHORT = "the connection ended inside a message"


def messages(read: Callable[[memoryview], int]) -> Iterator[tuple[int, int, memoryview]]:
    """Yield kind, id and content of each message, until the stream ends.

    The content is overwritten by the next message.

    Args:
        read: fills a part of a buffer and returns its size; 0 at the end of the stream.

    Raises:
        WireError: the bytes are not messages, or the stream ends inside one.
    """
    room = memoryview(bytearray(_ROOM))
    # The bytes between them were read ahead.
    start = end = 0
    while True:
        while end - start < HEADER.size:
            if start:
                room[: end - start] = bytes(room[start:end])
                start, end = 0, end - start
            got = read(room[end:_AHEAD])
            if not got:
                if end > start:
                    raise WireError(_SHORT)
                return
            end += got
        length, kind, number = HEADER.unpack_from(room, start)
        start += HEADER.size
        if length > LONGEST or not REQUEST <= kind <= END:
            raise WireError("the bytes that were received are no message")
        have = min(length, end - start)
        if have == length:
            yield kind, number, room[start : start + length]
            start += length
            continue
        # The bytes that were read ahead are the beginning of this message, and nothing more was read.
        content = room[:length] if length <= _ROOM else memoryview(bytearray(length))
        content[:have] = bytes(room[start:end])
        start = end = 0
        while have < length:
            got = read(content[have:])
            if not got:
                raise WireError(_SHORT)
            have += got
        yield kind, number, content


_TESTS: dict[str, Any] = {
    kind.__name__: kind
    for kind in (
        conditions.Present,
        conditions.Equal,
        conditions.Is,
        conditions.Begins,
        conditions.Span,
        conditions.Like,
        conditions.Has,
        conditions.Other,
        conditions.Choice,
    )
}


# -- queries ------------------------------------------------------------------------------------------


def write_query(query: Query) -> dict[str, Any]:
    """Return a query as the wire carries it.

    Raises:
        Uncarried: it holds a value that the wire does not carry, or would change.
    """
    return {
        "conditions": [[c.field, list(c.path), _write(c.test)] for c in query.conditions],
        "order": [query.order.field, list(query.order.path), query.order.descending],
        "limit": query.limit,
    }


def _write(test: Any) -> list[Any]:
    name = type(test).__name__
    if name not in _TESTS:
        raise Uncarried(f"the wire does not carry a {name}")
    if isinstance(test, Choice):
        return [name, [_write(one) for one in test.tests]]
    for field in test:
        _check_plain(field)
    return [name, *(str(field) if type(field) is Digest else field for field in test)]


def _check_plain(value: Any) -> None:
    # MessagePack would write a date, a tuple or a Decimal as another type, and other calls would match.
    if isinstance(value, dict):
        for name, item in value.items():
            _check_plain(name)
            _check_plain(item)
    elif type(value) is list:
        for item in value:
            _check_plain(item)
    elif type(value) not in (NoneType, bool, int, float, str, bytes, Digest):
        raise Uncarried(f"the wire does not carry a {type(value).__qualname__}")


def read_query(said: Any) -> Query:
    """Return the query that a client sent.

    Raises:
        WireError: it is no query.
    """
    try:
        field, path, descending = said["order"]
        found = tuple(
            Condition(str(field), tuple(map(str, path)), _read(test, 0))
            for field, path, test in said["conditions"]
        )
        limit = said["limit"]
        order = Order(str(field), tuple(map(str, path)), bool(descending))
        return Query(found, order, None if limit is None else int(limit))
    except (KeyError, TypeError, ValueError) as error:
        raise WireError("a query in a request can't be read") from error


def _read(said: Any, depth: int) -> Any:
    name, *fields = said
    kind = _TESTS[name]
    if kind is Choice:
        # Wellkept's own are one deep. The test of each call recurses as deep as the query.
        if depth > 4:
            raise WireError("a query in a request is nested too deep")
        return Choice(tuple(_read(one, depth + 1) for one in fields[0]))
    if kind is Is:
        return Is(Digest(fields[0]), *fields[1:])
    return kind(*fields)
