"""What a body prints, logs, warns of and displays: recorded while it runs, and given again by a hit."""

from __future__ import annotations

import json
import logging
import sys
import threading
import warnings
from base64 import b64encode
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any

from wellkept.caches import Cache
from wellkept.errors import KeptWarning
from wellkept.runs.collectors import LARGE, noted
from wellkept.runs.recorder import ENVS, notes_of

__all__ = ["Output"]

LARGEST = 1 << 22
"""Characters of output that are kept of one call."""

Event = list[Any]
"""`["out" | "err", text]`, `["log", facts of the record]`, `["warn", category, text, file, line]` or, in a
notebook, `["show", data, metadata]`, by MIME type."""

_recording: ContextVar[Output | None] = ContextVar("wellkept_output", default=None)


class Output:
    """Records what is written in this thread or task, between `Output()` and `end`.

    What a C library or a child process writes to the file descriptors passes by, and so does what
    threads that the body starts print.
    """

    cut: int

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.cut = 0
        self._room = LARGEST
        self._outer = _recording.get()
        _recording.set(self)
        self.whole: bool = _install()

    def end(self) -> None:
        """Stop. What was recorded belongs to the recording around this one, too."""
        _recording.set(self._outer)
        _remove()

    def add(self, event: Event, size: int) -> None:
        """Record one event of so many characters."""
        if self._outer is not None:
            self._outer.add(list(event), size)
        if size > self._room:
            self.cut += size
            return
        self._room -= size
        last = self.events[-1] if self.events else None
        if last is not None and last[0] == event[0] and event[0] in ("out", "err"):
            # Joined at the end: a body may print a million times.
            last.append(event[1])
        else:
            self.events.append(event)

    def text(self, cache: Cache) -> str:
        """Return it as a member of a JSON object; what is large becomes a note in the cache. Nothing
        where not all could be recorded: then a hit computes again.
        """
        if not self.whole:
            return ""
        events = [
            [event[0], "".join(event[1:])] if event[0] in ("out", "err") else event
            for event in self.events
        ]
        found = json.dumps({"events": events, "cut": self.cut})
        return f'"output":{noted(found, cache) if len(found) > LARGE else found}'


def replay(cache: Cache, key: bytes) -> bool:
    """Write what the body of a kept call wrote. False if that is not known: it has to run again.

    Raises:
        StoreError: the store can't be read.
    """
    call = cache.calls.get(key.hex())
    found = None if call is None else read(cache, call.metadata.get("output"))
    if found is None:
        return False
    for event in found["events"]:
        _EMIT[event[0]](*event[1:])
    if found.get("cut"):
        print(f"[{found['cut']:,} more characters of output were not kept]", file=sys.stderr)
    return True


def read(cache: Cache, kept: Any) -> dict[str, Any] | None:
    """Return the output that a call's metadata holds or names, if all of it is as it should be."""
    if isinstance(kept, Mapping) and "note" in kept:
        item = notes_of(cache).get(f"{ENVS}{kept['note']}")
        try:
            kept = None if item is None else json.loads(item)
        except ValueError:
            return None
    if not isinstance(kept, Mapping) or not isinstance(kept.get("events"), list):
        return None
    for event in kept["events"]:
        if not (isinstance(event, list) and event and _SHAPES.get(event[0]) == _shape(event)):
            return None
    return dict(kept)


def _shape(event: Event) -> tuple[type, ...]:
    return tuple(map(type, event[1:]))


_SHAPES = {
    "out": (str,),
    "err": (str,),
    "log": (str, int, str, str, int, str, str),
    "warn": (str, str, str, int),
    "show": (dict, dict),
}


# -- recording ------------------------------------------------------------------------------------

_lock = threading.Lock()
_users = 0
_undo: list[Callable[[], None]] = []
_taps: dict[int, Any] = {}


def _install() -> bool:
    """Put the recorders in place, with the first body that is recorded; whether all hear it."""
    global _users
    with _lock:
        _users += 1
        # Others may have put another stream in place since the first body began.
        heard = _tap(sys.stdout, "out") and _tap(sys.stderr, "err")
        if _users == 1:
            factory, show = logging.getLogRecordFactory(), warnings.showwarning

            def made(*args: Any, **kwargs: Any) -> logging.LogRecord:
                record = factory(*args, **kwargs)
                _log(record)
                return record

            def shown(message: Any, category: Any, filename: Any, lineno: Any, *more: Any) -> None:
                _warn(message, category, filename, lineno)
                show(message, category, filename, lineno, *more)

            def undo() -> None:
                # Others may have put their own in place meanwhile.
                if logging.getLogRecordFactory() is made:
                    logging.setLogRecordFactory(factory)
                if warnings.showwarning is shown:
                    warnings.showwarning = show

            _watch_displays()
            logging.setLogRecordFactory(made)
            warnings.showwarning = shown  # type: ignore[assignment]  # the rest is passed on
            _undo.append(undo)
        return heard


