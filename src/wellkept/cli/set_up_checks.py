"""What `wellkept doctor` looks at beside the cache: files, variables, permissions, keys, extras."""

from __future__ import annotations

import importlib.metadata
import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from wellkept.caches.config import Settings, Spec, files
from wellkept.caches.health import Check
from wellkept.caches.option_text import redacted
from wellkept.cli.options import exists
from wellkept.errors import KeptError, nearest

# Variables of the environment that say something.
VARIABLES = ("WELLKEPT_CACHE", "WELLKEPT_LIMIT", "WELLKEPT_KEYS", "WELLKEPT_LOG", "WELLKEPT_TESTS")
_IN_URL = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


def failed(name: str, error: Exception, command: str = "") -> Check:
    """Say what could not be looked at, and why."""
    return Check(name, "bad", " ".join(redacted(str(error)).split()), command)


def set_up(spec: Spec, source: str, cache: str | None) -> Iterator[Check]:
    """Look at what was configured, before it is opened."""
    from wellkept.caches import settings

    found = settings()
    read = found.source if Path(found.source).is_file() else None
    known = [str(path) for path in files(Path.cwd()) if _is_ours(path)]
    if source == "WELLKEPT_CACHE" or cache is not None:
        # The file is read for the names of caches all the same.
        read = known[0] if known else None
    said = f"read from {read}" if read else "no file, so the defaults"
    others = [path for path in known if path != read]
    if others:
        said += f"; not read, as that is nearer: {', '.join(others)}"
    yield Check("configuration", "warn" if others else "ok", said)
    yield from environment(found.caches)
    yield Check("cache", *_cache(spec, source))
    yield _limit(spec, found)


def _is_ours(path: Path) -> bool:
    if path.name == "wellkept.toml":
        return True
    try:
        return re.search(r"^\s*\[tool\.wellkept", path.read_text("utf-8"), re.MULTILINE) is not None
    except (OSError, UnicodeDecodeError):
        return False


def environment(caches: Mapping[str, Spec]) -> Iterator[Check]:
    """Look at variables: which are set, which are wanted and are not, and which look misspelt."""
    wanted: dict[str, list[str]] = {}
    for name, spec in caches.items():
        for variable in _IN_URL.findall(repr(spec.table())):
            wanted.setdefault(variable, []).append(name)
    for variable, names in wanted.items():
        if variable not in os.environ:
            said = f"{variable} is not set, which the cache {', '.join(names)} needs"
            yield Check("environment", "warn", said, f"export {variable}=…")
    given = [name for name in sorted(os.environ) if name.startswith("WELLKEPT_")]
    for name in given:
        if name not in VARIABLES and name not in wanted:
            said = f"{name} says nothing to wellkept{nearest(name, VARIABLES)}"
            yield Check("environment", "warn", said)
    shown = [f"{name}={redacted(os.environ[name])}" for name in VARIABLES if os.environ.get(name)]
    yield Check("environment", "info", ", ".join(shown) or "no variable of wellkept is set")


def _cache(spec: Spec, source: str) -> tuple[str, str, str]:
    """Whether the cache is there, or can be made; the state, the text and the command of a check."""
    where = f"{spec.shown}, by {source}"
    if (spec.url or "").startswith("void:"):
        return "warn", f"{where}: caching is switched off, nothing is kept", ""
    there = exists(spec)
    if there is not False:
        return "ok", where, ""
    if source == "--cache":
        return "bad", f"there is no cache in {spec.shown}", ""
    from wellkept.caches.opening import without_limit
    from wellkept.stores.openers import local_path

    url, _ = without_limit(spec.url or "")
    path = (local_path(url) or Path(url).expanduser()).absolute()
    above = next((one for one in path.parents if one.exists()), path)
    if not above.is_dir() or not os.access(above, os.W_OK):
        return "bad", f"{where}: it can't be made, as {above} can't be written to", "wellkept where"
    return "info", f"{where}: nothing is kept there yet; it is made by the first call", ""


def _limit(spec: Spec, found: Settings) -> Check:
    from wellkept.caches.opening import without_limit

    said: Any = spec.limit or without_limit(spec.url or "")[1]
    if not said and any(part in found.caches and found.caches[part].limit for part in spec.parts):
        said = "that of its parts"
    if isinstance(said, Mapping):
        said = ", ".join(f"{name} = {value}" for name, value in said.items())
    if said:
        return Check("limit", "ok", said)
    return Check(
        "limit", "info", "none: it grows until you clear it", 'export WELLKEPT_LIMIT="10 GB"'
    )


def keys() -> Iterator[Check]:
    """Look at the files of secrets: that nobody else reads them."""
    from wellkept.remote.auth import usual_path
    from wellkept.stores.keyring import Keyring

    ring = Keyring()
    try:
        count = len(ring.known())
    except KeptError as error:
        yield failed("keys", error, f"chmod 600 {ring.path}")
    else:
        said = (
            f"{count} in {ring.path}" if count else "none, so only plain values come from elsewhere"
        )
        yield Check("keys", "ok" if count else "info", said)
    tokens = usual_path()
    if tokens.exists() and tokens.stat().st_mode & 0o077:
        said = f"others can read {tokens}: they can use its caches"
        yield Check("tokens", "bad", said, f"chmod 600 {tokens}")


def extras() -> Check:
    """Say what optional packages are there."""
    needed: dict[str, set[str]] = {}
    for requirement in importlib.metadata.requires("wellkept") or ():
        package = re.match(r"[\w.-]+", requirement)
        extra = re.search(r"extra == ['\"]([\w-]+)", requirement)
        below = re.search(r"python_version < ['\"]3\.(\d+)", requirement)
        if package and extra and not (below and sys.version_info.minor >= int(below[1])):
            needed.setdefault(extra[1], set()).add(package[0])
    needed.pop("all", None)
    there = sorted(name for name, some in needed.items() if all(map(_is_installed, some)))
    missing = sorted(needed.keys() - {*there})
    said = f"{', '.join(there) or 'none'}; not installed: {', '.join(missing) or 'none'}"
    return Check("extras", "info", said)


def _is_installed(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
