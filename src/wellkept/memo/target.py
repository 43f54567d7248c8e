"""One call on its way: where its result is or will be, how it is kept and recorded, and what failed."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from wellkept.caches import Cache, settings
from wellkept.caches.tier import Entry
from wellkept.errors import REPLAYING, EncodeError, KeptError, NotKept, Undigestible
from wellkept.interrupts import settle
from wellkept.memo.inflight import current
from wellkept.memo.keep_options import Options
from wellkept.memo.observed import Bodies, Observed
from wellkept.memo.refresh import OPEN as REFRESHING
from wellkept.memo.stats import Stats
from wellkept.records import Arguments, Call, Digest, Value, is_short
from wellkept.runs.collectors import (
    NOTHING,
    Collectors,
    Said,
    environment,
    package,
)
from wellkept.runs.recorder import ENVS, HEARD, OPEN, Recorder, note_once, recorder
from wellkept.runs.recorder import current as run

if TYPE_CHECKING:
    from wellkept.memo.inflight import Flight
    from wellkept.memo.output import Output
    from wellkept.runs.sources import Parts

Given = tuple[tuple[Any, ...], dict[str, Any]]
"""The arguments of a call as the caller gave them, by position and by keyword."""

Items = list[tuple[str, Any, bytes]]
"""Name, value and digest of each argument that counts."""

MISSING: Any = object()
"""In place of a result: there is none."""


class Raise:
    """An exception on its way to be raised: a kept one, or what a body raised."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error: BaseException = error

    @classmethod
    def of(cls, chain: list[BaseException]) -> Raise:
        """From a kept exception and its causes, which a pickle leaves out."""
        for error, cause in itertools.pairwise(chain):
            error.__cause__ = cause
        return cls(chain[0])


def outcome(result: Any) -> Any:
    """Return what a call gives: the result, unless that is an exception, which is raised."""
    if type(result) is Raise:
        raise result.error
    return result


REPLAYING.add(outcome.__code__)


class Commits(Protocol):
    """What writes results together: see `batch_commits.Batch`."""

    def add(self, target: Target, made: tuple[bytes, Any, Call, Value]) -> None: ...
    def holds(self, target: Target, flight: Flight, landing: Any) -> bool: ...


