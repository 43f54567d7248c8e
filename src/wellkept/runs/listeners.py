"""What is told of hits and misses as they happen: through `logging`, and to listeners such as tracing.

The loggers are `wellkept.hits` (DEBUG), `wellkept.misses` (INFO, with the cause) and
`wellkept.troubles` (WARNING). A miss that a user would not expect is a WARNING of `wellkept.misses`
whatever the level is: the code changed, or one place inside an argument.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from wellkept.errors import tell
from wellkept.runs.recorder import HEARD

if TYPE_CHECKING:
    import logging

    from wellkept.runs.explain import Cause

__all__ = ["LISTENERS", "Listener"]

SLOW = 1.0
"""Seconds of a body from which a surprising miss is told unasked."""

# Seconds between two lines that are told unasked.
_EVERY = 10.0
_KINDS = ("hits", "misses", "troubles")
INFO = 20
"""The level of misses, as `logging` numbers them."""
_LEVELS = {"hits": 10, "misses": INFO, "troubles": 30}


class Listener(Protocol):
    """Hears of each hit and each computation of this process."""

    def hit(self, function: str, key: str, saved: float) -> None:
        """A result was served.

        Args:
            saved: seconds that computing it took.
        """

    def begin(self, function: str, key: str) -> Callable[[BaseException | None], None]:
        """A body is about to run. What is returned is called afterwards, with what it raised.

        Args:
            key: empty where the call has none.
        """


LISTENERS: list[Listener] = []


def listen(listener: Listener) -> None:
    """Have a listener hear of what happens from now on."""
    LISTENERS.append(listener)
    HEARD.append(listener)


def unlisten(listener: Listener) -> None:
    """End that."""
    LISTENERS.remove(listener)
    HEARD.remove(listener)


# -- logging ----------------------------------------------------------------------------------------

_loggers: dict[str, logging.Logger] = {}
MISSES: list[logging.Logger] = []
"""The logger of misses, once the program has imported `logging`."""


class _Levels(dict[int, bool]):
    """In place of what a logger remembers of levels that are enabled, which `logging` clears whenever
    any level changes: so a hit has nothing to ask while nothing has changed.
    """

    def clear(self) -> None:
        super().clear()
        if _hits not in HEARD:
            HEARD.append(_hits)


class _Hits:
    """Logs hits, where that is asked for."""

    def hit(self, function: str, key: str, saved: float) -> None:
        logger = _loggers.get("hits")
        if logger is None or not logger.isEnabledFor(_LEVELS["hits"]):
            HEARD.remove(self)
            return
        logger.debug("hit: %s %s (%.3g s saved)", function, key[:8], saved)


_hits = _Hits()


def logger(kind: str) -> logging.Logger | None:
    """Return one of the loggers; None while the program has not imported `logging`, which takes as long
    as the rest of the library.
    """
    if not _loggers:
        if "logging" not in sys.modules:
            return None
        import logging

        try:
            found = {name: logging.getLogger(f"wellkept.{name}") for name in _KINDS}
        except AttributeError:
            # A signal's handler calls in the midst of that import.
            return None
        MISSES[:] = [found["misses"]]
        found["hits"]._cache = _Levels()  # type: ignore[attr-defined]  # see `_Levels`
        if _hits not in HEARD:
            HEARD.append(_hits)
        # Last: an interrupt may come before.
        _loggers.update(found)
    return _loggers[kind]


def listening() -> bool:
    """Whether misses are logged with their causes."""
    found = logger("misses")
    return found is not None and found.isEnabledFor(_LEVELS["misses"])


def worth_a_cause(seconds: float) -> bool:
    """Whether the cause of a miss is sought: its body took long, or the level was set for misses or for
    the library, and not for all loggers.
    """
    import logging

    return seconds >= SLOW or any(
        logging.getLogger(name).level for name in ("wellkept", "wellkept.misses")
    )


_told: set[tuple[str, str]] = set()
_last = -_EVERY
_left_out = 0


def missed(
    function: str, key: str, code: str, seconds: float, causes: Sequence[Cause] | None, kept: int
) -> None:
    """Log a miss.

    Args:
        seconds: what the body took.
        causes: why nothing was served, the decisive one first; None: that was not sought.
        kept: how many calls of the function are kept.
    """
    global _last, _left_out
    import logging

    log = logger("misses") or logging.getLogger("wellkept.misses")
    name = function.replace(":", ".")
    surprise = _surprise(name, causes or ())
    if surprise and seconds >= SLOW and (function, code) not in _told:
        now = time.monotonic()
        if now - _last >= _EVERY:
            more = f", and {_left_out} more such misses" if _left_out else ""
            _told.add((function, code))
            _last, _left_out = now, 0
            calls = f"{kept:,} kept call{'' if kept == 1 else 's'}"
            of = "" if name in surprise else f" of {name}"
            line = "computed again: %s (%s%s)%s - wellkept explain %s"
            log.warning(line, surprise, calls, of, more, key[:8])
            return
        _left_out += 1
    if causes is None:
        why = f"wellkept explain {key[:8]} says why"
    else:
        why = "; ".join(cause.text for cause in causes) or "nothing is kept of it"
    log.info("miss: %s %s computed in %.3g s: %s", name, key[:8], seconds, why)


def outdated(function: str, key: str, why: str, *, first: bool) -> None:
    """Log that a call was served what the former code of its function gave.

    Args:
        first: whether it is the first of this function and code.
    """
    log = logger("misses")
    if log is None:
        if not first:
            return
        import logging

        log = logger("misses") or logging.getLogger("wellkept.misses")
    line = "served although its code changed: %s %s: %s - wellkept review %s"
    log.log(30 if first else INFO, line, function.replace(":", "."), key[:8], why, function)


def _surprise(function: str, causes: Sequence[Cause]) -> str:
    """What a user would not expect of a miss; empty if nothing. That an argument is another one is what
    a function is called for; that one place inside of an argument is another may be an oversight.
    """
    if not causes:
        return ""
    first = causes[0]
    if first.kind == "code":
        parts = [str(part["name"]).replace(":", ".") for part in first.data.get("parts", ())]
        return f"{', '.join(parts[:3]) or function} changed"
    if first.kind in ("version", "dependency"):
        return f"{function}, as {first.text},"
    if first.kind == "arguments" and len(causes) == 1:
        places = [change["path"] for change in first.data["differences"]]
        if len(places) == 1 and places[0].partition('"]')[2]:
            return f"{function}, as {places[0]} is another,"
    return ""


def configure(text: str) -> None:
    """Set up what `WELLKEPT_LOG` asks for: `hits`, `misses`, `troubles`, or several with commas, on
    standard error.
    """
    wanted = [part.strip() for part in text.split(",") if part.strip()]
    unknown = [part for part in wanted if part not in _KINDS]
    if unknown:
        tell(
            f"WELLKEPT_LOG={text!r} is left out: it takes hits, misses and troubles, with commas "
            f"between them, not {unknown[0]!r}"
        )
        return
    import logging

    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("wellkept: %(message)s"))
    for kind in wanted:
        found = logger(kind)
        assert found is not None
        found.setLevel(_LEVELS[kind])
        found.addHandler(handler)
        found.propagate = False


if os.environ.get("WELLKEPT_LOG"):
    configure(os.environ["WELLKEPT_LOG"])
