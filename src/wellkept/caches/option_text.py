"""Text in options: secrets in URLs, sizes and durations as people write them."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from wellkept.errors import ConfigError

if TYPE_CHECKING:
    from datetime import timedelta


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


_SECRET_NAME = re.compile(r"(?i)token|secret|passw|key|credential|auth|private|cookie")


def is_secret(name: str) -> bool:
    """Whether the name of a variable, or of an option, looks like that of a secret."""
    return _SECRET_NAME.search(name) is not None


def secretless(url: str) -> str:
    """Return a URL with `${WELLKEPT_PASSWORD}` and the like in the places of secrets."""

    def hidden(found: re.Match[str]) -> str:
        whole, secret = found[0], found[found.lastindex or 0]
        name = "TOKEN" if found.re is _TOKEN else "PASSWORD"
        at = found.start(found.lastindex or 0) - found.start()
        if _NAME.search(secret):
            return whole
        return f"{whole[:at]}${{WELLKEPT_{name}}}{whole[at + len(secret) :]}"

    for secret in (_PASSWORD, _TOKEN):
        url = secret.sub(hidden, url)
    return _SECRET.sub(
        lambda found: found[0] if _NAME.search(found[0]) else f"{found[1]}${{WELLKEPT_SECRET}}", url
    )


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


_UNITS = {"": 1, "b": 1}
for _i, _letter in enumerate("kmgt", 1):
    _UNITS |= {f"{_letter}b": 1000**_i, _letter: 1000**_i, f"{_letter}ib": 1024**_i}
_SECONDS: dict[str, float] = {}
for _names, _length in (
    ("ms msec msecs millisecond milliseconds", 1e-3),
    ("s sec secs second seconds", 1.0),
    ("m min mins minute minutes", 60.0),
    ("h hr hrs hour hours", 3600.0),
    ("d day days", 86400.0),
    ("w week weeks", 604800.0),
):
    _SECONDS |= dict.fromkeys(_names.split(), _length)
_SPAN = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([a-z]+)[\s,]*", re.IGNORECASE)
_TEXT = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([a-z]*)\s*", re.IGNORECASE)


def parse_size(size: int | str) -> int:
    """Bytes from a number or text such as `"256 MB"` (10**6) or `"1 GiB"` (2**30).

    Raises:
        ConfigError: it is neither.
    """
    if isinstance(size, str):
        found = _TEXT.fullmatch(size)
        if found and found[2].lower() in _UNITS:
            return int(float(found[1]) * _UNITS[found[2].lower()])
    elif isinstance(size, int) and size >= 0 and size is not True:
        return int(size)
    raise ConfigError(f"not a size: {size!r}; give bytes, or text such as '256 MB'")


def parse_duration(span: float | str | timedelta, *, unit: bool = False, option: str = "") -> float:
    """Seconds from a number, a timedelta, or text such as `"30 s"`, `"12 hours"`, `"1d12h"`.

    Args:
        span: the duration.
        unit: text has to name a unit, unless it is 0; otherwise a number alone is seconds.
        option: the parameter that says it, for the message.

    Raises:
        ConfigError: it is none of these, or negative.
    """
    if hasattr(span, "total_seconds"):  # a timedelta, not imported for the few who give one
        span = float(span.total_seconds())
    if isinstance(span, str):
        text = span.strip()
        alone = _TEXT.fullmatch(text)
        if alone and not alone[2]:
            if unit and float(text):
                said = ", ".join(f"{text}{one}" for one in ("s", "min", "h", "d"))
                raise ConfigError(f"{text} of what? Give the unit: {said} or {text}w")
            return float(text)
        parts = _SPAN.findall(text)
        if parts and not _SPAN.sub("", text) and all(u.lower() in _SECONDS for _, u in parts):
            return sum(float(count) * _SECONDS[u.lower()] for count, u in parts)
    elif isinstance(span, (int, float)) and span >= 0 and span is not True:
        return float(span)
    raise ConfigError(
        f"{option and f'{option}=: '}not a duration: {span!r}; give seconds, or text such as '12 h' or '1d12h' "
        "(units are ms, s, min, h, d and w)"
    )
