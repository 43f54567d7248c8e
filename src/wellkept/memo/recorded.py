"""What is recorded of a call: with its result, and as an event of the run that is open."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from wellkept.caches.tier import Entry
from wellkept.memo.flights import Flight, current
from wellkept.records import Arguments, Call, Event, Metadata
from wellkept.runs.collectors import configured
from wellkept.runs.costs import Began, seconds, taken
from wellkept.runs.notes import ENVS, note_once
from wellkept.runs.processes import environment, package
from wellkept.runs.recording import OPEN, recorder
from wellkept.runs.recording import current as run

if TYPE_CHECKING:
    from wellkept.memo.flow import Located
    from wellkept.memo.kept import Kept

__all__ = ["OPEN", "hit", "metadata", "record"]


def hit(kept: Kept[..., Any], key: bytes, entry: Entry) -> None:
    """Count a hit in the run that is open here, if any."""
    found = run.get()
    if found is None or found.closed:
        found = recorder()
        if found is None:
            return
    flight = current.get()
    parent = None if flight is None else flight.key
    at = key if parent is None else (key, parent)
    counted = found.hits.get(at)
    if counted is not None:
        counted[0] += 1
    else:
        found.first(at, [1, 0, time.time(), kept.locator.identity(), entry.body])


def record(
    kept: Kept[..., Any],
    found: Located | None,
    caller: Flight | None,
    began: Began,
    call: Call | None,
    error: BaseException | None = None,
) -> None:
    """Record a computation or a failure in the run that is open here, if any.

    Args:
        found: where its result goes; None: it is not kept.
        caller: the computation that made the call.
        call: as it was kept.
        error: what the body raised.
    """
    into = recorder()
    if into is None:
        return
    noted = _given(kept, found) if call is None else call.arguments
    given = noted if type(noted) is Arguments else Arguments((), bool)
    event = Event(
        outcome="computed" if error is None else "failed",
        function=kept.function_name,
        key=None if found is None else found.key.hex(),
        result=None if call is None else str(call.result),
        at=time.time(),
        seconds=seconds(began) if call is None else call.seconds,
        parent=None if caller is None or caller.key is None else caller.key.hex(),
        code=kept.code_tag if found is None else found.code or kept.code_tag,
        arguments={name: raw.hex() for name, _, raw in given.items_given},
        error=None if error is None else type(error).__qualname__,
        shown={name: value for name, value, _ in given.items_given if given.shown(value)}
        if call is None
        else {},
    )
    into.put(event)


def _given(kept: Kept[..., Any], found: Located | None) -> Arguments | None:
    """The arguments of a call that has no record."""
    if found is None:
        return None
    try:
        return kept.locator.arguments(found)
    except Exception:  # noqa: BLE001  the body may have changed one into what has no identity
        return None


def metadata(
    kept: Kept[..., Any], found: Located, caller: Flight | None, began: Began
) -> Metadata | None:
    """What a call's record says of how it came to be; None: nothing is to be said."""
    own = kept.collectors
    if own is None:
        return None
    cache = found.cache
    name = cache.env
    if not name:
        name, facts = environment()
        note_once(cache, ENVS + name, facts)
        cache.env = name
    kept.locator.note(found)
    of = package(getattr(kept.__wrapped__, "__module__", None))
    text = f'{taken(began)},"env":"{name}"{of}'
    if caller is not None and caller.key is not None:
        text = f'{text},"parent":"{caller.key.hex()}"'
    if OPEN and (into := recorder()) is not None:
        text = f'{text},"run":"{into.record.id}"'
    collectors = configured()
    if own.by_name:
        collectors |= own
    if collectors.by_name:
        for name, said in collectors.collect(kept.__wrapped__, cache).items():
            text = f"{text},{json.dumps(name)}:{said}"
    return Metadata(f"{{{text}}}")
