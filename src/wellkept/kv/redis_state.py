"""Named state in Redis: scripts that each make one change, or take one look, for all others."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, unquote

from wellkept._process import chance
from wellkept.errors import NewerSchema, StoreError
from wellkept.kv.entry import (
    ANY,
    HISTORY,
    LOGGED,
    About,
    Data,
    Entry,
    Keep,
    Logged,
    Name,
    Step,
)
from wellkept.kv.plan import Entries, full, size_of, too_old
from wellkept.stores.redis import Redis

_COMMON = """
local P, ahead, history = %PREFIX%, %AHEAD%, '%HISTORY%'
local T = redis.call('TIME')
local now = T[1] + T[2] / 1e6 + ahead
local stamp = string.format('%.6f', now)
local call = redis.call
local function parts(about)
  local r, c, u, x, p = string.match(about, '^(%S+) (%S+) (%S+) (%S+) (%S+)$')
  return {revision = r, created = c, expires = x, policy = p,
          gone = x ~= '-' and tonumber(x) <= now}
end
"""
_WRITING = (
    _COMMON
    + """
local function log(n, kind, key, data)
  if data and #data <= %LOGGED% then
    return call('XADD', P .. 'log', 'MAXLEN', '~', history, '*',
                'n', n, 'k', key, 'd', kind, 'a', stamp, 'v', data)
  end
  return call('XADD', P .. 'log', 'MAXLEN', '~', history, '*',
              'n', n, 'k', key, 'd', kind, 'a', stamp)
