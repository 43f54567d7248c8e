"""What is recorded with a call: what it took, where it ran, what collectors give, and what the blocks
around it say.

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
from wellkept.caches import Cache, settings
from wellkept.caches.active import inherited, reach_threads
from wellkept.caches.option_text import redacted
from wellkept.errors import ConfigError, KeptError, tell
from wellkept.hashing import buffer_digest
from wellkept.runs.recorder import ENVS, note_once

if TYPE_CHECKING:
    from wellkept.caches.config import Settings

__all__ = ["NOTHING", "Collectors", "configured", "meta", "parse", "tags"]

LARGE = 2_000  # bytes of JSON from which what a collector gave is a note of its own


class Collector(NamedTuple):
    """What gives a part of the metadata."""

    collect: Callable[..., Any]
    takes: int | None = None
    """How many of the call and its result it takes; None: the function whose call is recorded (None: a
    run)."""

    @classmethod
    def of(cls, function: Callable[..., Any], where: str) -> Collector:
        """A collector of a user's own.

        Raises:
            ConfigError: it takes more than a call and a result.
        """
        import inspect  # few have collectors of their own

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
    """Collectors by name, in the order in which they were said.

    Args:
        by_name: each.
    """

    def __init__(self, by_name: Mapping[str, Collector]) -> None:
        self.by_name = dict(by_name)
        self.sees = {one.takes for one in self.by_name.values()} - {None, 0}
        """Whether some take the call before (1), or the call and its result after (2)."""
        self._told: set[str] = set()

    def collect(
        self, function: Any, cache: Cache | None = None, given: tuple[Any, ...] = ()
    ) -> dict[str, str]:
        """What they find now: JSON by name.

        Args:
            function: whose call is recorded; None: a run.
            cache: where what is large is kept as a note.
            given: `(call,)` to ask those that take the call alone, `(call, result)` those that take both;
                nothing: the others.
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
        both._told = other._told  # made for one call; what was told is told
        return both


NOTHING = Collectors({})
"""Only what is recorded anyway."""


def noted(text: str, cache: Cache) -> str:
    """Write JSON as a note that calls share, and return what stands for it in a call's metadata."""
    item = text.encode()
    name = buffer_digest(item).hex()[:12]
    note_once(cache, f"{ENVS}{name}", item)
    return json.dumps({"note": name})


def parse(meta: Any, where: str = "meta=") -> Collectors | None:
    """What `meta=` of `keep` or `[meta]` of a configuration says; None: record nothing at all.

    Raises:
        ConfigError: it says something else, or names what is not there.
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
    # Imported with the first that somebody names.
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
    """A collector that a configuration names, `package.module:function`; imported when it is used."""
    module, _, attribute = name.partition(":")

    def found() -> Any:
        import importlib

        return functools.reduce(getattr, attribute.split("."), importlib.import_module(module))

    def collect(function: Any) -> Any:
        return found()()

    # What it takes is told by the function; one that can't be imported fails where it is used.
    with contextlib.suppress(ImportError, AttributeError):
        return Collector.of(found(), where)
    return Collector(collect)


# -- what each finds ------------------------------------------------------------------------------


def _variables(patterns: tuple[str, ...]) -> dict[str, str]:
    """Environment variables; a pattern never finds one whose name looks like a secret's."""
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
    """Versions of distributions; None: of all."""
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
    """The commit of the function's source, or of the working directory."""
    inner = getattr(function, "__wrapped__", function)
    path = getattr(getattr(inner, "__code__", None), "co_filename", "")
    directory = Path(path).parent if path and Path(path).is_file() else Path.cwd()
    return _commit(str(directory.absolute()))


@functools.cache
def _commit(directory: str) -> dict[str, Any]:
    """Commit, branch, and whether files that git knows were changed; once a process."""
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


# -- what blocks say ------------------------------------------------------------------------------

Said = Mapping[str, Any]

