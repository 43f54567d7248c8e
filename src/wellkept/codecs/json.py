"""JSON, for results that should stay readable. Exact or refused: a tuple would come back a list."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from wellkept.errors import DecodeError, EncodeError
from wellkept.records import Buffer, Value


def encode(value: Any) -> Value:
    """Return the value as UTF-8 JSON.

    Raises:
        EncodeError: JSON can't hold the value, or would bring it back changed.
    """
    where = _inexact(value, "result")
    if where:
        raise EncodeError(f"the json codec can't hold {where}; use the default codec")
    try:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        return Value("json", text.encode())
    except UnicodeEncodeError as error:
        raise EncodeError("the json codec can't hold a lone surrogate") from error
    except ValueError as error:
        # An integer may have more digits than Python writes.
        raise EncodeError(f"the json codec can't hold the result: {error}") from error


def decode(payload: Buffer, buffers: Sequence[Buffer]) -> Any:
    try:
        return json.loads(bytes(payload))
    except ValueError as error:
        raise DecodeError(f"can't decode kept JSON: {error}") from error


def _inexact(root: Any, name: str) -> str | None:
    """Return the first part that JSON would bring back changed, for a message; None if it is exact."""
    # A stack of its own: a recursion would end at a depth that depends on the caller's.
    todo = [(root, name, 0)]
    while todo:
        value, path, depth = todo.pop()
        # Exact types: a subclass of dict, str or int would come back as its base.
        kind = type(value)
        # Both the writer and the reader of the standard library recurse, so a limit far below theirs is used.
        if depth > 200:
            return f"a structure this deep ({path[:60]}…)"
        if kind is dict:
            for key, item in value.items():
                if type(key) is not str:
                    return f"a {type(key).__name__} as a key at {path}"
                todo.append((item, f"{path}[{key!r}]", depth + 1))
        elif kind is list:
            todo += [(item, f"{path}[{i}]", depth + 1) for i, item in enumerate(value)]
        elif kind is float:
            # True for NaN and infinities, which are no JSON.
            if value - value != 0:
                return f"{value} at {path}"
        elif value is not None and kind not in (str, int, bool):
            return f"a {kind.__qualname__} at {path}"
    return None
