"""The leaves of a value: its parts with their paths, by which two values can be compared later.

A leaf is a scalar, or a part that is only told by its digest: an array, a frame, a long text, what
lies too deep, and what has more parts than there is room for.
"""

from __future__ import annotations

import enum
import json
import zlib
from typing import Any

from wellkept.hashing.digests import digest_bytes
from wellkept.hashing.encoding import Shape, expand
from wellkept.hashing.functions import TAG
from wellkept.hashing.names import class_name, type_key
from wellkept.records import Digest

# Leaves and containers of one value, at the most.
MOST = 1_000

# Path and text. Leaves of the same text are the same. The text of a container is `=` and its type; that of a
# part is what it looks like and, if that does not say all, digits of its digest: `float64 (3,) <…>`, or `<?>`
# where hashing it again would take too long.
Leaf = tuple[str, str]

_DEEPEST = 30
# Characters of a text.
_LONGEST = 200
# Digits of a digest: enough to tell what one function was given.
_DIGITS = 20
# Of arrays inside one value that are hashed again.
_BYTES = 1 << 24
_PLAIN = frozenset({type(None), bool, int, float, complex})
# Types whose short `repr` a person knows the value by.
_TELLING = frozenset(
    {
        "datetime.date",
        "datetime.datetime",
        "datetime.time",
        "datetime.timedelta",
        "decimal.Decimal",
        "fractions.Fraction",
        "pathlib.PosixPath",
        "pathlib.PurePosixPath",
        "pathlib.WindowsPath",
        "uuid.UUID",
        "builtins.range",
        "builtins.slice",
    }
)


def leaves_of(value: Any, raw: bytes | None = None, *, shown: bool = True) -> list[Leaf]:
    """Return the leaves of a value, in the order of its parts; a container comes before what it holds.

    Args:
        raw: its digest, where that is known.
        shown: whether scalars are shown; otherwise all leaves are digests.

    Raises:
        Exception: what taking it apart raised, of a value that has no digest.
    """
    walk = _Walk(shown)
    walk.visit("", value, 0, raw)
    return walk.found


def unpacked(note: bytes | None) -> dict[str, list[Leaf]]:
    """Return the leaves of a call's arguments from the note that has them: `leaves/<key>`, whose JSON
    stands behind one byte that says whether it is compressed. Of nothing, or of what is damaged, nothing.
    """
    try:
        text = zlib.decompress(note[1:]) if note and note[0] else (note or b"")[1:]
        return {
            str(name): [(str(path), str(leaf)) for path, leaf in leaves]
            for name, leaves in json.loads(text).items()
        }
    except (ValueError, TypeError, AttributeError, zlib.error, RecursionError):
        return {}


def looks(value: Any, raw: bytes) -> str:
    """Return how a message shows a value that is too long for it: `<float64 (3, 4) 1a2b3c4d>`."""
    try:
        said = _looks(value, True)
    except Exception:  # noqa: BLE001  it may be any object, and is only described
        said = ""
    return f"<{said} {raw.hex()[:8]}>".replace("< ", "<")


def looked(leaves: list[Leaf], digest: Digest) -> str:
    """Return the same from the leaves that were noted of a value."""
    text = leaves[0][1] if leaves else ""
    if text.startswith("="):
        many = sum(1 for path, _ in leaves if path.count("[") == 1 and path.endswith("]"))
        said = f"{text[1:].rpartition(':')[2]} of {many}" if many else text[1:].rpartition(":")[2]
    else:
        said = text.rpartition("<")[0].strip()
    return f"<{said} {digest[:8]}>".replace("< ", "<")


class _Code(str):
    """Return the text of a leaf that is the code of a class."""

    __slots__ = ()


class _Walk:
    def __init__(self, shown: bool) -> None:
        self.found: list[Leaf] = []
        self._shown = shown
        self._left = MOST
        self._bytes = _BYTES

    def visit(self, path: str, value: Any, depth: int, raw: bytes | None = None) -> None:
        kind = type(value)
        if kind is _Code:
            self.found.append((path, str(value)))
            return
        if self._shown:
            if kind in _PLAIN or (kind in (str, bytes) and len(value) <= _LONGEST):
                self.found.append((path, repr(value)))
                return
        elif kind in _PLAIN:
            self._whole(path, value, raw)
            return
        parts = None if depth >= _DEEPEST else _parts(value, kind)
        if parts is None or len(parts[1]) > self._left:
            self._whole(path, value, raw)
            return
        named, children = parts
        self._left -= len(children)
        self.found.append((path, f"={named}"))
        if self._shown and _PLAIN.issuperset({type(child) for _, child in children}):
            self.found += [(path + step, repr(child)) for step, child in children]
            return
        for step, child in children:
            self.visit(path + step, child, depth + 1)

    def _whole(self, path: str, value: Any, raw: bytes | None) -> None:
        """Return a part by its digest."""
        if raw is None:
            size = getattr(value, "nbytes", 0)
            if type(size) is int and size:
                self._bytes -= size
                if self._bytes < 0:
                    self.found.append((path, f"{_looks(value, self._shown)} <?>".lstrip()))
                    return
            raw = digest_bytes(value)
        text = f"{_looks(value, self._shown)} <{raw.hex()[:_DIGITS]}>"
        self.found.append((path, text.lstrip()))


