"""One node's execution as a kept call: the flow of `@keep`, with a node in place of a function."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Mapping
from typing import Any

from hamilton.caching.stores.base import search_data_adapter_registry

from wellkept.caches import Cache
from wellkept.caches.tier import Entry
from wellkept.errors import DecodeError, EncodeError
from wellkept.integrations.hamilton.formats import Formats
from wellkept.integrations.hamilton.node import Planned
from wellkept.integrations.hamilton.result_store import commit
from wellkept.memo.keep_options import Options
from wellkept.memo.observed import Bodies
from wellkept.memo.stats import Stats
from wellkept.memo.target import Items, Target, kind_of
from wellkept.records import Call, Digest


class NodeTarget(Target):
    """One execution of a node, as a call that is kept: results in formats are files.

    Its code is a graph's, so what it runs is compared with nothing, and its sources are not written
    down. A node that is given a digest is meant to have that, and not what it names.

    Args:
        node: what is executed.
        cache: where its result goes.
        formats: the files of that cache.
        key: of the call.
        items: name, value and digest of each dependency that counts.
        warn: told once a kind of trouble.

    Attributes:
        digest: of the result, once it is kept or found.
    """

    node: Planned
    call: Callable[..., Any]
    title: str
    name: str
    code: str
    options: Options
    awaits: bool
    counts: Stats
    bodies: Bodies
    cache: Cache
    key: bytes
    items: Items | None

    def __init__(
        self,
        node: Planned,
        cache: Cache,
        formats: Formats,
        key: bytes,
        items: Items,
        warn: Callable[[str, str], None],
    ) -> None:
        self.node, self.call, self.title = node, node.run, node.name
        self.name, self.code = node.function_name, node.code_tag
        self.options = node.options
        self.awaits = inspect.iscoroutinefunction(node.run)
        self.counts, self.bodies = Stats(), Bodies(followed=False)
        self.cache, self.key, self.items = cache, key, items
        self.digest: str | None = None
        self._formats = formats
        self._warn = warn

    def value(self, entry: Entry) -> Any:
        try:
            value = self._formats.value(self.key, entry, entry.body.result.hex())
        except DecodeError as error:
            error.what = f"{error.what} (node {self.title})"
            raise
        self.digest = entry.body.result.hex()
        return value

    def keep(
        self,
        result: Any,
        state: str,
        seconds: float,
        codec: str,
        metadata: Mapping[str, Any] | None,
    ) -> Call | None:
        if self.options.name is not None:
            # Its calls have another name than it.
            metadata = {**(metadata or {}), "node": {"name": self.node.name}}
        call: Call | None = None
        if self.node.format is not None:
            try:
                call = self._keep_file(result, self.node.format, seconds, metadata)
            except (EncodeError, KeyError, ValueError) as error:
                self.warn(
                    "format",
                    f"its result is kept without the format {self.node.format!r}: {error}",
                )
        if call is None:
            call = super().keep(result, state, seconds, codec, metadata)
        if call is not None:
            self.digest = str(call.result)
        return call

    def _keep_file(
        self, result: Any, name: str, seconds: float, metadata: Mapping[str, Any] | None
    ) -> Call:
        saver, loader = search_data_adapter_registry(name, type(result))
        value, digest = self._formats.encoded(result, saver, loader)
        now, ttl = time.time(), self.options.ttl
        call = Call(
            key=Digest.of(self.key),
            function=self.name,
            code=self.code,
            arguments=self.arguments(),
            result=digest,
            created=now,
            seconds=seconds,
            size=value.size,
            expires=None if ttl is None else now + ttl,
            metadata={} if metadata is None else metadata,
        )
        commit(self.cache, value, call)
        self._formats.name(digest, value)
        return call

    def broke(self, error: Exception) -> bool:
        self.warn(kind_of(error), str(error))
        return False

    def warn(self, kind: str, text: str) -> None:
        self._warn(f"{kind} {self.node.name}", f"{self.title}: {text}")
