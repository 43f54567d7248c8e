"""Context variables that reach the threads which are started while they are set.

A new thread begins with an empty context, and only `Thread.start` knows who starts it. So it is
wrapped, when the first variable asks for it; it then notes the values on the thread, and no more.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Any, TypeVar

from wellkept.caches.cache import Cache
from wellkept.errors import ConfigError, StoreError, tell
from wellkept.interrupts import Guard
from wellkept.records import Digest

if TYPE_CHECKING:
    from wellkept.caches.config import Settings, Spec
    from wellkept.stores.reports import Evicted

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")
_reaching: list[ContextVar[Any]] = []
_reached = False
"""Whether a thread was started where one of them had a value."""
_guard = Guard()


def reach_threads(variable: ContextVar[Any]) -> None:
    """From now on the variable's value reaches new threads; its default must be None."""
    with _guard:
        if variable in _reaching:
            return
        if not _reaching:
            _wrap()
        _reaching.append(variable)


def inherited(variable: ContextVar[T | None]) -> T | None:
    """The variable's value here, or where this thread was started."""
    value = variable.get()
    if value is None and _reached:
        noted = getattr(threading.current_thread(), "_kept_context", None)
        value = noted.get(variable) if noted else None
    return value


def _wrap() -> None:
    original = threading.Thread.start

    def start(self: threading.Thread) -> None:
        global _reached
        noted = {variable: inherited(variable) for variable in _reaching}
        if any(value is not None for value in noted.values()):
            self._kept_context = noted  # type: ignore[attr-defined]  # read by `inherited`
            _reached = True
        original(self)

    start.__wrapped__ = original  # type: ignore[attr-defined]  # as functools.wraps does
    threading.Thread.start = start  # type: ignore[method-assign]  # see above


_current: ContextVar[Cache | None] = ContextVar("wellkept.cache", default=None)
_set: Cache | None = None
_default: Cache | None = None
_failed: tuple[float, StoreError] | None = None
_named: dict[str, Cache] = {}
_there: dict[tuple[str, str], Cache] = {}
"""The same by what was said, and the working directory."""
_settings: Settings | None = None
_lock = Guard()
_RETRY = 5.0  # seconds after which a default cache that could not be opened is tried again


def active() -> Cache:
    """The active cache.

    Raises:
        ConfigError: the configuration is wrong.
        StoreError: the default cache can't be opened.
    """
    cache = _current.get()
    if cache is None:
        cache = inherited(_current) or _set or _default
    return cache if cache is not None else _open_default()


def used() -> Cache | None:
    """What `use`, or `set_cache`, says here; None: nothing."""
    return inherited(_current) or _set


def set_cache(cache: Cache | str | os.PathLike[str] | None, *, stack: bool = False) -> Cache | None:
    """Make a cache the active one of this process, in all its threads, until another is set. A `use` block
    goes before it.

    Args:
        cache: a cache, its name in the configuration, a path or a URL; None: as configured.
        stack: put it before the cache that is active: `Stack(cache, active_cache())`.

    Returns:
        What was set before, to set it again; None where that was as configured.

    Raises:
        ConfigError: no such cache.
        StoreError: it can't be opened.
    """
    global _set
    found = None if cache is None else chosen(cache, "set_cache()")
    if stack and found is not None:
        found = _over(found)
    with _lock:
        before, _set = _set, found
    return before


def _open_default() -> Cache:
    global _default, _failed
    with _lock:
        if _default is None:
            if _failed is not None and time.monotonic() - _failed[0] < _RETRY:
                raise _failed[1].with_traceback(None)  # or it would grow, and keep frames alive
            found = settings()
            try:
                _default = _opened(found, found.active)
            except StoreError as error:
                _failed = (time.monotonic(), error)
                raise
        return _default


def settings() -> Settings:
    """The settings in force, read once a process."""
    global _settings
    found = _settings
    if found is not None:
        return found
    # What opens caches is imported with the first one that is opened, here and below.
    from wellkept.caches.config import find

    with _lock:
        if _settings is None:
            _settings = find()
        return _settings


def named(name: str) -> Cache:
    """A cache by its name in the configuration, or by path or URL; opened once a process.

    Raises:
        ConfigError: no such name.
        StoreError: it can't be opened.
    """
    # Each call of a function asks for the cache that it names.
    found = _named.get(name)
    if found is None and _there:
        found = _there.get((name, os.getcwd()))  # noqa: PTH109  before any Path is needed
    if found is not None:
        return found
    from pathlib import Path

    from wellkept.caches.opening import open_cache, resolve_url
    from wellkept.caches.option_text import expanded

    said, is_name = name, not any(mark in name for mark in ("/", ":", "~", ".", os.sep))
    if not is_name:
        name = expanded(name)
        name = resolve_url(name, Path.cwd())  # the working directory may change
    with _lock:
        if name not in _named:
            if is_name:
                _named[name] = _opened(settings(), settings().named(name))
            else:
                _named[name] = open_cache(name)
                if "${" in said:
                    from wellkept.caches.config import Spec

                    _named[name].spec = Spec(said)
        if "$" not in said and "~" not in said and len(_there) < 1000:
            # From here it is the same each time.
            _there[said, os.getcwd()] = _named[name]  # noqa: PTH109  as above
        return _named[name]


