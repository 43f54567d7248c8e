"""Unsigned pickles from elsewhere: decoded if they are of plain types, and no function that they name is run.

Plain types are numbers, text, bytes, containers, dates and the like, Python's own exceptions, arrays, pandas'
frames, and the dataclasses and enumerations that were registered. Any other name in a pickle is refused
before it is imported.

Streams are decoded by a machine of this library, because Python's own trusts a stream: that a class may be
given state, that a memo of four billion entries is needed, that an array has as many items as its shape says.
Here each operation takes exact types only. `safe_types` and `safe_frames` hold the arguments with which a name
may be called, and the state that its objects may be given.
"""

from __future__ import annotations

import dataclasses
import enum
import io
import pickle
import re
import struct
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from wellkept.codecs import safe_frames, safe_types
from wellkept.codecs.envelope import Refused
from wellkept.codecs.safe_types import Named, Unfinished
from wellkept.errors import ConfigError, DecodeError
from wellkept.records import Buffer

T = TypeVar("T", bound=type)

# How deep tuples may be nested: C code hashes them by a recursion without a guard, which ends in a crash.
_DEEP = 500
# How many containers may be open at once: one byte of a stream opens one, which takes far more memory.
_MARKS = 5000
# How many bytes a stream may copy: so many times its own size, and 64 MiB for small ones. A stream of a few
# kilobytes can name one array a million times, and each naming may copy it.
_TIMES = 16
_BESIDE = 64 * 1024 * 1024

_registered: dict[tuple[str, str], Named] = {}


def register_plain(kind: T) -> T:
    """Allow a dataclass or an enumeration in values from untrusted stores; a decorator.

    Its fields are set to the kept values, without a call of `__init__`, and must be of plain types themselves.

    Raises:
        ConfigError: the class is neither, or defines how it is unpickled.
    """
    own = isinstance(kind, type) and (dataclasses.is_dataclass(kind) or issubclass(kind, enum.Enum))
    if not own:
        raise ConfigError(f"only dataclasses and enumerations can be registered, not {kind!r}")
    if issubclass(kind, enum.Enum):
        _registered[kind.__module__, kind.__qualname__] = safe_types.enumeration(kind)
        return kind
    for name in ("__setstate__", "__reduce__", "__reduce_ex__"):
        for base in kind.__mro__[:-1]:
            made = getattr(base, "__dataclass_params__", None)
            # `dataclass(frozen=True, slots=True)` adds a `__setstate__` that only sets fields.
            slots = made is not None and made.frozen and "__slots__" in vars(base)
            if name in vars(base) and not slots:
                raise ConfigError(
                    f"{kind.__qualname__} has a {name} of its own, which could do anything"
                )
    _registered[kind.__module__, kind.__qualname__] = safe_types.dataclass(kind)
    return kind


def decode(
    payload: Buffer,
    buffers: Sequence[Buffer],
    find: Callable[[str, str], Named | None] | None = None,
) -> Any:
    """Return the value.

    Args:
        find: what stands for a name of another library's, by its module and itself, where these pickles have
            such; None: it is one of the plain types, or none.

    Raises:
        Refused: the value is of other types.
        DecodeError: these bytes are no pickle.
    """
    try:
        if _is_bare(data := bytes(payload)):
            return _Bare(io.BytesIO(data), buffers=buffers).load()
        return _Machine(data, buffers, find).run()
    except Refused:
        raise
    except Exception as error:
        raise DecodeError(f"can't decode a kept value: {type(error).__name__}: {error}") from error


# -- streams that name nothing ---------------------------------------------------------------------
#
# A stream of only numbers, text and containers is given to Python's own machine, which is ten times as fast, if
# every size in it is true. That machine appends to any object with an `append`, so such a stream must hold
# no buffers; and it must hold too few tuples to nest them too deep.

