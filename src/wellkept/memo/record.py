"""What is recorded of a call: its result or exception, its event in the run that is open, and why
something was not kept."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from wellkept.caches.tier import Entry
from wellkept.errors import EncodeError, KeptError, NotKept, Undigestible
from wellkept.interrupts import settle
from wellkept.memo.futures import Done, follow
from wellkept.memo.inflight import Flight, Origin, current
from wellkept.records import Arguments, Call, Event, Metadata
from wellkept.runs.collectors import Began, configured, environment, package, seconds, taken
from wellkept.runs.recorder import ENVS, LEAVES, OPEN, note_once, recorder
from wellkept.runs.recorder import current as run

if TYPE_CHECKING:
    from concurrent.futures import Future

    from wellkept.memo.flow import Located
    from wellkept.memo.kept import Kept


_MOST = 1_000


class Trouble(NamedTuple):
    """What stood in the way of keeping a result."""

    kind: str
    """`unstorable`, `unavailable`, `declined` (`when=` said no) or `raised`."""
    text: str
    at: float


TROUBLES: dict[bytes, Trouble] = {}
"""By key of the call."""


def kind_of(error: Exception) -> str:
    """Which count of `Stats` a failure of caching goes to."""
    if isinstance(error, Undigestible):
        return "undigestible"
    if isinstance(error, EncodeError):
        return "unstorable"
    return "unavailable" if isinstance(error, (KeptError, OSError)) else "unstorable"


def broke(kept: Kept[..., Any], error: Exception) -> bool:
    """Count and tell of a failure of caching; whether the caller is to get it (`strict`)."""
    if not isinstance(error, KeptError):
        settle()  # a signal's handler may have raised it, between any two instructions
    kind = kind_of(error)
    setattr(kept.counts, kind, getattr(kept.counts, kind) + 1)
    if not kept.options.strict:
        done = {"undigestible": "computed, not kept", "unstorable": "returned, not kept"}
        kept.warn(kind, f"{done.get(kind, 'computed without the cache')}: {error}")
    return kept.options.strict


def not_kept(kept: Kept[..., Any], found: Located) -> NotKept:
    """What to raise where a call is not kept that has to be."""
    call = f"{kept.__qualname__}{kept.locator.shown(found)}"
    return NotKept(f"{call} is not kept in {found.cache}")


def note_trouble(key: bytes, kind: str, text: str) -> None:
    """Remember it, and of too many forget the oldest."""
    TROUBLES.pop(key, None)
    TROUBLES[key] = Trouble(kind, text, time.time())
    while len(TROUBLES) > _MOST:
        TROUBLES.pop(next(iter(TROUBLES)), None)


_OURS = frozenset(
    f"wellkept-{name}"
    for name in ("behind", "desk", "ending", "leases", "remote", "run", "snapshots", "sweeper")
)
"""Threads that run no code of others."""


class Watch:
    """One run of a body, from its start.

    What the body itself changes, as it may change its arguments, follows from what it began with, and
    so its result may be kept under the key that was right then. What another thread or task changes
    meanwhile does not.
    """

    def __init__(self, kept: Kept[..., object], found: Located) -> None:
        self._kept, self._found = kept, found
        self._threads = None if kept.awaits else threading.enumerate()

    def ended(self) -> bool:
        """Whether the result may be kept. Tells of it if not."""
        found = self._found
        # Those that ran at the start are looked at only here: most bodies change nothing.
        threads = self._threads
        if found.holds() or (threads and _alone((*threads, *threading.enumerate()))):
            return True
        note_trouble(found.key, "changed", "")
        self._kept.warn(
            "changed",
            "a result is not kept, for what the function reads was changed while it ran. "
            "Name a global that is not to count in ignore_globals=",
        )
        return False


def _alone(threads: Iterable[threading.Thread]) -> bool:
    """Whether none of these threads is another's, which could change something."""
    me = threading.current_thread()
    return all(thread is me or thread.name in _OURS for thread in threads)


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


def follow_up(
    kept: Kept[..., Any],
    found: Located,
    future: Future[Any],
    caller: Flight | None,
    began: Began,
    watch: Watch | None = None,
) -> None:
    """Keep what a body returned a future of, when it is there.

    Args:
        watch: over what the body reads.
    """

    def keep(done: Done) -> None:
        call, error = None, done.error
        try:
            if watch is not None and not watch.ended():
                pass
            elif error is None:
                call = store(kept, found, done, caller, began)
            elif isinstance(error, kept.options.errors) and _chained(kept, error) is not None:
                call = store(kept, found, done, caller, began, when=False)
        finally:
            if OPEN:
                record(kept, found, caller, began, call, error)

    follow((id(found.cache.backend.locks), found.key), future, keep, Origin.here())


def store_error(
    kept: Kept[..., Any],
    found: Located,
    error: BaseException,
    caller: Flight | None,
    began: Began,
) -> Call | None:
    chain = _chained(kept, error)
    return None if chain is None else store(kept, found, chain, caller, began, "failed", False)


def _chained(kept: Kept[..., Any], error: BaseException) -> list[BaseException] | None:
    try:
        return chained(error)
    except Exception as cause:
        if kept.broke(EncodeError(f"a {type(error).__qualname__} can't be kept: {cause}")):
            raise
        return None


def chained(error: BaseException) -> list[BaseException]:
    """An exception and its causes, if they can be made again.

    Raises:
        Exception: what making one from its arguments raised.
    """
    chain = [error]
    while (cause := chain[-1].__cause__) is not None and cause not in chain:
        chain.append(cause)
    for link in chain:
        made = link.__reduce_ex__(4)  # `copy.copy` would ask tblib, see `wellkept.codecs.pickled`
        if not isinstance(made, str):
            made[0](*made[1])
    return chain


def store(
    kept: Kept[..., Any],
    found: Located,
    result: Any,
    caller: Flight | None,
    began: Began,
    state: str = "done",
    when: bool = True,
) -> Call | None:
    """Keep a result, unless `when` says no or it can't be kept; the record, if it is.

    Args:
        caller: the computation that made the call.
        began: when the body did.
        when: whether `when` has a say.
    """
    taken = seconds(began)
    options = kept.options
    try:
        future = type(result) is Done
        asked = result.value if future else result[0] if state == "items" else result
        if options.when is not None and when and not options.when(asked):
            note_trouble(found.key, "declined", "")
            return None
        call = found.cache.keep(
            found.key,
            result,
            function=kept.function_name,
            code=found.code or kept.code_tag,
            arguments=kept.locator.arguments(found),
            state=state,
            seconds=taken,
            ttl=options.ttl,
            codec="pickle" if future or state == "failed" else options.codec,
            metadata=metadata(kept, found, caller, began),
        )
        if found.leaves is not None:
            found.cache.note(LEAVES + found.key.hex(), found.leaves)
    except Exception as error:
        note_trouble(found.key, kind_of(error), str(error))
        if kept.broke(error):
            raise
        return None
    if TROUBLES:
        TROUBLES.pop(found.key, None)
    return call
