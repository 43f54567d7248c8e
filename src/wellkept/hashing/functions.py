"""The digest of a function: its name, and its code with the values that it was made with.

The code is the normalised source (`source`), or the byte code, tagged with the Python version,
where there is no source. With it count the defaults and the values in the closure, by their
digests. Of a function that is called, one that has none counts by the name of its type; a function
that is a value has no digest then either. Attributes set on a function, and the globals that it
reads, do not count.

A value of a project brings the code of its class too, or of the function or module that it is: the deep
identity (see `code`), worked out once and looked at again in each walk. It is made anew when a method was
replaced, a helper bound to another function, a class given other bases.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from threading import local
from types import (
    BuiltinFunctionType,
    CellType,
    CodeType,
    FunctionType,
    MethodType,
    MethodWrapperType,
    ModuleType,
)
from typing import Any, Literal, NamedTuple

from blake3 import blake3

from wellkept.errors import Undigestible
from wellkept.hashing import names
from wellkept.hashing.names import (
    HEAP,
    RUN,
    Bounded,
    Refused,
    class_name,
    is_own,
    module_of,
    script_or_module,
)

# What the tag of what is of a project begins with; then come its code, and what it would be without.
TAG = "k2:project "

_MOST = 4096


class Receiver:
    """Stands for the object that a method is called on: what the method asks of its class counts with
    the method, so the object counts by content and the name of its class.
    """

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value: Any = value


class _Thread(local):
    # How many identities are being worked out: what they hold is followed by them.
    inside = 0


_thread = _Thread()
_walks = 0


def begin() -> None:
    """Begin a walk: what was known of classes and functions is to be looked at again."""
    global _walks
    _walks += 1


class _Known:
    """The code of one definition, and whether it has changed since."""

    __slots__ = ("_code", "_of", "_same", "_walk")

    def __init__(self, of: Any) -> None:
        self._of = of
        self._make()

    def _make(self) -> None:
        # Imported here since it parses source, which most values do not need.
        from wellkept.hashing.code import deep
        from wellkept.hashing.code.classes import is_mock

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
        self._same: Callable[[], bool] = found.guards.all_same
        self._code = found.hex
        self._walk = walk

    def now(self) -> str:
        """Return the code: 64 hex digits."""
        walk = _walks
        if self._walk != walk:
            _thread.inside += 1
            try:
                same = self._same()
            finally:
                _thread.inside -= 1
            if same:
                self._walk = walk
            else:
                self._make()
        return self._code


_classes: dict[type, _Known | None] = {}
_functions: Bounded[tuple[int, int], tuple[CodeType, dict[str, Any], _Known | None]] = Bounded(
    _MOST
)
_modules: Bounded[str, tuple[ModuleType, _Known | None]] = Bounded(_MOST)


# By qualified name, what the script that sends us functions defines: a mark, and the code.
_sent: dict[str, tuple[str, str]] = {}


_marks: dict[int, tuple[Any, str, str]] = {}
_taken: Bounded[int, tuple[Any, str | None]] = Bounded(_MOST)


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
    """Note the definitions that were `sent`."""
    names.arrive(main)
    if any(_sent.get(name) != told for name, told in found.items()):
        _sent.update(found)
        _taken.clear()


def _of_sender(item: Any) -> str | None:
    """Return the code of a function or class of the script that sends us functions, if it is what was sent."""
    if not _sent or item.__module__ not in RUN or is_own(item):
        return None
    key = item.__code__ if type(item) is FunctionType else item
    found = _taken.get(id(key))
    if found is None or found[0] is not key:
        mark, code = _sent.get(item.__qualname__, ("", ""))
        told = code if mark and mark == _mark(item) else None
        found = _taken[id(key)] = key, told
    return found[1]


def _mark(item: Any) -> str:
    """Return what tells a function or class from another of its name, in this process and in any other."""
    from wellkept.hashing.digests import digest_bytes

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
    """Return whether a class was made by Python: the module of one of C may be none that is loaded."""
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
    from wellkept.hashing.code import Project

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
    """Return the source of a class, for a walk that follows what it reaches itself."""
    from wellkept.hashing.code.definitions import class_nodes, class_text

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
        from wellkept.hashing.code import Project

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
        from wellkept.hashing.code import Project

        known = _Known(module) if Project().owns_module(module) else None
        found = _modules[module.__name__] = module, known
    return None if found[1] is None else found[1].now()


class Identity(NamedTuple):
    """The identity of a function: its name and its code."""

    # `module:qualname`; the module of a script is called as it is where it is imported.
    name: str
    # The digest of its code, defaults and closure in hex; "" if that does not count.
    code: str


# Exact types whose values have one digest for as long as they live.
_PLAIN = frozenset({type(None), bool, int, float, complex, str, bytes, type, ModuleType})

_texts: dict[int, tuple[weakref.ref[CodeType], tuple[Any, ...]]] = {}
_known: dict[int, tuple[Any, ...]] = {}
_under_way = local()


def _code_content(function: FunctionType) -> tuple[Any, ...]:
    """Return ("source", text) or ("bytecode", …) of a function, computed once for each code object."""
    code = function.__code__
    found = _texts.get(id(code))
    if found is not None and found[0]() is code:
        return found[1]
    from wellkept.hashing.source import normal_text

    text = normal_text(function)
    content = ("source", text) if text is not None else reduce_code(code)
    key = id(code)
    # Code objects compare by content and not by file, so they are told apart by address.
    _texts[key] = weakref.ref(code, lambda _: _texts.pop(key, None)), content
    return content


def reduce_code(code: CodeType) -> tuple[Any, ...]:
    """Return byte code and what it refers to; positions and the file do not count."""
    return (
        "bytecode",
        f"{sys.implementation.name} {sys.version_info[0]}.{sys.version_info[1]}",
        code.co_code,
        code.co_exceptiontable,
        code.co_names,
        code.co_varnames,
        code.co_cellvars,
        code.co_freevars,
        (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags),
        list(code.co_consts),
    )


def function_name(function: Any) -> str:
    """Return `module:qualname`, with the module's name as `names` has it."""
    code = getattr(function, "__code__", None)
    file = code.co_filename if isinstance(code, CodeType) else None
    return f"{script_or_module(function, file)}:{function.__qualname__}"


