"""Another attempt, where one can't do harm."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Generic, TypeVar

from wellkept.errors import ConfigError, NewerSchema, StoreError, UntrustedSource
from wellkept.stores.base import Store
from wellkept.stores.wrappers.abilities import REPEATABLE, close, lend

__all__ = ["Retry"]

V = TypeVar("V")


class Retry(Generic[V]):
    """Tries an operation of `store` again when it raises `StoreError`.

    A `create` or `replace` is tried once: if its answer was lost, a second attempt would find its
    own work and say that somebody else was faster.

    Args:
        store: what is held.
        times: attempts, the first one included.
        wait: seconds before the second attempt, twice as many before each further one (and up to a
            half more or less, so that many clients don't come back at once); or a function from
            the number of attempts made to seconds.

    Raises:
        ConfigError: there would be no attempt, or the wait is negative.
    """

    def __init__(
        self, store: Store[V], times: int = 3, wait: float | Callable[[int], float] = 0.1
    ) -> None:
        if type(times) is not int or times < 1:
            raise ConfigError(f"the number of attempts is 1 or more, not {times!r}")
        if not callable(wait) and not 0 <= wait < float("inf"):
            raise ConfigError(f"the wait between attempts is seconds, not {wait!r}")
        self.store, self.times, self.wait = store, times, wait
        lend(self, store, self._make)

    def _make(self, name: str) -> Callable[..., Any]:
        if name in REPEATABLE:
            return partial(self._call, name)
        made: Callable[..., Any] = getattr(self.store, name)
        return made

    def _call(self, name: str, *args: Any, **options: Any) -> Any:
        operation = getattr(self.store, name)
        if name in ("get_many", "delete_many"):
            args = (list(args[0]), *args[1:])  # an iterator is there for one attempt only
        made = 0
        while True:
            try:
                found = operation(*args, **options)
                # A listing that breaks off is begun again: nothing is given before its end.
                return iter(list(found)) if name in ("keys", "find") else found
            except (NewerSchema, UntrustedSource):
                raise
            except StoreError:
                made += 1
                if made >= self.times:
                    raise
                time.sleep(self._pause(made))

    def _pause(self, made: int) -> float:
        if callable(self.wait):
            return max(0.0, self.wait(made))
        return self.wait * 2.0 ** (made - 1) * random.uniform(0.5, 1.5)

    def get(self, key: str) -> V | None:
        found: V | None = self._call("get", key)
        return found

    def put(self, key: str, item: V, **options: Any) -> None:
        self._call("put", key, item, **options)

    def delete(self, key: str) -> None:
        self._call("delete", key)

    def keys(self, prefix: str = "") -> Iterator[str]:
        found: Iterator[str] = self._call("keys", prefix)
        return found

    def close(self) -> None:
        close(self.store)

    def __reduce__(self) -> tuple[Any, ...]:
        return Retry, (self.store, self.times, self.wait)
