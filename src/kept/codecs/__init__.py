"""Values to bytes and back: a codec is a pair of pure functions, found by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from kept.codecs import pickled
from kept.codecs.frame import Blob, Frame
from kept.codecs.pickled import LARGE
from kept.errors import ConfigError, DecodeError
from kept.records import Buffer, Value

__all__ = ["LARGE", "NAMES", "Blob", "Frame", "decode", "decoder", "encode"]

NAMES = ("pickle", "cloudpickle", "json")
"""The codecs that a function may ask for; `pickle`, the default, turns to cloudpickle by itself."""


def encode(value: Any, codec: str = "pickle") -> Value:
    """Encode a value.

    Raises:
        EncodeError: the codec can't hold it.
        ConfigError: there is no such codec.
    """
    if codec == "pickle":
        return pickled.encode(value)
    if codec == "cloudpickle":
        return pickled.encode_cloud(value)
    if codec == "json":
        from kept.codecs import jsoned  # json is imported by those who use it

        return jsoned.encode(value)
    raise ConfigError(f"there is no codec {codec!r}; there are {', '.join(NAMES)}")


def decoder(codec: str) -> Callable[[Buffer, Sequence[Buffer]], Any]:
    """The function that decodes what `codec` wrote.

    Raises:
        DecodeError: there is no such codec here.
    """
    if codec in ("pickle", "cloudpickle"):
        return pickled.decode
    if codec == "json":
        from kept.codecs import jsoned

        return jsoned.decode
    raise DecodeError(f"a value was kept with the codec {codec!r}, which is not installed here")


def decode(value: Value) -> Any:
    """The value that was encoded. Its bytes must have been verified."""
    return decoder(value.codec)(value.head, value.buffers)
