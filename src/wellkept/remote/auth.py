"""Access to the cache server: tokens (a file holds only their digests), namespaces, rate limits."""

from __future__ import annotations

import os
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from blake3 import blake3

from wellkept._system import PLAIN, locked, replace
from wellkept.errors import ConfigError, KeptError, NotKept
from wellkept.remote.handlers import RIGHTS, Handlers

ANY = "*"
"""Stands for every namespace."""
# No `v2` and the like: a URL of `/v2/…` must name the version of the wire, and not a namespace.
NAMESPACE = re.compile(r"(?!v\d+\Z)[a-z0-9][a-z0-9_-]{0,63}", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}", re.ASCII)
# Seconds between checks of whether the file has changed: a `stat` for each request would be a system call, and
# a token that was removed must stop working within a second.
_AGAIN = 0.5


class Grant(msgspec.Struct, frozen=True):
    """The rights of a token's bearer."""

    name: str
    rights: dict[str, str]
    """Namespace (or `*`) to `"read"`, `"write"` or `"admin"`."""
    made: float
    expires: float | None = None
    digest: str = ""
    """The digest of the token; the token itself is stored nowhere."""

    def __post_init__(self) -> None:
        for namespace, right in self.rights.items():
            _check(namespace, right)

    def right(self, namespace: str) -> str | None:
        """Return the right in a namespace; None if there is none."""
        return self.rights.get(namespace) or self.rights.get(ANY)


class _File(msgspec.Struct):
    version: int
    tokens: list[Grant] = []


