"""Entries of named state, their values as written, and steps of a change."""

from __future__ import annotations

import contextlib
import json
import struct
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from wellkept.codecs import Blob, Envelope, decoder, encode
from wellkept.errors import ConfigError, DamagedValue, DecodeError, EncodeError
from wellkept.hashing import buffer_digest
from wellkept.stores.record_format import seal, unseal

Data = str | bytes
"""An encoded value: JSON text, or a sealed envelope (see `wellkept.kv.entry`)."""

ANY: Final = -2
PRESENT: Final = -1
ABSENT: Final = 0
"""What a step may ask of what is there, beside a revision, which is above 0."""

LOGGED = 1024
"""Bytes of a value up to which the log of changes repeats it."""

ID_TYPES = ("ObjectId", "UUID")
"""Names of classes whose objects may stand for scopes."""

_KEY = 1000  # bytes: what each database can index together with the store's number
NAME = 200
"""Bytes of the name of a store."""


class Keep:
    """As it was."""

    def __repr__(self) -> str:
        return "KEEP"


KEEP: Final = Keep()


class Name(NamedTuple):
    """A store: its collection, its scope as text, its own name."""

    collection: str
    scope: str
    """Empty for none; else a dot and the scope."""
    store: str


class Entry(NamedTuple):
    """One key of a store. Times are seconds since the epoch, by the clock of the medium."""

    key: str
    data: Data
    revision: int
    created: float
    updated: float
    expires: float | None = None
    policy: str = "persist"


class Step(NamedTuple):
    """One change of a key; what it leaves out stays as it is."""

    key: str
    data: Data | Keep = KEEP
    ttl: float | Keep | None = None
    """Seconds from now; None: it does not expire."""
    policy: str | Keep = "persist"
    when: int = ANY
    """`ANY`, `PRESENT`, `ABSENT`, or the revision that must be there."""
    drop: bool = False
    """The key goes."""


class Logged(NamedTuple):
    """A change, as the log has it."""

    revision: int
    kind: str
    """`insert` (a first write), `set`, `touch` (only expiry or policy), `delete`, `expire`, `evict`."""
    key: str
    data: Data | None
    """None where the key went, or where the value is large and was replaced since."""
    at: float


class About(NamedTuple):
    """A store itself."""

    name: Name
    declared: bool = False
    """Made by `create_store`; another one is there for as long as it has keys."""
    metadata: Mapping[str, Any] | None = None
    policy: str = "persist"
    created: float = 0.0
    max_keys: int | None = None
    max_bytes: int | None = None

    @property
    def limited(self) -> bool:
        return self.max_keys is not None or self.max_bytes is not None


def check_key(key: Any) -> str:
    """The key, if it is one.

    Raises:
        ConfigError: it is no text, too long, or not text that every medium can hold.
    """
    return _checked(key, "a key", _KEY)


def name_of(collection: Any, scope: Any, store: Any) -> Name:
    """A store's name.

    Raises:
        ConfigError: a part of it is no text, or a scope neither text nor an id.
    """
    if not _checked(store, "the name of a store", NAME):
        raise ConfigError("a store has a name that is not empty")
    if not _checked(collection, "the name of a collection", NAME):
        raise ConfigError("a collection has a name that is not empty")
    return Name(collection, scope_of(scope), store)


def scope_of(scope: Any) -> str:
    """A scope as text: None's is empty, which no other one's is.

    Raises:
        ConfigError: it is neither text nor an id.
    """
    if scope is None:
        return ""
    if type(scope).__name__ in ID_TYPES:
        scope = str(scope)
    return "." + _checked(scope, "a scope", NAME)


def _checked(text: Any, what: str, most: int) -> str:
    if not isinstance(text, str):
        raise ConfigError(f"{what} is text, not {text!r:.80} of type {type(text).__name__}")
    if text.isascii():
        size = len(text)
    else:
        try:
            size = len(text.encode())
        except UnicodeEncodeError:
            raise ConfigError(f"{what} can't hold a lone surrogate: {text!r:.80}") from None
    if size > most:
        raise ConfigError(f"{what} has at most {most} bytes as UTF-8, not {size:,}: {text[:40]!r}…")
    if "\0" in text:
        raise ConfigError(f"{what} can't hold a NUL: {text!r:.80}")
    return text


