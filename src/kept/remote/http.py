"""`https://host/namespace`: a cache that `kept serve` serves."""

from __future__ import annotations

import re
import ssl
from typing import Any
from urllib.parse import unquote, urlsplit

from kept.errors import ConfigError
from kept.remote.namespaces import DEFAULT
from kept.remote.place import RemotePlace
from kept.remote.requests import HttpLine
from kept.remote.tokens import NAMESPACE
from kept.remote.trust import Trusts

__all__ = ["Http"]

_LOCAL = re.compile(r"localhost|127(\.\d+){3}|::1|.*\.localhost", re.ASCII)


class Http(RemotePlace):
    """What a server keeps in a namespace.

    Args:
        url: `https://[token@]host[:port]/namespace`; without a namespace, the server's `default`.
        token: what the server lets in; in place of the one in the URL.
        ca: a file of certificates to trust in place of the system's.
        deadline: seconds without an answer after which a request has failed.
        trust: decode what comes from there, whoever signed it or not.
        insecure: send the token over `http://` to another host than this one, where it can be read
            on its way.

    Raises:
        ConfigError: the URL or an option is wrong.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        ca: str | None = None,
        deadline: float = 30.0,
        trust: bool = False,
        insecure: bool = False,
    ) -> None:
        base, host, said = _parts(url)
        token = token or said
        if token is not None and not re.fullmatch(r"[\x21-\x7e]{1,1000}", token):
            raise ConfigError("a token is visible ASCII without spaces")
        plain = base.startswith("http://")
        if plain and token and not insecure and not _LOCAL.fullmatch(host):
            raise ConfigError(
                f"{base}: over http:// a token can be read on its way: use https://, or say "
                "insecure=True"
            )
        if not 0 < deadline < 86400:
            raise ConfigError(f"a deadline is a positive number of seconds, not {deadline!r}")
        try:
            context: Any = None if plain else ssl.create_default_context(cafile=ca)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"can't read certificates from {ca}: {error}") from error
        super().__init__(HttpLine(base, token, deadline, context), Trusts(trust))

    def __repr__(self) -> str:
        return f"Http({self.line.where!r})"


def _parts(url: str) -> tuple[str, str, str | None]:
    """The URL without its token, the host, and the token.

    Raises:
        ConfigError: it is none of a server.
    """
    try:
        parts = urlsplit(url)
        host, port, user, password = parts.hostname, parts.port, parts.username, parts.password
    except ValueError:
        raise ConfigError("not a URL of a server: its host or port can't be read") from None
    if not host or not re.fullmatch(r"[A-Za-z0-9._:-]+", host):
        raise ConfigError("the URL of a server names its host: https://host/namespace")
    if parts.query or parts.fragment:
        raise ConfigError("the URL of a server has no query; options are given beside it")
    if password is not None:
        raise ConfigError("the URL of a server has a token, and no password: https://TOKEN@host/")
    segments = [part for part in parts.path.split("/") if part] or [DEFAULT]
    if not NAMESPACE.fullmatch(segments[-1]) or any(
        not re.fullmatch(r"(?!\.+\Z)[A-Za-z0-9._~-]+", part) for part in segments
    ):
        raise ConfigError(f"not a namespace: {segments[-1][:64]!r}; use a-z, 0-9, - and _")
    at = f"[{host}]" if ":" in host else host
    at += f":{port}" if port else ""
    return f"{parts.scheme.lower()}://{at}/{'/'.join(segments)}", host, user and unquote(user)
