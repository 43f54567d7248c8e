"""Named state in Redis: a hash for each entry, and scripts that change it whole or not at all.

Under `<prefix>state:`, with `<store>` for collection, scope and name::

    e:<store>:<key>   hash: value (JSON text or a frame), about (revision created updated expires policy)
    k:<store>         sorted set: the keys, in the order of their bytes
    x:<store>, x      sorted sets: when keys expire, of the store and of all stores
    v:<store>         sorted set: the keys that may be evicted, by revision
    n, s, u           set: stores with keys; hashes: stores that were made, bytes of limited ones
    log               a stream of changes: its ids are the revisions, 4194304 a millisecond

Time is the server's. Who waits for changes has the server hold its answer until there is one.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, unquote

from kept.errors import NewerSchema, StoreError
from kept.kv.base import HISTORY
from kept.kv.entry import ANY, About, Data, Entry, Keep, Logged, Name, Step, size_of
from kept.kv.redisscripts import script
from kept.kv.state import full, too_old
from kept.stores.redis import Redis

__all__ = ["RedisEntries"]

_SCHEMA = "1"
_MANY = 1000  # entries or changes in one answer
_LONG = 1.0  # seconds for which the server holds an answer
_CUT = 256  # changes of which one cuts the log
_BITS = 22  # of a revision, for changes in one millisecond


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
        self._scripts: dict[tuple[str, float], tuple[str, str]] = {}
        self._puts = random.randrange(_CUT)  # or programs that end soon would never cut it
        self._ready = False

    def _run(self, name: str, what: str, *args: Any, again: bool = False) -> Any:
        """A script's answer."""
        if not self._ready:
            self._check()
        verb = "read" if again else "change"
        found = self._scripts.get((name, self.ahead))
        if found is not None:
            try:
                return self._medium.send(verb, what, "EVALSHA", found[0], 0, *args, again=again)
            except StoreError as error:
                if type(error.__cause__).__name__ != "NoScriptError":
                    raise
            text = found[1]
        else:
            text = script(name, self._prefix, self.ahead, self._history)
            digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
            self._scripts[name, self.ahead] = digest, text
        return self._medium.ask(verb, what, "eval", text, 0, *args, again=again)

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
        value, about = self._medium.send("read", key, "HMGET", at, "value", "about")
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
                found.append(About(name, created=_time(created)))
        return found

    def changes(self, name: Name, since: int, limit: int) -> tuple[list[Logged], int]:
        newest = self.newest()  # before the log, or a change could be passed over
        log, mine = f"{self._prefix}log", self._name(name).encode()
        found: list[Logged] = []
        at = since
        while at < newest and len(found) < limit:
            ask = self._medium.ask
            rows = ask("read", "changes", "xrange", log, _id(at + 1), "+", _MANY)
            for number, fields in rows:
                at = _revision(number)
                if fields[b"n"] == mine:
                    found.append(_logged(number, fields, self.ahead))
                    if len(found) == limit:
                        break
            if len(rows) < _MANY:
                break
        self._check_log(since)  # after the rows: they were all there
        return found, at if len(found) == limit else max(at, newest)

    def _check_log(self, since: int) -> None:
        log = f"{self._prefix}log"
        if self._medium.ask("read", "changes", "xlen", log) > self._history:  # it is cut
            first = self._medium.ask("read", "changes", "xrange", log, "-", "+", 1)
            if first and since < _revision(first[0][0]):
                raise too_old(since, _revision(first[0][0]))

    def newest(self) -> int:
        log = f"{self._prefix}log"
        found = self._medium.ask("read", "changes", "xrevrange", log, "+", "-", 1)
        return _revision(found[0][0]) if found else 0

    def due(self) -> float | None:
        found = self._medium.ask("read", "keys", "zrange", f"{self._prefix}x", 0, 0, False, True)
        return float(found[0][1]) if found else None

    # -- writing ----------------------------------------------------------------------------------

    def apply(self, name: Name, steps: Sequence[Step]) -> list[Entry | None] | None:
        first = steps[0]
        data = first.data
        plain = first.ttl is None and first.policy == "persist" and not first.drop
        self._puts += 1
        if len(steps) == 1 and plain and isinstance(data, (str, bytes)) and self._puts % _CUT:
            words = [self._name(name), first.key, self._held(first.key, data)]
            if first.when != ANY:
                words.append(_when(first))
            about = self._run("put", first.key, *words)
            if about:
                return [_entry(first.key, about, data)]
        return self._apply(name, steps)

    def _held(self, key: str, data: Data) -> Data:
        """Data as it is in the server."""
        if len(data) > self._medium.limit:
            raise StoreError(
                f"can't keep {size_of(key, data):,} bytes under {key!r}: more than the limit of "
                f"{self._medium.limit:,}; keep large values elsewhere"
            )
        return data if isinstance(data, str) else b"\0" + data  # which no JSON begins with

    def _apply(self, name: Name, steps: Sequence[Step]) -> list[Entry | None] | None:
        words: list[Any] = []
        for step in steps:
            data = step.data
            held = b"" if isinstance(data, Keep) else self._held(step.key, data)
            ttl = "=" if isinstance(step.ttl, Keep) else "-" if step.ttl is None else repr(step.ttl)
            policy = "=" if isinstance(step.policy, Keep) else step.policy
            kept = 1 if isinstance(data, Keep) else 0
            asked = f"{step.drop:d} {_when(step)} {ttl} {policy} {kept}"
            words += (step.key, asked, held)
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
        last = {f"{self._prefix}log": _id(since)}
        block = max(1, int(min(timeout, _LONG) * 1000))
        self._medium.ask("await", "changes", "xread", last, 1, block)

    def close(self) -> None:
        """The connections are the medium's."""


def _when(step: Step) -> str:
    return _id(step.when) if step.when > 0 else str(step.when)


def _entry(key: str, about: bytes, value: Any) -> Entry:
    number, begun, changed, ends, policy = about.split(b" ")
    return Entry(
        key,
        value if type(value) is str else _data(value),
        _revision(number),
        _time(begun),
        _time(changed),
        None if ends == b"-" else float(ends),
        policy.decode() if policy in (b"evict", b"held") else "persist",
    )


def _time(text: bytes) -> float:
    """Seconds, or the time of a revision."""
    milliseconds, _, more = text.partition(b"-")
    return int(milliseconds) / 1000 if more else float(text)


def _data(value: Any) -> Data:
    """JSON text, or a frame: that begins with a seal, and is told from JSON by a byte before it."""
    if isinstance(value, str):
        return value
    raw = bytes(value)
    return raw[1:] if raw[:1] == b"\0" else raw.decode("utf-8", "surrogateescape")


def _logged(number: bytes, fields: dict[bytes, bytes], ahead: float) -> Logged:
    value, at = fields.get(b"v"), fields.get(b"a")
    data = None if value is None else _data(value)
    kind, key = fields[b"d"].decode(), fields[b"k"].decode()
    when = int(number.partition(b"-")[0]) / 1000 + ahead if at is None else float(at)
    return Logged(_revision(number), kind, key, data, when)


def _revision(number: bytes) -> int:
    """An id of the stream as a number."""
    milliseconds, _, sequence = number.partition(b"-")
    return int(milliseconds) << _BITS | int(sequence)


def _id(revision: int) -> str:
    return f"{revision >> _BITS}-{revision & (1 << _BITS) - 1}"
