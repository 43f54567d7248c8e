"""What options name: which cache is meant, and which kept function."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wellkept.caches.option_text import parse_duration, redacted
from wellkept.errors import ConfigError, KeptError, NotKept

if TYPE_CHECKING:
    from wellkept.caches import Cache
    from wellkept.caches.config import Spec


def chosen(cache: str | None) -> tuple[Spec, str]:
    """What `--cache` names, or the active cache, and where that was said.

    Raises:
        ConfigError: there is none, or the configuration is malformed.
    """
    from wellkept.caches import settings
    from wellkept.caches.config import Spec
    from wellkept.caches.opening import resolve_url

    if cache is None:
        found = settings()
        return found.active, found.source
    if not cache:
        raise ConfigError("--cache: an empty path names no cache")
    if re.fullmatch(r"\w[\w-]*", cache):
        found = settings()
        if cache in found.caches or not Path(cache).is_dir():
            return found.named(cache), found.source
    return Spec(resolve_url(cache, Path.cwd())), "--cache"


def exists(spec: Spec) -> bool | None:
    """Whether there is a cache already; None where only its server, or its parts, know."""
    from wellkept.caches.opening import without_limit
    from wellkept.stores.openers import local_path, scheme_of

    if spec.url is None or "${" in spec.url:
        return None
    url, _ = without_limit(spec.url)
    if scheme_of(url):
        local = local_path(url)
        return None if local is None else local.exists()
    path = Path(url).expanduser()
    return any(path.glob("index*.sqlite")) or path.is_file()


@contextlib.contextmanager
def opened(
    cache: str | None, *, make: bool = False, must: bool = True
) -> Iterator[tuple[Cache, str]]:
    """The cache that is meant, and its URL without secrets.

    Args:
        make: make it if it is not there; otherwise an empty one stands in for the active one.
        must: one that `--cache` names has to be there, unless it is made.

    Raises:
        ConfigError: there is none of that name.
        NotKept: it is not there, and it must.
        StoreError: it can't be opened.
    """
    from wellkept.caches import open_cache
    from wellkept.caches.active import named
    from wellkept.caches.building import build

    spec, source = chosen(cache)
    if exists(spec) is False and not make:
        if must and cache is not None:
            raise NotKept(f"there is no cache in {spec.shown}")
        found = open_cache("memory:")
        # Messages name what it stands in for.
        found.url = spec.shown
    else:
        try:
            found = build(spec._replace(options={**spec.options, **_tierless(spec)}), named)
        except ConfigError as error:
            raise ConfigError(f"{source}: {error}") from error
    with found:
        yield found, spec.shown


def _tierless(spec: Spec) -> dict[str, Any]:
    """Nothing is asked twice here; a pool and a view have no tier of their own."""
    return {} if spec.pool or spec.of else {"memory": 0}


def span(option: str, said: str | None) -> float | None:
    """Seconds from what an option says, which has to name their unit: what is deleted depends on it.

    Raises:
        ConfigError: it does not, or is no duration.
    """
    try:
        return None if said is None else parse_duration(said, unit=True)
    except ConfigError as error:
        raise ConfigError(f"{option}: {error}") from None


def sure(what: str, yes: bool) -> None:
    """Have somebody agree that something is deleted; where nobody is at a terminal, --yes has to be said.

    Raises:
        ConfigError: nobody can be asked.
        KeptError: the answer was no.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise ConfigError(f"to {what}, say --yes: there is no terminal to ask at")
    import typer

    if not typer.confirm(f"{what[0].upper()}{what[1:]}?", err=True):
        raise KeptError("nothing was deleted")


@contextlib.contextmanager
def imported(said: str, cache: str | None) -> Iterator[tuple[Any, str]]:
    """A kept function that goes to the cache that is meant, and that cache's URL without secrets.

    Args:
        said: see `looked_up`.
        cache: what `--cache` names; None: the cache that the function goes to.

    Raises: as `looked_up` and `opened`.
    """
    function = looked_up(said)
    if cache is None:
        yield function, redacted(str(function.cache))
        return
    with opened(cache) as (found, url):
        options = function.options._replace(cache=found)
        yield type(function)(function.__wrapped__, options, function._method), url


def looked_up(said: str) -> Any:
    """A kept function from `module:name`, as `wellkept ls` shows it, or `script.py:name`.

    A script is run as a pool's worker runs it: what stands under `if __name__ == "__main__"` is not.

    Raises:
        ConfigError: it can't be imported, or is no kept function.
    """
    from wellkept.memo import Kept

    module, colon, name = said.rpartition(":")
    if not colon or not module or not name:
        raise ConfigError(f"{said!r} is no function: say module:name, or script.py:name")
    found: Any = _module(module, said)
    for part in name.split("."):
        try:
            found = vars(found)[part] if isinstance(found, type) else getattr(found, part)
        except (AttributeError, KeyError):
            raise ConfigError(f"there is no {part} in {module} ({said})") from None
    found = getattr(found, "__func__", found)
    if not isinstance(found, Kept):
        raise ConfigError(f"{said} is no kept function: {type(found).__name__}")
    return found


def _module(name: str, said: str) -> Any:
    script = Path(name)
    is_script = script.suffix == ".py" or script.is_file()
    beside = str(script.resolve().parent) if is_script else str(Path.cwd())
    if beside not in sys.path:
        sys.path.insert(0, beside)
    try:
        return _script(script) if is_script else importlib.import_module(name)
    except Exception as error:
        raise ConfigError(
            f"{said}: importing {name} failed with {type(error).__name__}: {error}"
        ) from error


def _script(path: Path) -> Any:
    """As multiprocessing's children have the program's script, so that its functions are the same."""
    spec = importlib.util.spec_from_file_location("__mp_main__", path.resolve(strict=True))
    if spec is None or spec.loader is None:
        raise ConfigError(f"{path} is no Python script")
    module = importlib.util.module_from_spec(spec)
    sys.modules["__mp_main__"] = module
    spec.loader.exec_module(module)
    return module
