"""`wellkept.bless`: the results that other code gave are what today's code would give.

A blessed result is kept once more, under the key that today's code has, with the digest of the same
value. Its record says whose it was: `metadata["blessed"]`. So a look-up finds it like any other, and
what the earlier code finds stays.
"""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import inspect
import json
import random
import tempfile
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from blake3 import blake3

from wellkept.caches import Cache, open_cache
from wellkept.caches.moving import kind_notes, rewritten
from wellkept.errors import ConfigError, DecodeError, KeptError, NotKept, Undigestible
from wellkept.hashing import digest_bytes
from wellkept.hashing.digests import call_key
from wellkept.memo.keep_options import titled
from wellkept.memo.kept import Kept
from wellkept.memo.kept_target import KeptTarget
from wellkept.query.matches import Matches
from wellkept.query.noted import described
from wellkept.records import Argument, Call, Digest
from wellkept.runs.recorder import notes_of
from wellkept.stores.base import get_many

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
    if not isinstance(function, Kept):
        raise ConfigError(
            f"only a kept function has results to bless, not {titled(function)}: put @keep on it"
        )
    name, now = function.locator.identity()
    cache = function.cache
    cache.flush()
    depends = {item[0]: item for item in function.locator.dependencies()}
    receivers = receivers_of(function)
    calls = [
        call
        for call in Matches(cache).where(function=name).calls()
        if call.code != now
        or _code_of(call, depends) != _code_of(None, depends)
        or other_class(call, receivers)
    ]
    before = _chosen(calls, code, name, str(cache))
    done = {"calls": 0, "same": 0, "skipped": 0}
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
        if function.options.each:
            # What results are put together in is noted for each code.
            notes, old = notes_of(cache), kind_notes(name, before)
            for key, item in get_many(notes, list(notes.keys(old))).items():
                cache.note(kind_notes(name, now) + key.removeprefix(old), item)
        said = {"function": name, "to": now, "calls": done["calls"], **note}
        text = json.dumps(said).encode()
        cache.note(NOTES + blake3(text).hexdigest(), text)
        cache.flush()
    return Blessed(name, now, before, **done)


# What counts beside the arguments and is no code.
_STAYING = ("@directory", "@each", "@order", "@replicate")


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
        if not name.startswith("@") or name in depends or name in _STAYING
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


def receivers_of(function: Kept[..., Any]) -> set[str]:
    """For a method: what its code asks of the class of its receiver, of each class that has it."""
    coding, owner = function.locator.coding(), owner_of(function)
    if coding.deep is None or owner is None:
        return {""}
    return {coding.of_receiver((kind,)) for kind in _family(owner)}


def owner_of(function: Kept[..., Any]) -> type[Any] | None:
    """Return the class whose method a function is; None where that is not known."""
    inner: Any = function.__wrapped__
    names = getattr(inner, "__qualname__", "").split(".")
    if len(names) < 2 or names[-2] == "<locals>":
        return None
    owner: Any = inner.__globals__.get(names[0]) if hasattr(inner, "__globals__") else None
    for part in names[1:-1]:
        owner = getattr(owner, part, None)
    return owner if isinstance(owner, type) else None


def other_class(call: Call, receivers: set[str]) -> bool:
    """Return whether the class of a call's receiver was another one than all that are there now."""
    had = call.arguments.get("@class")
    known = {digest_bytes(each) for each in receivers if each}
    return had is not None and bool(known) and had.digest.raw not in known


def _family(kind: type[Any]) -> Iterator[type[Any]]:
    yield kind
    for each in type.__subclasses__(kind):
        yield from _family(each)


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        # A container may have no name for its user.
        return ""


class Checked(NamedTuple):
    """One kept call that was looked at."""

    key: str
    call: str
    """The function and the arguments, as a message shows them."""
    outcome: str
    """`same`, `differs`, `raised` (computing did), or `unknown` (its arguments can't be had)."""
    detail: str = ""


class Verified(NamedTuple):
    """What came of it."""

    function: str
    code: str
    kept: int
    """Calls that this code has results of."""
    checked: tuple[Checked, ...]

    @property
    def drifted(self) -> tuple[Checked, ...]:
        """Those that are not what computing gives now."""
        return tuple(one for one in self.checked if one.outcome in ("differs", "raised"))

    def tally(self, outcome: str) -> int:
        """How many of those that were looked at had an outcome."""
        return sum(one.outcome == outcome for one in self.checked)