def _digestible(value: Any) -> bool:
    from wellkept.hashing.digests import digest_bytes

    try:
        with _of_identity():
            digest_bytes(value)
    except Undigestible:
        return False
    return True


def _counted(value: Any) -> tuple[Any, ...]:
    """Return a default or a closure's value, or the name of its type if it has no digest."""
    if type(value) in _PLAIN or _digestible(value):
        return (value,)
    return "type", class_name(type(value))


def _given(value: Any) -> tuple[Any, ...]:
    """Return the same of a function that is a value: what has no digest is refused, by its path."""
    return (value,)


def _cell(cell: Any, counted: Callable[[Any], tuple[Any, ...]]) -> tuple[Any, ...]:
    try:
        value = cell.cell_contents
    except ValueError:
        # The variable of the cell has no value yet.
        return ()
    return counted(value)


def _content(function: FunctionType) -> tuple[Any, ...]:
    counted = _counted if _under_way.__dict__.get("identity") else _given
    code = _code_content(function)
    defaults = function.__defaults__
    named = function.__kwdefaults__
    cells = function.__closure__
    return (
        code,
        None if defaults is None else tuple(map(counted, defaults)),
        None if named is None else {name: counted(value) for name, value in named.items()},
        None
        if cells is None
        else dict(
            zip(function.__code__.co_freevars, [_cell(c, counted) for c in cells], strict=True)
        ),
    )


@contextmanager
def _of_identity() -> Iterator[None]:
    """While the identity of a function that is called is worked out, a lock in a helper's closure is
    no reason to refuse it."""
    held = _under_way.__dict__
    before = held.get("identity", False)
    held["identity"] = True
    try:
        yield
    finally:
        held["identity"] = before


def reduce_function(function: FunctionType) -> tuple[Any, ...]:
    """Reduce a function to name, code, and the values that it holds.

    A function that reaches itself through its closure is a cycle in the value and ends as such.
    While its values are tried for being digestible, a function under way stands by its name alone;
    what comes of that is not kept.
    """
    open_now: set[int] = _under_way.__dict__.setdefault("functions", set())
    if id(function) in open_now:
        return "function", function_name(function)
    open_now.add(id(function))
    try:
        content = "function", function_name(function), *_content(function)
    finally:
        open_now.discard(id(function))
    # Of a function that is called, what it reaches counts elsewhere.
    code = None if _under_way.__dict__.get("identity") else function_code(function)
    if code is None:
        return content
    # The code says what the function does itself, too, and is the same where its source is not.
    told = f"{TAG}{code}", *content[:2], *content[3:]
    attributes = dict(vars(function))
    return (*told, attributes) if attributes else told


