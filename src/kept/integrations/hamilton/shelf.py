"""What both stores share: the cache they are over, and records found by one text."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from kept.caches import Cache, active
from kept.caches.encoded import encoded
from kept.caches.opening import reopen
from kept.caches.place import each_call
from kept.caches.tier import Entry
from kept.codecs import Frame
from kept.errors import ConfigError, KeptError, NewerSchema, StoreError, tell
from kept.hashing import digest_bytes
from kept.hashing.keys import call_key
from kept.integrations.hamilton.clock import CLOCK
from kept.records import Argument, Call, Digest, Value
from kept.stores.embedded import Embedded
from kept.stores.openers import scheme_of

__all__ = ["Shelf", "cache_of", "commit"]

T = TypeVar("T")
_NOTHING: Mapping[str, Any] = {}
_KNOWN = 20_000  # keys that are not made anew


def cache_of(
    cache: Cache | str | os.PathLike[str] | None,
    path: str | os.PathLike[str] | None,
    options: dict[str, Any] | None = None,
    *,
    create: bool = True,
) -> Cache:
    """The cache that a store was told to be over: one object for one place and process.

    Raises:
        ConfigError: both are said, or there is no such scheme or option.
        StoreError: it can't be used, or is not there and may not be made.
    """
    if cache is not None and path is not None:
        raise ConfigError("a store is over a cache or at a path: say cache= or path=, not both")
    where = cache if path is None else path
    if where is None:
        return active()
    if isinstance(where, Cache):
        return where
    text = os.fspath(where)
    if not scheme_of(text):
        text = str(Path(text).expanduser().absolute())
        if not create and not Path(text).is_dir():
            raise StoreError(
                f"there is no store at {text}, and create_dir=False forbids to make one"
            )
    return reopen(text, dict(options or {}))


def commit(cache: Cache, value: Value, call: Call) -> Call:
    """Keep a call whose result is encoded already, with what waits for it.

    Raises:
        StoreError: it can't be written.
    """
    place = cache.place
    done: Any
    beside = CLOCK.waiting(cache)
    if beside is not None and type(place) is Embedded:
        frame = Frame(beside[1].codec, beside[1].head)
        done = place.commit(call, value, None, (beside[0], frame))
    else:
        done = place.commit(call, value)
    if done is None:
        cache.tier.clear()
    else:
        cache.tier.advance(done[0], call.key.raw, Entry(done[1], done[2]))
    return call


class Shelf:
    """Calls under one function name, each found by one text.

    Args:
        cache: where they are.
        function: the name that they have in the cache.
        argument: what the text is called.
    """

    def __init__(self, cache: Cache, function: str, argument: str) -> None:
        self.cache = cache
        self.function = function
        self._argument = argument
        self._keys: dict[str, bytes] = {}
        self._told: set[str] = set()

    def key(self, text: str) -> bytes:
        """The 32 bytes of the call's key."""
        key = self._keys.get(text)
        if key is None:
            key = call_key(self.function, "none", [(self._argument, digest_bytes(text))])
            if len(self._keys) >= _KNOWN:
                self._keys = {}
            self._keys[text] = key
        return key

    def find(self, text: str) -> Entry | None:
        """The entry, or None: absent, damaged, or the store does not answer."""
        try:
            return self.cache.find(self._keys.get(text) or self.key(text))
        except KeptError as error:
            self.trouble("read", error)
            return None

    def arguments(self, text: str) -> dict[str, Argument]:
        """What the record says of its text."""
        return {self._argument: Argument(Digest.of(digest_bytes(text)), text, True)}

    def put(
        self,
        text: str,
        result: Any,
        seconds: float = 0.0,
        *,
        metadata: Mapping[str, Any] = _NOTHING,
        wait: bool = False,
    ) -> None:
        """Keep a result under a text.

        Args:
            seconds: what it took.
            metadata: of the record.
            wait: it may be kept together with the result of the node under way.

        Raises:
            EncodeError: it can't be encoded.
            StoreError: it can't be written.
        """
        value, digest = encoded(result, "pickle")
        call = self._call(text, value, Digest.of(digest), seconds, metadata)
        if not (
            wait and type(self.cache.place) is Embedded and CLOCK.wait(self.cache, call, value)
        ):
            commit(self.cache, value, call)

    def put_encoded(
        self, text: str, value: Value, digest: Digest, metadata: Mapping[str, Any] = _NOTHING
    ) -> None:
        """Keep an encoded result under a text.

        Raises:
            StoreError: it can't be written.
        """
        commit(self.cache, value, self._call(text, value, digest, 0.0, metadata))

    def _call(
        self,
        text: str,
        value: Value,
        digest: Digest,
        seconds: float,
        metadata: Mapping[str, Any],
    ) -> Call:
        return Call(
            key=Digest.of(self.key(text)),
            function=self.function,
            code="none",
            arguments=self.arguments(text),
            result=digest,
            created=time.time(),
            seconds=seconds,
            size=value.size,
            metadata=metadata,
        )

    def delete(self, text: str) -> None:
        """Forget a text; one that is not there is no error."""
        self.cache.forget(self.key(text))

    def calls(self) -> Iterator[Call]:
        """All records, in any order."""
        for _, call in each_call(self.cache.calls):
            if call is not None and call.function == self.function:
                yield call

    def texts(self) -> Iterator[str]:
        """All texts, in any order."""
        for call in self.calls():
            yield call.arguments[self._argument].value

    def clear(self) -> None:
        """Forget all of them, and nothing else."""
        self.cache.evict(self.function)

    def guarded(self, what: str, action: Callable[[], T]) -> T | None:
        """What `action` gives. Trouble with the cache is one warning of its kind and None, since
        the dataflow goes on without it.
        """
        try:
            return action()
        except (KeptError, OSError) as error:
            self.trouble(what, error)
            return None

    def trouble(self, what: str, error: Exception) -> None:
        """Tell of trouble with the cache.

        Raises:
            ConfigError, NewerSchema: it is not trouble of the moment.
        """
        if isinstance(error, (ConfigError, NewerSchema)):
            raise error
        self.warn(what, f"can't {what} {self.function} in {self.cache}: {error}")

    def warn(self, kind: str, text: str) -> None:
        """Warn once a store and kind of trouble."""
        if kind not in self._told:
            self._told.add(kind)
            tell(text)
