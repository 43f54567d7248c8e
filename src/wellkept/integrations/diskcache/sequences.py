"""diskcache's `Deque` and `Index`: a double-ended queue, and a dict that knows its order, in a directory."""

from __future__ import annotations

import math
import operator
import os
import shutil
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar, Literal, Self, SupportsIndex

from wellkept.integrations.diskcache.disks import ENOVAL
from wellkept.integrations.diskcache.item_table import Side
from wellkept.integrations.diskcache.recipes import F
from wellkept.integrations.diskcache.single import Cache


def _comparing(how: Callable[[Any, Any], Any]) -> Callable[[Any, object], Any]:
    def compare(self: Any, that: object) -> Any:
        if not isinstance(that, Sequence):
            return NotImplemented
        lengths = len(self), len(that)
        if how in (operator.eq, operator.ne) and lengths[0] != lengths[1]:
            return how is operator.ne
        for mine, other in zip(self, that, strict=False):
            if mine != other:
                return how(mine, other)
        return how(*lengths)

    return compare


class _OfCache:
    """What a queue and a dict have in common: all that is in them is in a cache."""

    _cache: Cache

    @property
    def cache(self) -> Cache:
        """The cache that all is in."""
        return self._cache

    @property
    def directory(self) -> str:
        """Its directory."""
        return self._cache.directory

    def transact(self) -> AbstractContextManager[None]:
        """Return a block that is one transaction: others wait to write, and an error undoes all of it."""
        return self._cache.transact(retry=True)


