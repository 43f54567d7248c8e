"""Metadata of a call: its costs, its environment, what collectors return, and the tags of blocks around it.

A collector is a function that returns a dict for JSON: variables, versions, commits, tags. It may take
nothing, the call before its body runs, or the call and its result afterwards. One that raises, or gives
something else, is a warning, and its name is left out.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from contextvars import ContextVar
from pathlib import Path
from time import perf_counter, time
from typing import TYPE_CHECKING, Any, NamedTuple

from wellkept._process import user
from wellkept._system import resource
from wellkept.caches import Cache, settings
from wellkept.caches.active import inherited, reach_threads
from wellkept.caches.option_text import redacted
from wellkept.errors import ConfigError, KeptError, tell
from wellkept.hashing import buffer_digest
from wellkept.runs.recorder import ENVS, note_once

if TYPE_CHECKING:
    from wellkept.caches.config import Settings

__all__ = ["NOTHING", "Collectors", "configured", "meta", "parse", "tags"]

# Bytes of JSON from which a collector's result becomes a note, which calls share, and not a part of each call.
LARGE = 2_000


class Collector(NamedTuple):
    """A function that returns a part of the metadata."""

    collect: Callable[..., Any]
    takes: int | None = None
    """How many of (call, result) it takes; None if it takes the function whose call is recorded (or None for a
    run)."""

    @classmethod
    def of(cls, function: Callable[..., Any], where: str) -> Collector:
        """Return the collector that a user's function is.

        Raises:
            ConfigError: the function takes more than a call and a result.
        """
        # Loaded on first use: keeps `import wellkept` small.
        import inspect

        try:
            parameters = inspect.signature(function).parameters.values()
        except (TypeError, ValueError):
            return cls(function, 0)
        needed = [
            one
            for one in parameters
            if one.default is one.empty and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
        ]
        if len(needed) > 2 or any(one.kind is one.KEYWORD_ONLY for one in needed):
            raise ConfigError(
                f"{where} a collector takes nothing, (call) before the body runs, or (call, result) "
                f"after it, which {function!r} does not"
            )
        return cls(function, len(needed))


class Collectors:
    """Collectors by name, in the order in which they were given."""

    def __init__(self, by_name: Mapping[str, Collector]) -> None:
        self.by_name: dict[str, Collector] = dict(by_name)
        self.sees: set[int | None] = {one.takes for one in self.by_name.values()} - {None, 0}
        """Whether some take the call before (1), or the call and its result after (2)."""
        self._told: set[str] = set()

    def collect(
        self, function: Any, cache: Cache | None = None, given: tuple[Any, ...] = ()
    ) -> dict[str, str]:
        """Run the collectors; return JSON by name.

        Args:
            function: whose call is recorded; None for a run.
            cache: keeps large results as notes.
            given: `(call,)` to run those that take the call alone, `(call, result)` those that take both, `()`
                the others.
        """
        found: dict[str, str] = {}
        for name, (collector, takes) in self.by_name.items():
            if (takes or 0) != len(given):
                continue
            try:
                said = collector(function) if takes is None else collector(*given)
                if not isinstance(said, Mapping):
                    raise TypeError(f"it gave {said!r:.80}, no dict")  # noqa: TRY301  told below
                text = json.dumps(said, allow_nan=False)
                if len(text) > LARGE and cache is not None:
                    found[name] = noted(text, cache)
                elif said:
                    found[name] = text
            except Exception as error:  # noqa: BLE001  a collector is anybody's code
                if name not in self._told:
                    self._told.add(name)
                    tell(f"the collector {name!r} failed and records nothing: {error!r}")
        return found

    def __or__(self, other: Collectors) -> Collectors:
        both = Collectors(self.by_name | other.by_name)
        # It is made for one call, so what one has warned of must not be warned of again.
        both._told = other._told
        return both


NOTHING = Collectors({})
"""No collectors: only what is recorded anyway."""


def noted(text: str, cache: Cache) -> str:
    """Write JSON as a note that calls share, and return what stands for it in a call's metadata."""
    item = text.encode()
    name = buffer_digest(item).hex()[:12]
    note_once(cache, f"{ENVS}{name}", item)
    return json.dumps({"note": name})