end
local function out(n, key)
  local at = P .. 'e:' .. n .. ':' .. key
  if call('HEXISTS', P .. 'u', n) == 1 then
    call('HINCRBY', P .. 'u', n, -(call('HSTRLEN', at, 'value') + #key))
  end
  call('DEL', at)
  call('ZREM', P .. 'k:' .. n, key)
  call('ZREM', P .. 'x:' .. n, key)
  call('ZREM', P .. 'x', n .. ':' .. key)
  call('ZREM', P .. 'v:' .. n, key)
  if call('EXISTS', P .. 'k:' .. n) == 0 then call('SREM', P .. 'n', n) end
end
local function expired(n, key)
  local about = call('HGET', P .. 'e:' .. n .. ':' .. key, 'about')
  return about and parts(about).gone
end
"""
)
_LIVE = """
local function live(n)
  local after = '-'
  while true do
    local keys = call('ZRANGEBYLEX', P .. 'k:' .. n, after, '+', 'LIMIT', 0, 100)
    for _, key in ipairs(keys) do
      local about = call('HGET', P .. 'e:' .. n .. ':' .. key, 'about')
      if about then
        local p = parts(about)
        if not p.gone then return p.created end
      end
      after = '(' .. key
    end
    if #keys < 100 then return false end
  end
end
"""
_APPLY = (
    _WRITING
    + """
local n = ARGV[1]
local E = P .. 'e:' .. n .. ':'
local found, mine, asked, sets = {}, {}, {}, false
for i = 2, #ARGV, 3 do
  local key = ARGV[i]
  local drop, when, ttl, policy, keep = string.match(ARGV[i + 1], '^(%S+) (%S+) (%S+) (%S+) (%S+)$')
  drop, keep = drop == '1', keep == '1'
  local about = call('HGET', E .. key, 'about')
  local f = about and parts(about)
  local there = f and not f.gone
  if when == '-1' and not there then return false end
  if when == '0' and there then return false end
  if string.find(when, '^[1-9]') and not (there and f.revision == when) then return false end
  if not drop then sets = true end
  found[i], mine[key] = f, true
  asked[i] = {drop = drop, ttl = ttl, policy = policy, keep = keep}
end
local declared = call('HGET', P .. 's', n)
local limits = declared and cjson.decode(declared)
if limits and (limits.max_keys or limits.max_bytes) then
  local count = call('ZCARD', P .. 'k:' .. n)
  local used = tonumber(call('HGET', P .. 'u', n) or '0')
  for i = 2, #ARGV, 3 do
    local key, f, ask = ARGV[i], found[i], asked[i]
    local old = f and call('HSTRLEN', E .. key, 'value') + #key or 0
    if f then count, used = count - 1, used - old end
    if not ask.drop then
      count = count + 1
      used = used + (ask.keep and old or #ARGV[i + 2] + #key)
    end
  end
  local most, bytes = limits.max_keys or math.huge, limits.max_bytes or math.huge
  local at, victims, taken = 0, {}, {}
  while sets and (count > most or used > bytes) do
    local keys = call('ZRANGE', P .. 'v:' .. n, at, at + 99)
    local last = #keys == 0
    if last then keys = call('ZRANGEBYSCORE', P .. 'x:' .. n, '-inf', stamp) end
    for _, key in ipairs(keys) do
      if not mine[key] and not taken[key] and (count > most or used > bytes) then
        victims[#victims + 1], taken[key] = key, true
        count, used = count - 1, used - call('HSTRLEN', E .. key, 'value') - #key
      end
    end
    at = at + 100
    if last and (count > most or used > bytes) then return count > most and 'keys' or 'bytes' end
  end
  for _, key in ipairs(victims) do
    local kind = expired(n, key) and 'expire' or 'evict'
    out(n, key)
    log(n, kind, key)
  end
end
local left = {}
for i = 2, #ARGV, 3 do
  local key, f, ask = ARGV[i], found[i], asked[i]
  if f and f.gone then
    out(n, key)
    log(n, 'expire', key)
    f = false
  end
  if ask.drop then
    if f then
      out(n, key)
      log(n, 'delete', key)
    end
    left[#left + 1] = {}
  else
    local ttl, policy = ask.ttl, ask.policy
    local expires = '-'
    if policy == '=' then policy = f and f.policy or 'persist' end
    if ttl == '=' then
      if f and (policy ~= 'persist' or f.policy == policy) then expires = f.expires end
    elseif ttl ~= '-' then
      expires = string.format('%.6f', now + tonumber(ttl))
    end
    if expires ~= '-' and policy ~= 'held' then policy = 'evict' end
    local data, kind, kept = ARGV[i + 2], f and 'set' or 'insert', ask.keep
    if kept then data, kind = call('HGET', E .. key, 'value'), 'touch' end
    local rev = log(n, kind, key, data)
    local about = rev .. ' ' .. (f and f.created or stamp) .. ' ' .. stamp .. ' ' .. expires
      .. ' ' .. policy
    if limits and call('HEXISTS', P .. 'u', n) == 1 and not kept then
      local old = f and call('HSTRLEN', E .. key, 'value') + #key or 0
      call('HINCRBY', P .. 'u', n, #data + #key - old)
    end
    if kept then
      call('HSET', E .. key, 'about', about)
      left[#left + 1] = {about, data}
    else
      call('HSET', E .. key, 'value', data, 'about', about)
      left[#left + 1] = {about}
    end
    if not f then
      call('ZADD', P .. 'k:' .. n, 0, key)
      call('SADD', P .. 'n', n)
    end
    if expires ~= '-' then
      call('ZADD', P .. 'x:' .. n, expires, key)
      call('ZADD', P .. 'x', expires, n .. ':' .. key)
    elseif f and f.expires ~= '-' then
      call('ZREM', P .. 'x:' .. n, key)
      call('ZREM', P .. 'x', n .. ':' .. key)
    end
    if policy == 'evict' then
      local ms, seq = string.match(rev, '^(%d+)-(%d+)$')
      call('ZADD', P .. 'v:' .. n, string.format('%.17g', ms + math.min(seq / 4096, 1)), key)
    elseif f and f.policy == 'evict' then
      call('ZREM', P .. 'v:' .. n, key)
    end
  end
end
return left
"""
)
# Most changes are this one, and a third of the time goes into what it leaves out: 0 says that the key,
# or the store, needs the whole script, which also cuts the log.
_PUT = """
local call = redis.call
local P, n, key, data, when = %PREFIX%, ARGV[1], ARGV[2], ARGV[3], ARGV[4] or '-2'
local at = P .. 'e:' .. n .. ':' .. key
local about = call('HGET', at, 'about')
if about then
  if when == '0' or not string.find(about, ' - persist', 1, true) then return 0 end
  if when ~= '-2' and when ~= '-1' and string.match(about, '^%S+') ~= when then return 0 end
elseif when ~= '0' and when ~= '-2' then
  return 0
end
if call('HEXISTS', P .. 'u', n) == 1 then return 0 end
local rev, kind = nil, about and 'set' or 'insert'
if #data <= %LOGGED% then
  rev = call('XADD', P .. 'log', '*', 'n', n, 'k', key, 'd', kind, 'v', data)
else
  rev = call('XADD', P .. 'log', '*', 'n', n, 'k', key, 'd', kind)
end
-- A revision says its time: it begins with the milliseconds of the server's clock.
about = rev .. ' ' .. (about and string.match(about, '^%S+ (%S+)') or rev) .. ' ' .. rev
  .. ' - persist'
if call('HSET', at, 'value', data, 'about', about) ~= 0 then
  call('ZADD', P .. 'k:' .. n, 0, key)
  call('SADD', P .. 'n', n)
end
return about
"""
_PAGE = (
    _COMMON
    + """
local n, low, high, limit, data = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5] == '1'
local rows = {}
while #rows < limit do
  local keys = call('ZRANGEBYLEX', P .. 'k:' .. n, low, high, 'LIMIT', 0, limit)
  for _, key in ipairs(keys) do
    local found = call('HMGET', P .. 'e:' .. n .. ':' .. key, 'about', data and 'value' or '-')
    if found[1] and not parts(found[1]).gone and #rows < limit then
      rows[#rows + 1] = {key, found[1], found[2] or ''}
    end
    low = '(' .. key
  end
  if #keys < limit then break end
end
return rows
"""
)
_COUNT = (
    _COMMON
    + """
local n, low, high = ARGV[1], ARGV[2], ARGV[3]
local count = call('ZLEXCOUNT', P .. 'k:' .. n, low, high)
if low == '[' then return count - call('ZCOUNT', P .. 'x:' .. n, '-inf', stamp) end
local prefix = string.sub(low, 2)
for _, key in ipairs(call('ZRANGEBYSCORE', P .. 'x:' .. n, '-inf', stamp)) do
  if string.sub(key, 1, #prefix) == prefix then count = count - 1 end
end
return count
"""
)
_ABOUTS = (
    _COMMON
    + _LIVE
    + """
local names, rows = {ARGV[1]}, {}
if ARGV[1] == '' then
  names = call('SMEMBERS', P .. 'n')
  for _, n in ipairs(call('HKEYS', P .. 's')) do
    if call('SISMEMBER', P .. 'n', n) == 0 then names[#names + 1] = n end
  end
end
for _, n in ipairs(names) do
  local declared = call('HGET', P .. 's', n)
  rows[#rows + 1] = {n, declared or '', not declared and live(n) or ''}
end
return rows
"""
)
_REMOVE = (
    _WRITING
    + """
local n, which, limit = ARGV[1], ARGV[2], tonumber(ARGV[3])
local done, counted = 0, 0
local function one(n, key)
  local gone = expired(n, key)
  out(n, key)
  log(n, gone and 'expire' or 'delete', key)
  done = done + 1
  if not gone then counted = counted + 1 end
end
if n == '' then
  for _, member in ipairs(call('ZRANGEBYSCORE', P .. 'x', '-inf', stamp, 'LIMIT', 0, limit)) do
    local n, key = string.match(member, '^([^:]*:[^:]*:[^:]*):(.*)$')
    one(n, key)
  end
else
  local set = which == 'evictable' and 'v:' or 'k:'
  for _, key in ipairs(call('ZRANGE', P .. set .. n, 0, limit - 1)) do one(n, key) end
end
return {done, counted}
"""
)
_DECLARE = (
    _WRITING
    + _LIVE
    + """
local n, about = ARGV[1], cjson.decode(ARGV[2])
if call('HEXISTS', P .. 's', n) == 1 or live(n) then return 0 end
for _, key in ipairs(call('ZRANGE', P .. 'k:' .. n, 0, -1)) do
  out(n, key)
  log(n, 'expire', key)
end
-- Put in as text: to decode and encode what the user said would change it.
call('HSET', P .. 's', n, string.sub(ARGV[2], 1, -2) .. ', "created": ' .. stamp .. '}')
if about.max_keys or about.max_bytes then call('HSET', P .. 'u', n, 0) end
return 1
"""
)
_DROP = (
    _WRITING
    + _LIVE
    + """
local n, count = ARGV[1], 0
local there = call('HEXISTS', P .. 's', n) == 1 or live(n)
for _, key in ipairs(call('ZRANGE', P .. 'k:' .. n, 0, -1)) do
  local gone = expired(n, key)
  out(n, key)
  log(n, gone and 'expire' or 'delete', key)
  if not gone then count = count + 1 end
end
call('HDEL', P .. 's', n)
call('HDEL', P .. 'u', n)
return there and count or -1
"""
)

SCRIPTS = {
    "apply": _APPLY,
    "put": _PUT,
    "page": _PAGE,
    "count": _COUNT,
    "abouts": _ABOUTS,
    "remove": _REMOVE,
    "declare": _DECLARE,
    "drop": _DROP,
}
"""By name, for `script`."""


def script(name: str, prefix: str, ahead: float, history: int) -> str:
    """A script's text.

    Args:
        prefix: what the server's keys begin with.
        ahead: seconds by which the clock is moved forward.
        history: how many changes the log holds, about.

    These stand in the text, as each argument of a call costs the driver a microsecond.
    """
    quoted = "".join(f"\\{byte:03d}" for byte in prefix.encode())
    text = SCRIPTS[name].replace("%PREFIX%", f"'{quoted}'")
    return (
        text.replace("%AHEAD%", repr(float(ahead)))
        .replace("%HISTORY%", str(history))
        .replace("%LOGGED%", str(LOGGED))
    )


_SCHEMA = "1"
_MANY = 1000  # entries or changes in one answer
_LONG = 1.0  # seconds for which the server holds an answer
_CUT = 256  # changes of which one cuts the log
_BITS = 22  # of a revision, for changes in one millisecond


class RedisEntries(Entries):
    """`Entries` in a Redis server.

    Args:
        medium: whose connections and prefix are used.
        history: how many changes the log holds, about.
    """

    def __init__(self, medium: Redis, history: int = HISTORY) -> None:
        self.ahead: float = 0.0
        self._medium = medium
        self._prefix = f"{medium.prefix}state:"
        self._history = history
        self._names: dict[Name, str] = {}
        self._scripts: dict[tuple[str, float], tuple[str, str]] = {}
        self._puts = int(chance() * _CUT)  # or programs that end soon would never cut it
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
                f"a newer wellkept made the named state in {self._medium!r} (schema "
                f"{found.decode(errors='replace')}; this one knows {_SCHEMA}): upgrade wellkept, or "
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
    """JSON text, or an envelope: that begins with a checksum; a byte before it distinguishes it from JSON."""
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
