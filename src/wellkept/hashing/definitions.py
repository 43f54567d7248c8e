"""What a value brings of its project: the code of its class, or of the function or module that it is.

The code is the deep identity (see `code`), worked out once and looked at again in each walk: it is
made anew when a method was replaced, a helper bound to another function, a class given other bases.
"""

from __future__ import annotations

import sys
from threading import local
from types import CellType, CodeType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

from blake3 import blake3

from . import names
from .names import RUN, is_own, module_of
from .registry import HEAP, Refused

if TYPE_CHECKING:
    from .code import Deep

__all__ = [
    "TAG",
    "Receiver",
    "arrive",
    "begin",
    "class_code",
    "function_code",
    "made_here",
    "module_code",
    "sent",
]

TAG = "k2:project "
"""What the tag of what is of a project begins with; then come its code, and what it would be without."""

_MOST = 4096


class Receiver:
    """Stands for the object that a method is called on: what the method asks of its class counts with
    the method, so the object counts by content and the name of its class.
    """

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


class _Thread(local):
    inside = 0
    """How many identities are being worked out: what they hold is followed by them."""


_thread = _Thread()
_walks = 0


def begin() -> None:
    """Begin a walk: what was known of classes and functions is to be looked at again."""
    global _walks
    _walks += 1


class _Known:
    """The code of one definition, and whether it still is that."""

    __slots__ = ("_code", "_deep", "_of", "_walk")

    def __init__(self, of: Any) -> None:
        self._of = of
        self._make()

    def _make(self) -> None:
        from .code import deep  # parses; most values need none
        from .code.values import is_mock

        walk = _walks
        _thread.inside += 1
        try:
            found = deep(self._of)
        except RecursionError:
            raise
        except Exception as error:
            raise Refused(
                f"the code of {self._of!r} can't be followed ({type(error).__name__}: {error})"
            ) from error
        finally:
            _thread.inside -= 1
        held = [each for base in getattr(self._of, "__mro__", ()) for each in vars(base).values()]
        if found.mocked or any(is_mock(type(each)) for each in held):
            raise Refused(f"a test has replaced a part of {self._of!r}")
        self._deep: Deep = found
        self._code = found.hex
        self._walk = walk

    def now(self) -> str:
        """Return the code: 64 hex digits."""
        walk = _walks
        if self._walk != walk:
            _thread.inside += 1
            try:
                same = self._deep.guards.all_same()
            finally:
                _thread.inside -= 1
            if same:
                self._walk = walk
            else:
                self._make()
        return self._code


_classes: dict[type, _Known | None] = {}
_functions: dict[tuple[int, int], tuple[CodeType, dict[str, Any], _Known | None]] = {}
_modules: dict[str, tuple[ModuleType, _Known | None]] = {}


_sent: dict[str, tuple[str, str]] = {}
"""By qualified name, what the script that sends us functions defines: a mark, and the code."""


_marks: dict[int, tuple[Any, str, str]] = {}
_taken: dict[int, tuple[Any, str | None]] = {}


def sent() -> tuple[str, dict[str, tuple[str, str]]]:
    """Return what a process that runs another script has to know of this one: its name, and of the
    functions and classes that it defines the code.

    Cloudpickle sends them by value, without all that their definitions name.
    """
    begin()
    found: dict[str, tuple[str, str]] = {}
    for item in list(vars(sys.modules.get("__main__", sys)).values()):
        kind = type(item)
        if not (kind is FunctionType or issubclass(kind, type)):
            continue
        if getattr(item, "__module__", None) not in RUN or not is_own(item):
            continue
        try:
            code = function_code(item) if kind is FunctionType else class_code(item)
            if code is not None:
                made = _marks.get(id(item))
                if made is None or made[0] is not item or made[1] != code:
                    made = _marks[id(item)] = item, code, _mark(item)
                found[item.__qualname__] = made[2], code
        except Exception:  # noqa: BLE001  who is given such a value meets it again
            continue
    return module_of("__main__"), found


def arrive(main: str, found: dict[str, tuple[str, str]]) -> None:
    """Take note of what was `sent`."""
    names.arrive(main)
    if any(_sent.get(name) != told for name, told in found.items()):
        _sent.update(found)
        _taken.clear()