def fitting(text: str, most: int = _KEY) -> str:
    """Return a text of any kind as a key, or as a name of at most so many bytes: itself where it is one, else
    `#` and its digest.
    """
    if text and not text.startswith("#"):
        with contextlib.suppress(ConfigError):
            return _checked(text, "a key", most)
    return f"#{buffer_digest(text.encode(errors='surrogatepass')).hex()}"


def utc(seconds: float | None) -> datetime | None:
    """A time since the epoch as a date."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


HISTORY = 100_000
"""Changes that a medium's log holds, of all stores together."""


_LENGTH = struct.Struct("<I")
_DEEP = 100  # levels of lists and dicts that are kept as JSON
_UNNAMED = bytes(32)
_write = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_read = json.JSONDecoder().decode


def dump(value: Any) -> Data:
    """Encode a value.

    Raises:
        EncodeError: nothing here can hold it.
    """
    if _is_json(value):
        try:
            text = _write(value)
            if not text.isascii():
                text.encode()
        except ValueError:  # a lone surrogate, or more digits than Python writes
            pass
        else:
            return text
    try:
        made = encode(value)
    except RecursionError as error:
        raise EncodeError(
            f"can't encode a {type(value).__qualname__}: it is nested too deep"
        ) from error
    blobs = tuple(Blob(memoryview(buffer).nbytes, _UNNAMED) for buffer in made.buffers)
    head = Envelope(made.codec, made.head, blobs).pack()
    return seal(b"", b"".join((_LENGTH.pack(len(head)), head, *made.buffers)))


def load(data: Data) -> Any:
    """The value.

    Raises:
        DamagedValue: these are not the bytes that were written.
        DecodeError: they can't be decoded here, such as for a class that is gone.
    """
    if isinstance(data, str):
        try:
            return _read(data)
        except (ValueError, RecursionError) as error:
            raise DamagedValue(f"an entry is damaged: its JSON can't be read: {error}") from error
    try:
        content = memoryview(bytearray(unseal(b"", data)))
    except DamagedValue:
        raise DamagedValue(
            "an entry is damaged: its bytes are not those that were written"
        ) from None
    try:
        (size,) = _LENGTH.unpack_from(content)
        at = _LENGTH.size + size
        envelope = Envelope.unpack(bytes(content[_LENGTH.size : at]))
    except struct.error as error:
        raise DamagedValue("an entry is damaged: it is cut short") from error
    buffers = []
    for blob in envelope.blobs:
        buffers.append(content[at : at + blob.size])
        at += blob.size
    if envelope.payload is None:
        raise DecodeError("an entry has no payload")
    return decoder(envelope.codec)(envelope.payload, buffers)


def load_json(data: Data) -> Any:
    """The value, where no pickle is to be read.

    Raises:
        DamagedValue: these are not the bytes that were written.
        DecodeError: it is not JSON.
    """
    if not isinstance(data, str):
        raise DecodeError("an entry is not JSON, so it is not decoded here, as that may run code")
    return load(data)


_PLAIN = frozenset((str, int, bool, float, type(None)))


def _is_json(value: Any) -> bool:
    """Whether JSON brings it back as what it is: a tuple not as a list. (NaN is refused as it is
    written.)"""
    if type(value) in _PLAIN:
        return True
    todo = [(value, 0)]
    while todo:
        value, depth = todo.pop()
        kind = type(value)
        if kind is dict:
            for key, item in value.items():
                if type(key) is not str:
                    return False
                if type(item) not in _PLAIN:
                    todo.append((item, depth + 1))
        elif kind is list:
            todo += [(item, depth + 1) for item in value if type(item) not in _PLAIN]
        else:
            return False
        if depth > _DEEP:
            return False
    return True
