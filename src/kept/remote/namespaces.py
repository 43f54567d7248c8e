"""The caches that one server serves, by the names that clients know them by."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from kept.errors import ConfigError, KeptError
from kept.remote.desk import Desk
from kept.remote.tokens import NAMESPACE

__all__ = ["DEFAULT", "Namespaces"]

DEFAULT = "default"
"""What a URL without a namespace means."""


class Namespaces:
    """Desks by name, each opened with the first who asks for it.

    Args:
        openers: name to what opens the cache; the cache is closed in `close`.

    Raises:
        ConfigError: a name that no URL can have.
    """

    def __init__(self, openers: Mapping[str, Callable[[], Any]]) -> None:
        for name in openers:
            if not NAMESPACE.fullmatch(name):
                raise ConfigError(
                    f"not a namespace: {name!r}; use up to 64 of a-z, 0-9, - and _, and no v1"
                )
        self._openers = openers
        self._desks: dict[str, Desk] = {}
        self._opening = threading.Lock()

    def __iter__(self) -> Iterator[str]:
        return iter(self._openers)

    def opened(self, name: str) -> Desk | None:
        """The desk, if it is open."""
        return self._desks.get(name)

    def desk(self, name: str) -> Desk | None:
        """The desk of a namespace; None: there is no such.

        Raises:
            KeptError: its cache can't be opened, for now or at all.
        """
        found = self._desks.get(name)
        if found is not None:
            return found
        opener = self._openers.get(name)
        if opener is None:
            return None
        with self._opening:
            if name not in self._desks:
                cache = opener()
                try:
                    self._desks[name] = Desk(cache)
                except KeptError:
                    cache.close()
                    raise
            return self._desks[name]

    def close(self) -> None:
        """Close all that is open."""
        with self._opening:
            desks, self._desks = self._desks, {}
        for desk in desks.values():
            desk.close()
            desk.cache.close()