def _of_sender(item: Any) -> str | None:
    """The code of a function or class of the script that sends us functions, if it is what was sent."""
    if not _sent or item.__module__ not in RUN or is_own(item):
        return None
    key = item.__code__ if type(item) is FunctionType else item
    found = _taken.get(id(key))
    if found is None or found[0] is not key:
        mark, code = _sent.get(item.__qualname__, ("", ""))
        told = code if mark and mark == _mark(item) else None
        if len(_taken) > _MOST:
            _taken.clear()
        found = _taken[id(key)] = key, told
    return found[1]


def _mark(item: Any) -> str:
    """What tells a function or class from another of its name, in this process and in any other."""
    from .digests import digest_bytes
    from .functions import reduce_code

    if type(item) is FunctionType:
        return digest_bytes(reduce_code(item.__code__)).hex()
    held: list[Any] = [[base.__qualname__ for base in item.__mro__]]
    for name, value in sorted(vars(item).items()):
        inner = getattr(value, "__func__", value)
        if type(inner) is FunctionType and inner.__module__ == item.__module__:
            held.append([name, reduce_code(inner.__code__)])
        elif type(value) in _SCALARS and name[:1] != "_":
            held.append([name, value])
    members = vars(item).get("_member_map_") or {}
    held += [[name, each._value_] for name, each in members.items()]
    return digest_bytes(held).hex()


_SCALARS = frozenset({type(None), bool, int, float, complex, str, bytes})


_TRACES = ("__dict__", "__weakref__", "__slots__")


def _by_python(kind: type) -> bool:
    """Whether a class was made by Python: the module of one of C may be none that is loaded."""
    if not kind.__flags__ & HEAP:
        return False
    held = vars(kind)
    if any(type(item) is FunctionType for item in held.values()):
        return True
    # Cython's own types are of a module that it makes up.
    if kind.__module__ not in sys.modules or kind.__module__.startswith("_cython_"):
        return False
    traces = any(name in held for name in _TRACES)
    return traces or any(map(_by_python, kind.__bases__))


def made_here(kind: type) -> bool:
    """Return whether a class is of a project."""
    if not _by_python(kind):
        return False
    from .code import Project

    return Project(kind).owns_class(kind)


def class_code(kind: type) -> str | None:
    """Return the code of a class, with that of its bases; None if none of them is of a project.

    Raises:
        Refused: it can't be followed.
    """
    if _sent and (code := _of_sender(kind)) is not None:
        return code
    try:
        known = _classes[kind]
        if known is None:
            return None
    except KeyError:
        if len(_classes) > _MOST:
            _classes.clear()
        owned = next((base for base in kind.__mro__[:-1] if made_here(base)), None)
        if owned is not None and _thread.inside:
            return _text_of(kind)
        known = _classes[kind] = None if owned is None else _Known(owned)
        if known is None:
            return None
    return _text_of(kind) if _thread.inside else known.now()


def _text_of(kind: type) -> str:
    """The source of a class, for a walk that follows what it reaches itself."""
    from .code.texts import class_nodes, class_text

    bases = [base for base in kind.__mro__[:-1] if made_here(base)]
    texts = [text for base in bases for text in class_text(base, class_nodes(base))]
    return blake3(repr([(text.text, text.chains) for text in texts]).encode()).hexdigest()


def function_code(function: FunctionType) -> str | None:
    """Return the code of a function, without what it holds; None if it is of a library.

    Raises:
        Refused: it can't be followed.
    """
    if _thread.inside:
        return None
    if _sent and (told := _of_sender(function)) is not None:
        return told
    code, space = function.__code__, function.__globals__
    found = _functions.get((id(code), id(space)))
    if found is None or found[0] is not code or found[1] is not space:
        from .code import Project

        if len(_functions) > _MOST:
            _functions.clear()
        known = None
        if Project(function).owns_function(function):
            # Empty, since what it holds is in its digest, and differs from one made by it to the next.
            cells = tuple(CellType() for _ in code.co_freevars)
            bare = FunctionType(code, space, function.__name__, None, cells)
            bare.__module__, bare.__qualname__ = function.__module__, function.__qualname__
            known = _Known(bare)
        found = _functions[id(code), id(space)] = code, space, known
    return None if found[2] is None else found[2].now()


def module_code(module: ModuleType) -> str | None:
    """Return the code of a module; None if it is of a library.

    Raises:
        Refused: it can't be followed.
    """
    if _thread.inside:
        return None
    found = _modules.get(module.__name__)
    if found is None or found[0] is not module:
        from .code import Project

        if len(_modules) > _MOST:
            _modules.clear()
        known = _Known(module) if Project().owns_module(module) else None
        found = _modules[module.__name__] = module, known
    return None if found[1] is None else found[1].now()
