"""`wellkept.verify`: compute a sample of what is kept again, and compare."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import random
import tempfile
from typing import TYPE_CHECKING, Any, NamedTuple

from wellkept.caches import open_cache
from wellkept.errors import ConfigError, KeptError, NotKept, Undigestible
from wellkept.hashing import digest_bytes
from wellkept.query import Matches
from wellkept.records import Argument, Call

if TYPE_CHECKING:
    from wellkept.caches import Cache
    from wellkept.memo.kept import Kept

__all__ = ["Checked", "Verified", "verify"]


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
    """Calls that the code of today has results of."""
    checked: tuple[Checked, ...]

    @property
    def drifted(self) -> tuple[Checked, ...]:
        """Those that are not what computing gives now."""
        return tuple(one for one in self.checked if one.outcome in ("differs", "raised"))

    def tally(self, outcome: str) -> int:
        """How many of those that were looked at had an outcome."""
        return sum(one.outcome == outcome for one in self.checked)


def verify(function: Kept[..., Any], *, sample: float = 0.1, seed: int | None = None) -> Verified:
    """Compute some of the kept calls of a function again and compare. What is kept stays as it is.

    A call can be computed again if its record shows its arguments, or if they are kept themselves.
    What the body takes from other kept functions may be a hit.

    Args:
        function: the kept function.
        sample: the share of its calls, above 0 up to 1; at least one.
        seed: which; by default others each time.

    Raises:
        ConfigError: that is no kept function, or no such share.
        StoreError: the cache can't be read.
    """
    from wellkept.memo.kept import Kept  # which is no part of this module

    if not isinstance(function, Kept):
        raise ConfigError(f"only a kept function has results to verify, not {function!r}")
    if isinstance(sample, bool) or not isinstance(sample, (int, float)) or not 0 < sample <= 1:
        raise ConfigError(f"sample= is a share of the calls, above 0 up to 1, not {sample!r}")
    name, code = function.locator.identity()
    cache = function.cache
    cache.flush()
    calls = list(Matches(cache).where(function=name, code=code).calls())
    some = random.Random(seed).sample(calls, min(len(calls), max(1, round(len(calls) * sample))))
    # In a directory: what it computes has digests as it is kept, not as it is in memory.
    with tempfile.TemporaryDirectory(prefix="wellkept-verify-") as room, open_cache(room) as aside:
        checked = tuple(_checked(function, cache, aside, call) for call in some)
    return Verified(name, code, len(calls), checked)


def _checked(function: Kept[..., Any], cache: Cache, aside: Cache, call: Call) -> Checked:
    shown = ", ".join(
        f"{name}={argument.value!r}" if argument.shown else f"{name}=<{argument.digest[:8]}>"
        for name, argument in call.arguments.items()
        if not name.startswith("@")
    )
    about = str(call.key), f"{function.__qualname__}({shown})"
    try:
        values = _values(function, cache, call)
    except KeptError as error:
        return Checked(*about, "unknown", str(error))
    options = function.options._replace(cache=aside, strict=True, verify=0.0, ttl=None, when=None)
    other = type(function)(function.__wrapped__, options, function._method)
    found = other.locate(values)
    if found is None or found.key != call.key.raw:
        return Checked(*about, "unknown", "what it depends on is not what it was")
    try:
        result = other.gather(*other._binder.spread(values))
        if inspect.isawaitable(result):
            asyncio.run(_awaited(result))
    except Exception as error:  # noqa: BLE001  whatever the body raises is the answer
        if call.state != "failed":
            return Checked(*about, "raised", f"{type(error).__name__}: {error}")
    again = aside.calls.get(call.key)
    if again is None:
        return Checked(*about, "differs", "what was computed is not kept")
    if again.result == call.result:
        return Checked(*about, "same")
    return Checked(*about, "differs", f"kept {call.result[:12]}, computed {again.result[:12]}")


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
