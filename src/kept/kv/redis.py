"""Named state in Redis: a hash for each entry, and scripts that change it whole or not at all.

Under `<prefix>state:`, with `<store>` for collection, scope and name::

    e:<store>:<key>   hash: value (JSON text or a frame), about (revision created updated expires policy)
    k:<store>         sorted set: the keys, in the order of their bytes
    x:<store>, x      sorted sets: when keys expire, of the store and of all stores
    v:<store>         sorted set: the keys that may be evicted, by revision
    n, s, u           set: stores with keys; hashes: stores that were made, bytes of limited ones
    rev, log          the last revision; a stream of changes, whose ids are revisions

Time is the server's. Changes are told on the channel `wake`, which only wakes up those who wait.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, unquote

from kept.errors import KeptError, NewerSchema, StoreError
from kept.kv.base import HISTORY
from kept.kv.entry import About, Data, Entry, Keep, Logged, Name, Step, size_of
from kept.kv.redisscripts import SCRIPTS
from kept.kv.state import full, too_old
from kept.stores.redis import Redis

__all__ = ["RedisEntries"]

_SCHEMA = "1"
_MANY = 1000  # entries or changes in one answer
_SLOW = 0.25  # seconds between looks for news if nobody tells of them
_NOBODY: Any = None


class RedisEntries:
    """`Entries` in a Redis server.

    Args:
        medium: whose connections and prefix are used.
        history: how many changes the log holds, about.
    """

    def __init__(self, medium: Redis, history: int = HISTORY) -> None:
        self.ahead = 0.0
        self._medium = medium
        self._prefix = f"{medium.prefix}state:"
        self._history = history
        self._names: dict[Name, str] = {}
        self._digests: dict[str, str] = {}
        self._ready = False
        self._local = threading.local()

    def _run(self, script: str, what: str, *args: Any, again: bool = False) -> Any:
        """A script's answer."""
        if not self._ready:
            self._check()
        digest = self._digests.get(script)
        words = (self._prefix, self.ahead, self._history, *args)
        if digest is not None:
            try:
                verb = "read" if again else "change"
                return self._medium.ask(verb, what, "evalsha", digest, 0, *words, again=again)
            except StoreError as error:
                if "NOSCRIPT" not in f"{error} {error.__cause__!r}".upper():
                    raise
        text = SCRIPTS[script]
        self._digests[script] = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
        return self._medium.ask("change", what, "eval", text, 0, *words, again=again)

    def _check(self) -> None:
        found = self._medium.ask("read", "its schema", "get", f"{self._prefix}schema")
        if found is None:
            ask = self._medium.ask
            ask("make", "its schema", "setnx", f"{self._prefix}schema", _SCHEMA)
        elif not found.isdigit() or int(found) > int(_SCHEMA):
            raise NewerSchema(
                f"a newer kept made the named state in {self._medium!r} (schema "
                f"{found.decode(errors='replace')}; this one knows {_SCHEMA}): upgrade kept, or "
                "choose another prefix"
            )
        self._ready = True

    def _name(self, name: Name) -> str:
        found = self._names.get(name)
        if found is None:
            found = self._names[name] = ":".join(quote(part, safe="") for part in name)
        return found

    # -- reading ----------------------------------------------------------------------------------

    def now(self) -> float:
        return self._medium.now() + self.ahead

    def get(self, name: Name, key: str) -> Entry | None:
        if not self._ready:
            self._check()
        at = f"{self._prefix}e:{self._name(name)}:{key}"
        value, about = self._medium.ask("read", key, "hmget", at, "value", "about")
        if about is None:
            return None
        entry = _entry(key, about, value)
        if entry.expires is not None and entry.expires <= self.now():
            return None
        return entry

    def page(
        self, name: Name, prefix: str, after: str | None, limit: int, data: bool
    ) -> list[Entry]:
        low = b"[" + prefix.encode()
        if after is not None and after >= prefix:
            low = b"(" + after.encode()
        high = b"(" + prefix.encode() + b"\xff"  # which no UTF-8 has
        args = (self._name(name), low, high, limit, 1 if data else 0)
        rows = self._run("page", "its keys", *args, again=True)
        return [_entry(key.decode(), about, value) for key, about, value in rows]

    def count(self, name: Name, prefix: str) -> int:
        low, high = b"[" + prefix.encode(), b"(" + prefix.encode() + b"\xff"
        return int(self._run("count", "its keys", self._name(name), low, high, again=True))

    def abouts(self, collection: str, scope: str | None, store: str | None) -> list[About]:
        one = scope is not None and store is not None
        only = self._name(Name(collection, scope or "", store or "")) if one else ""
        found = []
        for quoted, declared, created in self._run("abouts", "stores", only, again=True):
            name = Name(*map(unquote, quoted.decode().split(":")))
            if (
                name.collection != collection
                or (scope is not None and name.scope != scope)
                or (store is not None and name.store != store)
            ):
                continue
            if declared:
                known = json.loads(declared)
                limits = known.get("max_keys"), known.get("max_bytes")
                about = known.get("metadata"), known["policy"], known["created"]
                found.append(About(name, True, *about, *limits))
            elif created:
                found.append(About(name, created=float(created)))
        return found

    def changes(self, name: Name, since: int, limit: int) -> tuple[list[Logged], int]:
        newest = self.newest()  # before the log, or a change could be passed over
        log, mine = f"{self._prefix}log", self._name(name).encode()
        found: list[Logged] = []
        at = since
        while at < newest and len(found) < limit:
            rows = self._medium.ask("read", "changes", "xrange", log, f"{at}-2", "+", _MANY)
            for number, fields in rows:
                at = int(number.partition(b"-")[0])
                if fields[b"n"] == mine:
                    found.append(_logged(at, fields))
                    if len(found) == limit:
                        break
            if len(rows) < _MANY:
                break
        first = self._medium.ask("read", "changes", "xrange", log, "-", "+", 1)
        floor = int(first[0][0].partition(b"-")[0]) - 1 if first else newest
        if since < floor:  # looked at after the rows: they were all there
            raise too_old(since, floor)
        return found, at if len(found) == limit else max(at, newest)

    def newest(self) -> int:
        return int(self._medium.ask("read", "changes", "get", f"{self._prefix}rev") or 0)

    def due(self) -> float | None:
        found = self._medium.ask("read", "keys", "zrange", f"{self._prefix}x", 0, 0, False, True)
        return float(found[0][1]) if found else None

    # -- writing ----------------------------------------------------------------------------------

    def apply(self, name: Name, steps: Sequence[Step]) -> list[Entry | None] | None:
        words: list[Any] = []
        for step in steps:
            data = step.data
            if isinstance(data, Keep):
                held: Data = b""
            else:
                held = data
                if len(held) > self._medium.limit:
                    raise StoreError(
                        f"can't keep {size_of(step.key, held):,} bytes under {step.key!r}: more than "
                        f"the limit of {self._medium.limit:,}; keep large values elsewhere"
                    )
            ttl = "=" if isinstance(step.ttl, Keep) else "-" if step.ttl is None else repr(step.ttl)
            policy = "=" if isinstance(step.policy, Keep) else step.policy
            kept = 1 if isinstance(data, Keep) else 0
            if isinstance(held, bytes) and not kept:
                held = b"\0" + held  # which no JSON begins with
            words += (step.key, int(step.drop), step.when, ttl, policy, kept, held)
        what = steps[0].key if len(steps) == 1 else f"{len(steps)} keys"
        answer = self._run("apply", what, self._name(name), *words)
        if answer is None:
            return None
        if isinstance(answer, bytes):  # the store is full
            about = self.abouts(*name)[0]
            raise StoreError(full(about, 1 << 62, 1 << 62))
        left: list[Entry | None] = []
        for step, row in zip(steps, answer, strict=True):
            if not row:
                left.append(None)
            elif isinstance(step.data, Keep):
                left.append(_entry(step.key, row[0], row[1]))
            else:
                left.append(_entry(step.key, row[0], step.data))
        return left

    def remove(self, name: Name | None, which: str, limit: int | None) -> int:
        live = 0
        while True:
            some = _MANY if limit is None else min(limit, _MANY)
            quoted = "" if name is None else self._name(name)
            done, counted = self._run("remove", "keys", quoted, which, some)
            live += int(done if which == "expired" else counted)
            if limit is not None:
                limit -= int(done)
            if int(done) < some or limit == 0:
                return live

    def declare(self, about: About) -> bool:
        known: dict[str, Any] = {"metadata": about.metadata, "policy": about.policy}
        known |= {"max_keys": about.max_keys, "max_bytes": about.max_bytes}
        said = json.dumps({name: value for name, value in known.items() if value is not None})
        what = f"the store {about.name.store!r}"
        return bool(self._run("declare", what, self._name(about.name), said))

    def drop(self, name: Name) -> int | None:
        found = self._run("drop", f"the store {name.store!r}", self._name(name))
        return None if int(found) < 0 else int(found)

    # -- waiting ----------------------------------------------------------------------------------

    def wait(self, since: int, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        listening = self._listening()
        while self.newest() <= since and (left := deadline - time.monotonic()) > 0:
            if listening is None:
                time.sleep(min(_SLOW, left))
                continue
            try:
                listening.get_message(timeout=left)
            except Exception:  # noqa: BLE001  of the driver or the socket: it is only a wake-up
                self._local.listening = listening = None

    def _listening(self) -> Any:
        known: Any = getattr(self._local, "listening", None)
        pid, found = known or (0, _NOBODY)
        if pid != os.getpid():
            try:
                found = self._medium.listen(f"{self._prefix}wake")
            except KeptError:
                return None
            self._local.listening = os.getpid(), found
        return found

    def close(self) -> None:
        known: Any = getattr(self._local, "listening", None)
        pid, found = known or (0, _NOBODY)
        self._local.listening = None
        if pid == os.getpid():
            found.close()


def _entry(key: str, about: bytes, value: Any) -> Entry:
    revision, created, updated, expires, policy = about.decode().split(" ")
    return Entry(
        key,
        _data(value),
        int(revision),
        float(created),
        float(updated),
        None if expires == "-" else float(expires),
        policy,
    )


def _data(value: Any) -> Data:
    """JSON text, or a frame: that begins with a seal, and is told from JSON by a byte before it."""
    if isinstance(value, str):
        return value
    raw = bytes(value)
    return raw[1:] if raw[:1] == b"\0" else raw.decode("utf-8", "surrogateescape")


def _logged(revision: int, fields: dict[bytes, bytes]) -> Logged:
    value = fields.get(b"v")
    data = None if value is None else _data(value)
    kind, key = fields[b"d"].decode(), fields[b"k"].decode()
    return Logged(revision, kind, key, data, float(fields[b"a"]))
