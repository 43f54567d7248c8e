"""Wrappers: stores that hold a store. Each does one thing, and they nest."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Generic, NoReturn, TypeVar

from wellkept._process import Instances, chance
from wellkept.codecs import compression
from wellkept.errors import ConfigError, NewerSchema, StoreError, UntrustedSource
from wellkept.records import Buffer
from wellkept.stores.base import Store, Where, check_key, check_prefix
from wellkept.stores.filesystem import open_regular

__all__ = ["Compressed", "Locked", "Logged", "Prefix", "ReadOnly", "Retry"]

V = TypeVar("V")

_READING = (
    "get_many",
    "path",
    "map",
    "map_stamped",
    "find",
    "now",
    "count",
    "size_of",
    "read_range",
)
_WRITING = ("create", "replace", "put_many", "delete_many", "put_file")
_LISTING = ("keys", "find")


class Wrapper(Generic[V]):
    """Forwards each operation to the store that it holds, by way of `_call`.

    An optional operation is an attribute of the instance, set only if the held store has it: so
    `isinstance(wrapper, Creates)` is true of the wrapper if it is true of the store inside. A subclass
    changes all operations by `_call`, or a single optional one by a method named `_<operation>`.
    """

    store: Store[V]
    _lacks: tuple[str, ...] = ()
    """Optional operations that it does not forward."""

    def __init__(self, store: Store[V], **options: Any) -> None:
        self.store = store
        # The arguments with which it is made anew when it is unpickled.
        self._options = options
        self._any: Any = store
        for name in (*_READING, *_WRITING):
            if name not in self._lacks and callable(getattr(store, name, None)):
                setattr(self, name, getattr(self, f"_{name}", partial(self._call, name)))

    def _call(self, name: str, *args: Any, **options: Any) -> Any:
        return getattr(self.store, name)(*args, **options)

    def get(self, key: str) -> V | None:
        """Return the item, or None."""
        found: V | None = self._call("get", key)
        return found

    def put(self, key: str, item: V, **options: Any) -> None:
        """Keep the item, in place of an earlier one."""
        self._call("put", key, item, **options)

    def delete(self, key: str) -> None:
        """Delete the item."""
        self._call("delete", key)

    def keys(self, prefix: str = "") -> Iterator[str]:
        """Return the keys that begin with `prefix`."""
        found: Iterator[str] = self._call("keys", prefix)
        return found

    def close(self) -> None:
        """Close the held store, if there is anything to close."""
        closing = getattr(self.store, "close", None)
        if closing is not None:
            closing()

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (type(self), self.store, self._options)


def _again(kind: Callable[..., Any], store: Store[Any], options: dict[str, Any]) -> Any:
    return kind(store, **options)


class Compressed(Wrapper[bytes]):
    """Compresses items that are put into `store`, and reads items of any method, plain ones too.

    Content that can't be made smaller is stored as it is, so blobs of random numbers keep their files and
    their mappings.

    Args:
        store: a byte store.
        method: `"zstd"` or `"gzip"`.
        level: of the method; its usual one by default.
        limit: bytes that one item may have at most when it is read.

    Raises:
        ConfigError: there is no such method or level, or zstd is not installed.
    """

    # Sizes and parts would be those of the compressed item.
    _lacks = ("size_of", "read_range", "put_file")

    method: str
    limit: int | None

    def __init__(
        self,
        store: Store[bytes],
        method: str = "zstd",
        level: int | None = None,
        *,
        limit: int | None = None,
    ) -> None:
        self.method, self.limit = method, limit
        self.level: int = compression.check(method, level)
        super().__init__(store, method=method, level=self.level, limit=limit)

    def _in(self, item: Buffer) -> Any:
        return compression.compress(item, self.method, self.level)

    def _out(self, item: Buffer) -> bytes:
        return bytes(compression.decompress(item, self.limit))

    def get(self, key: str) -> bytes | None:
        """Return the item.

        Raises:
            DamagedValue: it is not what was compressed.
        """
        item = self.store.get(key)
        return None if item is None else self._out(item)

    def put(self, key: str, item: Buffer, **options: Any) -> None:
        """Keep the item, compressed if that makes it smaller."""
        self.store.put(key, self._in(item), **options)

    def _create(self, key: str, item: Buffer, **options: Any) -> bool:
        return bool(self._any.create(key, self._in(item), **options))

    def _replace(self, key: str, old: bytes, item: Buffer, **options: Any) -> bool:
        # The same content may be stored in several forms, so the stored bytes are read, compared with, and
        # replaced.
        packed = self._in(item)
        while True:
            stored = self.store.get(key)
            if stored is None or self._out(stored) != old:
                return False
            if self._any.replace(key, stored, packed, **options):
                return True

    def _get_many(self, keys: Iterable[str]) -> dict[str, bytes]:
        return {key: self._out(item) for key, item in self._any.get_many(keys).items()}

    def _put_many(self, items: Mapping[str, Buffer], **options: Any) -> None:
        self._any.put_many({key: self._in(item) for key, item in items.items()}, **options)

    def _path(self, key: str) -> Path | None:
        # The file of an item that is stored as it is; None for a compressed one.
        path: Path | None = self._any.path(key)
        if path is None:
            return None
        try:
            with os.fdopen(open_regular(path), "rb") as file:
                return path if compression.is_plain(file.read(8)) else None
        except OSError as error:
            raise StoreError(f"can't read {path}: {error}") from error

    def _map(self, key: str) -> Buffer | None:
        mapped: Buffer | None = self._any.map(key)
        return None if mapped is None else self._unpacked(mapped)

    def _map_stamped(self, key: str) -> tuple[Buffer, Hashable] | None:
        found = self._any.map_stamped(key)
        return None if found is None else (self._unpacked(found[0]), found[1])

    def _unpacked(self, mapped: Buffer) -> Buffer:
        if compression.is_plain(mapped):
            return mapped
        return bytearray(compression.decompress(mapped, self.limit))


class Locked(Wrapper[V]):
    """Lets one thread at a time use `store`, or one at a time use each key.

    With `per_key`, operations on different keys don't wait for each other, and listing and finding don't wait
    at all. The locks are reentrant and can be held over several operations::

        with store.lock("a"):
            store.put("a", change(store.get("a")))
    """

    def __init__(self, store: Store[V], *, per_key: bool = False) -> None:
        self.per_key = per_key
        super().__init__(store, per_key=per_key)
        self._forked()
        _locked.add(self)

    def _forked(self) -> None:
        # The lock of everything, or with `per_key` that of the table of locks.
        self._one = threading.RLock()
        # For each key its lock, and how many threads hold it or wait for it.
        self._locks: dict[str, list[Any]] = {}

    @contextlib.contextmanager
    def lock(self, *keys: str) -> Iterator[None]:
        """Hold the locks of these keys (without `per_key`: the lock of everything)."""
        if not self.per_key:
            with self._one:
                yield
            return
        with contextlib.ExitStack() as stack:
            # In one order, as otherwise two threads could wait for each other.
            for key in sorted(set(keys)):
                stack.enter_context(self._lock(key))
            yield

    @contextlib.contextmanager
    def _lock(self, key: str) -> Iterator[None]:
        with self._one:
            entry = self._locks.setdefault(key, [threading.RLock(), 0])
            entry[1] += 1
        try:
            with entry[0]:
                yield
        finally:
            with self._one:
                entry[1] -= 1
                if not entry[1]:
                    self._locks.pop(key, None)

    def _call(self, name: str, *args: Any, **options: Any) -> Any:
        operation = getattr(self.store, name)
        if name in ("get_many", "put_many", "delete_many"):
            first = args[0]
            if not isinstance(first, (dict, list, tuple)):
                first = list(first) if isinstance(first, Iterable) else first
                args = (first, *args[1:])
            keys = tuple(first)
        else:
            keys = () if name in (*_LISTING, "count", "now") else args[:1]
        with self.lock(*keys):
            found = operation(*args, **options)
            # Listed inside the lock: an iterator would go on outside of it.
            return iter(list(found)) if name in _LISTING else found

    def close(self) -> None:
        """Close the held store."""
        with self._one:
            super().close()


_locked: Instances[Locked[Any]] = Instances(in_child=Locked._forked)


class Logged(Wrapper[V]):
    """Logs each operation of `store`, its outcome and how long it took, but never an item.

    Args:
        store: any store.
        logger: `logging.getLogger("wellkept.stores")` by default.
        level: of the log records.
    """

    def __init__(
        self,
        store: Store[V],
        logger: logging.Logger | None = None,
        *,
        level: int = logging.DEBUG,
    ) -> None:
        self.level = level
        self.logger = logging.getLogger("wellkept.stores") if logger is None else logger
        super().__init__(store, logger=self.logger, level=level)

    def _call(self, name: str, *args: Any, **options: Any) -> Any:
        operation = getattr(self.store, name)
        if not self.logger.isEnabledFor(self.level):
            return operation(*args, **options)
        if name in ("get_many", "delete_many"):
            # The keys are counted, and may be an iterator.
            args = (list(args[0]), *args[1:])
        about = _about(name, args)
        begun = time.perf_counter()
        try:
            found = operation(*args, **options)
        except Exception as error:
            self._log(begun, about, f"raised {type(error).__name__}")
            raise
        if name in _LISTING:
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


def _about(name: str, args: tuple[Any, ...]) -> str:
    if not args:
        return name
    if name == "find":
        # The names of the terms.
        return f"find by {', '.join(map(str, args[0]))}"
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


class Prefix(Wrapper[V]):
    """Shows the items of `store` whose keys begin with `prefix`, under keys without it.

    Raises:
        ConfigError: no key begins with the prefix, or it does not end with `/`.
    """

    def __init__(self, store: Store[V], prefix: str) -> None:
        check_prefix(prefix)
        # Without the slash, "a" would show the keys of "ab" too.
        if not prefix.endswith("/"):
            raise ConfigError(f"a prefix ends with '/', and {prefix!r} does not")
        self.prefix = prefix
        super().__init__(store, prefix=prefix)

    def _call(self, name: str, *args: Any, **options: Any) -> Any:
        key, *rest = args
        return getattr(self.store, name)(self._key(key), *rest, **options)

    def _key(self, key: str) -> str:
        return self.prefix + check_key(key)

    def _within(self, prefix: str) -> str:
        return self.prefix + check_prefix(prefix)

    def _without(self, keys: Iterable[str]) -> Iterator[str]:
        return (key[len(self.prefix) :] for key in keys)

    def keys(self, prefix: str = "") -> Iterator[str]:
        """Return the keys that begin with `prefix`."""
        return self._without(self.store.keys(self._within(prefix)))

    def _get_many(self, keys: Iterable[str]) -> dict[str, V]:
        found = self._any.get_many([self._key(key) for key in keys])
        return {key[len(self.prefix) :]: item for key, item in found.items()}

    def _put_many(self, items: Mapping[str, V], **options: Any) -> None:
        self._any.put_many({self._key(key): item for key, item in items.items()}, **options)

    def _delete_many(self, keys: Iterable[str]) -> None:
        self._any.delete_many([self._key(key) for key in keys])

    def _find(self, where: Where, prefix: str = "") -> Iterator[str]:
        return self._without(self._any.find(where, self._within(prefix)))

    def _count(self, prefix: str = "") -> int:
        return int(self._any.count(self._within(prefix)))

    def _now(self) -> Any:
        return self._any.now()


class ReadOnly(Wrapper[V]):
    """Forwards reads to `store`; every write raises `StoreError`."""

    def __init__(self, store: Store[V]) -> None:
        super().__init__(store)

    def _call(self, name: str, *args: Any, **options: Any) -> Any:
        if name not in ("get", "keys", *_READING):
            self._refuse(name, *args)
        return getattr(self.store, name)(*args, **options)

    def _refuse(self, what: str, *args: Any) -> NoReturn:
        about = f" of {args[0]}" if args and isinstance(args[0], str) else ""
        raise StoreError(f"the {what}{about} is refused: this store is read-only")


class Retry(Wrapper[V]):
    """Repeats an operation of `store` when it raises `StoreError`.

    A `create` or `replace` is tried once: if its answer was lost, a second attempt would find the item of the
    first one, and report that another process was faster.

    Args:
        store: any store.
        times: attempts, the first one included.
        wait: seconds before the second attempt, twice as many before each further one (and up to a half more
            or less, so that many clients don't come back at once); or a function from the number of attempts
            made to seconds.

    Raises:
        ConfigError: `times` is below 1, or `wait` is negative.
    """

    times: int

    def __init__(
        self, store: Store[V], times: int = 3, wait: float | Callable[[int], float] = 0.1
    ) -> None:
        if type(times) is not int or times < 1:
            raise ConfigError(f"the number of attempts is 1 or more, not {times!r}")
        if not callable(wait) and not 0 <= wait < float("inf"):
            raise ConfigError(f"the wait between attempts is seconds, not {wait!r}")
        self.times, self.wait = times, wait
        super().__init__(store, times=times, wait=wait)

    def _call(self, name: str, *args: Any, **options: Any) -> Any:
        operation = getattr(self.store, name)
        if name in ("create", "replace"):
            return operation(*args, **options)
        if name in ("get_many", "delete_many"):
            # An iterator could be used for one attempt only.
            args = (list(args[0]), *args[1:])
        made = 0
        while True:
            try:
                found = operation(*args, **options)
                # A listing that breaks off is begun again, so no key is returned before its end.
                return iter(list(found)) if name in _LISTING else found
            # Trying again can't help.
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
        return self.wait * 2.0 ** (made - 1) * (0.5 + chance())
