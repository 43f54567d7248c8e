"""The reference implementation of the scheme: every value as one string of bytes, and their BLAKE3.

`docs/reference/digest-spec.md` says the same in words. This module defines; `fast` gives the same
bytes sooner for values of ordinary depth. The walk keeps its own stack, so depth costs memory and
not the interpreter's stack, and each object is visited once however often it is shared.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable
from typing import Any

from wellkept.errors import Undigestible
from wellkept.hashing.buffers import Known, buffer_digest
from wellkept.hashing.functions import TAG
from wellkept.hashing.names import Refused
from wellkept.hashing.reducers import NOTHING_HELPS, reducer_of
from wellkept.records import Digest

# Tags whose content is a class, its field names joined by commas, then the fields.
_NAMED = {"dataclass": 3, "attrs": 3, "namedtuple": 3}


def _shown(key: Any) -> str:
    text = repr(key) if not isinstance(key, str) else '"' + key + '"'
    return text if len(text) <= 60 else text[:57] + "..."


def path_of(label: str, steps: list[tuple[Any, int]]) -> str:
    """Return the way from the root to a part, as Python would write it.

    Args:
        label: what the root is called.
        steps: (`Shape`, number of the child taken), from the root down.
    """
    text = label
    # The tag of the node above, where that is a reduced object.
    above = ""
    for shape, number in steps:
        children = shape.children
        if shape.kind == "tagged":
            if children[0].startswith(TAG):
                children, number = children[1:], number - 1
                # The source of a project's function is left out, so its parts stand one place earlier.
                if children[0] == "function":
                    number += 1
            above = children[0]
            if above in _NAMED and number >= _NAMED[above]:
                text += "." + children[2].split(",")[number - _NAMED[above]]
            elif above == "partial" and number == 2:
                text += ".func"
            elif above == "method":
                text += ".__self__"
            elif above == "function" and number == 3:
                text, above = f"{text}.__defaults__", "defaults"
            continue
        # This is the tuple of one that tells an empty cell from a full one.
        if above == "held":
            above = ""
            continue
        if shape.kind in ("dict", "mapping"):
            half = len(children) // 2
            if number < half:
                text += f" (key {_shown(children[number])})"
            elif above in _STATES and isinstance(children[number - half], str):
                text += f".{children[number - half]}"
            else:
                text += f"[{_shown(children[number - half])}]"
        elif shape.kind in ("tuple", "list"):
            if above not in _STATES or shape.kind == "list":
                text += f"[{number}]"
        else:
            text += "{…}"
        if above in ("function", "defaults"):
            above = "held"
        elif shape.kind != "tuple" or above not in _STATES:
            above = ""
    if len(text) > _LONGEST:
        text = f"{text[: _LONGEST // 2]} … {text[-_LONGEST // 4 :]}"
    return text


# Characters of a path that is shown.
_LONGEST = 400


# Tags under which a dict holds attributes.
_STATES = frozenset(
    {"object", "dataclass", "attrs", "pydantic", "state", "namespace", "exception", "function"}
    | {"k2:object", "k2:pydantic"}
)


# A part with more nodes, levels or (if it is `bytes`) bytes is written as its own digest.
MAX_NODES = 10_000
MAX_HEIGHT = 50
MAX_BYTES = 65_536

# The longest text or bytes whose length fits the encoding's 4 bytes.
MAX_LENGTH = 2**31 - 1

ATOMS = frozenset({type(None), bool, int, float, complex, str, bytes, type(Ellipsis)})

_U32 = struct.Struct("<I").pack
_I32 = struct.Struct("<i").pack
_I16S = struct.Struct("<8H").pack
_F64 = struct.Struct("<d").pack


def _counted(code: bytes) -> Callable[[int], bytes]:
    return lambda count: code + _U32(count)


_TUPLE, _LIST, _BYTES, _TEXT = map(_counted, (b"(", b"[", b"s", b"u"))


def _integer(value: int) -> bytes:
    if -(2**31) <= value < 2**31:
        return b"i" + _I32(value)
    rest = abs(value).to_bytes((value.bit_length() + 119) // 120 * 15, "little")
    digits = []
    # 120 bits are 8 digits of 15 bits.
    for at in range(0, len(rest), 15):
        piece = int.from_bytes(rest[at : at + 15], "little")
        digits.append(_I16S(*((piece >> shift) & 0x7FFF for shift in range(0, 120, 15))))
    raw = b"".join(digits)
    count = (value.bit_length() + 14) // 15
    return b"l" + _I32(count if value > 0 else -count) + raw[: 2 * count]


def _text(value: str) -> bytes:
    raw = value.encode("utf-8", "surrogatepass")
    if len(raw) > MAX_LENGTH:
        return tagged(b"long str", _integer(len(raw)), _bytes(buffer_digest(raw)))
    return _TEXT(len(raw)) + raw


def _bytes(value: bytes) -> bytes:
    if len(value) > MAX_LENGTH:
        return tagged(b"long bytes", _integer(len(value)), _bytes(buffer_digest(value)))
    return _BYTES(len(value)) + value


_PACK: dict[type, Callable[[Any], bytes]] = {
    type(None): lambda _: b"N",
    bool: lambda value: b"T" if value else b"F",
    type(Ellipsis): lambda _: b".",
    int: _integer,
    float: lambda value: b"g" + _F64(value),
    complex: lambda value: b"y" + _F64(value.real) + _F64(value.imag),
    str: _text,
    bytes: _bytes,
}


def pack(value: Any) -> bytes:
    """Return the encoding of an atom."""
    return _PACK[type(value)](value)


def tagged(tag: bytes, *content: bytes) -> bytes:
    """Return the encoding of a tagged tuple of the scheme itself; an object's has text for its tag."""
    return b"".join((_TUPLE(2 + len(content)), b"S", _BYTES(len(tag)), tag, *content))


