"""What a pickle says, told without unpickling: its operations are read as data, and nothing is made.

No module is imported, no function is called and no object is built that the stream names; a name stays
text. Streams may be hostile: they are cut in length, and what they refer to themselves is cut in depth.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

LONGEST = 1 << 20
"""Bytes of a stream that is read."""
_MARK = object()


class Named(NamedTuple):
    """A class or function that a stream names."""

    name: str


class Made:
    """What calling something would give: by which name, from what, and with which state."""

    __slots__ = ("given", "state", "what")

    def __init__(self, what: Any, given: Any) -> None:
        self.what: str = what.name if type(what) is Named else "?"
        self.given: tuple[Any, ...] = given if type(given) is tuple else (given,)
        self.state: Any = None


class Outside(NamedTuple):
    """A buffer beside the stream, by its place."""

    at: int


class Pairs(list[tuple[Any, Any]]):
    """A dict: keys need not be hashable here."""


class Items(list[Any]):
    """A set."""


def read(data: bytes) -> Any:
    """Return what a pickle describes: plain values, containers, and `Made` where something would be called.

    Raises:
        ValueError: these bytes are no pickle, or it is too long.
    """
    if len(data) > LONGEST:
        raise ValueError("too long")
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    buffers = 0
    try:
        for op, said, _ in pickletools.genops(data):
            name = op.name
            if name == "NEXT_BUFFER":
                stack.append(Outside(buffers))
                buffers += 1
            elif name in _PUSHED:
                stack.append(_PUSHED[name]())
            elif name in _SAID:
                stack.append(said)
            elif name in ("MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT"):
                memo[len(memo) if said is None else int(said)] = stack[-1]
            elif name in ("GET", "BINGET", "LONG_BINGET"):
                stack.append(memo[int(said or 0)])
            elif name == "STOP":
                return stack.pop()
            elif name in _DO:
                _DO[name](stack, said)
            elif name not in ("PROTO", "FRAME", "READONLY_BUFFER"):
                stack.append(Made(Named(name.lower()), ()))
    except Exception as error:
        raise ValueError(f"no pickle that can be read: {type(error).__name__}") from error
    raise ValueError("it is cut short")


_PUSHED: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": Pairs,
    "EMPTY_SET": Items,
    "MARK": lambda: _MARK,
}
_SAID = frozenset(
    op.name
    for op in pickletools.opcodes
    if len(op.stack_after) == 1 and not op.stack_before and op.arg is not None
) - {"GLOBAL", "PERSID", "GET", "BINGET", "LONG_BINGET", "EXT1", "EXT2", "EXT4"}


def _marked(stack: list[Any]) -> list[Any]:
    at = len(stack) - 1
    while stack[at] is not _MARK:
        at -= 1
        if at < 0:
            raise ValueError("no mark")
    found = stack[at + 1 :]
    del stack[at:]
    return found


def _pairs(found: Sequence[Any]) -> list[tuple[Any, Any]]:
    return list(zip(found[::2], found[1::2], strict=True))


def _add(stack: list[Any], found: list[Any]) -> None:
    held = stack[-1]
    if isinstance(held, Made):
        held.state = (
            [*(held.state or ()), *found] if isinstance(held.state, (list, type(None))) else found
        )
    else:
        held.extend(found)


def _tuple(count: int) -> Callable[[list[Any], Any], None]:
    def do(stack: list[Any], _: Any) -> None:
        found = tuple(stack[len(stack) - count :])
        del stack[len(stack) - count :]
        stack.append(found)

    return do


def _call(stack: list[Any], _: Any) -> None:
    given, what = stack.pop(), stack.pop()
    stack.append(Made(what, given))


def _call_named(stack: list[Any], _: Any) -> None:
    named, given, what = stack.pop(), stack.pop(), stack.pop()
    stack.append(Made(what, (*given, named)))


def _build(stack: list[Any], _: Any) -> None:
    state = stack.pop()
    if isinstance(stack[-1], Made):
        stack[-1].state = state


def _global(stack: list[Any], said: Any) -> None:
    stack.append(Named(str(said).replace(" ", ".")))


def _stack_global(stack: list[Any], _: Any) -> None:
    name, module = stack.pop(), stack.pop()
    stack.append(Named(f"{module}.{name}"))


_DO: dict[str, Callable[[list[Any], Any], Any]] = {
    "POP": lambda stack, _: stack.pop(),
    "POP_MARK": lambda stack, _: _marked(stack),
    "DUP": lambda stack, _: stack.append(stack[-1]),
    "APPEND": lambda stack, _: _add(stack, [stack.pop()]),
    "APPENDS": lambda stack, _: _add(stack, found) if (found := _marked(stack)) else None,
    "ADDITEMS": lambda stack, _: _add(stack, found) if (found := _marked(stack)) else None,
    "SETITEM": lambda stack, _: _add(stack, _pairs([stack.pop(), stack.pop()][::-1])),
    "SETITEMS": lambda stack, _: _add(stack, _pairs(found)) if (found := _marked(stack)) else None,
    "LIST": lambda stack, _: stack.append(_marked(stack)),
    "DICT": lambda stack, _: stack.append(Pairs(_pairs(_marked(stack)))),
    "FROZENSET": lambda stack, _: stack.append(Items(_marked(stack))),
    "TUPLE": lambda stack, _: stack.append(tuple(_marked(stack))),
    "TUPLE1": _tuple(1),
    "TUPLE2": _tuple(2),
    "TUPLE3": _tuple(3),
    "REDUCE": _call,
    "NEWOBJ": _call,
    "NEWOBJ_EX": _call_named,
    "BUILD": _build,
    "GLOBAL": _global,
    "STACK_GLOBAL": _stack_global,
}


class _Text:
    """Writes what was read, within limits."""

    def __init__(self, most: int, items: int, deep: int) -> None:
        self.left, self.items, self.deep = most, items, deep
        self.parts: list[str] = []

    def add(self, text: str) -> None:
        if self.left > 0:
            self.parts.append(text[: self.left])
            self.left -= len(text)

    def write(self, value: Any, depth: int) -> None:
        if self.left <= 0:
            return
        if depth > self.deep:
            self.add("…")
        elif type(value) is tuple:
            self.some("(", value, ",)" if len(value) == 1 else ")", depth)
        elif type(value) is Items:
            self.some("{", value, "}", depth)
        elif type(value) is list:
            self.some("[", value, "]", depth)
        elif type(value) is Pairs:
            self.pairs(value, depth)
        elif isinstance(value, Made):
            self.made(value, depth)
        elif type(value) is Named:
            self.add(f"<{value.name}>")
        elif type(value) is Outside:
            self.add("<buffer>")
        else:
            self.add(scalar_text(value))

    def some(self, begin: str, values: Sequence[Any], end: str, depth: int) -> None:
        self.add(begin)
        for i, value in enumerate(values[: self.items]):
            self.add(", " if i else "")
            self.write(value, depth + 1)
        self.add(f", … {len(values) - self.items:,} more" if len(values) > self.items else "")
        self.add(end)

    def pairs(self, pairs: Sequence[tuple[Any, Any]], depth: int) -> None:
        self.add("{")
        for i, (key, value) in enumerate(pairs[: self.items]):
            self.add(", " if i else "")
            self.write(key, depth + 1)
            self.add(": ")
            self.write(value, depth + 1)
        self.add(f", … {len(pairs) - self.items:,} more" if len(pairs) > self.items else "")
        self.add("}")

    def made(self, value: Made, depth: int) -> None:
        self.add(value.what)
        self.some("(", value.given, ")", depth)
        if value.state is not None:
            self.add(" with ")
            self.write(value.state, depth + 1)


def scalar_text(value: Any) -> str:
    """Return a number, a text or bytes as one writes it."""
    try:
        text = repr(value[:500]) if isinstance(value, (str, bytes, bytearray)) else repr(value)
    # An integer of more digits than Python writes.
    except ValueError:
        return f"<an integer of {value.bit_length():,} bits>"
    return f"{text}…" if isinstance(value, (str, bytes, bytearray)) and len(value) > 500 else text


def text(value: Any, most: int = 6000, items: int = 30, deep: int = 6) -> str:
    """Return what was read as text, of at most so many letters, items of a container and levels."""
    written = _Text(most, items, deep)
    written.write(value, 0)
    return "".join(written.parts) + ("…" if written.left <= 0 else "")