def _values(function: FunctionType, seen: set[int] | None = None) -> list[Any] | None:
    """Return all values that a function holds, if none can change under it; else None.

    Functions among them are followed, with their code.
    """
    held: list[Any] = [*(function.__defaults__ or ())]
    if function.__kwdefaults__:
        held += function.__kwdefaults__.values()
    try:
        for cell in function.__closure__ or ():
            held.append(cell.cell_contents)
    except ValueError:
        return None
    for value in tuple(held):
        if type(value) in _PLAIN:
            continue
        if type(value) is not FunctionType:
            return None
        seen = {id(function)} if seen is None else seen
        if id(value) not in seen:
            seen.add(id(value))
            more = _values(value, seen)
            if more is None:
                return None
            held = [*held, value.__code__, value.__qualname__, value.__module__, *more]
    return held


def _of_function(function: FunctionType) -> Identity:
    code = function.__code__
    found = _known.get(id(function))
    if (
        found is not None
        and found[0]() is function
        and found[1] is code
        and found[2] is function.__qualname__
        and found[3] is function.__module__
    ):
        held = found[4]
        if not held:
            if not (function.__defaults__ or function.__kwdefaults__ or function.__closure__):
                return found[5]  # type: ignore[no-any-return]
        else:
            now = _values(function)
            if now is not None and len(now) == len(held) and all(map(_is, now, held)):
                return found[5]  # type: ignore[no-any-return]
    with _of_identity():
        identity = Identity(function_name(function), _hex(_content_of(function)))
    held = _values(function)
    if held is not None:
        key = id(function)
        _known[key] = (
            weakref.ref(function, lambda _: _known.pop(key, None)),
            code,
            function.__qualname__,
            function.__module__,
            held,
            identity,
        )
    return identity


def _is(one: Any, other: Any) -> bool:
    return one is other


def _content_of(function: FunctionType) -> tuple[Any, ...]:
    open_now: set[int] = _under_way.__dict__.setdefault("functions", set())
    open_now.add(id(function))
    try:
        return ("code", *_content(function))
    finally:
        open_now.discard(id(function))


def _hex(content: Any) -> str:
    from wellkept.hashing.digests import digest_bytes

    return digest_bytes(content).hex()


def _of_class(kind: type) -> tuple[Any, ...]:
    """Return the content of a class that is called: its functions by name, and those of its bases."""
    held: dict[str, Any] = {}
    for base in reversed(kind.__mro__[:-1]):
        for name, item in base.__dict__.items():
            function = getattr(item, "__func__", item)
            if isinstance(function, FunctionType):
                held[name] = _of_function(function).code
    return "class", class_name(kind), held


def _has_call(function: Any) -> bool:
    """Return whether it is an object of a class that is written in Python, and so has a state of its own."""
    found = (vars(base).get("__call__") for base in type(function).__mro__)
    return isinstance(next(filter(None, found), None), FunctionType)


def identify(function: Any, code: Literal["own", "off"] = "own") -> Identity:
    """Return the identity of something that can be called.

    Args:
        code: "own" for the function's own code, "off" if code should not count.

    Raises:
        TypeError: it can't be called.
    """
    if type(function) is FunctionType:
        return _of_function(function) if code == "own" else Identity(function_name(function), "")
    if isinstance(function, staticmethod | classmethod):
        return identify(function.__func__, code)
    if not callable(function):
        raise TypeError(f"identify: {function!r} can't be called")
    content: Any
    if type(function) is MethodType:
        inner = identify(function.__func__, code)
        name, content = inner.name, ("method", inner.code, _counted(function.__self__))
    elif isinstance(function, BuiltinFunctionType | MethodWrapperType):
        receiver = function.__self__
        if receiver is None or isinstance(receiver, ModuleType):
            name = f"{module_of(function.__module__)}:{function.__qualname__}"
            content = ("builtin", name)
        else:
            name = f"{class_name(type(receiver))}.{function.__name__}"
            content = ("builtin method", _counted(receiver), function.__name__)
    elif isinstance(function, type):
        name = class_name(function)
        content = _of_class(function) if code == "own" else None
    elif isinstance(function, partial):
        inner = identify(function.func, code)
        name = inner.name
        content = (
            "partial",
            inner.code,
            tuple(map(_counted, function.args)),
            {key: _counted(value) for key, value in function.keywords.items()},
        )
    elif isinstance(getattr(function, "__qualname__", None), str) and not _has_call(function):
        # Functions of extension modules, method descriptors, numpy's dispatchers.
        name = f"{module_of(getattr(function, '__module__', None))}:{function.__qualname__}"
        content = ("builtin", name)
    else:
        kind = type(function)
        name = class_name(kind)
        call = identify(kind.__call__, code).code
        content = ("callable", name, _counted(function), call)
        # A decorator has given it the name of what it wraps.
        if isinstance(named := getattr(function, "__qualname__", None), str):
            name = f"{module_of(getattr(function, '__module__', None))}:{named}"
    with _of_identity():
        return Identity(name, _hex(content) if code == "own" else "")
