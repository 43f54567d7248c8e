"""Functions that are named on the command line: imported, as the shell's directory has them."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kept.cli.urls import opened, redacted
from kept.errors import ConfigError

__all__ = ["imported", "looked_up"]


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
    with opened(cache, must=True) as (found, url):
        options = function.options._replace(cache=found)
        yield type(function)(function.__wrapped__, options, function._method), url


def looked_up(said: str) -> Any:
    """A kept function from `module:name` or `script.py:name`, as `kept ls` shows them.

    A script is run as a pool's worker runs it: what stands under `if __name__ == "__main__"` is not.

    Raises:
        ConfigError: it can't be imported, or is no kept function.
    """
    from kept.memo import Kept

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
