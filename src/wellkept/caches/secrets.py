"""Secrets in URLs: they come from the environment, and are never shown."""

from __future__ import annotations

import os
import re

from wellkept.errors import ConfigError

__all__ = ["expanded", "has_password", "redacted"]

_USER = re.compile(r"(?<=://)[^\s'\"]*@")
_SECRET = re.compile(
    r"(?i)([?&;][^=&;\s]*(?:pass|pwd|secret|token|key|sig|auth)[^=&;\s]*=)[^&;\s'\"]*"
)
_NAME = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_PASSWORD = re.compile(r"://[^/\s@:]*:([^@\s]+)@")
_TOKEN = re.compile(r"(?i)\bhttps?://([^/\s@:]+)@")


def redacted(text: str) -> str:
    """Text with users, passwords and the like taken out of the URLs in it."""
    return _SECRET.sub(r"\1***", _USER.sub("***@", text))


def has_password(url: str) -> bool:
    """Whether a password, or a token, stands in a URL as it was written."""
    found = _PASSWORD.search(url) or _TOKEN.search(url)
    if found is not None:
        return not _NAME.search(found[1])
    said = _SECRET.search(url)
    return said is not None and not _NAME.search(said[0])


def expanded(text: str) -> str:
    """Text with each `${NAME}` replaced by that environment variable; of a URL's user, password
    and query the way a URL has to write it.

    Raises:
        ConfigError: there is no such variable.
    """

    def value(found: re.Match[str]) -> str:
        if found[1] not in os.environ:
            raise ConfigError(f"the environment variable {found[1]} is not set")
        said = os.environ[found[1]]
        from urllib.parse import quote  # it takes long to import

        inside = "://" in text[: found.start()]
        return quote(said, safe="") if inside and _in_secret(text, found.start()) else said

    return _NAME.sub(value, text)


def _in_secret(text: str, at: int) -> bool:
    """Whether a place in a URL is before its host, or in its query."""
    host = text.find("@", text.index("://"))
    query = text.find("?")
    return at < host or (query != -1 and at > query)