def from_config(config: Mapping[str, Any] | Sequence[Any] | str) -> Cache:
    """See `Cache.from_config`."""
    if isinstance(config, str):
        return named(config)
    if isinstance(config, Sequence):
        config = {"stack": list(config)}
    from wellkept.caches.building import build, given

    spec, inside = given(config)
    made: dict[str, Cache] = {}

    def part(name: str) -> Cache:
        if name not in inside:
            return named(name)
        if name not in made:
            made[name] = build(inside[name], part)
        return made[name]

    return build(spec, part)


def _opened(source: Settings, spec: Spec) -> Cache:
    from wellkept.caches.building import build

    try:
        return build(spec, named)
    except ConfigError as error:
        if str(error).startswith(source.source):
            raise
        raise ConfigError(f"{source.source}: {error}") from error


def _over(cache: Cache) -> Cache:
    from wellkept.caches.derived import Stack

    below = active()
    return cache if cache is below else Stack(cache, below)


class Use(contextlib.ContextDecorator):
    """What `use` returns: enter it with `with`, or put it above a function as a decorator."""

    def __init__(self, cache: Cache | str | os.PathLike[str], stack: bool) -> None:
        self._cache, self._stack = cache, stack
        self._tokens: list[Token[Cache | None]] | None = None

    def __enter__(self) -> Cache:
        self._tokens = self._tokens or []
        found = chosen(self._cache, "use()")
        if self._stack:
            found = _over(found)
        reach_threads(_current)
        self._tokens.append(_current.set(found))
        return found

    def __exit__(self, *_: object) -> None:
        assert self._tokens
        _current.reset(self._tokens.pop())

    def __call__(self, function: F) -> F:
        self._tokens = []
        return super().__call__(function)

    def _recreate_cm(self) -> Use:
        # Calls of one function may be under way in several threads.
        return Use(self._cache, self._stack)

    def __del__(self) -> None:
        if self._tokens is None:
            tell(
                f"use({self._cache!r}) was never entered, so it changed nothing: write "
                "`with wellkept.use(…):`, or `wellkept.set_cache(…)` for the whole process"
            )


def use(cache: Cache | str | os.PathLike[str], *, stack: bool = False) -> Use:
    """Make a cache the active one inside a `with` block.

    It reaches the tasks and the threads that are started inside the block too. One that is never entered
    is a `KeptWarning`; `set_cache` is for the whole process.

    Args:
        cache: a cache, its name in the configuration, a path or a URL.
        stack: put it before the cache that is active: `Stack(cache, active_cache())`.

    Raises:
        ConfigError: no such cache.
        StoreError: it can't be opened.
    """
    return Use(cache, stack)


def chosen(cache: Cache | str | os.PathLike[str], what: str = "cache=") -> Cache:
    """The cache that somebody gave: itself, or by name, path or URL.

    Args:
        what: took it, for a message.

    Raises:
        ConfigError: no such cache.
        StoreError: it can't be opened.
    """
    if isinstance(cache, os.PathLike):
        from pathlib import Path

        cache = str(Path(cache).expanduser().absolute())  # a path, even if it looks like a name
    elif not isinstance(cache, (Cache, str)):
        raise ConfigError(f"{what} takes a cache, a name, a path or a URL, not {cache!r}")
    return cache if isinstance(cache, Cache) else named(cache)


def reset() -> None:
    """Close the default, the set and the named caches and forget the settings: all is read anew."""
    global _set, _default, _failed, _settings
    with _lock:
        for cache in (_set, _default, *_named.values()):
            if cache is not None:
                cache.close()
        _set = _default = _failed = _settings = None
        _named.clear()
        _there.clear()


def clear(*, dry_run: bool = False) -> Evicted:
    """Throw all calls and results of the active cache away; see `Cache.clear`.

    Raises:
        ConfigError: the configuration is wrong.
        StoreError: the cache can't be opened or written.
    """
    return active().clear(dry_run=dry_run)


def D(digest: str, cache: Cache | None = None) -> Digest:  # noqa: N802  as fleche has it: short for `Digest`
    """The full digest of a kept value, from its first 4 digits or more: where a digest may be given, such
    as an argument of a kept function, a short one may.

    Args:
        cache: where the value is kept; the active one by default.

    Raises:
        NotKept: nothing begins so.
        AmbiguousDigest: several values do.
    """
    found = active() if cache is None else cache
    return found.expand(digest, found.values)
