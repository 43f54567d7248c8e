"""Certificates for a test to ask for: that a function keeps faithfully, and that a change is noticed.

Neither can pass on a function that keeps nothing: both ask for a hit on what was kept a moment before."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

from wellkept.caches.results import encoded
from wellkept.errors import KeptError
from wellkept.hashing import digest_bytes


class Outcome(NamedTuple):
    """What a call gave, or raised."""

    value: Any
    error: BaseException | None = None

    def same(self, other: Outcome) -> bool:
        """Whether both are of the same type and content."""
        if (self.error is None) != (other.error is None):
            return False
        return self._name() == other._name()

    def _name(self) -> bytes:
        what = self.value if self.error is None else [self.error]
        try:
            return encoded(what, "pickle")[1]
        except KeptError:
            return repr(what).encode()

    def __str__(self) -> str:
        text = repr(self.value) if self.error is None else f"raising {self.error!r}"
        return text if len(text) <= 200 else f"{text[:199]}…"


def outcome(call: Callable[[], Any]) -> Outcome:
    """Make a call, await what is to be awaited, take every item of a generator."""
    try:
        return Outcome(_worked_off(call()))
    except Exception as error:  # noqa: BLE001  what is raised is what it came to
        return Outcome(None, error)


def _worked_off(made: Any) -> Any:
    if inspect.iscoroutine(made):
        return asyncio.run(made)
    if inspect.isasyncgen(made):
        return asyncio.run(_items(made))
    if inspect.isgenerator(made):
        items = []
        while True:
            try:
                items.append(next(made))
            except StopIteration as stop:
                return [items, stop.value]
    return made


async def _items(made: Any) -> list[Any]:
    return [item async for item in made]


_ASKED = ("explain", "key", "rerun", "stats", "cache", "function_name", "locator")


def assert_faithful(f: Callable[..., Any], /, *args: Any, **kwargs: Any) -> None:
    """Certify a kept function on one call: what is kept of it is what the body gives.

    The body runs twice, and both results have to be equal; the result has to be kept, found again in
    memory and in the store, and equal there too; and the arguments have to be as they were. A kept
    exception is a result. It happens in the cache that the function keeps in now: in a test an empty
    one, such as `wellkept.open("memory:")`.

    Raises:
        AssertionError: something of this does not hold; it says what, and why.
    """
    _check(f)
    before = _arguments(f, args, kwargs)
    key = _key(f, args, kwargs)
    bodies = f.locator.bodies  # type: ignore[attr-defined]  # by _check
    bodies.asked = True
    try:
        first = _computed(f, key, args, kwargs)
    finally:
        bodies.asked = False
    changed = [name for name, was in before.items() if _arguments(f, args, kwargs)[name] != was]
    if changed or _key(f, args, kwargs) != key:
        what = ", ".join(changed) or "what its key is made from"
        _fail(f, f"the body changes {what}, which a hit does not")
    _served(f, first, args, kwargs, "kept")
    f.cache.tier.clear()  # type: ignore[attr-defined]  # by _check
    _served(f, first, args, kwargs, "kept in the store")
    second = _computed(f, key, args, kwargs)
    if not second.same(first):
        _fail(
            f,
            f"computed twice it gives two results, {first} and {second}: it depends on more than its "
            "arguments and its code",
        )


def assert_invalidates(
    f: Callable[..., Any],
    change: Callable[[], Any] | AbstractContextManager[Any],
    /,
    *args: Any,
    **kwargs: Any,
) -> None:
    """Certify that a change is noticed: a call that was a hit is computed after it.

    Args:
        change: what makes it: a function without arguments, or a context manager that takes it back,
            such as `unittest.mock.patch.object(module, "RATE", 4)`. If it gives a kept function of the
            same name, as after a reload of its module, that one is called.

    What was kept before has to be there still, so that forgetting it is no such change, and the new
    result has to be kept, too.

    Raises:
        AssertionError: something of this does not hold; it says what, and why.
    """
    _check(f)
    first = _computed(f, _key(f, args, kwargs), args, kwargs)
    _served(f, first, args, kwargs, "kept before the change")
    key, cache = _key(f, args, kwargs), f.cache  # type: ignore[attr-defined]  # by _check
    with change if isinstance(change, AbstractContextManager) else nullcontext():
        made = None if isinstance(change, AbstractContextManager) else change()
        after: Any = made if all(hasattr(made, name) for name in _ASKED) else f
        if after.function_name != f.function_name:  # type: ignore[attr-defined]  # by _check
            _fail(f, f"the change gives another function, {after.function_name}")
        if after.cache is not cache or cache.calls.get(key) is None:
            _fail(
                f, "what was kept is gone after the change, so it says nothing that it is computed"
            )
        ran = _ran(after)
        found = outcome(lambda: after(*args, **kwargs))
        if _ran(after) == ran:
            _fail(f, f"after the change it is still served from what was kept before, {found}")
        _served(after, found, args, kwargs, "kept after the change")


def _check(f: Any) -> None:
    if not all(hasattr(f, name) for name in _ASKED):
        name = getattr(f, "__qualname__", repr(f))
        raise AssertionError(f"{name} keeps nothing: it is no kept function, @keep makes it one")


def _fail(f: Any, text: str) -> None:
    raise AssertionError(f"{f.__qualname__}: {text}")


def _key(f: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    try:
        return str(f.key(*args, **kwargs))
    except KeptError as error:
        raise AssertionError(f"{f.__qualname__} keeps nothing of this call: {error}") from error


def _arguments(f: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, bytes]:
    """The digest of each argument that has one; also of those that do not count."""
    given = {f"argument {i + 1}": value for i, value in enumerate(args)} | {**kwargs}
    if (receiver := getattr(f, "__self__", None)) is not None:
        given["self"] = receiver
    found = {}
    for name, value in given.items():
        try:
            found[name] = digest_bytes(value)
        except KeptError:
            found[name] = b""
    return found


def _ran(f: Any) -> int:
    """How often the body ran, in this process."""
    counts = f.stats()
    return int(counts.computed + counts.failed)


def _computed(f: Any, key: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Outcome:
    """Run the body, whatever is kept, and see that what it gave is kept then."""
    ran, start, wider = _ran(f), time.time(), f.locator.wider
    found = outcome(lambda: f.rerun(*args, **kwargs))
    if _ran(f) == ran:
        _fail(f, f"its body does not run, and the call comes to {found}")
    if more := sorted(f.locator.wider - wider):
        _fail(
            f,
            f"its body runs code of {', '.join(more)} that its identity does not cover, so an edit "
            "of that is not seen before it ran: name it in depends=",
        )
    call = f.cache.calls.get(key)
    if call is None or call.created < start:
        if found.error is not None:
            text = f"{f.__qualname__}: the body raised {found.error!r}, and that is not kept"
            raise AssertionError(text) from found.error
        _fail(f, f"its result is not kept.\n{f.explain(*args, **kwargs)}")
    return found


def _served(
    f: Any, first: Outcome, args: tuple[Any, ...], kwargs: Mapping[str, Any], what: str
) -> None:
    """See that a call is a hit, and gives what the body gave."""
    ran, hits = _ran(f), f.stats().hits
    found = outcome(lambda: f(*args, **kwargs))
    if _ran(f) != ran or f.stats().hits == hits:
        _fail(f, f"it is computed again, not found.\n{f.explain(*args, **kwargs)}")
    if not found.same(first):
        _fail(f, f"what is {what} is not what the body gave: {found}, not {first}")
