"""`wellkept.bless`: the results that other code gave are what today's code would give.

A blessed result is kept once more, under the key that today's code has, with the digest of the same
value. Its record says whose it was: `metadata["blessed"]`. So a look-up finds it like any other, and
what the earlier code finds stays.
"""

from __future__ import annotations

import getpass
import json
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from blake3 import blake3

from wellkept.caches.moving import rewritten
from wellkept.errors import ConfigError, DecodeError
from wellkept.hashing import digest_bytes
from wellkept.hashing.keys import call_key
from wellkept.query import Matches
from wellkept.records import Argument, Call, Digest

if TYPE_CHECKING:
    from wellkept.memo.kept import Kept

__all__ = ["Blessed", "bless"]

NOTES = "bless/"


class Blessed(NamedTuple):
    """What was done."""

    function: str
    code: str
    """The code identity or version that the function has now."""
    before: str
    """Whose results were blessed; "" where there were none of another."""
    calls: int = 0
    """Calls whose results are hits now."""
    same: int = 0
    """Calls that the code of today has a result of."""
    skipped: int = 0
    """Calls without a result, or of a method whose receiver's class can't be told."""


def bless(function: Kept[..., Any], *, code: str | None = None, dry_run: bool = False) -> Blessed:
    """Say that the results of a function's earlier code are what its code would give now.

    Args:
        function: the kept function, with the code of today.
        code: whose results: the code identity or version of a record, or the beginning of one; by
            default that of the latest call whose code was another.
        dry_run: only say what would be done.

    Raises:
        ConfigError: that is no kept function; no kept call has such a code, or calls of several do.
        StoreError: the cache can't be read or written.
    """
    from wellkept.memo.kept import Kept  # which is no part of this module

    if not isinstance(function, Kept):
        raise ConfigError(f"only a kept function has results to bless, not {function!r}")
    name, now = function.locator.identity()
    cache = function.cache
    cache.flush()
    depends = {item[0]: item for item in function.locator.dependencies()}
    calls = [
        call
        for call in Matches(cache).where(function=name).calls()
        if call.code != now or _code_of(call, depends) != _code_of(None, depends)
    ]
    before = _chosen(calls, code, name, str(cache))
    done = {"calls": 0, "same": 0, "skipped": 0}
    receivers = _receivers(function)
    note = {"from": before, "at": time.time(), "by": _user()}
    for call in calls:
        if call.code != before:
            continue
        if len(receivers) > 1:
            done["skipped"] += 1
            continue
        arguments = _arguments(call, depends, *receivers)
        pairs = [(key, argument.digest.raw) for key, argument in arguments.items()]
        new = call._replace(
            key=Digest.of(call_key(name, now, pairs)),
            code=now,
            arguments=arguments,
            uses=0,
            used=None,
            metadata=dict(call.metadata) | {"blessed": note},
        )
        there = cache.backend.fetch(new.key.raw)
        if there is not None and there.envelope is not None:
            done["same"] += 1
            continue
        try:
            done["calls" if rewritten(cache, call, new, dry_run=dry_run) else "skipped"] += 1
        except DecodeError:
            done["skipped"] += 1
    if done["calls"] and not dry_run:
        cache.tier.clear()
        said = {"function": name, "to": now, "calls": done["calls"], **note}
        text = json.dumps(said).encode()
        cache.note(NOTES + blake3(text).hexdigest(), text)
        cache.flush()
    return Blessed(name, now, before, **done)


def _chosen(calls: list[Call], code: str | None, name: str, where: str) -> str:
    """Whose results are meant."""
    if code is None:
        return max(calls, key=lambda call: call.created).code if calls else ""
    found = sorted({call.code for call in calls if _begins(call.code, code)})
    if len(found) == 1:
        return found[0]
    if found:
        raise ConfigError(f"{code!r} is the beginning of several codes: {', '.join(found)}")
    raise ConfigError(f"no call of {name} in {where} has a code that begins with {code!r}")


def _begins(code: str, said: str) -> bool:
    return code.startswith(said) or code.partition(":")[2].startswith(said)


def _arguments(call: Call, depends: dict[str, Any], receiver: str) -> dict[str, Argument]:
    """The arguments of a call as its key has them today; what it depended on but code stays."""
    found = {
        name: argument
        for name, argument in call.arguments.items()
        if not name.startswith("@") or name in depends or name == "@directory"
    }
    for name, (_, _, raw) in depends.items():
        if name not in found or name.startswith("@code "):
            found[name] = Argument(Digest.of(raw))
    if receiver:
        found["@class"] = Argument(Digest.of(digest_bytes(receiver)), receiver, True)
    return found


def _code_of(call: Call | None, depends: dict[str, Any]) -> list[Any]:
    """The functions named in `depends`, as a call had them, or as they are."""
    names = [name for name in depends if name.startswith("@code ")]
    if call is None:
        return [depends[name][2] for name in names]
    there = call.arguments
    return [there[name].digest.raw if name in there else None for name in names]


def _receivers(function: Kept[..., Any]) -> set[str]:
    """For a method: what its code asks of the class of its receiver, of each class that has it."""
    coding = function.locator.coding()
    if coding.deep is None:
        return {""}
    inner: Any = function.__wrapped__
    names = getattr(inner, "__qualname__", "").split(".")
    if len(names) < 2 or names[-2] == "<locals>":
        return {""}
    owner: Any = inner.__globals__.get(names[0]) if hasattr(inner, "__globals__") else None
    for part in names[1:-1]:
        owner = getattr(owner, part, None)
    if not isinstance(owner, type):
        return {""}
    return {coding.of_receiver((kind,)) for kind in _family(owner)}


def _family(kind: type[Any]) -> Iterator[type[Any]]:
    yield kind
    for each in type.__subclasses__(kind):
        yield from _family(each)


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container without a name for its user
        return ""
