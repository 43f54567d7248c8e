"""A store's methods as coroutines, and its watch as an asynchronous iterator."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kept.kv.execution import ExecutionStore
    from kept.kv.watching import Change

__all__ = ["AsyncStore"]

_LISTS = ("keys", "items", "values")
_PLAIN = (
    *("get", "get_many", "has", "count", "list_keys", "get_metadata", "set", "set_cache"),
    *("set_if_absent", "setdefault", "compare_and_set", "modify", "increment", "update", "delete"),
    *("pop", "clear", "clear_cache", "update_ttl", "update_policy", "sweep", "list_stores"),
    *("subscribe", "unsubscribe"),
)


class AsyncStore:
    """`await store.aio.get(key)` and so on, in threads: of each method of the store that reads or
    writes, with the same arguments and errors. `keys`, `items` and `values` give lists."""

    def __init__(self, store: ExecutionStore) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        if name not in _PLAIN and name not in _LISTS:
            raise AttributeError(f"a store has no {name!r} to await")
        method = getattr(self._store, name)

        async def call(*args: Any, **options: Any) -> Any:
            if name in _LISTS:
                return await asyncio.to_thread(lambda: list(method(*args, **options)))
            return await asyncio.to_thread(method, *args, **options)

        return call

    async def watch(
        self,
        prefix: str = "",
        since: int | None = None,
        *,
        timeout: float | None = None,
        patience: float = 60.0,
    ) -> AsyncIterator[Change]:
        """See `ExecutionStore.watch`; cancelling the task ends it."""
        from kept.kv.watching import watch

        store, stop = self._store, threading.Event()
        begun = await asyncio.to_thread(
            watch,
            *(store._entries, store._name, prefix, since),
            timeout=timeout,
            patience=patience,
            stop=stop,
        )
        try:
            while True:
                change = await asyncio.to_thread(next, begun, None)
                if change is None:
                    return
                yield change
        finally:
            stop.set()
