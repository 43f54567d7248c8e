"""The scripts that Redis runs for named state; each is one change, or one look, for all others."""

from __future__ import annotations

from kept.kv.entry import LOGGED

__all__ = ["script"]

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
    local data, kind, kept = ARGV[i + 2], 'set', ask.keep
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
local rev
if #data <= %LOGGED% then
  rev = call('XADD', P .. 'log', '*', 'n', n, 'k', key, 'd', 'set', 'v', data)
else
  rev = call('XADD', P .. 'log', '*', 'n', n, 'k', key, 'd', 'set')
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
