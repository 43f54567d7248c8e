"""What named state is made of: names, entries, the steps that change them, and changes told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from kept.errors import ConfigError

__all__ = [
    "ABSENT",
    "ANY",
    "KEEP",
    "LOGGED",
    "PRESENT",
    "About",
    "Data",
    "Entry",
    "Logged",
    "Name",
    "Step",
    "check_key",
    "fits",
    "made",
    "name_of",
    "scope_of",
    "size_of",
]

Data = str | bytes
"""An encoded value: JSON text, or a sealed frame (see `kept.kv.values`)."""

ANY: Final = -2
PRESENT: Final = -1
ABSENT: Final = 0
"""What a step may ask of what is there, beside a revision, which is above 0."""

LOGGED = 1024
"""Bytes of a value up to which the log of changes repeats it."""

_KEY = 1000  # bytes: what each database can index together with the store's number
_NAME = 200


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
    """`set`, `touch` (only expiry or policy), `delete`, `expire`, `evict`."""
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


def fits(step: Step, found: Entry | None) -> bool:
    """Whether what is there is what the step asks for."""
    when = step.when
    if when == ANY:
        return True
    if found is None:
        return when == ABSENT
    return when in (PRESENT, found.revision)


def made(step: Step, found: Entry | None, now: float, revision: int) -> Entry:
    """What a step that does not drop makes of what is there (None: nothing).

    Raises:
        ConfigError: it keeps the value of what is not there.
    """
    data = step.data
    if isinstance(data, Keep):
        if found is None:
            raise ConfigError(f"there is no key {step.key!r} to change")
        data = found.data
    policy = step.policy
    if isinstance(policy, Keep):
        policy = found.policy if found else "persist"
    ttl = step.ttl
    if isinstance(ttl, Keep):
        expires = found.expires if found else None
        if policy == "persist" and found is not None and found.policy != policy:
            expires = None  # what is to persist is never removed by itself
    else:
        expires = None if ttl is None else now + ttl
    if expires is not None and policy != "held":
        policy = "evict"
    created = found.created if found else now
    return Entry(step.key, data, revision, created, now, expires, policy)


def size_of(key: str, data: Data) -> int:
    """Bytes that an entry counts for."""
    return _bytes(key) + _bytes(data)


def _bytes(data: Data) -> int:
    if isinstance(data, bytes) or data.isascii():
        return len(data)
    return len(data.encode())


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
    if not _checked(store, "the name of a store", _NAME):
        raise ConfigError("a store has a name that is not empty")
    if not _checked(collection, "the name of a collection", _NAME):
        raise ConfigError("a collection has a name that is not empty")
    return Name(collection, scope_of(scope), store)


def scope_of(scope: Any) -> str:
    """A scope as text: None's is empty, which no other one's is.

    Raises:
        ConfigError: it is neither text nor an id.
    """
    if scope is None:
        return ""
    if type(scope).__name__ in ("ObjectId", "UUID"):
        scope = str(scope)
    return "." + _checked(scope, "a scope", _NAME)


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