# Operations that carry no size, with their fixed arguments. Possessive (`*+`), so that the match is linear.
_RUN = re.compile(
    rb"(?s:[N\x88\x89\]})(\x94easu\x8f\x90\x91]|K.|M..|J.{4}|G.{8}|h.|j.{4}|\x95.{8}|\x80[\x04\x05])*+"
)
# Operations that are followed by a size and so many bytes, and how wide that size is.
_SIZED = {0x8C: 1, ord("C"): 1, 0x8A: 1, ord("X"): 4, ord("B"): 4, 0x8B: 4}
_SIZED |= {0x8D: 8, 0x8E: 8}
_TUPLES = frozenset((0x85, 0x86, 0x87, ord("t")))


def _is_bare(data: bytes) -> bool:
    """Return whether Python's own machine can decode a stream safely."""
    at, end, tuples = 0, len(data), 0
    match = _RUN.match
    while True:
        found = match(data, at)
        at = found.end() if found else at
        if at >= end:
            return False
        code = data[at]
        at += 1
        if (width := _SIZED.get(code)) is not None:
            at += width + int.from_bytes(data[at : at + width], "little")
            if at > end:
                return False
        elif code in _TUPLES:
            tuples += 1
        else:
            return code == _STOP and at == end and tuples < _DEEP


class _Bare(pickle.Unpickler):
    # `_is_bare` lets no operation through that comes here; these two hold should it ever be wrong.
    def find_class(self, module: str, name: str) -> Any:
        raise Refused(f"it holds {module}.{name}"[:200])

    def persistent_load(self, pid: Any) -> Any:
        raise Refused("it refers to what is elsewhere")


# -- the others ------------------------------------------------------------------------------------


def _find(module: str, name: str) -> Named | None:
    named = _registered.get((module, name)) or safe_types.find(module, name)
    return named or safe_frames.find(module, name)


