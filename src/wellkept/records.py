"""The records that rooms pass to each other: frozen data, no I/O."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from wellkept.errors import ConfigError

__all__ = [
    "ARGUMENT",
    "ELEMENT",
    "PARTS",
    "SCHEME",
    "VALUE",
    "Argument",
    "Arguments",
    "Buffer",
    "Call",
    "Digest",
    "Event",
    "Metadata",
    "RunRecord",
    "Value",
]

VALUE = "wellkept:value"
"""The function of records by which values are kept that a program put by hand."""
ARGUMENT = "wellkept:argument"
"""The same of arguments that are kept as values. A query tells of these only if it names the function."""
ELEMENT = "wellkept:element"
"""The same of what results are made of, where that is kept too; each has the key of the call whose it is."""
PARTS = (ARGUMENT, ELEMENT)
"""What is kept beside calls, and is none."""

SCHEME = "k1"
"""The name of the digest scheme (docs/reference/digest-spec.md); every key carries it."""

_HEX = re.compile(r"[0-9a-f]{64}\Z")

Buffer = bytes | bytearray | memoryview
"""A flat, contiguous range of bytes."""


def is_special(name: str) -> bool:
    """Return whether a name is one of Python's own, such as `__name__`."""
    return name[:2] == "__" and name[-2:] == "__"


class Digest(str):
    """The identity of a value: BLAKE3-256 as 64 lower-case hex digits.

    Raises:
        ConfigError: the text is not a full digest. (Where a digest is read from a user, a prefix of
            4 or more digits will do; it is expanded before it becomes a `Digest`.)
    """

    __slots__ = ()

    def __new__(cls, text: str) -> Digest:
        if not isinstance(text, str) or not _HEX.match(text):
            shown = str(text)[:80]
            raise ConfigError(f"not a digest, which is 64 lower-case hex digits: {shown!r}")
        return super().__new__(cls, text)

    @classmethod
    def of(cls, raw: bytes) -> Digest:
        """From the 32 raw bytes."""
        return str.__new__(cls, raw.hex())

    @property
    def raw(self) -> bytes:
        """The 32 bytes."""
        return bytes.fromhex(self)

    def __repr__(self) -> str:
        return f"Digest({str.__str__(self)!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return Digest, (str.__str__(self),)


class Argument(NamedTuple):
    """One argument of a call: its digest, and the value itself where it is a small scalar."""

    digest: Digest
    value: Any = None
    shown: bool = False
    """Whether `value` holds the argument (None is a value too)."""


def is_short(value: Any) -> bool:
    """Whether a record shows a value itself."""
    kind = type(value)
    if kind is str:
        return len(value) <= 200
    if kind is float:
        # JSON has no infinities.
        return bool(value - value == 0)
    if kind is int:
        return bool(-(2**63) <= value < 2**63)
    return kind is bool or value is None


class Arguments(Mapping[str, Argument]):
    """Arguments whose records are made when they are looked at: a miss only writes them down.

    Args:
        items: name, value and digest (32 bytes) of each.
        shown: which of the values a record shows.
    """

    __slots__ = ("_made", "items_given", "shown")

    def __init__(
        self, items: Sequence[tuple[str, Any, bytes]], shown: Callable[[Any], bool]
    ) -> None:
        self.items_given: Sequence[tuple[str, Any, bytes]] = items
        self.shown: Callable[[Any], bool] = shown
        self._made: dict[str, Argument] | None = None

    def _all(self) -> dict[str, Argument]:
        if self._made is None:
            self._made = {
                name: Argument(Digest.of(raw), value, True)
                if self.shown(value)
                else Argument(Digest.of(raw))
                for name, value, raw in self.items_given
            }
        return self._made

    def __getitem__(self, name: str) -> Argument:
        return self._all()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self.items_given)

    def __repr__(self) -> str:
        return repr(self._all())

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (self._all(),)


class Metadata(Mapping[str, Any]):
    """Metadata that is read when it is looked at: a miss only writes it down.

    Args:
        text: a JSON object.
    """

    __slots__ = ("_made", "text")

    def __init__(self, text: str) -> None:
        self.text: str = text
        self._made: dict[str, Any] | None = None

    def _all(self) -> dict[str, Any]:
        if self._made is None:
            self._made = json.loads(self.text)
        return self._made

    def __getitem__(self, name: str) -> Any:
        return self._all()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def __repr__(self) -> str:
        return repr(self._all())

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (self._all(),)


