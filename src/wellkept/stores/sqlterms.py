"""Terms as bytes whose order is theirs, so that one index finds values and ranges in any database.

None is the byte 0; a number is 1, its double and then itself, for integers that no double tells
apart; text is 2 and its UTF-8. A long text is cut and ends in a digest: equal ones are still found,
but ranges can't order those that begin with the same 160 bytes.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from blake3 import blake3

from wellkept.errors import ConfigError
from wellkept.stores.base import Term

__all__ = ["Condition", "encoded", "field_name"]

_LONGEST = 180
_DIGEST = 16
_NUMBERS, _TEXTS = b"\1", b"\2"
_AFTER_NUMBERS, _AFTER_TEXTS = b"\1\xff\xff", b"\3"


class Condition(NamedTuple):
    """A term from `low` to `high`, both included, as they are stored."""

    field: str
    low: bytes
    high: bytes

    @classmethod
    def of(cls, name: str, value: Term | tuple[Term, Term]) -> Condition:
        if not isinstance(value, tuple):
            return cls(field_name(name), encoded(value), encoded(value))
        if len(value) != 2:
            raise ConfigError(f"a range of the term {name!r} is a pair, not {value!r}")
        low, high = value
        known = [isinstance(end, str) for end in value if end is not None]
        if len(known) == 2 and known[0] != known[1]:
            raise ConfigError(f"no range from {low!r} to {high!r} for the term {name!r}")
        return cls(
            field_name(name),
            encoded(low) if low is not None else _TEXTS if known == [True] else _NUMBERS,
            encoded(high)
            if high is not None
            else _AFTER_NUMBERS
            if known == [False]
            else _AFTER_TEXTS,
        )


def field_name(name: str) -> str:
    """A term's name, as text that any of the databases can index."""
    if not isinstance(name, str) or not name:
        raise ConfigError(f"the name of a term is text, not {name!r}")
    raw = _utf8(name)
    if len(raw) <= _LONGEST and "\0" not in name:
        return name
    return f"{name[:40].replace(chr(0), '?')}~{blake3(raw).hexdigest()}"


def encoded(value: Term) -> bytes:
    """A term's value; in the order of numbers, and of text by code points.

    Raises:
        ConfigError: it is none.
    """
    if value is None:
        return b"\0"
    if isinstance(value, str):
        raw = _utf8(value)
        if len(raw) > _LONGEST:
            raw = raw[: _LONGEST - _DIGEST] + blake3(raw).digest(_DIGEST)
        return _TEXTS + raw
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**63:
        value = int(value)
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return _NUMBERS + _double(float(value)) + (value + 2**63).to_bytes(8, "big")
    if isinstance(value, float) and value == value:
        return _NUMBERS + _double(value) + (b"\xff" * 9 if value > 0 else b"")
    raise ConfigError(f"a term is text, a number of 64 bits or None, not {value!r}")


def _double(value: float) -> bytes:
    raw = struct.pack(">d", value)
    # As sign and magnitude negative numbers would be the wrong way round, and after the others.
    return bytes(255 - byte for byte in raw) if raw[0] & 128 else bytes([raw[0] | 128]) + raw[1:]


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(f"a term can't hold a lone surrogate: {text!r}") from error