class Tokens:
    """The tokens in a file: a new one is known at once, and one that was removed for no more than a second.

    Args:
        path: the file; if it does not exist, there are no tokens.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path: Path = Path(path)
        self._known: dict[str, Grant] = {}
        self._seen: Any = None
        self._next = 0.0

    def find(self, token: str) -> Grant | None:
        """Return what a token grants; None if it is unknown or has expired.

        Raises:
            ConfigError: the file can't be read; then no token is valid.
        """
        now, digest = time.monotonic(), _digest(token)
        # One that is unknown may have been made a moment ago.
        if now >= self._next or digest not in self._known:
            self._next = now + _AGAIN
            stamp = self._stamp()
            if stamp != self._seen:
                # If reading fails, a token that was just removed must not stay valid.
                self._known = {}
                self._known = self._read()
                self._seen = stamp
        # A token is 256 random bits, so its digest needs no salt, and looking it up in a dict tells an attacker
        # nothing by its time: the digest of a guess is as good as random.
        grant = self._known.get(digest)
        if grant is not None and grant.expires is not None and grant.expires <= time.time():
            return None
        return grant

    def grants(self) -> list[Grant]:
        """Return the grants of all tokens, in the order they were made; raises as `find`."""
        return sorted(self._read().values(), key=lambda grant: grant.made)

    def add(self, name: str, rights: Mapping[str, str], expires: float | None = None) -> str:
        """Make a token and return it; it can't be shown again.

        Args:
            name: of the token, for people.
            rights: namespace (or `*`) to right.
            expires: when it expires, in seconds since the epoch.

        Raises:
            ConfigError: a token has that name, or a namespace or right is invalid.
        """
        if not _NAME.fullmatch(name):
            raise ConfigError(f"not a token's name: {name!r}; use letters, digits and . _ @ -")
        if not rights:
            raise ConfigError(
                f"token {name!r} has no permissions: grant read, write or admin on a namespace"
            )
        with self._changing() as known:
            if any(grant.name == name for grant in known.values()):
                raise ConfigError(f"there is a token {name} already: remove it, or take a new name")
            # The prefix shows people, and scanners for leaked secrets, what this text is.
            token = "kept_" + secrets.token_urlsafe(32)
            digest = _digest(token)
            known[digest] = Grant(name, dict(rights), time.time(), expires, digest)
        return token

    def remove(self, name: str) -> None:
        """Remove a token.

        Raises:
            NotKept: no token has that name.
        """
        with self._changing() as known:
            gone = [digest for digest, grant in known.items() if grant.name == name]
            if not gone:
                raise NotKept(f"there is no token {name} in {self.path}")
            for digest in gone:
                del known[digest]

    # -- the file ---------------------------------------------------------------------------------

    def _stamp(self) -> Any:
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ConfigError(f"can't read the tokens in {self.path}: {error}") from error
        # The file is replaced by a rename, so the inode changes even if size and time are equal.
        return found.st_ino, found.st_size, found.st_mtime_ns

    def _read(self) -> dict[str, Grant]:
        try:
            said = msgspec.json.decode(self.path.read_bytes(), type=_File)
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise ConfigError(f"can't read the tokens in {self.path}: {error}") from error
        if said.version != 1:
            raise ConfigError(f"{self.path} was written by a newer version of wellkept")
        return {grant.digest: grant for grant in said.tokens}

    @contextmanager
    def _changing(self) -> Iterator[dict[str, Grant]]:
        # The directory is locked, and not the file, which is replaced: a lock on the old file would not keep
        # out a process that opens the new one.
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with locked(self.path.parent):
                known = self._read()
                yield known
                content = msgspec.json.format(msgspec.json.encode(_File(1, list(known.values()))))
                # A server that reads meanwhile sees the old file or the new one, never half of it.
                made = self.path.with_name(f".{self.path.name}.{os.getpid()}")
                fd = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | PLAIN, 0o600)
                with os.fdopen(fd, "wb") as file:
                    file.write(content)
                replace(made, self.path)
        except OSError as error:
            raise ConfigError(f"can't write the tokens in {self.path}: {error}") from error


def usual_path() -> Path:
    """Return the file of tokens that is used if none is named."""
    # Loaded on first use: only servers need it.
    from platformdirs import user_config_path

    return user_config_path("wellkept", appauthor=False) / "tokens.json"


def _digest(token: str) -> str:
    return blake3(token.encode("utf-8", "replace")).hexdigest()


def _check(namespace: str, right: str) -> None:
    if namespace != ANY and not NAMESPACE.fullmatch(namespace):
        raise ConfigError(
            f"not a namespace: {namespace!r}; use up to 64 of a-z, 0-9, - and _, or * for each"
        )
    if right not in RIGHTS:
        raise ConfigError(f"not a right: {right!r}; there are {', '.join(RIGHTS)}")


DEFAULT = "default"
"""The namespace of a URL that names none."""


class Namespaces:
    """The handlers of each cache that is served, by name; a cache is opened by the first request for it.

    Args:
        openers: name to the function that opens the cache; `close` closes it.

    Raises:
        ConfigError: a name can't stand in a URL.
    """

    def __init__(self, openers: Mapping[str, Callable[[], Any]]) -> None:
        for name in openers:
            if not NAMESPACE.fullmatch(name):
                raise ConfigError(
                    f"not a namespace: {name!r}; use up to 64 of a-z, 0-9, - and _, and no v2"
                )
        self._openers = openers
        self._opened: dict[str, Handlers] = {}
        self._opening = threading.Lock()

    def __iter__(self) -> Iterator[str]:
        return iter(self._openers)

    def opened(self, name: str) -> Handlers | None:
        """Return the handlers of a namespace, if it is open."""
        return self._opened.get(name)

    def handlers(self, name: str) -> Handlers | None:
        """Return the handlers of a namespace; None if there is no such namespace.

        Raises:
            KeptError: its cache can't be opened.
        """
        found = self._opened.get(name)
        if found is not None:
            return found
        opener = self._openers.get(name)
        if opener is None:
            return None
        with self._opening:
            if name not in self._opened:
                cache = opener()
                try:
                    self._opened[name] = Handlers(cache)
                except KeptError:
                    cache.close()
                    raise
            return self._opened[name]

    def close(self) -> None:
        """Close every cache that is open."""
        with self._opening:
            opened, self._opened = self._opened, {}
        for handlers in opened.values():
            handlers.close()
            handlers.cache.close()


# How many seconds' worth of requests may come at once. A program that starts asks for much in its first second.
_BURST = 2.0


class Rates:
    """A token bucket for each name, which fills at a rate.

    Args:
        rate: requests a second; 0: any.
    """

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._full = max(1.0, rate * _BURST)
        self._left: dict[str, tuple[float, float]] = {}

    def wait(self, name: str) -> float:
        """Count one request; return the seconds to wait before it may be answered, or 0.0."""
        if not self._rate:
            return 0.0
        now = time.monotonic()
        left, since = self._left.get(name, (self._full, now))
        left = min(self._full, left + (now - since) * self._rate)
        if left < 1.0:
            self._left[name] = left, now
            return max(0.001, (1.0 - left) / self._rate)
        self._left[name] = left - 1.0, now
        return 0.0