# What a container is called; the steps to what it holds.
_Parts = tuple[str, list[tuple[str, Any]]]


def _parts(value: Any, kind: type) -> _Parts | None:
    """Return the children of a container, with the steps to them, or None if it is not one."""
    if kind is dict:
        if len(value) > MOST:
            return None
        return "dict", _items(value)
    if kind is list or kind is tuple:
        if len(value) > MOST:
            return None
        return kind.__name__, [(f"[{n}]", item) for n, item in enumerate(value)]
    if kind is set or kind is frozenset:
        if len(value) > MOST or not all(type(item) in (*_PLAIN, str) for item in value):
            return None
        texts = sorted((f"{{{repr(item)[:_LONGEST]}}}", item) for item in value)
        return kind.__name__, texts
    if kind in (str, bytes) or isinstance(value, (type, enum.Enum)) or hasattr(kind, "shape"):
        return None
    if type_key(kind) in _TELLING or callable(value):
        return None
    return _taken_apart(value, kind)


def _items(value: dict[Any, Any]) -> list[tuple[str, Any]]:
    if all(type(key) is str for key in value):
        return [(f'["{key[:_LONGEST]}"]', value[key]) for key in sorted(value)]
    return [(f"[{repr(key)[:_LONGEST]}]", item) for key, item in value.items()]


def _taken_apart(value: Any, kind: type) -> _Parts | None:
    """Return the parts of an object as its digest sees it: by its fields, or as pickle does."""
    if hasattr(value, "__array__") or hasattr(value, "__arrow_c_stream__"):
        # Frames and the like are told by their digest alone.
        return None
    shape = expand(value, None)
    if not isinstance(shape, Shape) or shape.kind != "tagged":
        return None
    name = class_name(kind)
    if not shape.children[0].startswith(TAG):
        return _content(value, name, shape.children)
    parts = _content(value, name, shape.children[1:])
    if parts is None:
        return None
    code = _Code(f"the code of {name} <{shape.children[0].removeprefix(TAG)[:_DIGITS]}>")
    return name, [(".__class__", code), *parts[1]]


def _content(value: Any, name: str, content: tuple[Any, ...]) -> _Parts | None:
    tag, *rest = content
    if tag in ("dataclass", "attrs", "namedtuple"):
        fields = rest[1].split(",") if rest[1] else []
        made = [(f".{field}", item) for field, item in zip(fields, rest[2:], strict=False)]
        if len(rest) > 2 + len(fields):
            made += [(f".{key}", item) for key, item in rest[-1].items()]
        return name, made
    if tag in ("namespace", "pydantic", "k2:pydantic"):
        held = rest[0] if tag == "namespace" else rest[1]
        made = [(f".{key}", item) for key, item in held.items()]
        if tag == "k2:pydantic":
            made.append((" (fields that were not set)", rest[4]))
        return name, made
    if tag in ("OrderedDict", "Counter", "defaultdict", "deque"):
        held = value if tag == "deque" else dict(value)
        steps = [(f"[{n}]", x) for n, x in enumerate(held)] if tag == "deque" else _items(held)
        return name, steps
    if tag == "object":
        return _reduced(name, rest[1:])
    if tag == "k2:object" and (found := _reduced(name, rest[2:])) is not None:
        return name, [*found[1], *((f".{key}", item) for key, item in rest[1].items())]
    return None


def _reduced(name: str, content: list[Any]) -> _Parts | None:
    """Return what a pickle reduction has: function, arguments, state, items, pairs, setter."""
    _, arguments, state, items, pairs, setter = (*content, *[None] * 6)[:6]
    if setter is not None or isinstance(pairs, list):
        return None
    slots: Any = None
    if isinstance(state, tuple) and len(state) == 2 and isinstance(state[1], dict):
        state, slots = state
    if not isinstance(state, dict | None):
        return None
    made = [(f"({n})", item) for n, item in enumerate(arguments or ())]
    for held in (state, slots):
        made += [(f".{key}", item) for key, item in (held or {}).items()]
    made += [(f"[{n}]", item) for n, item in enumerate(items or ())]
    made += _items(dict(pairs)) if pairs else []
    return (name, made) if len(made) <= MOST else None


def _looks(value: Any, shown: bool) -> str:
    """Return what a person knows a part by; nothing of it that is to be hidden."""
    kind = type(value)
    if isinstance(value, enum.Enum):
        return f"{kind.__qualname__}.{value.name}" if shown else kind.__qualname__
    if shown and kind in (str, bytes):
        return f"{value[:40]!r}…"
    if shown and type_key(kind) in _TELLING:
        return repr(value)[:_LONGEST]
    shape = getattr(value, "shape", None) if hasattr(kind, "shape") else None
    if isinstance(shape, tuple):
        dtype = getattr(value, "dtype", None)
        what = kind.__qualname__ if dtype is None else str(dtype)
        return f"{what} {shape}"
    if isinstance(value, type) or callable(value):
        return str(getattr(value, "__qualname__", kind.__qualname__))
    return kind.__qualname__
