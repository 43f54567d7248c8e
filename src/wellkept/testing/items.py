"""Keys and items for the suites: of every kind that a store may hold, from a number."""

from __future__ import annotations

from typing import Any

from blake3 import blake3

from wellkept.hashing import digest_bytes
from wellkept.records import Argument, Call, Digest, Value

__all__ = ["call", "key", "payload", "same", "value"]


def key(n: int) -> str:
    """The n-th key: 64 hex digits, as those of kept are."""
    return blake3(b"key %d" % n).hexdigest()


def payload(n: int, size: int = 100) -> bytes:
    """The n-th bytes, `size` of them, which no compression makes smaller."""
    return blake3(b"payload %d" % n).digest(size) if size else b""


def value(n: int, size: int = 100) -> Value:
    """The n-th value. A large one has its bytes in two buffers beside the head."""
    if size < 100_000:
        return Value("pickle", payload(n, size))
    half = size // 2
    return Value("pickle", payload(n, 64), (payload(n + 1, half), payload(n + 2, size - half)))


def call(key: str, n: int, size: int = 100) -> Call:
    """The n-th record under a key. A large one has long arguments."""
    text = "t" * size
    arguments = {
        "x": Argument(Digest.of(digest_bytes(n)), n, shown=True),
        "naïve 名": Argument(Digest.of(blake3(b"y %d" % n).digest())),
        "text": Argument(Digest.of(digest_bytes(text)), text, shown=True),
    }
    return Call(
        key=Digest(key),
        function=f"module:function_{n % 3}",
        code=f"version:{n}",
        arguments=arguments if size else {},
        result=Digest.of(blake3(b"result %d" % n).digest()),
        state=("done", "failed", "items")[n % 3],
        created=1_700_000_000.0 + n,
        seconds=n / 7,
        size=n,
        expires=None if n % 2 else 4_000_000_000.5,
        metadata={"tags": ["a", n]} if n % 2 else {},
    )


def same(one: Any, other: Any) -> bool:
    """Whether two items are equal, whatever kind of memory their buffers are in."""
    if isinstance(one, Value) and isinstance(other, Value):
        mine, theirs = list(map(bytes, one.buffers)), list(map(bytes, other.buffers))
        return (one.codec, bytes(one.head), mine) == (other.codec, bytes(other.head), theirs)
    if isinstance(one, (bytes, bytearray, memoryview)):
        return isinstance(other, (bytes, bytearray, memoryview)) and bytes(one) == bytes(other)
    return type(one) is type(other) and bool(one == other)