def verify(
    function: Kept[..., Any],
    *,
    sample: float = 0.1,
    seed: int | None = None,
    code: str | None = None,
) -> Verified:
    """Compute some of the kept calls of a function again and compare. What is kept stays as it is.

    A call can be computed again if its record shows its arguments, or if they are kept themselves.
    What the body takes from other kept functions may be a hit.

    Args:
        function: the kept function.
        sample: the share of its calls, above 0 up to 1; at least one.
        seed: which; by default others each time.
        code: of calls that this code gave, compared with what the code of now gives; by default of that.

    Raises:
        ConfigError: that is no kept function, or no such share.
        StoreError: the cache can't be read.
    """
    if not isinstance(function, Kept):
        raise ConfigError(
            f"only a kept function has results to verify, not {titled(function)}: put @keep on it"
        )
    if isinstance(sample, bool) or not isinstance(sample, (int, float)) or not 0 < sample <= 1:
        raise ConfigError(f"sample= is a share of the calls, above 0 up to 1, not {sample!r}")
    name, now = function.locator.identity()
    code = now if code is None else code
    cache = function.cache
    cache.flush()
    calls = list(Matches(cache).where(function=name, code=code).calls())
    some = random.Random(seed).sample(calls, min(len(calls), max(1, round(len(calls) * sample))))
    # In a directory: what it computes has digests as it is kept, not as it is in memory.
    with tempfile.TemporaryDirectory(prefix="wellkept-verify-") as room, open_cache(room) as aside:
        checked = tuple(_checked(function, cache, aside, call) for call in some)
    return Verified(name, code, len(calls), checked)


def _checked(function: Kept[..., Any], cache: Cache, aside: Cache, call: Call) -> Checked:
    plain = {name: one for name, one in call.arguments.items() if not name.startswith("@")}
    shown = described(cache.backend.notes, call._replace(arguments=plain))
    about = str(call.key), f"{function.__qualname__}({shown})"
    try:
        values = _values(function, cache, call)
    except KeptError as error:
        return Checked(*about, "unknown", str(error))
    options = function.options._replace(cache=aside, strict=True, verify=0.0, ttl=None, when=None)
    other = type(function)(function.__wrapped__, options, function._method)
    found = other.locate(values)
    if found is None or not (found.key == call.key.raw or _only_code_differs(found, call)):
        return Checked(*about, "unknown", "what it depends on is not what it was")
    try:
        if options.each:
            # Its calls are of one item each, and it is called with several.
            at = other._binder.names.index(options.each)
            values = (*values[:at], [values[at]], *values[at + 1 :])
        result = other.gather(*other._binder.spread(values))
        if inspect.isawaitable(result):
            asyncio.run(_awaited(result))
    except Exception as error:  # noqa: BLE001  whatever the body raises is the answer
        if call.state != "failed":
            return Checked(*about, "raised", f"{type(error).__name__}: {error}")
    again = aside.calls.get(found.key.hex())
    if again is None:
        return Checked(*about, "differs", "what was computed is not kept")
    if again.result == call.result:
        return Checked(*about, "same")
    return Checked(*about, "differs", f"kept {call.result[:12]}, computed {again.result[:12]}")


def _only_code_differs(found: KeptTarget, call: Call) -> bool:
    now = {name: raw for name, _, raw in found.all_items() if name != "@class"}
    then = {name: one.digest.raw for name, one in call.arguments.items() if name != "@class"}
    return found.code != call.code and now == then


async def _awaited(result: Any) -> Any:
    return await result


def _values(function: Kept[..., Any], cache: Cache, call: Call) -> tuple[Any, ...]:
    """The arguments of a kept call.

    Raises:
        KeptError: they can't be had.
    """
    if function.options.key is not None:
        raise NotKept("a function with key= records what that gave, not its arguments")
    binder = function._binder
    given = {name: one for name, one in call.arguments.items() if not name.startswith("@")}
    values: list[Any] = []
    for parameter in binder.signature.parameters.values():
        name, default = parameter.name, parameter.default
        if name == binder.var_kwargs:
            rest = {key: _value(cache, key, one, default) for key, one in given.items()}
            values.append({key.removeprefix("**"): value for key, value in rest.items()})
        elif (one := given.pop(f"*{name}" if name == binder.var_args else name, None)) is not None:
            values.append(_value(cache, name, one, () if name == binder.var_args else default))
        elif default is not parameter.empty:
            values.append(default)
        else:
            raise NotKept(f"the argument {name} does not count, and so is not recorded")
    return tuple(values)


def _value(cache: Cache, name: str, recorded: Argument, default: Any) -> Any:
    if recorded.shown:
        return recorded.value
    with contextlib.suppress(Undigestible):
        if digest_bytes(default) == recorded.digest.raw:
            return default
    try:
        return cache.load(recorded.digest)
    except NotKept:
        raise NotKept(f"the argument {name} is recorded by its digest alone") from None
