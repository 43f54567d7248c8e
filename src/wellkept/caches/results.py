"""Whether a result is what it was after it is decoded again; looked at once a type."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterable
from contextlib import suppress
from itertools import islice
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

from wellkept.codecs import LAZY, decoder, encode, is_on_demand
from wellkept.codecs.paths import stamped
from wellkept.errors import EncodeError, Undigestible
from wellkept.hashing import SCALARS, address, buffer_digest, digest_bytes
from wellkept.records import Value

_Kind = tuple[type, frozenset[str]]
"""A type, and which attributes an object of it had: what one has not can't be lost."""

_same: set[_Kind] = set()
"""What came back as it was. What did not is looked at again each time: another may."""

_KNOWN = frozenset(
    {"builtins", "collections", "datetime", "decimal", "fractions", "numpy", "pandas", "wellkept"}
    | {"pathlib", "polars", "pyarrow", "types", "uuid", "zoneinfo"}
)
"""Libraries whose own objects, without attributes that a program gave them, come back whole."""

_CODE = (type, FunctionType, MethodType, BuiltinFunctionType, ModuleType)
_WIDEST, _MOST = 100, 1000
"""Parts of one value, and of a result in all, that are looked at."""


def survives(result: Any, value: Value, digest: bytes) -> None:
    """See that a result is decoded as what was encoded, where one of its types is new.

    An array's subclass whose attributes its pickle leaves out would be another value on a hit.

    Args:
        value: the encoded result; its buffers may be the result's own memory.
        digest: of the result.

    Raises:
        EncodeError: it comes back as another value.
    """
    kind = type(result)
    if kind in SCALARS or kind.__module__.startswith("wellkept."):  # some stand for what comes back
        return
    kinds, code = _kinds(result)
    new = {kind for kind in kinds if kind not in _same}
    # A copy of a function or class that no name leads to has an identity of its own: it can't be
    # told by its digest whether such a result came back whole.
    if not new or not all(_is_found(found) for found in (*(kind for kind, _ in new), *code)):
        return
    try:
        buffers = [memoryview(buffer).toreadonly() for buffer in value.buffers]
        again = decoder(value.codec)(value.head, buffers)
        same = digest_bytes(again) == digest
    except Undigestible:
        same = False
    except Exception as error:
        raise EncodeError(
            f"{_named(new)} can't be decoded again: {type(error).__name__}: {error}"
        ) from error
    if not same:
        raise EncodeError(
            f"{_named(new)} would come back as another value, since what pickle writes of it leaves "
            "something out: give its class a __reduce__ or __getstate__ that has all that it holds, "
            "or return plain data"
        )
    if len(_same) > 10_000:
        _same.clear()
    _same.update(new)


def _kinds(result: Any) -> tuple[set[_Kind], list[Any]]:
    """What there is in a result, among its first parts, of what may not survive, and its functions."""
    found = set()
    code: list[Any] = []
    waiting = [result]
    for value in waiting:
        kind = type(value)
        parts: Iterable[Any] = ()
        if kind in SCALARS or isinstance(value, _CODE):
            if isinstance(value, (type, FunctionType)):
                code.append(value)
            continue
        if kind is dict:
            parts = value.values()
        elif kind in (list, tuple, set, frozenset):
            parts = value
        else:
            held = getattr(value, "__dict__", None)
            held = held if isinstance(held, dict) else {}
            given = {name for name in list(held) if held[name] is not None and name[:1] != "_"}
            if isinstance(value, BaseException):
                if value.__cause__ or value.__context__ or value.__suppress_context__:
                    given.add("__cause__")
            elif not given and kind.__module__.partition(".")[0] in _KNOWN:
                continue
            found.add((kind, frozenset(given)))
            parts = held.values()
        waiting += islice(parts, max(0, min(_WIDEST, _MOST - len(waiting))))
    return found, code


def _is_found(code: Any) -> bool:
    """Whether a class or function is had by its name; a copy may differ in more than it holds."""
    found: Any = sys.modules.get(code.__module__)
    for name in code.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is code


def _named(kinds: set[_Kind]) -> str:
    names = sorted({kind.__qualname__ for kind, _ in kinds})
    return f"the result, which holds a {' and a '.join(names[:3])},"


_PLAIN = frozenset({type(None), bool, int, float, complex, str, bytes})
_ROWS = frozenset({list, tuple})


def encoded(result: Any, codec: str, *, compared: bool = False) -> tuple[Value, bytes]:
    """The encoded result and its digest (32 bytes); each large buffer is hashed once for both.

    A result that has no digest is named by the digest of its bytes.

    Args:
        compared: whether it is seen to that the result is the same when it is decoded.

    Raises:
        EncodeError: it can't be encoded, or would come back as another value.
    """
    kind = type(result)
    if codec == "pickle" and (
        kind in _PLAIN or (kind in _ROWS and _PLAIN.issuperset(map(type, result)))
    ):
        # Most small results: nothing to take out, to compare or to look for.
        return Value("pickle", pickle.dumps(result, 5)), digest_bytes(result)
    value = encode(result, codec)
    if value.codec in LAZY:
        # What was written is what is named: the result itself would have to be computed again for its digest.
        result = decoder(value.codec)(value.head, value.buffers)
    if not value.buffers:
        try:
            digest = digest_bytes(result)
        except Undigestible:
            digest = buffer_digest(value.codec.encode() + b"\0" + value.head)
        else:
            if compared:
                survives(result, value, digest)
        return stamped(result, value), digest
    names = [buffer_digest(buffer) for buffer in value.buffers]
    known = {
        (address(buffer), memoryview(buffer).nbytes): name
        for buffer, name in zip(value.buffers, names, strict=True)
    }
    try:
        digest = digest_bytes(result, known=known)
    except Undigestible:
        digest = buffer_digest(value.codec.encode() + b"\0" + value.head + b"".join(names))
    else:
        if compared:
            survives(result, value, digest)
    return stamped(result, value._replace(names=names)), digest


def encoded_as_files(result: Any, codec: str) -> tuple[Value, bytes]:
    """Return a result as `encoded` does, for a store that has results as files of a format.

    What the format has no exact place for, or holds only slowly, is encoded as in any other store.

    Raises:
        EncodeError: it can't be encoded, or would come back as another value.
    """
    ours = type(result).__module__.startswith("wellkept.")
    if not ours and not is_on_demand(result) and _has_few_parts(result):
        with suppress(EncodeError):
            return encoded(result, codec, compared=True)
    return encoded(result, "pickle", compared=True)


def _has_few_parts(result: Any) -> bool:
    """Return whether the containers in a result hold at most `_MOST` parts.

    Each part is a group or dataset of an HDF5 file, which takes some 0.15 ms to write.
    """
    parts, left = [result], _MOST
    while parts:
        part = parts.pop()
        if isinstance(part, (list, tuple, set, frozenset, dict)):
            left -= len(part)
            if left < 0:
                return False
            parts.extend(part.values() if isinstance(part, dict) else part)
    return True
