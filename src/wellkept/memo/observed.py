"""Which code of its project a body runs, compared with what its identity covers.

The walk that makes an identity follows names; what is called in another way it may miss. So the code
objects that start while a body runs are noted, by `sys.monitoring` (Python 3.12 and later), and where
somebody asks for it by `sys.setprofile`. One that the identity does not cover widens it: all of its
module counts from then on, the result is kept under the wider identity, and a note beside the calls
lets other processes know.

A code object is switched off as soon as it has reported, for as long as one body is under way, so
that a loop pays nothing; before each body all are switched on again. The caller is known by a context
variable, which tasks inherit, and threads that a body starts.
"""

from __future__ import annotations

import atexit
import json
import sys
import threading
from collections.abc import Callable, Iterable
from contextvars import ContextVar, Token
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any

from wellkept._process import at_fork
from wellkept.caches.active import inherited, reach_threads
from wellkept.errors import KeptError

if TYPE_CHECKING:
    from wellkept.caches import Cache

__all__ = ["WIDER", "Observed", "begin", "called", "known_wider", "note_wider"]

WIDER = "wider/"
"""`<identity>`: the modules by which a deep identity was widened."""
_FIRST = 3
"""How many bodies of a function are looked at in a process, however fast they are."""
_SLOW = 0.002
"""Seconds from which on each body is."""
_STEPS = 100
"""How often one body of a generator is looked at anew."""
_STRANGERS = 10_000
"""How many starts by others are waited for while bodies are under way."""

_monitoring: Any = getattr(sys, "monitoring", None)
_current: ContextVar[Observed | None] = ContextVar("wellkept.observed", default=None)
_open: list[Observed] = []
_files: dict[str, bool] = {}
_guard = threading.Lock()


class Bodies:
    """What is known of the bodies of one function.

    Attributes:
        followed: whether the code that they run is compared with what the identity covers.
        looked: how many of them were looked at.
        spent: seconds that the last one took.
        asked: whether the next ones are looked at in any case.
    """

    __slots__ = ("asked", "followed", "looked", "spent")

    asked: bool
    followed: bool
    looked: int
    spent: float

    def __init__(self, *, followed: bool) -> None:
        self.followed, self.asked = followed, False
        self.looked, self.spent = 0, 0.0


class Observed:
    """One body that is under way.

    Args:
        asked: whether it is looked at even where that makes it slow; None: it is not, but what it
            calls is not to count for what called it.
        outer: the body that called it.

    Attributes:
        ran: the code of the project that it has started, by address.
        widened: modules by which kept functions that it called are wider than what names reach.
    """

    __slots__ = ("_asked", "_ending", "_steps", "_token", "outer", "ran", "widened")

    def __init__(self, asked: bool | None, outer: Observed | None) -> None:
        self._asked = asked
        self._ending: Callable[[], None] | None = None
        self._steps = 0
        self._token: Token[Observed | None] | None = None
        self.outer: Observed | None = outer
        self.ran: dict[int, CodeType] = {}
        self.widened: set[str] = set()

    def enter(self) -> Observed:
        """The body begins, or a generator goes on."""
        self._token = _current.set(self)
        if self._asked is not None:
            self._steps += 1
            if self._steps < _STEPS:
                self._ending = _switch_on(self._asked)
            _open.append(self)
        return self

    def leave(self) -> None:
        """The body has ended, or a generator rests."""
        if self in _open:
            _open.remove(self)
            if not _open:
                _rest()
        if self._ending is not None:
            self._ending()
            self._ending = None
        token, self._token = self._token, None
        if token is not None:
            try:
                _current.reset(token)
            except ValueError:
                # It was closed from another context.
                pass
        if self.outer is not None:
            self.outer.ran |= self.ran
            self.outer.widened |= self.widened

    def missing(
        self, covers: Callable[[CodeType, tuple[Any, ...]], bool], values: tuple[Any, ...]
    ) -> set[str]:
        """Return the modules of code that ran and that an identity does not cover.

        Args:
            covers: whether it covers a code object, for a call with such values.
        """
        if self._asked is None:
            return set()
        found = set(self.widened)
        left = [code for code in self.ran.values() if not covers(code, values)]
        if left:
            from wellkept.hashing.code.identity import module_with

            brought = _brought_by(values)
            left = [code for code in left if not any(each.holds(code) for each in brought)]
            found |= {name for code in left if (name := module_with(code)) is not None}
        return found


def begin(bodies: Bodies, observe: bool | None) -> Observed | None:
    """Look at a body that is about to run, if it is worth it.

    Args:
        observe: the option of `keep`.
    """
    if not bodies.followed:
        # What runs beneath one whose code does not count is nobody's.
        return Observed(None, None).enter() if _open else None
    wanted = bodies.asked or observe
    if wanted is False or (
        not wanted and (_monitoring is None or (bodies.looked >= _FIRST and bodies.spent < _SLOW))
    ):
        return None
    bodies.looked += 1
    reach_threads(_current)
    return Observed(bodies.asked, inherited(_current)).enter()


def called(modules: Iterable[str]) -> None:
    """A kept function that is wider by these modules is called: so is what calls it."""
    here = inherited(_current)
    if here is not None:
        here.widened.update(modules)


# -- what starts ------------------------------------------------------------------------------------


def _started(code: CodeType, offset: int) -> Any:
    """Told by `sys.monitoring` of each code object that starts."""
    file = code.co_filename
    ours = _files.get(file)
    if not (_is_ours(file) if ours is None else ours):
        return _monitoring.DISABLE
    here = inherited(_current)
    if here is not None:
        here.ran[id(code)] = code
    if _state.shared:
        return None
    if len(_open) > 1 or (here is None and _open):
        # Who starts it next may be another one of those that are under way.
        _state.strangers += 1
        if _state.strangers < _STRANGERS:
            return None
    return _monitoring.DISABLE