class _Machine:
    """Decodes one stream of the operations that Python's pickler of protocols 4 and 5 writes.

    Containers on the stack are those that the stream made: no name stands for a list, dict, set or deque that
    existed before, so items may be added to each.
    """

    def __init__(
        self,
        payload: bytes,
        buffers: Sequence[Buffer],
        find: Callable[[str, str], Named | None] | None = None,
    ) -> None:
        self.data = payload
        self.find = find
        self.at = 0
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: list[Any] = []
        self.buffers = iter(buffers)
        self.named: dict[int, Named] = dict(safe_types.PRESENT)
        self.unbuilt: dict[int, Unfinished] = {}
        # Objects that may not be used before they have their state: C code reads their members unchecked.
        self.lacking: set[int] = set()
        # The depth of each tuple by its id; the tuple is kept with it, so that its id is not given away.
        self.deep: dict[int, tuple[int, Any]] = {}
        size = len(self.data) + sum(memoryview(buffer).nbytes for buffer in buffers)
        self.room = _TIMES * size + _BESIDE

    def run(self) -> Any:
        """Return the value; raises Refused, DecodeError, and whatever a broken stream makes Python raise."""
        data, values, operations, memo = self.data, _VALUES, _OPERATIONS, self.memo
        end, at = len(data), 0
        while True:
            code = data[at]
            at += 1
            # The operations that most of a stream consists of come first and without a call: memoize, small
            # integer, short text, and what was memoized.
            if code == 0x94:
                memo.append(self.stack[-1])
            elif code == 0x4B:
                self.stack.append(data[at])
                at += 1
            elif code == 0x8C:
                after = at + 1 + data[at]
                if after > end:
                    raise DecodeError("the pickle is cut short")
                self.stack.append(str(data[at + 1 : after], "utf-8", "surrogatepass"))
                at = after
            elif code == 0x68 and not self.lacking:
                self.stack.append(memo[data[at]])
                at += 1
            elif code == _STOP:
                self.at = at
                break
            else:
                self.at = at
                if (value := values.get(code)) is not None:
                    self.stack.append(value(self))
                elif (operation := operations.get(code)) is not None:
                    operation(self)
                else:
                    raise Refused("it has an operation that wellkept does not write")
                at = self.at
        (value,) = self.stack
        if self.marks or self.at != len(data):
            raise DecodeError("the pickle goes on after its end")
        self._seen((value,))
        return value

    # -- bytes ------------------------------------------------------------------------------------

    def read(self, size: int) -> bytes:
        """Return the next bytes; raises DecodeError if there are fewer."""
        # Checked before slicing, as a claimed size may be of many gigabytes.
        end = self.at + size
        if end > len(self.data):
            raise DecodeError("the pickle is cut short")
        found, self.at = self.data[self.at : end], end
        return found

    def number(self, size: int, *, signed: bool = False) -> int:
        return int.from_bytes(self.read(size), "little", signed=signed)

    def counted(self, size: int) -> bytes:
        """Return the bytes that follow their own count, which takes `size` bytes."""
        return self.read(self.number(size))

    def text(self, size: int) -> str:
        return str(self.counted(size), "utf-8", "surrogatepass")

    def spend(self, size: int) -> None:
        """Count bytes that are copied.

        Raises:
            Refused: the stream copies many times its own size.
        """
        self.room -= size
        if self.room < 0:
            raise Refused("it would become many times its size in memory")

    # -- the stack --------------------------------------------------------------------------------

    def marked(self) -> list[Any]:
        items, self.stack = self.stack, self.marks.pop()
        if self.lacking:
            self._seen(items)
        return items

    def _pop(self) -> Any:
        found = self.stack.pop()
        if self.lacking:
            self._seen((found,))
        return found

    def _seen(self, items: Sequence[Any]) -> None:
        lacking = self.lacking
        if lacking and any(id(item) in lacking for item in items):
            raise Refused("it uses an object that has no state yet")

    def push_tuple(self, items: Sequence[Any]) -> None:
        made, deep = tuple(items), 0
        for item in made:
            if type(item) is tuple:
                known = self.deep.get(id(item))
                deep = max(deep, 1 if known is None else known[0] + 1)
        if deep:
            if deep > _DEEP:
                raise Refused("its tuples are nested too deep")
            self.deep[id(made)] = deep, made
        self.stack.append(made)

    def _push_made(self, made: Any) -> None:
        if type(made) is Unfinished:
            self.unbuilt[id(made.it)] = made
            if made.must:
                self.lacking.add(id(made.it))
            made = made.it
        self.stack.append(made)

    # -- operations -------------------------------------------------------------------------------

    def proto(self) -> None:
        if self.at != 1 or self.number(1) not in (4, 5):
            raise Refused("it is of another pickle protocol than 4 or 5")

    def frame(self) -> None:
        if self.number(8) > len(self.data) - self.at:
            raise DecodeError("the pickle is cut short")

    def mark(self) -> None:
        if len(self.marks) >= _MARKS:
            raise Refused("its containers are nested too deep")
        self.marks.append(self.stack)
        self.stack = []

    def pop(self) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self.marked()

    def remembered(self, index: int) -> Any:
        found = self.memo[index]
        if self.lacking:
            self._seen((found,))
        return found

    def next_buffer(self) -> None:
        found = next(self.buffers, None)
        if found is None:
            raise DecodeError("the pickle has more buffers than came with it")
        self.stack.append(found)

    def readonly_buffer(self) -> None:
        found = memoryview(self.stack.pop())
        self.stack.append(found if found.readonly else found.toreadonly())

    def last(self, count: int) -> list[Any]:
        items = self.stack[-count:]
        if len(items) != count:
            raise DecodeError("the pickle takes more from its stack than it holds")
        del self.stack[-count:]
        if self.lacking:
            self._seen(items)
        return items

    def frozenset(self) -> None:
        # `marked` replaces `self.stack`, so it is called before that is looked up.
        items = self.marked()
        self.stack.append(frozenset(items))

    def append(self) -> None:
        item = self._pop()
        self._list().append(item)

    def appends(self) -> None:
        items = self.marked()
        self._list().extend(items)

    def _list(self) -> Any:
        found = self.stack[-1]
        if type(found) is not list and type(found) is not deque:
            raise Refused("it appends items to an object that is not a list")
        return found

    def setitem(self) -> None:
        key, value = self.last(2)
        self._dict()[key] = value

    def setitems(self) -> None:
        items = self.marked()
        found = self._dict()
        for key, value in zip(items[::2], items[1::2], strict=True):
            found[key] = value

    def _dict(self) -> Any:
        found = self.stack[-1]
        if type(found) not in (dict, OrderedDict, Counter):
            raise Refused("it sets items of an object that is not a dict")
        return found

    def additems(self) -> None:
        items = self.marked()
        found = self.stack[-1]
        if type(found) is not set:
            raise Refused("it adds items to an object that is not a set")
        found.update(items)

    def stack_global(self) -> None:
        module, name = self.last(2)
        if type(module) is not str or type(name) is not str:
            raise Refused("it has a name that is not text")
        found = (self.find and self.find(module, name)) or _find(module, name)
        if found is None:
            raise Refused(f"it holds {module}.{name}"[:200])
        self.named[id(found.it)] = found
        self.stack.append(found.it)

    def reduce(self) -> None:
        function, given = self.last(2)
        # By identity: asking a value of the stream whether it is equal would run its code.
        named = self.named.get(id(function))
        if named is None or named.call is None or type(given) is not tuple:
            raise Refused("it calls an object that may not be called")
        self._push_made(named.call(self, *given))

    def newobj(self) -> None:
        kind, given = self.last(2)
        named = self.named.get(id(kind))
        if named is None or named.new is None or type(given) is not tuple:
            raise Refused("it makes an object of a type that may not be made")
        if given and not named.takes:
            raise Refused("it makes an object of a type that may not be made of anything")
        self._push_made(named.new(*given))

    def build(self) -> None:
        state = self._pop()
        made = self.stack[-1]
        # `pop`: an object gets its state once. A second one could free the memory that views of it still use.
        unbuilt = self.unbuilt.pop(id(made), None)
        if unbuilt is None or unbuilt.it is not made:
            raise Refused("it gives state to an object that may have none")
        unbuilt.build(self, made, state)
        self.lacking.discard(id(made))