def stand_in(digest: bytes) -> bytes:
    """Return what is written for a part in place of its encoding."""
    return tagged(b"#", _bytes(digest))


class Shape:
    """A node of a value: its kind, and the values under it.

    `kind` is "tuple", "list", "dict" (children: the keys, all text and in order, then the values),
    "mapping" (a dict with other keys, in any order), "set", "frozenset", or "tagged" (children: the
    tag, then the content).
    """

    __slots__ = ("children", "kind")

    def __init__(self, kind: str, children: tuple[Any, ...]) -> None:
        self.kind: str = kind
        self.children: tuple[Any, ...] = children


class Cyclic(Exception):  # noqa: N818 - a signal from the walk, not an error
    """Raised if a value contains itself."""


def expand(value: Any, known: Known | None, ordered: bool = False) -> Shape | bytes:
    """Return one level of a value: its encoding if it is an atom, else its shape.

    Args:
        ordered: whether the order of a plain dict counts.

    Raises:
        Refused: it has no identity.
    """
    kind = type(value)
    if kind in _PACK:
        return _PACK[kind](value)
    if kind is tuple:
        return Shape("tuple", value)
    if kind is list:
        return Shape("list", tuple(value))
    if kind is dict:
        if ordered:
            return Shape("tagged", ("k2:ordered dict", list(value.items())))
        if all(type(key) is str for key in value):
            keys = sorted(value)
            return Shape("dict", (*keys, *map(value.__getitem__, keys)))
        return Shape("mapping", (*value.keys(), *value.values()))
    if kind is set or kind is frozenset:
        return Shape(kind.__name__, tuple(value))
    if kind is Digest:
        return stand_in(value.raw)
    try:
        return Shape("tagged", reducer_of(kind)(value, known))
    except (Refused, MemoryError, RecursionError):
        raise
    except Exception as error:
        raise Refused(
            f"a {kind.__qualname__} can't be taken apart ({type(error).__name__}: {error}); "
            f"{NOTHING_HELPS}"
        ) from error


# From the root down: a value, what it was taken apart into, and the number of the child taken.
Way = list[tuple[Any, Shape, int]]

# Objects, each made anew by the reduction of the one that holds it, that are one in the other.
ENDLESS = 200


def _look_for_end(way: Way, known: Known | None) -> None:
    """Refuse a value if the last objects of a way were all made by the reductions of those above.

    Such a value can have no end; one that has an end is there as a whole before it is read. Pickle
    gives up at fewer. A reduction is asked again: what was there before is the same object then.
    """
    links = 0
    # The reduced object under which the way was followed so far.
    below: Any = None
    steps: list[int] = []
    for value, shape, number in reversed(way):
        steps.append(number)
        if len(steps) > _APART:
            return
        if shape.kind != "tagged":
            continue
        if below is not None:
            if _reached(value, steps[::-1], known) is below:
                return
            links += 1
            if links >= ENDLESS:
                raise Refused(NO_END)
        below, steps = value, []


# Levels between two reduced objects from which what lies between is what makes the value deep.
_APART = 500


def makes_its_kind(value: Any, known: Known | None, times: int = 8) -> bool:
    """Return whether a reduction makes an object of its own kind, which makes one, so many times over.

    After a few times that is a guess; after `ENDLESS` times there is no end.
    """
    kind = type(value)
    for _ in range(times):
        found = _same_kind_in(value, kind, known)
        if found is None or _reached(value, found[1], known) is found[0]:
            return False
        value = found[0]
    return True


def _same_kind_in(value: Any, kind: type, known: Known | None) -> tuple[Any, list[int]] | None:
    """Return an object of a kind among the first parts of a value, and the way to it."""
    waiting: deque[tuple[Any, list[int]]] = deque([(value, [])])
    for _ in range(100):
        if not waiting:
            return None
        part, steps = waiting.popleft()
        if steps and type(part) is kind:
            return part, steps
        try:
            shape = expand(part, known)
        except Refused:
            return None
        if isinstance(shape, Shape):
            waiting += [(child, [*steps, n]) for n, child in enumerate(shape.children[:20])]
    return None


