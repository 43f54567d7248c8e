"""A cache of wellkept as the store of `joblib.Memory`.

    wellkept.integrations.joblib.register()
    memory = joblib.Memory("~/results", backend="wellkept")

joblib goes on to say what a call is (the hash of its arguments) and when a function has changed (its
source); wellkept keeps the results: in any of its stores, verified, shared, listed and limited like others.
"""

from __future__ import annotations

import datetime
import os
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from wellkept.caches import Cache, open_cache
from wellkept.errors import ConfigError, DecodeError, KeptError, NotKept, StoreError
from wellkept.hashing import digest_bytes
from wellkept.hashing.digests import call_key
from wellkept.records import Arguments, Call
from wellkept.runs.recorder import notes_of

try:
    import joblib
    from joblib._store_backends import (
        CacheItemInfo,
        CacheWarning,
        StoreBackendBase,
        StoreBackendMixin,
    )
    from joblib.logger import format_time
except ImportError as _missing:
    raise ConfigError("joblib is not installed: pip install 'wellkept[joblib]'") from _missing

__all__ = ["KeptStore", "register"]

_SOURCES = "joblib/"
"""`<digest of a function's id>`: its source, by which joblib sees that it has changed."""
_MARK = "joblib"
"""In the metadata of a call: what joblib tells of it."""


def register(name: str = "wellkept") -> None:
    """Let `joblib.Memory(location, backend=name)` use a cache of wellkept; its location is any path or URL
    that `wellkept.open` takes.
    """
    joblib.register_store_backend(name, KeptStore)


class _Holds:
    # Not among `vars`, by which two of joblib's objects are compared: each opens the cache by itself, and those
    # of one place are equal.
    __slots__ = ("cache",)

    cache: Any