class Target:
    """One call, as the flow sees it.

    A kept function, a node of a dataflow and a worker's task each make one of their own. They say
    where its result is (`locate`), and override what they do in another way.

    Attributes:
        call: the body.
        title: the name that messages have for the function.
        options: of the function.
        counts: of the function, in this process.
        awaits: whether the body gives a coroutine.
        collectors: what else is recorded; None: no metadata at all.
        bodies: what is known of the bodies of the function.
        values: the arguments, in the order of the signature.
        cache: where the result is or will be.
        key: the digest that names the call; empty while that is not known, and where nothing is kept.
        items: the arguments that count; None where nothing had to be hashed.
        scalars: whether a record tells all of each argument.
        leaves: what the arguments are made of, taken before the body may change them; see `runs.leaves`.
        said: what the blocks around the call say of it.
        asked: the collectors of the function and of all.
        before: what they found before the body ran: JSON by name; the working directory under "".
        name, code: the function and the code identity or version that are part of the key.
        batch: what its result is written with; None: it is written at once.
        same: whether all that the code identity rests on is what it was; None: nothing of it can change.
        flight: its computation, while the body runs.
        output: what the body wrote, where that is recorded.
        took: seconds of the body that are this call's, where several calls shared it.
    """

    call: Callable[..., Any]
    title: str
    options: Options = Options()
    counts: Stats
    awaits = False
    collectors: Collectors | None = NOTHING
    bodies: Bodies = Bodies(followed=False)
    cache: Cache
    key = b""
    values: tuple[Any, ...] = ()
    items: Items | None = None
    scalars = False
    leaves: bytes | None = None
    said: Said | None = None
    asked: Collectors = NOTHING
    before: Mapping[str, str] = {}
    name = code = ""
    batch: Commits | None = None
    same: Callable[[], bool] | None = None
    output: Output | None = None
    flight: Flight | None = None
    took: float = 0.0

    # -- where its result is ----------------------------------------------------------------------

    def locate(self) -> bool:
        """Find out where the result is or will be; False if nothing is kept of the call.

        Raises:
            Undigestible: an argument has no identity.
            ConfigError, StoreError: there is no cache.
        """
        return bool(self.key)

    def identity(self) -> tuple[str, str]:
        """Return the name under which calls are kept, and the code identity or version."""
        return self.name, self.code

    def holds(self) -> bool:
        """Whether the key is still that of the call, as far as the code goes."""
        return self.same is None or self.same()

    def renew(self) -> None:
        """Have the code looked at anew: it is not what it was when the call was located."""

    def learn(self) -> bool:
        """Whether the cache knows, from other processes, that the code identity has to be wider."""
        return False

    def settled(self) -> bool:
        """Whether a call that is kept nowhere was looked for under the right key."""
        return True

    def widen(self, body: Observed) -> bool:
        """Go to a wider identity if a body ran more than this one covers; False: it can't be told."""
        return True

    def parts(self) -> Parts:
        """Return what the code identity is made from, by name."""
        return {}

    # -- its arguments ----------------------------------------------------------------------------

    def resolved(self, given: Given) -> Given:
        """Return the arguments with the values that digests among them name.

        No body may run on a name in place of a value, so what can't be loaded is an error here.

        Raises:
            NotKept: there is no such value.
            KeptError: it can't be loaded.
        """
        return given

    def arguments(self) -> Arguments:
        """Return the arguments as a call record has them.

        Raises:
            Undigestible: the body has changed one into what has no identity.
        """
        items = self.items
        if items is None:
            items = self.all_items()
        return Arguments(items, hidden if recorded(self.options) == "digests" else is_short)

    def keep_arguments(self) -> None:
        """Keep the arguments themselves that the record does not show, if that is wanted."""
        if recorded(self.options) == "values":
            # Most functions record no more than scalars.
            from wellkept.memo.arguments import keep

            keep(self)

    def planned(self) -> Call:
        """Return the record of a call that is not kept, as far as it is known before.

        Raises:
            Undigestible: see `arguments`.
        """
        return Call(
            key=Digest.of(self.key),
            function=self.name,
            code=self.code,
            arguments=self.arguments(),
            result=NO_RESULT,
            state="not kept",
        )

    def all_items(self) -> Items:
        """Return the arguments that count, digested where they had not to be.

        Raises:
            Undigestible: see `arguments`.
        """
        return self.items or []

    def shown(self) -> str:
        """Return the arguments as a message has them."""
        # Hits and most misses say nothing.
        from wellkept.hashing.leaves import looks

        inside = ", ".join(
            f"{name}={value!r}" if is_short(value) else f"{name}={looks(value, raw)}"
            for name, value, raw in self.all_items()
            if name[:1] != "@"
        )
        return f"({inside})"

    # -- its result -------------------------------------------------------------------------------

    def value(self, entry: Entry) -> Any:
        """Return the result of an entry.

        Raises:
            DecodeError, StoreError: see `Cache.value`.
        """
        return self.cache.value(self.key, entry)

    def keep(
        self,
        result: Any,
        state: str,
        seconds: float,
        codec: str,
        metadata: Mapping[str, Any] | None,
    ) -> Call | None:
        """Keep a result; None where only the caller can.

        Raises:
            EncodeError: it can't be encoded.
            StoreError: it can't be written.
        """
        if not self.scalars:
            self.keep_arguments()
        cache, key = self.cache, self.key
        batch = self.batch
        call, value = cache.made(
            key,
            result,
            self.name,
            self.code,
            self.arguments(),
            state,
            seconds,
            self.options.ttl,
            codec,
            metadata,
        )
        # While something is refreshed, what waits could not be told from what is kept.
        if batch is None or REFRESHING or not cache.backend.commits_many:
            cache.keep_all(((key, result, call, value),))
        else:
            batch.add(self, (key, result, call, value))
        if self.options.share is not None and state != "failed":
            # Most results are kept as a whole.
            from wellkept.memo.arguments import keep_elements

            whole = result[0] if state == "items" else result
            keep_elements(self, call.key, whole, self.options.share)
        return call

    def note_source(self) -> None:
        """Write down the source of what computed the call, once an identity, process and cache."""

    def facts(self) -> str:
        """Return what the record says of the function and the process, as members of a JSON object; what
        they name is written down beside the calls.
        """
        cache = self.cache
        name = cache.env
        if not name:
            name, facts = environment()
            note_once(cache, ENVS + name, facts)
            cache.env = name
        self.note_source()
        return f'"env":"{name}"{package(getattr(self.call, "__module__", None))}'

    def hit(self, entry: Entry) -> None:
        """Count a hit."""
        if HEARD:
            heard(self.identity, self.key, entry)
        self.cache.used(self.key)
        self.counts.hits += 1
        self.counts.seconds_saved += entry.body.seconds

    def refresh(self, given: Given) -> None:
        """Compute a stale result again in the background, once at a time."""

    # -- failures ---------------------------------------------------------------------------------

    def broke(self, error: Exception) -> bool:
        """Count and tell of a failure of caching; whether the caller is to get it (`strict`)."""
        return broke(self, error)

    def told(self, kind: str) -> bool:
        """Whether `warn` has told of this kind of failure."""
        return False

    def warn(self, kind: str, text: str) -> None:
        """Warn once a function and kind of failure."""
        raise NotImplementedError


NO_RESULT = Digest("0" * 64)
"""In place of the result's digest, in the record of a call that is not kept."""


def tell_miss(target: Target) -> None:
    """Log a miss with its cause."""
    # Loaded on first use: it brings the comparison of calls.
    from wellkept.memo.inspection import log_miss

    try:
        log_miss(target)
    except KeptError:
        # What is wrong with the store is told by what keeps the result there.
        pass
    except Exception as error:  # noqa: BLE001  the result is there; only its cause is not known
        target.warn("cause", f"why it was computed could not be found out: {error!r}")