def _reached(value: Any, steps: list[int], known: Known | None) -> Any:
    """Return what lies there in a value when it is taken apart again; None where nothing does."""
    for number in steps:
        try:
            shape = expand(value, known)
        except Refused:
            return None
        if not isinstance(shape, Shape) or number >= len(shape.children):
            return None
        value = shape.children[number]
    return value


NO_END = (
    "taking it apart makes new objects without end: its __reduce__, __getstate__ or __digest__ "
    "returns an object of the same kind each time"
)


def assemble(shape: Shape, parts: list[bytes]) -> bytes:
    """Return the encoding of a node from those of its children."""
    kind = shape.kind
    if kind == "tuple":
        return _TUPLE(len(parts)) + b"".join(parts)
    if kind == "list":
        return _LIST(len(parts)) + b"".join(parts)
    if kind == "tagged":
        return _TUPLE(len(parts) + 1) + b"S" + b"".join(parts)
    if kind in ("dict", "mapping"):
        half = len(parts) // 2
        keys, values = parts[:half], parts[half:]
        if kind == "mapping":
            # By key, and by value too: two keys may be written alike (nans, bare objects).
            pairs = sorted(zip(keys, values, strict=True))
            keys, values = [key for key, _ in pairs], [value for _, value in pairs]
        return tagged(b"dict", _bytes(_TUPLE(half) + b"".join(keys)), *values)
    return tagged(kind.encode(), *map(_bytes, sorted(parts)))


# How a value is written inside another, its nodes, and its levels.
Part = tuple[bytes, int, int]


def weigh(encoded: bytes, nodes: int, height: int, value: Any = None) -> Part:
    """Return the part that a value becomes: its encoding, or its digest where it is too large.

    `nodes` and `height` count through parts that are written as digests, so whatever holds a large
    part is large. (`nodes` is only exact up to the limit, or shared parts would make it huge.)
    """
    if nodes > MAX_NODES or height > MAX_HEIGHT:
        return stand_in(buffer_digest(encoded)), min(nodes, MAX_NODES + 1), height
    if type(value) is bytes and len(value) > MAX_BYTES:
        return stand_in(buffer_digest(encoded)), nodes, height
    return encoded, nodes, height


# From this number of levels on, it is checked whether a value has an end.
_DEEP = 1000


class _Frame:
    __slots__ = ("heights", "nodes", "parts", "shape", "value")

    def __init__(self, value: Any, shape: Shape) -> None:
        self.value = value
        self.shape = shape
        self.parts: list[bytes] = []
        self.nodes = 1
        self.heights = 0


def reference_digest(
    root: Any, known: Known | None = None, label: str = "value", ordered: bool = False
) -> bytes:
    """Return the digest of a value, 32 bytes, by the definition.

    Raises: as `reference_encoding`.
    """
    if type(root) is Digest:
        return root.raw
    return buffer_digest(reference_encoding(root, known, label, ordered))


def reference_encoding(
    root: Any, known: Known | None = None, label: str = "value", ordered: bool = False
) -> bytes:
    """Return the encoding of a value.

    Raises:
        Cyclic: the value contains itself.
        Undigestible: a part has no identity; the message names the path to it, from `label`.
    """
    stack: list[_Frame] = []
    memo: dict[int, tuple[Part, Any]] = {}
    open_ids: set[int] = set()
    deep = _DEEP
    value = root
    while True:
        # Down: `value` is to be encoded, for the frame on top of the stack.
        seen = memo.get(id(value))
        if seen is not None:
            part = seen[0]
        else:
            if id(value) in open_ids:
                raise Cyclic
            try:
                shape = expand(value, known, ordered)
                if len(stack) > deep and isinstance(shape, Shape):
                    deep *= 2
                    way = [(frame.value, frame.shape, len(frame.parts)) for frame in stack]
                    _look_for_end(way, known)
            except Refused as refused:
                steps = [(frame.shape, len(frame.parts)) for frame in stack]
                raise Undigestible(f"{path_of(label, steps)}: {refused}") from refused.__cause__
            if isinstance(shape, Shape):
                if shape.children:
                    stack.append(_Frame(value, shape))
                    open_ids.add(id(value))
                    value = shape.children[0]
                    continue
                encoded, nodes, height = assemble(shape, []), 1, 1
            else:
                encoded, nodes, height = shape, 1, 0
            if not stack:
                return encoded
            part = weigh(encoded, nodes, height, value)
            if isinstance(shape, Shape):
                memo[id(value)] = part, value
        # Up: `part` is done; give it to its parent, and close the parents that are full.
        while True:
            frame = stack[-1]
            frame.parts.append(part[0])
            frame.nodes += part[1]
            frame.heights = max(frame.heights, part[2])
            if len(frame.parts) < len(frame.shape.children):
                value = frame.shape.children[len(frame.parts)]
                break
            stack.pop()
            open_ids.discard(id(frame.value))
            encoded = assemble(frame.shape, frame.parts)
            if not stack:
                return encoded
            part = weigh(encoded, frame.nodes, frame.heights + 1)
            memo[id(frame.value)] = part, frame.value
