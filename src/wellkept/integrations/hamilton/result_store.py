"""Results of nodes by their data versions: a Hamilton result store over a cache of this library.

`Shelf` is what it shares with the metadata store: their cache, and records found by one text.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from hamilton.caching.stores.base import MetadataStore, ResultRetrievalError, ResultStore

from wellkept.caches import Cache, active, open_cache
from wellkept.caches.opening import reopen
from wellkept.caches.results import encoded
from wellkept.caches.tier import Entry
from wellkept.errors import (
    ConfigError,
    DecodeError,
    EncodeError,
    KeptError,
    NewerSchema,
    StoreError,
    tell,
)
from wellkept.hashing import digest_bytes
from wellkept.hashing.digests import call_key
from wellkept.integrations.hamilton.formats import Formats
from wellkept.integrations.hamilton.run_history import CLOCK, of_node
from wellkept.records import Argument, Call, Digest, Value
from wellkept.stores.backend import each_call
from wellkept.stores.embedded import Embedded
from wellkept.stores.openers import scheme_of

T = TypeVar("T")
_NOTHING: Mapping[str, Any] = {}
# What `sqlite3.connect` takes. A cache connects in its own way, in which writers wait for each other.
_SQLITE = {"timeout", "detect_types", "isolation_level", "check_same_thread"}
_SQLITE |= {"factory", "cached_statements", "uri", "autocommit"}
# Keys that are not made anew.
_KNOWN = 20_000


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
    text, options = os.fspath(where), dict(options or {})
    if scheme_of(text) in ("", "sqlite"):
        options = {name: said for name, said in options.items() if name not in _SQLITE}
    if not scheme_of(text):
        text = str(Path(text).expanduser().absolute())
        if not create and not Path(text).is_dir():
            raise StoreError(
                f"there is no store at {text}, and create_dir=False forbids to make one"
            )
    return reopen(text, options)


def commit(cache: Cache, value: Value, call: Call) -> Call:
    """Keep a call whose result is encoded already, with what waits for it.

    Raises:
        StoreError: it can't be written.
    """
    backend = cache.backend
    beside = CLOCK.waiting(cache)
    items = [(call, value)] if beside is None else [(call, value), beside]
    done = backend.commit_many(items)[0]
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
            wait and type(self.cache.backend) is Embedded and CLOCK.wait(self.cache, call, value)
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
        """Warn once a node and kind of trouble; of what is done for no node, once a store."""
        node = of_node("{}: ")
        if node + kind not in self._told:
            self._told.add(node + kind)
            tell(node + text)


_NAME = "hamilton:result"
_CARRIES = {"carries": "data_version"}
"""Lineages show the node in place of this record."""


class KeptResultStore(ResultStore):
    """Keeps results of nodes in a kept cache.

    Args:
        cache: a cache, a path or a URL; the active cache by default.
        create_dir: make the directory of a path that is not there.
        path: the same as a path or URL in `cache`, by Hamilton's name.
        options: what `wellkept.open` takes, with a path or a URL.

    Attributes:
        cache: the cache.

    Raises:
        ConfigError, StoreError: there is no such cache, or it can't be used.
    """

    def __init__(
        self,
        cache: Cache | str | os.PathLike[str] | None = None,
        create_dir: bool = True,
        *,
        path: str | os.PathLike[str] | None = None,
        **options: Any,
    ) -> None:
        self.cache: Cache = cache_of(cache, path, options, create=create_dir)
        self.create_dir = create_dir
        self._shelf = Shelf(self.cache, _NAME, "data_version")
        self.formats: Formats = Formats(self.cache)
        self._seen = threading.local()

    def __getstate__(self) -> dict[str, Any]:
        """The constructor's arguments, from which the adapter makes a store in another process."""
        return {"cache": self.cache, "create_dir": self.create_dir}

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), **self.__getstate__()), ()

    @property
    def path(self) -> Path:
        """The directory in which files of formats are."""
        return self.formats.directory()

    def exists(self, data_version: str) -> bool:
        """Whether a result is kept under a data version; trouble with the cache is a no."""
        entry = self._shelf.find(data_version)
        self._seen.last = (data_version, entry)
        return entry is not None

    def get(self, data_version: str, **kwargs: Any) -> Any:
        """The result, or None where none is kept under this data version.

        Raises:
            ResultRetrievalError: it was there but is missing or damaged now, so that the adapter
                computes it again.
        """
        last = getattr(self._seen, "last", None)
        promised = last is not None and last[0] == data_version and last[1] is not None
        entry: Entry | None
        # So `exists` and `get` take one trip together.
        if last is not None and promised:
            entry = last[1]
            self._seen.last = None
        else:
            entry = self._shelf.find(data_version)
            if entry is None:
                return None
        key = self._shelf.key(data_version)
        try:
            value = self.formats.value(key, entry, data_version)
        except (KeptError, OSError) as error:
            damage = error if isinstance(error, DecodeError) else DecodeError(str(error))
            damage.what += of_node(" (node {})")
            self.cache.damage(key, damage)
            raise ResultRetrievalError(
                f"the result {data_version} can't be loaded: {error}"
            ) from error
        self.cache.used(key)
        CLOCK.answered(data_version)
        return value

    def set(
        self,
        data_version: str,
        result: Any,
        saver_cls: Any = None,
        loader_cls: Any = None,
        **kwargs: Any,
    ) -> None:
        """Keep a result; one that can't be kept is a warning.

        Args:
            saver_cls: a Hamilton saver, which writes it as a file of its format.
            loader_cls: the loader that reads such a file.

        Raises:
            ValueError: only one of the two is given, or one takes its location neither as `file`
                nor as `path`.
        """
        if (saver_cls is None) != (loader_cls is None):
            raise ValueError(
                f"a format needs both a saver and a loader, not {saver_cls!r} and {loader_cls!r}"
            )
        warn = self._shelf.warn
        try:
            self.keep(data_version, result, saver_cls, loader_cls)
        except ConfigError:
            raise
        except EncodeError as error:
            warn("encode", f"its result is not kept, only returned: {error}")
        except (KeptError, OSError) as error:
            warn("write", f"its result is not kept in {self.cache}: {error}")

    def keep(
        self, data_version: str, result: Any, saver_cls: Any = None, loader_cls: Any = None
    ) -> None:
        """As `set`; what can't be kept is an error.

        Raises:
            EncodeError: the result can't be encoded.
            StoreError: it can't be written.
        """
        self._seen.last = None
        if saver_cls is not None:
            try:
                self._put(data_version, *self.formats.encoded(result, saver_cls, loader_cls))
            except EncodeError as error:
                name = saver_cls.name()
                self._shelf.warn(
                    "format", f"its result is kept without the format {name!r}: {error}"
                )
            else:
                return
        self._shelf.put(data_version, result, metadata=_CARRIES)

    def adopt(self, data_version: str, file: Path, loader_cls: Any, takes: str) -> None:
        """Keep a file that a saver wrote as a result.

        Args:
            loader_cls: what reads it.
            takes: how that takes its location, `file` or `path`.

        Raises:
            EncodeError: its loader can't read it.
            OSError: it can't be read.
            StoreError: it can't be written.
        """
        self._put(data_version, *self.formats.of_file(file, file.suffix[1:], loader_cls, takes))

    def _put(self, data_version: str, value: Value, digest: Digest) -> None:
        self._seen.last = None
        self._shelf.put_encoded(data_version, value, digest, _CARRIES)
        self.formats.name(data_version, value)

    def delete(self, data_version: str) -> None:
        """Forget a result, and its file; one that is not there is no error."""
        self._seen.last = None
        self._shelf.delete(data_version)
        self.formats.remove(data_version)

    def delete_all(self) -> None:
        """Forget all results that Hamilton's stores put in this cache, and nothing else of it."""
        self._seen.last = None
        self._shelf.clear()
        self.formats.clear()

    def data_versions(self) -> list[str]:
        """All data versions that have a result."""
        return list(self._shelf.texts())

    def _materialized_path(self, data_version: str, saver_cls: Any) -> Path:
        """Where the file of a result in this saver's format is or will be."""
        return self.formats.path(data_version, saver_cls.name())

    # -- from store to store ----------------------------------------------------------------------

    def persist_to(self, result_store: ResultStore | None = None) -> None:
        """Copy all results to another store; by default one over the active cache.

        A result in a format is loaded and goes without its format.
        """
        target = KeptResultStore() if result_store is None else result_store
        _copy(self, target, self.data_versions())

    @classmethod
    def load_from(
        cls,
        result_store: ResultStore,
        metadata_store: MetadataStore | None = None,
        data_versions: Iterable[str] | None = None,
        **made_with: Any,
    ) -> KeptResultStore:
        """A store with results of another one.

        Args:
            result_store: wellkept's or one of Hamilton's own.
            metadata_store: whose runs say which results.
            data_versions: which results, or which beside those.
            made_with: the constructor's arguments.

        Raises:
            ValueError: neither says which results, and the store can't tell.
        """
        if metadata_store is None and data_versions is None:
            if not isinstance(result_store, KeptResultStore):
                raise ValueError(
                    "which results? Give metadata_store= or data_versions=: a Hamilton store has no "
                    "list of what it holds"
                )
            data_versions = result_store.data_versions()
        wanted = dict.fromkeys(data_versions or ())
        if metadata_store is not None:
            for run_id in metadata_store.get_run_ids():
                wanted.update(
                    dict.fromkeys(n["data_version"] for n in metadata_store.get_run(run_id))
                )
        made = cls(**made_with)
        _copy(result_store, made, wanted)
        return made


def _copy(source: ResultStore, target: ResultStore, data_versions: Iterable[str]) -> None:
    for data_version in data_versions:
        # This distinguishes a kept None from a missing result.
        if source.exists(data_version):
            try:
                result = source.get(data_version)
            except ResultRetrievalError:
                # There was a warning; it will be computed again.
                continue
            target.set(data_version=data_version, result=result)


class InMemoryResultStore(KeptResultStore):
    """Keeps results in memory, encoded, so that no reader changes another's.

    Args:
        persist_on_exit: copy all to the active cache when the interpreter ends.
    """

    def __init__(self, persist_on_exit: bool = False, *, cache: Cache | None = None) -> None:
        super().__init__(open_cache("memory:") if cache is None else cache)
        self.persist_on_exit = persist_on_exit
        if persist_on_exit:
            # The callback also keeps it alive until then.
            atexit.register(self.persist_to)

    def __getstate__(self) -> dict[str, Any]:
        return {"persist_on_exit": self.persist_on_exit, "cache": self.cache}
