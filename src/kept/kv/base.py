"""The seam of named state: what a medium does, each verb at once for all who use the medium."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from kept.kv.entry import About, Entry, Logged, Name, Step

__all__ = ["HISTORY", "Entries"]

HISTORY = 100_000
"""Changes that a medium's log holds, of all stores together."""


class Entries(Protocol):
    """The entries of every store on one medium.

    An expired entry is not there, for any verb. Each change has a revision of its own, larger than
    those of all changes before it on this medium. Every method may raise `StoreError`.
    """

    ahead: float
    """Seconds by which the clock is moved forward: for tests."""

    def now(self) -> float:
        """The clock that entries expire by: the server's, where there is one."""
        ...

    def get(self, name: Name, key: str) -> Entry | None:
        """The entry, or None."""
        ...

    def apply(self, name: Name, steps: Sequence[Step]) -> list[Entry | None] | None:
        """Take all of the steps, or none: what each leaves (None: the key is gone); None if one of
        them does not fit what is there.

        Raises:
            StoreError: also if the store's limits leave no room.
        """
        ...

    def page(
        self, name: Name, prefix: str, after: str | None, limit: int, data: bool
    ) -> list[Entry]:
        """At most `limit` entries in the order of their keys' bytes, of keys that begin with
        `prefix` and come after `after`; without `data` their values are left out."""
        ...

    def count(self, name: Name, prefix: str) -> int:
        """How many keys begin with `prefix`."""
        ...

    def remove(self, name: Name | None, which: str, limit: int | None) -> int:
        """Remove entries that are `expired`, `evictable` or `all`, of one store or of every one, at
        most so many; how many there were to remove, without the expired ones unless they are meant."""
        ...

    def abouts(self, collection: str, scope: str | None, store: str | None) -> list[About]:
        """The stores that are there, in a scope (None: in any) and of a name (None: of any)."""
        ...

    def declare(self, about: About) -> bool:
        """Make a store; False if it is there."""
        ...

    def drop(self, name: Name) -> int | None:
        """Remove a store with its entries; how many it had, None if it was not there."""
        ...

    def changes(self, name: Name, since: int, limit: int) -> tuple[list[Logged], int]:
        """The store's changes after a revision, at most so many, in their order; and the revision
        after which to go on.

        Raises:
            StoreError: the log no longer goes back so far.
        """
        ...

    def newest(self) -> int:
        """The revision of the last change."""
        ...

    def due(self) -> float | None:
        """When the next entry expires; None if none does."""
        ...

    def wait(self, since: int, timeout: float) -> None:
        """Return when there may be a change after a revision, or after so many seconds."""
        ...

    def close(self) -> None:
        """Let go of connections; the next use opens them again."""
        ...