def _tap(stream: Any, kind: str) -> bool:
    """Have what is written to a stream recorded; whether that can be done.

    The stream itself stays in place, as functions that name `sys.stderr` count what it is.
    """
    if stream is None or id(stream) in _taps:
        return True
    write = stream.write

    def tapped(text: str) -> Any:
        recording = _recording.get()
        # A logging handler writes what is recorded as a record already; a warning likewise.
        if recording is not None and type(text) is str and not _within(sys._getframe(1)):
            recording.add([kind, text], len(text))
        return write(text)

    own = "write" in getattr(stream, "__dict__", ())

    def undo() -> None:
        _taps.pop(id(stream), None)
        if stream.write is not tapped:
            return
        if own:
            stream.write = write
        else:
            del stream.write

    try:
        stream.write = tapped
    except AttributeError:
        return False
    _taps[id(stream)] = stream
    _undo.append(undo)
    return True


def _watch_displays() -> None:
    """Have what a notebook displays recorded. A terminal's shell prints it, which is recorded anyway."""
    interactive = sys.modules.get("IPython")
    shell: Any = None if interactive is None else interactive.get_ipython()
    if shell is None or not hasattr(shell, "kernel"):
        return
    for of, name in ((shell.display_pub, "publish"), (shell.displayhook, "write_format_data")):
        _watch_display(of, name)


def _watch_display(of: Any, name: str) -> None:
    show = getattr(of, name)

    def shown(data: Any, *args: Any, **kwargs: Any) -> Any:
        recording = _recording.get()
        if recording is not None:
            metadata = kwargs.get("metadata", args[0] if args else None) or {}
            try:
                # Images come as bytes, and travel to a browser in base 64.
                text = json.dumps([data, metadata], default=lambda raw: b64encode(raw).decode())
            except (TypeError, ValueError):
                # What is no JSON can't be given again, so a hit is none.
                recording.whole = False
            else:
                recording.add(["show", *json.loads(text)], len(text))
        return show(data, *args, **kwargs)

    setattr(of, name, shown)
    _undo.append(lambda: delattr(of, name))


def _remove() -> None:
    global _users
    with _lock:
        _users -= 1
        if not _users:
            while _undo:
                _undo.pop()()


_DEEPEST = 40  # frames between a write and the handler that it comes from


def _within(frame: Any) -> bool:
    for _ in range(_DEEPEST):
        if frame is None:
            return False
        if frame.f_globals.get("__name__") in ("logging", "warnings"):
            return True
        frame = frame.f_back
    return False


def _log(record: logging.LogRecord) -> None:
    recording = _recording.get()
    if recording is None:
        return
    try:
        text = record.getMessage()
    except Exception:  # noqa: BLE001  its handler reports what is wrong with it
        return
    trace = ""
    if record.exc_info and record.exc_info[0]:
        trace = logging.Formatter().formatException(record.exc_info)
    facts = (record.pathname, record.lineno, record.funcName or "", trace)
    recording.add(["log", record.name, record.levelno, text, *facts], len(text) + len(trace))


def _warn(message: Any, category: Any, filename: Any, lineno: Any) -> None:
    recording = _recording.get()
    # What the library itself warns of is about this computation, not part of its output.
    if recording is not None and not issubclass(category, KeptWarning):
        name = f"{category.__module__}:{category.__qualname__}"
        text = str(message)
        recording.add(["warn", name, text, str(filename), int(lineno)], len(text))


# -- replaying ------------------------------------------------------------------------------------


def _emit_log(
    name: str, level: int, text: str, path: str, line: int, function: str, trace: str
) -> None:
    logger = logging.getLogger(name)
    if logger.isEnabledFor(level):
        record = logger.makeRecord(name, level, path, line, text, (), None, function)
        record.exc_text = trace or None
        logger.handle(record)


def _emit_warning(category: str, text: str, filename: str, line: int) -> None:
    module, _, name = category.partition(":")
    # A class is taken only from what is loaded: bytes of a store import nothing.
    kind: Any = sys.modules.get(module)
    for part in name.split("."):
        kind = getattr(kind, part, None)
    if not (isinstance(kind, type) and issubclass(kind, Warning)):
        kind = UserWarning
    warnings.warn_explicit(text, kind, filename, line)


def _emit_display(data: dict[str, Any], metadata: dict[str, Any]) -> None:
    interactive = sys.modules.get("IPython")
    if interactive is not None and interactive.get_ipython() is not None:
        interactive.display.publish_display_data(data, metadata)
    elif isinstance(data.get("text/plain"), str):
        print(data["text/plain"])


_EMIT: dict[str, Callable[..., Any]] = {
    "out": lambda text: print(text, end=""),
    "err": lambda text: print(text, end="", file=sys.stderr),
    "log": _emit_log,
    "warn": _emit_warning,
    "show": _emit_display,
}
