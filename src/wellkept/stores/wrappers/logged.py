"""What is asked of a store, in a log."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from functools import partial
from typing import Any, Generic, TypeVar

from wellkept.stores.base import Store
from wellkept.stores.wrappers.abilities import close, lend

__all__ = ["Logged"]

V = TypeVar("V")


class Logged(Generic[V]):
    """Logs each operation of `store`, how it ended and how long it took; never an item.

    Args:
        store: what is held.
        logger: where to; `logging.getLogger("wellkept.stores")` by default.
        level: of the records.
    """

    def __init__(
        self,
        store: Store[V],
        logger: logging.Logger | None = None,
        *,
        level: int = logging.DEBUG,
    ) -> None:
        self.store, self.level = store, level
        self.logger = logging.getLogger("wellkept.stores") if logger is None else logger
        lend(self, store, lambda name: partial(self._call, name))

    def _call(self, name: str, *args: Any, **options: Any) -> Any:
        operation = getattr(self.store, name)
        if not self.logger.isEnabledFor(self.level):
            return operation(*args, **options)
        if name in ("get_many", "delete_many"):
            args = (list(args[0]), *args[1:])  # it is counted, and may be an iterator
        about = _about(name, args)
        begun = time.perf_counter()
        try:
            found = operation(*args, **options)
        except Exception as error:
            self._log(begun, about, f"raised {type(error).__name__}")
            raise
        if name in ("keys", "find"):
            return self._listing(found, begun, about)
        self._log(begun, about, _result(found))
        return found

    def _listing(self, found: Iterator[str], begun: float, about: str) -> Iterator[str]:
        count = 0
        ended = "was left"
        try:
            for key in found:
                count += 1
                yield key
            ended = "ended"
        except Exception as error:
            ended = f"raised {type(error).__name__}"
            raise
        finally:
            self._log(begun, about, f"{ended} after {count:,} keys")

    def _log(self, begun: float, about: str, result: str) -> None:
        took = (time.perf_counter() - begun) * 1000
        self.logger.log(self.level, "%s: %s in %.3f ms", about, result, took)

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
        return _again, (self.store, self.logger, self.level)


def _again(store: Store[Any], logger: logging.Logger, level: int) -> Logged[Any]:
    return Logged(store, logger, level=level)


def _about(name: str, args: tuple[Any, ...]) -> str:
    if not args:
        return name
    if name == "find":
        return f"find by {', '.join(map(str, args[0]))}"  # the names of the terms
    if name.endswith("_many"):
        return f"{name} of {len(args[0]):,} keys"
    return f"{name} {args[0]}".rstrip()


def _result(found: Any) -> str:
    if found is None or isinstance(found, bool):
        return str(found)
    if isinstance(found, (bytes, bytearray, memoryview)):
        return f"{memoryview(found).nbytes:,} bytes"
    if isinstance(found, dict):
        return f"{len(found):,} items"
    return f"a {type(found).__name__}"
