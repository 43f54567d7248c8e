"""What differs between the databases that hold named state, as protocols; and what rows say."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, TypeVar

from kept.errors import DamagedValue
from kept.kv.entry import Data, Entry

__all__ = ["Engine", "Record", "Session", "above", "data_of", "entry_of", "slices", "text_of"]

R = TypeVar("R")
Record = tuple[int, str, str, Data | None]
"""Store, kind, key, data: what the log is told."""

_SOME = 500  # rows in one statement


class Session(Protocol):
    """A connection, in a transaction or outside."""

    def rows(self, text: str, *values: Any) -> list[Any]:
        """What a statement gives."""
        ...

    def run(self, text: str, *values: Any) -> int:
        """Run a statement; how many rows it met."""
        ...

    def now(self) -> float:
        """The clock; in a transaction that writes it stands still."""
        ...

    def record(self, changes: Sequence[Record], at: float) -> list[int]:
        """Write changes to the log; their revisions."""
        ...


class Engine(Protocol):
    """What differs between the databases."""

    def reading(self, on: str, do: Callable[..., R], *arguments: Any) -> R:
        """`do(session, …)`, which only reads."""
        ...

    def writing(self, on: str, do: Callable[..., R], *arguments: Any) -> R:
        """The same as one transaction that writes."""
        ...

    @property
    def clock(self) -> float:
        """The value that `{now}` in a statement takes."""
        ...

    def head(self, session: Session) -> int:
        """The last revision."""
        ...


def above(prefix: str) -> str:
    """The least text that is above all that begin with `prefix`, which has an ASCII letter."""
    for at in range(len(prefix) - 1, -1, -1):
        code = ord(prefix[at])
        if code < 0x10FFFF:
            after = 0xE000 if code == 0xD7FF else code + 1  # surrogates are no letters
            return prefix[:at] + chr(after)
    raise ValueError(prefix)


def slices(rows: Sequence[Any]) -> Iterable[Sequence[Any]]:
    return (rows[at : at + _SOME] for at in range(0, len(rows), _SOME))


def entry_of(row: Sequence[Any], data: Data | None = None) -> Entry:
    name, text, item, revision, created, updated, expires, policy = row
    return Entry(
        text_of(name).partition("/")[2],
        data_of(text, item) if data is None else data,
        revision,
        created,
        updated,
        expires,
        text_of(policy),
    )


def data_of(text: Any, item: Any, *, missing: bool = False) -> Any:
    if text is not None:
        return text_of(text)
    if item is not None:
        return bytes(item)
    if missing:
        return None
    raise DamagedValue("an entry is damaged: it has no value")


def text_of(value: Any) -> str:
    return value if isinstance(value, str) else bytes(value).decode("utf-8", "replace")