class Call(NamedTuple):
    """One kept call. Times are seconds since the epoch (UTC), durations seconds, sizes bytes."""

    key: Digest
    function: str
    """Qualified name, `module:qualname`, or the name the user gave."""
    code: str
    """`deep:<hex>` or `code:<hex>` for a code identity (`code="own"`), `version:<text>` for a version,
    `none` for neither."""
    arguments: Mapping[str, Argument]
    result: Digest
    state: str = "done"
    """`done`, or `failed` for a kept exception; `items` for a recorded generator; `not kept`, and `result` is
    zeros, of a call that only would be."""
    created: float = 0.0
    seconds: float = 0.0
    """What computing it took, wall time."""
    size: int = 0
    """Bytes of the encoded result, head and buffers."""
    expires: float | None = None
    uses: int = 0
    used: float | None = None
    """When it was last used, to within a flush of the counts."""
    metadata: Mapping[str, Any] = {}

    def replace(self, **changes: Any) -> Call:
        """The same call with other fields."""
        return self._replace(**changes)

    def _repr_html_(self) -> str:
        # Only notebooks need it.
        from wellkept.readable import data_size, duration, facts, when

        given = ", ".join(
            f"{name}={argument.value!r:.60}" if argument.shown else f"{name}={argument.digest[:8]}…"
            for name, argument in self.arguments.items()
        )
        about = {
            "state": self.state,
            "computed": when(self.created) if self.created else None,
            "took": duration(self.seconds),
            "size": data_size(self.size),
            "hits": self.uses,
            "last used": None if self.used is None else when(self.used),
            "expires": None if self.expires is None else when(self.expires),
            "function": self.function,
            "code": self.code,
            "key": self.key,
            "result": self.result,
        }
        return facts(f"{self.function.rpartition(':')[2]}({given})", about)


class Value(NamedTuple):
    """An encoded value: the head is small and lives in the index, a buffer is a blob of its own."""

    codec: str
    head: bytes
    buffers: Sequence[Buffer] = ()
    names: Sequence[bytes] = ()
    """The BLAKE3 of each buffer, where it is known already."""
    signature: bytes = b""
    """Whose envelope it is, where that was signed: see `wellkept.codecs.envelope`."""

    @property
    def size(self) -> int:
        if not self.buffers:
            return len(self.head)
        return len(self.head) + sum(memoryview(b).nbytes for b in self.buffers)


class Event(NamedTuple):
    """What became of one call, or of a node of another engine, in a run."""

    outcome: str
    """`hit`, `computed` or `failed`."""
    function: str
    """As `Call.function`; of another engine, the name of the node."""
    key: str | None = None
    """The call's; None of one that was not to be kept."""
    result: str | None = None
    """The digest of the result, or another engine's name for that version of it."""
    at: float = 0.0
    """When it ended; of several hits, the first since what was recorded before."""
    seconds: float = 0.0
    """What computing took; of a hit, what it took when it was kept."""
    count: int = 1  # type: ignore[assignment]  # the field is wanted, not what every tuple counts
    """How many hits of the same call by the same parent this stands for."""
    parent: str | None = None
    """The key of the call whose body made this one."""
    code: str = ""
    """As `Call.code`."""
    arguments: Mapping[str, str] = {}
    """Names to digests, where they were at hand."""
    error: str | None = None
    """The type of the exception of a failure."""
    shown: Mapping[str, Any] = {}
    """Of a failure, of which there is no record: the arguments that one would show."""


class RunRecord(NamedTuple):
    """What is known of a run beside its events. Times are seconds since the epoch (UTC)."""

    id: str
    """The time it began and six random digits, so that runs sort by their ids."""
    name: str = ""
    tags: Mapping[str, Any] = {}
    started: float = 0.0
    ended: float | None = None
    error: str | None = None
    """The type of the exception that ended it."""
    owner: Mapping[str, Any] = {}
    """Who recorded it: `host`, `pid`, `begun` (the process), `boot`, `user`."""
    outer: str | None = None
    """The id of the run that it is part of."""
    engine: str = "kept"
    """Who put its events."""
    env: str = ""
    """The name of the note that describes its environment."""
    metadata: Mapping[str, Any] = {}
    """What the configured collectors found when it began."""