class Deque(_OfCache, Sequence[Any]):
    """A double-ended queue in a directory, for all its processes.

    Args:
        iterable: what is put at its end.
        directory: as of a `Cache`.
        maxlen: how many values it may have: over it those at the other end go.

    Raises as `Cache`.
    """

    _maxlen: float

    def __init__(
        self,
        iterable: Iterable[Any] = (),
        directory: str | os.PathLike[str] | None = None,
        maxlen: float | None = None,
    ) -> None:
        self._begin(Cache(directory, eviction_policy="none"), iterable, maxlen)

    def _begin(self, cache: Cache, iterable: Iterable[Any], maxlen: float | None) -> None:
        self._cache = cache
        self._maxlen = math.inf if maxlen is None else maxlen
        self.extend(iterable)

    @classmethod
    def fromcache(
        cls, cache: Cache, iterable: Iterable[Any] = (), maxlen: float | None = None
    ) -> Self:
        """A deque of all that is in a cache, whose items should be nothing else."""
        self = cls.__new__(cls)
        self._begin(cache, iterable, maxlen)
        return self

    @property
    def maxlen(self) -> float:
        """How many values it may have; infinite without a limit."""
        return self._maxlen

    @maxlen.setter
    def maxlen(self, value: float) -> None:
        self._maxlen = value
        with self.transact():
            while len(self) > value:
                self.popleft()

    # -- as a sequence ----------------------------------------------------------------------------

    def _at(self, index: SupportsIndex, do: Callable[[Any], Any]) -> Any:
        """What is done with the key at a place; of a value that is gone meanwhile, with the next one."""
        place, size = operator.index(index), len(self)
        if -size <= place < size:
            skipped = place if place >= 0 else -place - 1
            for number, key in enumerate(self._cache.iterkeys(reverse=place < 0)):
                if number >= skipped:
                    try:
                        return do(key)
                    except KeyError:
                        continue
        raise IndexError("deque index out of range")

    def __getitem__(self, index: Any) -> Any:
        return self._at(index, self._cache.__getitem__)

    def __setitem__(self, index: SupportsIndex, value: Any) -> None:
        self._at(index, lambda key: self._cache.__setitem__(key, value))

    def __delitem__(self, index: SupportsIndex) -> None:
        self._at(index, self._cache.__delitem__)

    def __len__(self) -> int:
        return len(self._cache)

    def __iter__(self) -> Iterator[Any]:
        return self._values(self._cache.iterkeys())

    def __reversed__(self) -> Iterator[Any]:
        return self._values(self._cache.iterkeys(reverse=True))

    def _values(self, keys: Iterable[Any]) -> Iterator[Any]:
        for key in keys:
            try:
                yield self._cache[key]
            except KeyError:
                # It is gone meanwhile.
                continue

    __eq__ = _comparing(operator.eq)
    __ne__ = _comparing(operator.ne)
    __lt__: Callable[[Any, object], Any] = _comparing(operator.lt)
    __le__: Callable[[Any, object], Any] = _comparing(operator.le)
    __gt__: Callable[[Any, object], Any] = _comparing(operator.gt)
    __ge__: Callable[[Any, object], Any] = _comparing(operator.ge)
    __hash__: ClassVar[None] = None  # type: ignore[assignment]  # it changes

    # -- as a deque -------------------------------------------------------------------------------

    def append(self, value: Any) -> None:
        """Put a value at the end."""
        self._add(value, "back")

    def appendleft(self, value: Any) -> None:
        """Put a value at the front."""
        self._add(value, "front")

    def _add(self, value: Any, side: Side) -> None:
        if self._maxlen == math.inf:
            self._cache.push(value, side=side, retry=True)
            return
        with self.transact():
            self._cache.push(value, side=side, retry=True)
            if len(self) > self._maxlen:
                self._end("front" if side == "back" else "back", "pop")

    def extend(self, iterable: Iterable[Any]) -> None:
        """Put values at the end, one after the other."""
        for value in iterable:
            self.append(value)

    def extendleft(self, iterable: Iterable[Any]) -> None:
        """Put values at the front, one after the other, so that the last one is the first."""
        for value in iterable:
            self.appendleft(value)

    def __iadd__(self, iterable: Iterable[Any]) -> Self:
        self.extend(iterable)
        return self

    def pop(self) -> Any:
        """Remove the last value and return it.

        Raises:
            IndexError: there is none.
        """
        return self._end("back", "pop")

    def popleft(self) -> Any:
        """Remove the first value and return it.

        Raises:
            IndexError: there is none.
        """
        return self._end("front", "pop")

    def peek(self) -> Any:
        """The last value.

        Raises:
            IndexError: there is none.
        """
        return self._end("back", "peek")

    def peekleft(self) -> Any:
        """The first value.

        Raises:
            IndexError: there is none.
        """
        return self._end("front", "peek")

    def _end(self, side: Side, what: Literal["pop", "peek"]) -> Any:
        do = self._cache.pull if what == "pop" else self._cache.peek
        _, value = do(default=(None, ENOVAL), side=side, retry=True)
        if value is ENOVAL:
            raise IndexError(f"{what} from an empty deque")
        return value

    def clear(self) -> None:
        """Remove all values."""
        self._cache.clear(retry=True)

    def copy(self) -> Self:
        """Another object for the same directory."""
        return type(self)(directory=self.directory, maxlen=self.maxlen)

    def count(self, value: Any) -> int:
        """How many values equal one."""
        return sum(1 for item in self if value == item)

    def remove(self, value: Any) -> None:
        """Remove the first value that equals one.

        Raises:
            ValueError: there is none.
        """
        for key in self._cache.iterkeys():
            try:
                if value == self._cache[key]:
                    del self._cache[key]
                    return
            except KeyError:
                # Somebody else removed it.
                continue
        raise ValueError("deque.remove(value): value not in deque")

    def reverse(self) -> None:
        """Turn the order round, in one transaction."""
        aside = Deque(reversed(self))
        try:
            with self.transact():
                self.clear()
                self.extend(aside)
        finally:
            aside._cache.close()
            shutil.rmtree(aside.directory, ignore_errors=True)

    def rotate(self, steps: int = 1) -> None:
        """Move so many values from the end to the front, or with a negative number the other way.

        Raises:
            TypeError: it is no int.
        """
        if not isinstance(steps, int):
            raise TypeError(f"integer argument expected, got {type(steps).__name__}")
        size = len(self)
        if not size:
            return
        ends: tuple[Side, Side] = ("back", "front") if steps >= 0 else ("front", "back")
        for _ in range(abs(steps) % size):
            with self.transact():
                try:
                    value = self._end(ends[0], "pop")
                except IndexError:
                    return
                self._add(value, ends[1])

    def __getstate__(self) -> tuple[str, float]:
        return self.directory, self.maxlen

    def __setstate__(self, state: tuple[str, float]) -> None:
        directory, maxlen = state
        self.__init__(directory=directory, maxlen=maxlen)  # type: ignore[misc]  # as diskcache's

    def __repr__(self) -> str:
        return f"{type(self).__name__}(directory={self.directory!r})"