def parse(meta: Any, where: str = "meta=") -> Collectors | None:
    """Return the collectors of `meta=` or of `[meta]` in a configuration; None to record nothing at all.

    Raises:
        ConfigError: the option is none of these, or names an unknown collector.
    """
    if meta is None or meta is False:
        return None if meta is False else NOTHING
    if isinstance(meta, Mapping):
        return Collectors(dict(_named(str(name), said, where) for name, said in meta.items()))
    if isinstance(meta, str) or callable(meta):
        meta = (meta,)
    if not isinstance(meta, Iterable):
        raise ConfigError(f"{where} takes collectors, or a dict of them by name, not {meta!r}")
    from wellkept.caches.config import COLLECTORS

    found: dict[str, Collector] = {}
    for said in meta:
        if isinstance(said, Mapping):
            found |= (parse(said, where) or NOTHING).by_name
        elif callable(said):
            name, collector = _named(getattr(said, "__name__", "collected"), said, where)
            found[name] = collector
        elif said in COLLECTORS:
            found[said] = _named(said, True, where)[1]
        else:
            known = ", ".join(COLLECTORS)
            raise ConfigError(f"{where} there is no collector {said!r}; there are {known}")
    return Collectors(found)


def _named(name: str, said: Any, where: str) -> tuple[str, Collector]:
    # Loaded on first use: keeps `import wellkept` small.
    from wellkept.caches.config import COLLECTORS, RESERVED, checked_names

    if name in RESERVED:
        raise ConfigError(f"{where} {name!r} is recorded anyway; give the collector another name")
    if callable(said):
        return name, Collector.of(said, where)
    if name not in COLLECTORS:
        if isinstance(said, str) and where != "meta=":
            return name, _imported(said, where)
        raise ConfigError(
            f"{where} there is no collector {name!r}; there are {', '.join(COLLECTORS)}, and "
            "functions that return a dict"
        )
    checked_names(name, said, where)
    if name == "git":
        return name, Collector(_git)
    if name == "tags":
        said_of_it = dict(said)
        return name, Collector(lambda function: said_of_it)
    if name == "packages":
        wanted = None if said is True else tuple(said)
        return name, Collector(lambda function: _packages(wanted))
    patterns = tuple(said)
    return name, Collector(lambda function: _variables(patterns))


def _imported(name: str, where: str) -> Collector:
    """Return the collector that a configuration names, `package.module:function`; imported when it is used."""
    module, _, attribute = name.partition(":")

    def found() -> Any:
        import importlib

        return functools.reduce(getattr, attribute.split("."), importlib.import_module(module))

    def collect(function: Any) -> Any:
        return found()()

    # Its parameters say what it takes. One that can't be imported now fails, with a warning, when it is used.
    with contextlib.suppress(ImportError, AttributeError):
        return Collector.of(found(), where)
    return Collector(collect)


# -- what each finds ------------------------------------------------------------------------------


def _variables(patterns: tuple[str, ...]) -> dict[str, str]:
    """Return environment variables; a pattern never matches a name that looks like a secret's."""
    from fnmatch import fnmatchcase

    from wellkept.caches.option_text import is_secret

    found = {}
    for pattern in patterns:
        if any(mark in pattern for mark in "*?["):
            names = [n for n in os.environ if fnmatchcase(n, pattern) and not is_secret(n)]
        else:
            names = [pattern]
        for name in sorted(names):
            value = os.environ.get(name)
            if value is not None:
                found[name] = redacted(value)
    return found


@functools.cache
def _packages(names: tuple[str, ...] | None) -> dict[str, str]:
    """Return the versions of distributions, or of all."""
    from importlib import metadata

    if names is None:
        every = ((found.metadata["Name"], found.version) for found in metadata.distributions())
        return dict(sorted((name, version) for name, version in every if name))
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def _git(function: Any) -> dict[str, Any]:
    """Return the commit of the function's source, or of the working directory."""
    inner = getattr(function, "__wrapped__", function)
    path = getattr(getattr(inner, "__code__", None), "co_filename", "")
    directory = Path(path).parent if path and Path(path).is_file() else Path.cwd()
    return _commit(str(directory.absolute()))