class KeptStore(_Holds, StoreBackendBase, StoreBackendMixin):  # type: ignore[misc]  # joblib has no types
    """joblib's store. `Memory(KeptStore(cache))` takes a cache that is open already.

    `mmap_mode` and `compress` are passed over: large arrays are mapped in any case, and compression
    is an option of wellkept's stores.
    """

    def __init__(self, cache: Cache | None = None) -> None:
        self.cache = cache
        self.location: str = "" if cache is None else repr(cache)
        self.verbose: int = 0

    def configure(
        self, location: str, verbose: int = 0, backend_options: Mapping[str, Any] | None = None
    ) -> None:
        """Open the cache.

        Raises:
            ConfigError: there is no such store.
            StoreError: it can't be opened.
        """
        # joblib has put a directory of its own below every location, also below a URL.
        self.location = location.removesuffix(os.sep + "joblib")
        self.verbose = verbose
        self.cache: Any = open_cache(self.location)

    # -- results ----------------------------------------------------------------------------------

    def contains_item(self, call_id: Sequence[str]) -> bool:
        try:
            return self.cache.find(_key(call_id)) is not None
        except KeptError as error:
            _warn(f"can't look up: {error}")
            return False

    def load_item(
        self,
        call_id: Sequence[str],
        verbose: int = 1,
        timestamp: float | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Any:
        """The result.

        Raises:
            KeyError: there is none, or it is damaged; joblib computes it again.
            StoreError: it can't be read.
        """
        if verbose > 1:
            _tell(call_id, timestamp, metadata or {}, str(self.location) if verbose >= 10 else "")
        key = _key(call_id)
        entry = self.cache.find(key)
        if entry is None:
            raise NotKept(f"{_name(call_id[0])} of {call_id[1]} is not kept in {self.cache}")
        try:
            value = self.cache.value(key, entry)
        except DecodeError as error:
            self.cache.damage(key, error)
            raise NotKept(str(error)) from error
        self.cache.used(key)
        return value

    def dump_item(self, call_id: Sequence[str], item: Any, verbose: int = 1) -> None:
        """Keep a result; one that can't be kept is a warning."""
        try:
            self.cache.keep(
                _key(call_id),
                item,
                function=_name(call_id[0]),
                code="none",
                arguments=Arguments(_given(call_id), lambda _: True),
                metadata={_MARK: {}},
            )
        except Exception as error:  # noqa: BLE001  joblib's caller has its result
            _warn(f"can't keep a result: {error}")

    def clear_item(self, call_id: Sequence[str]) -> None:
        self.cache.forget(_key(call_id))

    # -- metadata of calls ------------------------------------------------------------------------

    def store_metadata(self, call_id: Sequence[str], metadata: Mapping[str, Any]) -> None:
        try:
            call = self.cache.calls.get(_key(call_id).hex())
            if call is not None:
                seconds = metadata.get("duration", 0.0)
                call = call.replace(seconds=seconds, metadata={_MARK: dict(metadata)})
                self.cache.calls.put(call.key, call)
        except Exception as error:  # noqa: BLE001  as above
            _warn(f"can't keep what is known of a call: {error}")

    def get_metadata(self, call_id: Sequence[str]) -> dict[str, Any]:
        try:
            call = self.cache.calls.get(_key(call_id).hex())
        except KeptError:
            call = None
        return {} if call is None else dict(call.metadata.get(_MARK, {}))

    def store_cached_func_code(self, call_id: Sequence[str], func_code: str | None = None) -> None:
        if func_code is not None:
            try:
                notes_of(self.cache).put(_source(call_id), func_code.encode())
            except KeptError as error:
                _warn(f"can't keep a function's source: {error}")

    def get_cached_func_code(self, call_id: Sequence[str]) -> str:
        try:
            found = notes_of(self.cache).get(_source(call_id))
        except StoreError as error:
            raise OSError(str(error)) from error
        if found is None:
            raise OSError(f"no source of {call_id[0]} is kept in {self.cache}")
        return bytes(found).decode()

    def get_cached_func_info(self, call_id: Sequence[str]) -> dict[str, str]:
        return {"location": f"{self.location}{os.sep}{call_id[0]}"}

    # -- all of them ------------------------------------------------------------------------------

    def _calls(self, function: str | None = None) -> Iterator[Call]:
        for match in self.cache.query():
            call: Call = match.call
            if _MARK in call.metadata and function in (None, call.function):
                yield call

    def clear_path(self, call_id: Sequence[str]) -> None:
        """Forget what is kept of a function."""
        for call in list(self._calls(_name(call_id[0]))):
            self.cache.forget(call.key.raw)
        notes_of(self.cache).delete(_source(call_id))

    def clear(self) -> None:
        """Forget what joblib has kept here; other calls stay."""
        for call in list(self._calls()):
            self.cache.forget(call.key.raw)
        for name in list(notes_of(self.cache).keys(_SOURCES)):
            notes_of(self.cache).delete(name)

    def get_items(self) -> list[CacheItemInfo]:
        """For joblib's limits: keys, sizes, and when each was used last."""
        self.cache.flush()
        return [
            CacheItemInfo(
                str(call.key), call.size, datetime.datetime.fromtimestamp(call.used or call.created)
            )
            for call in self._calls()
        ]

    def clear_location(self, location: str) -> None:
        self.cache.forget(bytes.fromhex(location))

    # -- what only a store of files has -----------------------------------------------------------

    def create_location(self, location: str) -> None:
        """There are no directories."""

    def _open_item(self, f: str, mode: str) -> Any:
        raise NotImplementedError("wellkept has no files that joblib could open")

    _item_exists = _move_item = _open_item


def _key(call_id: Sequence[str]) -> bytes:
    given = [(name, raw) for name, _, raw in _given(call_id)]
    return call_key(_name(call_id[0]), "none", given)


def _given(call_id: Sequence[str]) -> list[tuple[str, Any, bytes]]:
    """What a call's key is made of beside the function's name."""
    named = zip(("joblib", "arguments"), call_id, strict=True)
    return [(name, text, digest_bytes(text)) for name, text in named]


def _source(call_id: Sequence[str]) -> str:
    return _SOURCES + digest_bytes(call_id[0]).hex()


def _name(identity: str) -> str:
    """`package/module/function`, as functions are named here."""
    *module, function = Path(identity).parts
    return f"{'.'.join(module)}:{function}"


def _warn(text: str) -> None:
    warnings.warn(f"wellkept: {text}", CacheWarning, stacklevel=4)


def _tell(
    call_id: Sequence[str], timestamp: float | None, metadata: Mapping[str, Any], where: str
) -> None:
    """What joblib prints when it loads a result."""
    taken = "" if timestamp is None else f"{format_time(time.time() - timestamp): <16}"
    given = ", ".join(f"{name}={text}" for name, text in metadata.get("input_args", {}).items())
    end = f" from {where}" if where else "..."
    print(f"[Memory]{taken}: Loading {call_id[0]}({given}){end}")