def recording() -> Output:
    """Begin to record what a body writes."""
    # Loaded on first use: few functions keep their output.
    from wellkept.memo.output import Output

    return Output()


def replayed(target: Target) -> bool:
    """Write what the body of a kept call wrote; False if that is not known."""
    # As above.
    from wellkept.memo.output import replay

    return replay(target.cache, target.key)


def recorded(options: Options) -> str:
    """What records have of the arguments of a function: see `ARGUMENTS`."""
    if options.arguments is not None:
        return options.arguments
    try:
        return settings().arguments
    except KeptError:
        # Who needs the configuration for a cache is told.
        return "scalars"


def hidden(value: Any) -> bool:
    """Whether a record shows a value itself, where it shows none."""
    return False


# -- failures -------------------------------------------------------------------------------------

_MOST = 1_000


class Trouble(NamedTuple):
    """What stood in the way of keeping a result."""

    kind: str
    """`unstorable`, `unavailable`, `declined` (`when=` said no) or `raised`."""
    text: str
    at: float


TROUBLES: dict[bytes, Trouble] = {}
"""The latest failures, by the key of the call."""


def kind_of(error: Exception) -> str:
    """Return the count of `Stats` that a failure of caching goes to."""
    if isinstance(error, Undigestible):
        return "undigestible"
    if isinstance(error, EncodeError):
        return "unstorable"
    return "unavailable" if isinstance(error, (KeptError, OSError)) else "unstorable"


def broke(of: Any, error: Exception) -> bool:
    """Count and tell of a failure of caching; whether the caller is to get it (`strict`).

    Args:
        of: the target, or the kept function where there is none yet.
    """
    if not isinstance(error, KeptError):
        # A signal's handler may have raised it, between any two instructions.
        settle()
    kind = kind_of(error)
    setattr(of.counts, kind, getattr(of.counts, kind) + 1)
    if not of.options.strict:
        done = {"undigestible": "computed, not kept", "unstorable": "returned, not kept"}
        of.warn(kind, f"{done.get(kind, 'computed without the cache')}: {error}")
    return bool(of.options.strict)


def lost(target: Target, error: Exception) -> bool:
    """Count and tell of a result that can't be kept; see `broke`."""
    note_trouble(target.key, kind_of(error), str(error))
    return target.broke(error)


def not_kept(target: Target) -> NotKept:
    """Return what to raise where a call is not kept that has to be."""
    return NotKept(f"{target.title}{target.shown()} is not kept in {target.cache}")


def note_trouble(key: bytes, kind: str, text: str) -> None:
    """Remember a failure, and of too many forget the oldest."""
    TROUBLES.pop(key, None)
    TROUBLES[key] = Trouble(kind, text, time.time())
    while len(TROUBLES) > _MOST:
        TROUBLES.pop(next(iter(TROUBLES)), None)


# -- what a body reads ----------------------------------------------------------------------------

_OURS = frozenset(
    f"wellkept-{name}"
    for name in (
        "batches",
        "behind",
        "ending",
        "handlers",
        "leases",
        "remote",
        "run",
        "snapshots",
        "sweeper",
    )
)
"""Threads that run no code of others."""

Threads = Iterable[threading.Thread]


def stayed(target: Target, threads: Threads | None) -> bool:
    """Whether what a body reads stayed as it was while it ran, so that its result may be kept.

    What the body itself changes, as it may change its arguments, follows from what it began with, and
    so its result may be kept under the key that was right then. What another thread or task changes
    meanwhile does not.

    Args:
        threads: those that ran when it began. They are looked at only here: most bodies change nothing.
            None where any task may change something.
    """
    if (
        target.same is None
        or target.same()
        or (threads and _alone((*threads, *threading.enumerate())))
    ):
        return True
    note_trouble(target.key, "changed", "")
    target.warn(
        "changed",
        "a result is not kept, for what the function reads was changed while it ran. "
        "Name a global that is not to count in ignore_globals=",
    )
    return False


def _alone(threads: Threads) -> bool:
    """Whether none of these threads is another's, which could change something."""
    me = threading.current_thread()
    return all(thread is me or thread.name in _OURS for thread in threads)


# -- the run that is open -------------------------------------------------------------------------


def heard(identity: Callable[[], tuple[str, str]], key: bytes, entry: Entry) -> None:
    """Tell the run that is open here, and the listeners, of a hit.

    Args:
        identity: gives the name and the code of what was called.
    """
    if OPEN:
        hit_in_run(identity, key, entry)
    for listener in tuple(HEARD):
        if type(listener) is not Recorder:
            listener.hit(identity()[0], key.hex(), entry.body.seconds)


def hit_in_run(identity: Callable[[], tuple[str, str]], key: bytes, entry: Entry) -> None:
    """Count a hit in the run that is open here, if any.

    Args:
        identity: gives the name and the code of what was called.
    """
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
        found.first(at, [1, 0, time.time(), identity(), entry.body])