class Index(_OfCache, MutableMapping[Any, Any]):
    """A dict in a directory, for all its processes, whose keys come in the order in which they were inserted.

    Args:
        args: a directory as of a `Cache`, which may be left out or None, and items as of a dict.
        kwargs: more items.

    Raises as `Cache`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        directory = None
        if args and (args[0] is None or isinstance(args[0], str | bytes | os.PathLike)):
            directory, *rest = args
            args = tuple(rest)
        self._cache = Cache(directory, eviction_policy="none")
        self.update(*args, **kwargs)

    @classmethod
    def fromcache(cls, cache: Cache, *args: Any, **kwargs: Any) -> Self:
        """An index of all that is in a cache."""
        self = cls.__new__(cls)
        self._cache = cache
        self.update(*args, **kwargs)
        return self

    def __getitem__(self, key: Any) -> Any:
        return self._cache[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        self._cache[key] = value

    def __delitem__(self, key: Any) -> None:
        del self._cache[key]

    def __contains__(self, key: object) -> bool:
        return key in self._cache

    def __iter__(self) -> Iterator[Any]:
        return iter(self._cache)

    def __reversed__(self) -> Iterator[Any]:
        return reversed(self._cache)

    def __len__(self) -> int:
        return len(self._cache)

    def setdefault(self, key: Any, default: Any = None) -> Any:
        """A key's value, which is `default` from now on if there was none."""
        while True:
            found = self._cache.get(key, ENOVAL, retry=True)
            if found is not ENOVAL:
                return found
            if self._cache.add(key, default, retry=True):
                return default

    def pop(self, key: Any, default: Any = ENOVAL) -> Any:
        """A key's value, removing it; without the key `default`, or an error.

        Raises:
            KeyError: it is not there, and no default is given.
        """
        found = self._cache.pop(key, default, retry=True)
        if found is ENOVAL:
            raise KeyError(key)
        return found

    def popitem(self, last: bool = True) -> tuple[Any, Any]:
        """Remove the last item, or the first, and return its key and value.

        Raises:
            KeyError: there is none.
        """
        with self.transact():
            key, value = self.peekitem(last)
            del self._cache[key]
        return key, value

    def peekitem(self, last: bool = True) -> tuple[Any, Any]:
        """Key and value of the last item, or the first.

        Raises:
            KeyError: there is none.
        """
        key, value = self._cache.peekitem(last, retry=True)
        return key, value

    def push(self, value: Any, prefix: str | None = None, side: Side = "back") -> Any:
        """Put a value at an end of a queue; its key. Args as of `Cache.push`."""
        return self._cache.push(value, prefix, side, retry=True)

    def pull(
        self, prefix: str | None = None, default: Any = (None, None), side: Side = "front"
    ) -> Any:
        """Key and value at an end of a queue, removing them, or `default`. Args as of `Cache.pull`."""
        return self._cache.pull(prefix, default, side, retry=True)

    def clear(self) -> None:
        """Remove all items."""
        self._cache.clear(retry=True)

    def memoize(
        self, name: str | None = None, typed: bool = False, ignore: Iterable[int | str] = ()
    ) -> Callable[[F], F]:
        """A decorator that keeps what a function returns; args as of `Cache.memoize`."""
        return self._cache.memoize(name, typed, ignore=ignore)

    def __eq__(self, other: object) -> bool:
        """Whether the items are the same; beside another index or an `OrderedDict` in the same order."""
        if not isinstance(other, Mapping):
            return NotImplemented
        if len(self) != len(other):
            return False
        if isinstance(other, Index | OrderedDict):
            return all(
                mine == theirs for mine, theirs in zip(self.items(), other.items(), strict=False)
            )
        return all(value == other.get(key, ENOVAL) for key, value in self.items())

    __hash__: ClassVar[None] = None  # type: ignore[assignment]  # it changes

    def __getstate__(self) -> str:
        return self.directory

    def __setstate__(self, state: str) -> None:
        self.__init__(state)  # type: ignore[misc]  # as diskcache's

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.directory!r})"
