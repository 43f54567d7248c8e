"""`ssh://user@host/path`: a cache on a host that `ssh` reaches, by the user's own keys and settings."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

from kept.errors import ConfigError
from kept.remote.line import ProcessLine
from kept.remote.place import RemotePlace
from kept.remote.trust import Trusts

__all__ = ["Ssh"]


class Ssh(RemotePlace):
    """What `kept serve --stdio` keeps on another host, which the system's `ssh` runs there.

    Args:
        url: `ssh://[user@]host[:port]/path`, or `/~/path` for one in the home directory there.
        command: what runs kept there.
        ssh: what connects, with options of its own: `("ssh", "-F", "config")`.
        compress: have `ssh` compress.
        deadline: seconds without an answer after which a request has failed.
        trust: decode what comes from there, whoever signed it or not.

    Raises:
        ConfigError: the URL or an option is wrong.
    """

    def __init__(
        self,
        url: str,
        *,
        command: str = "kept",
        ssh: str | Sequence[str] = "ssh",
        compress: bool = False,
        deadline: float = 30.0,
        trust: bool = False,
    ) -> None:
        user, host, port, path = _parts(url)
        if not 0 < deadline < 86400:
            raise ConfigError(f"a deadline is a positive number of seconds, not {deadline!r}")
        words = shlex.split(ssh) if isinstance(ssh, str) else list(ssh)
        # Nobody is at a terminal to answer questions, and a dead connection has to be noticed.
        words += ["-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=15"]
        words += ["-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=4"]
        words += ["-C"] if compress else []
        words += ["-p", str(port)] if port else []
        words += ["-l", user] if user else []
        words += ["--", host, f"{command} serve --stdio {shlex.quote(path)}"]
        at = f"{user}@" if user else ""
        where = f"ssh://{at}{host}{f':{port}' if port else ''}/{path.lstrip('/')}"
        super().__init__(ProcessLine(words, where, deadline), Trusts(trust))

    def __repr__(self) -> str:
        return f"Ssh({self.line.where!r})"


class Piped(RemotePlace):
    """What a command serves over its input and output, whatever it is that carries it there."""

    def __init__(self, command: Sequence[str], *, deadline: float = 30.0, trust: bool = False):
        where = f"`{' '.join(command)[:60]}`"
        super().__init__(ProcessLine(command, where, deadline), Trusts(trust))


def _parts(url: str) -> tuple[str | None, str, int | None, str]:
    """User, host, port and path.

    Raises:
        ConfigError: they are none of an ssh URL.
    """
    try:
        parts: Any = urlsplit(url)
        user, host, port = parts.username, parts.hostname, parts.port
        password = parts.password
    except ValueError:
        raise ConfigError("not an ssh URL: its host or port can't be read") from None
    if password is not None:
        raise ConfigError("an ssh URL has no password: ssh takes the user's keys")
    if parts.query or parts.fragment:
        raise ConfigError("an ssh URL has no query; options are given beside it")
    user = unquote(user) if user else None
    for word in (host or "", user or ""):
        if word.startswith("-") or any(c.isspace() or c in "\"'`$;&|<>\\" for c in word):
            raise ConfigError("not an ssh URL: such a host or user there can't be")
    path = unquote(parts.path)
    if not host or path in ("", "/"):
        raise ConfigError("an ssh URL names a host and a path: ssh://host/path")
    if "\0" in path or "\n" in path:
        raise ConfigError("an ssh URL whose path has no line breaks")
    return user, host, port, path[1:] if path.startswith("/~") else path