blocks: ContextVar[Said | None] = ContextVar("wellkept.said", default=None)
"""What the blocks around a call say, as members of its metadata."""


def said_here() -> Said | None:
    """What the blocks say that are open here, or where this thread was started."""
    return inherited(blocks)


@contextlib.contextmanager
def saying(said: Said | None) -> Iterator[None]:
    """Have calls of a block recorded with this, in place of what the blocks around it say."""
    if said:
        reach_threads(blocks)
    token = blocks.set(said)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # left in another context than entered
            blocks.reset(token)


def tags(given: Mapping[str, Any] | None = None, /, **named: Any) -> AbstractContextManager[None]:
    """Record tags with each call that is computed in a `with` block: `with wellkept.tags(project="a"):`.

    It reaches the tasks, the threads and the sent calls that begin there. Blocks nest, and the inner one
    has the last word; `cache.query(tags={"project": "a"})` finds the calls.

    Args:
        given: tags whose names are no names of Python.
        named: names with text, numbers, truths or None.

    Raises:
        ConfigError: a tag is not what it may be.
    """
    return saying_more({"tags": checked_tags({**(given or {}), **named})})


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
    said = {**(given or {}), **named}
    for name in said:
        if not isinstance(name, str) or not name:
            raise ConfigError(f"meta(): a name in the metadata is text, not {name!r:.80}")
        # As above.
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
    """Tags, if they are some.

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
                f"the tag {key!r} is text, a number, a truth or None, not {value!r:.80}"
            )
    try:
        json.dumps(dict(given), allow_nan=False)
    except ValueError as error:
        raise ConfigError(f"a tag can't be kept: {error}") from error
    return dict(given)


# -- what the configuration says ------------------------------------------------------------------

_configured: tuple[Settings | None, Collectors] = (None, NOTHING)


def configured() -> Collectors:
    """The collectors of the configuration, for every call and run.

    Where that can't be read, there are none: whoever needs it for a cache is told.
    """
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
"""The time, a clock, and what the process had used."""

# Linux counts the peak of memory in KiB, macOS in bytes.
_UNIT = 1 if sys.platform == "darwin" else 1024

try:
    from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage
except ImportError:  # no such thing on Windows

    def begin() -> Began:
        """Begin to measure."""
        return time(), perf_counter(), os.times()

    def taken(began: Began) -> str:
        """What was used since; see below. Without the memory, and what children used."""
        at, _, before = began
        now = os.times()
        text = f'"started":{at:.3f},"cpu":{now.user - before.user:.6g}'
        system = now.system - before.system
        return f'{text},"system":{system:.6g}' if system else text

else:

    def begin() -> Began:
        """Begin to measure."""
        return time(), perf_counter(), (getrusage(RUSAGE_SELF), getrusage(RUSAGE_CHILDREN))

    def taken(began: Began) -> str:
        """What was used since, as the members of a JSON object: `started` (seconds since the epoch),
        `cpu` and `system` (seconds that the whole process was in user and in kernel mode), `children`
        (seconds in both that its child processes used which have ended since), `memory` (bytes by which
        the process's peak has risen). All but the first two are left out where they are 0.
        """
        at, _, (before, old) = began
        now, children = getrusage(RUSAGE_SELF), getrusage(RUSAGE_CHILDREN)
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
    """Wall time since."""
    return perf_counter() - began[1]


@functools.cache
def environment() -> tuple[str, bytes]:
    """What is the same for all calls of this process, as a note, and the short name of it."""
    import platform  # with the first call that is kept

    facts = {
        "host": platform.node(),
        "user": user(),
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "executable": sys.executable,
        "wellkept": getattr(sys.modules["wellkept"], "__version__", "?"),  # which imports this room
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
        from importlib import metadata  # few need it: most packages say their version themselves

        try:
            version = metadata.version(top)
        except (metadata.PackageNotFoundError, ValueError):
            return ""
    return f',"package":{json.dumps(f"{top} {version}")}'