def _is_ours(file: str) -> bool:
    # It is loaded, for an identity was made.
    from wellkept.hashing.names import installed

    ours = not (file.startswith("<frozen") or file.startswith(_HERE) or installed(file))
    if len(_files) > 10_000:
        _files.clear()
    _files[file] = ours
    return ours


_HERE = __file__.rpartition("memo")[0]


class _State:
    tool: int | None = None
    shared = False
    """Whether other tools are there, which may not expect that what they switched off is on again."""
    strangers = 0


_state = _State()


def _switch_on(asked: bool) -> Callable[[], None] | None:
    """Have all code objects report; what ends it, if something has to."""
    if _monitoring is None or (_state.tool is None and not _register()):
        return _profile() if asked or _monitoring is None else None
    _state.strangers = 0
    others = any(_monitoring.get_tool(tool) for tool in range(6) if tool != _state.tool)
    if others or _state.shared:
        _state.shared = True
        _monitoring.set_events(_state.tool, _monitoring.events.PY_START)
    else:
        _monitoring.restart_events()
    return None


def _rest() -> None:
    """No body is under way. Where code objects are not switched off one by one, all are."""
    if _state.shared and _state.tool is not None:
        _monitoring.set_events(_state.tool, 0)


def _register() -> bool:
    with _guard:
        for tool in (4, 3, 5):
            if _state.tool is not None or _monitoring.get_tool(tool) is not None:
                continue
            try:
                _monitoring.use_tool_id(tool, "wellkept")
            except ValueError:
                # Another tool was quicker.
                continue
            event = _monitoring.events.PY_START
            _monitoring.register_callback(tool, event, _started)
            _monitoring.set_events(tool, event)
            _state.tool = tool
            atexit.register(_end)
    return _state.tool is not None


def _end() -> None:
    """The process ends: what is told to would be gone before all code is."""
    if _state.tool is not None:
        _monitoring.set_events(_state.tool, 0)
        _monitoring.free_tool_id(_state.tool)
        _state.tool = None


def _after_fork() -> None:
    global _guard
    # Another thread may have held it at the fork.
    _guard = threading.Lock()
    _open.clear()


at_fork(in_child=_after_fork)


def _profile() -> Callable[[], None] | None:
    """Note what starts by `sys.setprofile`; what ends that, or None if another tool uses it."""
    if sys.getprofile() is not None:
        return None

    def noted(frame: Any, event: str, argument: Any) -> None:
        if event == "call":
            file = frame.f_code.co_filename
            ours = _files.get(file)
            if _is_ours(file) if ours is None else ours:
                here = inherited(_current)
                if here is not None:
                    here.ran[id(frame.f_code)] = frame.f_code

    before = threading.getprofile()
    threading.setprofile(noted)
    sys.setprofile(noted)

    def end() -> None:
        if sys.getprofile() is noted:
            sys.setprofile(None)
        # None is what it is at first.
        threading.setprofile(before)

    return end


def _brought_by(values: Iterable[Any]) -> list[Any]:
    """What the identities cover that arguments bring: of their classes, and of functions among them."""
    from wellkept.hashing.code import Project, deep

    project = Project()
    found: dict[int, Any] = {}
    seen: set[int] = set()
    waiting = list(values)
    while waiting and len(seen) < 10_000:
        value = waiting.pop()
        kind = type(value)
        if id(value) in seen or kind in _PLAIN:
            continue
        seen.add(id(value))
        for each in (value, kind):
            code = issubclass(type(each), (type, FunctionType)) or hasattr(
                type(each), "__followed__"
            )
            if code and id(each) not in found and _owned(project, each):
                found[id(each)] = deep(each).covered
        # By its type alone: a proxy may say that it is of another, or raise.
        if issubclass(kind, dict):
            waiting += [*value, *value.values()]
        elif issubclass(kind, (list, tuple, set, frozenset)):
            waiting += value
        for name in _held(kind):
            try:
                waiting.append(getattr(value, name))
            except Exception:  # noqa: BLE001  an attribute of somebody's object may do anything
                continue
    return list(found.values())


_PLAIN = frozenset({type(None), bool, int, float, complex, str, bytes, bytearray})
_HELD = {
    "partial": ("func", "args", "keywords"),
    "method": ("__self__", "__func__"),
    "type": (),
    "module": (),
}


def _held(kind: type[Any]) -> tuple[str, ...]:
    return _HELD.get(kind.__name__, ("__dict__",))


def _owned(project: Any, value: Any) -> bool:
    if issubclass(type(value), type):
        return bool(project.owns_class(value))
    return type(value) is not FunctionType or bool(project.owns_function(value))


# -- what other processes know ----------------------------------------------------------------------


def known_wider(cache: Cache, key: str) -> frozenset[str]:
    """The modules by which processes before have widened an identity."""
    try:
        note = cache.backend.notes.get(key)
        return frozenset() if note is None else frozenset(map(str, json.loads(note)))
    except (KeptError, ValueError, TypeError):
        return frozenset()


def note_wider(cache: Cache, key: str, modules: Iterable[str]) -> None:
    """Let other processes know. A cache that does not take it goes without."""
    every = sorted({*modules, *known_wider(cache, key)})
    try:
        cache.backend.notes.put(key, json.dumps(every).encode())
    except KeptError:
        pass