_STOP = ord(".")
# Operations that push a value which stands in the stream, or was pushed before.
_VALUES: dict[int, Callable[[_Machine], Any]] = {
    ord("N"): lambda machine: None,
    0x88: lambda machine: True,
    0x89: lambda machine: False,
    ord("J"): lambda machine: machine.number(4, signed=True),
    ord("M"): lambda machine: machine.number(2),
    0x8A: lambda machine: int.from_bytes(machine.counted(1), "little", signed=True),
    0x8B: lambda machine: int.from_bytes(machine.counted(4), "little", signed=True),
    ord("G"): lambda machine: struct.unpack(">d", machine.read(8))[0],
    ord("X"): lambda machine: machine.text(4),
    0x8D: lambda machine: machine.text(8),
    ord("C"): lambda machine: machine.counted(1),
    ord("B"): lambda machine: machine.counted(4),
    0x8E: lambda machine: machine.counted(8),
    0x96: lambda machine: bytearray(machine.counted(8)),
    ord("]"): lambda machine: [],
    ord("}"): lambda machine: {},
    0x8F: lambda machine: set(),
    ord(")"): lambda machine: (),
    ord("h"): lambda machine: machine.remembered(machine.number(1)),
    ord("j"): lambda machine: machine.remembered(machine.number(4)),
}
_OPERATIONS: dict[int, Callable[[_Machine], Any]] = {
    0x80: _Machine.proto,
    0x95: _Machine.frame,
    ord("("): _Machine.mark,
    ord("0"): _Machine.pop,
    ord("1"): _Machine.marked,
    0x97: _Machine.next_buffer,
    0x98: _Machine.readonly_buffer,
    0x85: lambda machine: machine.push_tuple(machine.last(1)),
    0x86: lambda machine: machine.push_tuple(machine.last(2)),
    0x87: lambda machine: machine.push_tuple(machine.last(3)),
    ord("t"): lambda machine: machine.push_tuple(machine.marked()),
    0x91: _Machine.frozenset,
    ord("a"): _Machine.append,
    ord("e"): _Machine.appends,
    ord("s"): _Machine.setitem,
    ord("u"): _Machine.setitems,
    0x90: _Machine.additems,
    0x93: _Machine.stack_global,
    ord("R"): _Machine.reduce,
    0x81: _Machine.newobj,
    ord("b"): _Machine.build,
}