@functools.cache
def _commit(directory: str) -> dict[str, Any]:
    """Return commit, branch, and whether tracked files were changed; once in each process."""
    import subprocess

    command = ["git", "-C", directory, "status", "--porcelain=v2", "--branch", "-uno"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return {}
    if done.returncode:
        return {}
    found: dict[str, Any] = {"dirty": False}
    for line in done.stdout.splitlines():
        if line.startswith("# branch.oid "):
            found["commit"] = line[13:]
        elif line.startswith("# branch.head "):
            found["branch"] = line[14:]
        elif not line.startswith("#"):
            found["dirty"] = True
    return found


# -- blocks ---------------------------------------------------------------------------------------

Said = Mapping[str, Any]

blocks: ContextVar[Said | None] = ContextVar("wellkept.said", default=None)
"""Tags and metadata of the blocks around a call, as members of its metadata."""


def said_here() -> Said | None:
    """Return the metadata of the blocks that are open here, or where this thread was started."""
    return inherited(blocks)


@contextlib.contextmanager
def saying(said: Said | None) -> Iterator[None]:
    """Record this metadata with the calls of a block, in place of that of the blocks around it."""
    if said:
        reach_threads(blocks)
    token = blocks.set(said)
    try:
        yield
    finally:
        # A generator may leave the block in another context than it entered it.
        with contextlib.suppress(ValueError):
            blocks.reset(token)


def tags(given: Mapping[str, Any] | None = None, /, **named: Any) -> AbstractContextManager[None]:
    """Record tags with each call that is computed in a `with` block: `with wellkept.tags(project="a"):`.

    The tags also go to tasks, threads and sent calls that begin there. Blocks nest, and the inner one wins;
    `cache.query(tags={"project": "a"})` finds the calls.

    Args:
        given: tags whose names are not identifiers.
        named: text, numbers, booleans or None by name.

    Raises:
        ConfigError: a tag has another type.
    """
    return saying_more({"tags": checked_tags(_said("tags", given, named))})


def _said(what: str, given: Any, named: Mapping[str, Any]) -> dict[str, Any]:
    if given is not None and not isinstance(given, Mapping):
        raise ConfigError(
            f'{what}() takes names and values, such as {what}(project="a"), or a dict of them, '
            f"not {given!r:.80}"
        )
    return {**(given or {}), **named}


@contextlib.contextmanager
def saying_more(said: Said) -> Iterator[None]:
    """Have calls of a block recorded with this beside what the blocks around it say."""
    here = said_here() or {}
    both = {**here.get("tags", {}), **said.get("tags", {})}
    more = {**here, **said, "tags": both}
    if not both:
        del more["tags"]
    with saying(more):
        yield


def meta(given: Mapping[str, Any] | None = None, /, **named: Any) -> AbstractContextManager[None]:
    """Record metadata with each call that is computed in a `with` block: `with wellkept.meta(note="x"):`.

    It reaches and nests as `tags` does; `cache.query(metadata={"note": "x"})` finds the calls.

    Args:
        given: members whose names are no names of Python.
        named: plain data for JSON.

    Raises:
        ConfigError: that is no such data, or it has a name that is recorded anyway, or is `tags`.
    """
    said = _said("meta", given, named)
    for name in said:
        if not isinstance(name, str) or not name:
            raise ConfigError(f"meta(): a name in the metadata is text, not {name!r:.80}")
        # Loaded on first use: keeps `import wellkept` small.
        from wellkept.caches.config import RESERVED

        if name in RESERVED or name == "tags":
            other = "wellkept.tags(…) is for them" if name == "tags" else "it is recorded anyway"
            raise ConfigError(f"meta({name}=…): {other}; give it another name")
    try:
        text = json.dumps(said, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(f"meta() takes plain data for JSON: {error}") from error
    # What a program changes afterwards is not what was said.
    return saying_more(json.loads(text))


def checked_tags(given: Any) -> dict[str, Any]:
    """Return the tags, if they are valid.

    Raises:
        ConfigError: they are not.
    """
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise ConfigError(f"tags= is a dict of names and values, not {given!r}")
    for key, value in given.items():
        if not isinstance(key, str) or not key:
            raise ConfigError(f"the name of a tag is text, not {key!r}")
        if not isinstance(value, (str, int, float, bool, type(None))):
            raise ConfigError(
                f"the tag {key!r} must be text, a number, a boolean or None, not {value!r:.80}"
            )
    try:
        json.dumps(dict(given), allow_nan=False)
    except ValueError as error:
        raise ConfigError(f"a tag can't be kept: {error}") from error
    return dict(given)


# -- what the configuration says ------------------------------------------------------------------

_configured: tuple[Settings | None, Collectors] = (None, NOTHING)


def configured() -> Collectors:
    """Return the collectors of the configuration, for every call and run; none if it can't be read."""
    # Opening a cache reports a configuration that can't be read; that must not make a call fail too.
    global _configured
    try:
        found = settings()
    except KeptError:
        return NOTHING
    if _configured[0] is not found:
        _configured = found, parse(dict(found.meta), f"{found.source}: meta:") or NOTHING
    return _configured[1]


# -- what is recorded anyway -------------------------------------------------------------------------

_NO_PACKAGES = sys.stdlib_module_names | {"__main__", "__mp_main__"}

Began = tuple[float, float, Any]
"""The time, a monotonic clock, and the process's usage."""

# Linux counts the peak of memory in KiB, macOS in bytes.
_UNIT = 1 if sys.platform == "darwin" else 1024

if (_usage := resource) is None:

    def begin() -> Began:
        """Begin to measure."""
        return time(), perf_counter(), os.times()

    def taken(began: Began) -> str:
        """Return what was used since; see below. Memory and children are not measured."""
        at, _, before = began
        now = os.times()
        text = f'"started":{at:.3f},"cpu":{now.user - before.user:.6g}'
        system = now.system - before.system
        return f'{text},"system":{system:.6g}' if system else text

else:
    getrusage, _SELF, _CHILDREN = _usage.getrusage, _usage.RUSAGE_SELF, _usage.RUSAGE_CHILDREN

    def begin() -> Began:
        """Begin to measure."""
        return time(), perf_counter(), (getrusage(_SELF), getrusage(_CHILDREN))

    def taken(began: Began) -> str:
        """What was used since, as the members of a JSON object: `started` (seconds since the epoch),
        `cpu` and `system` (seconds that the whole process was in user and in kernel mode), `children`
        (seconds in both that its child processes used which have ended since), `memory` (bytes by which
        the process's peak has risen). All but the first two are left out where they are 0.
        """
        at, _, (before, old) = began
        now, children = getrusage(_SELF), getrusage(_CHILDREN)
        text = f'"started":{at:.3f},"cpu":{now[0] - before[0]:.6f}'
        system, memory = now[1] - before[1], now[2] - before[2]
        below = (children[0] - old[0]) + (children[1] - old[1])
        if below:
            text = f'{text},"children":{below:.6g}'
        if system:
            text = f'{text},"system":{system:.6g}'
        return f'{text},"memory":{memory * _UNIT}' if memory else text


_here = "", ""


def directory() -> str:
    """The working directory, as a member of a JSON object after a comma; nothing where it is gone."""
    global _here
    try:
        where = os.getcwd()  # noqa: PTH109  as quick as can be: each miss asks
    except OSError:
        return ""
    if _here[0] != where:
        _here = where, f',"directory":{json.dumps(where)}'
    return _here[1]


def seconds(began: Began) -> float:
    """Return the seconds of wall time since."""
    return perf_counter() - began[1]


@functools.cache
def environment() -> tuple[str, bytes]:
    """Return the short name of the note of this process's environment, and the note."""
    # Loaded on first use: keeps `import wellkept` small.
    import platform

    facts = {
        "host": platform.node(),
        "user": user(),
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "executable": sys.executable,
        # The package imports this module, so it can't be imported here.
        "wellkept": getattr(sys.modules["wellkept"], "__version__", "?"),
    }
    text = json.dumps(facts, sort_keys=True).encode()
    return buffer_digest(text).hex()[:12], text


def package(module: Any) -> str:
    """The distribution that a function comes from, as a member of a JSON object after a comma:
    `,"package":"pkg 1.2"`; nothing for a script, and for a module that has no version.
    """
    top = module.partition(".")[0] if type(module) is str else "__main__"
    return "" if top in _NO_PACKAGES else _package(top)


@functools.cache
def _package(top: str) -> str:
    version = getattr(sys.modules.get(top), "__version__", None)
    if not isinstance(version, str):
        # Loaded on first use: most packages have their version as an attribute.
        from importlib import metadata

        try:
            version = metadata.version(top)
        except (metadata.PackageNotFoundError, ValueError):
            return ""
    return f',"package":{json.dumps(f"{top} {version}")}'
