"""A call on its way to a worker, and what comes back: a small receipt, or the value where it must.

The worker takes the caller's key. What an argument's digest says of a class that a script defines,
and the identity of a function that was sent by value, need not come out the same in a process that
runs another program; and nothing large is hashed twice.
"""

from __future__ import annotations

import contextlib
import os
import pickle
from typing import TYPE_CHECKING, Any, NamedTuple

from wellkept.caches import Cache
from wellkept.caches.parcels import NEARBY, unpack
from wellkept.caches.tier import Entry
from wellkept.memo.bound import BoundCall
from wellkept.memo.flow import MISSING, Located
from wellkept.memo.locator import is_short
from wellkept.memo.pending import settled
from wellkept.memo.pickling import is_global
from wellkept.memo.recorded import OPEN, hit
from wellkept.memo.stats import Stats
from wellkept.records import Arguments, Call
from wellkept.stores.body import STATES

if TYPE_CHECKING:
    from wellkept.memo.kept import Kept

__all__ = ["SMALL", "Gatherer", "Receipt", "Sent", "Task", "Way", "process"]

SMALL = 64 * 1024
"""Encoded results of at most so many bytes travel in the receipt: that is less than to read them."""

_MARK = "_kept_receipt"
_process: tuple[int, bytes] = (0, b"")
_void: Cache | None = None


def process() -> bytes:
    """What tells this process from any other."""
    global _process
    if _process[0] != os.getpid():
        _process = os.getpid(), os.urandom(16)
    return _process[1]


class Sent:
    """Where the caller keeps a call: stands in for a function's locator on the other side."""

    def __init__(self, kept: Kept[..., Any], found: Located) -> None:
        self._identity = kept.locator.name(), found.code
        self.key = found.key
        own = kept.options.key is not None
        names = () if own else {name for name, _ in kept._binder.items(found.values)}
        # An argument travels with the call.
        self._items = [
            (name, None if name in names else value, raw)
            for name, value, raw in kept.locator.all_items(found)
        ]
        self._shows = kept.options.arguments == "scalars"

    def identity(self) -> tuple[str, str]:
        return self._identity

    def name(self) -> str:
        return self._identity[0]

    def note(self, found: Located) -> None:
        """The caller writes down the sources, which it surely has."""

    def items(self, kept: Kept[..., Any], values: tuple[Any, ...]) -> list[tuple[str, Any, bytes]]:
        """Name, value and digest of each argument that counts."""
        given = {} if kept.options.key is not None else dict(kept._binder.items(values))
        return [(name, given.get(name, value), raw) for name, value, raw in self._items]

    def arguments(self, found: Located) -> Arguments:
        return Arguments(found.items or [], is_short if self._shows else _never)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)  # what pickle and copy ask for before there is anything
        return getattr(self.__dict__["locator"], name)

    def for_locator(self, locator: Any) -> Sent:
        """The same, in front of a locator of this process."""
        made = object.__new__(Sent)
        made.__dict__ |= self.__dict__ | {"locator": locator}
        return made


def _never(value: Any) -> bool:
    return False


class Way(NamedTuple):
    """How results of a worker come into a cache of this process."""

    home: bytes
    """What the worker opens the cache by, to keep them; `NEARBY`: it keeps none."""
    travels: bool
    """Values come back, whatever their size."""
    own: bool
    """This process keeps what comes."""


class Receipt:
    """What came of a call elsewhere.

    Attributes:
        value: the result; of a failure that the caller is to keep, the pickled error and its causes.
        elsewhere: whether the result is to be read from the cache instead.
        made: state, seconds and metadata of what the caller is to keep; None: nothing.
        notes: what is to be noted beside it.
        counts: what the worker's function did.
        told: kinds and texts of the worker's warnings.
        process: which one it was.
    """

    __slots__ = ("counts", "elsewhere", "made", "notes", "process", "told", "value")

    def __init__(self) -> None:
        self.value: Any = None
        self.elsewhere = False
        self.made: tuple[str, float, dict[str, Any]] | None = None
        self.notes: dict[str, bytes] = {}
        self.counts = Stats()
        self.told: list[tuple[str, str]] = []
        self.process = process()

    @staticmethod
    def of(error: BaseException) -> Receipt | None:
        """The one that came with an exception."""
        found: Receipt | None = getattr(error, "__dict__", {}).pop(_MARK, None)
        return found


class Task:
    """One call, to be made by a worker.

    Args:
        call: which.
        sent: where it is kept; None: it has no key, or none was found.
        way: how its result comes back.
    """

    def __init__(self, call: BoundCall[Any], sent: Sent | None, way: Way) -> None:
        self.call, self.sent, self.way = call, sent, way
        self.__name__ = call.kept.__name__  # what dashboards show
        self.ticket = os.urandom(16)
        self._here = True

    def __dask_tokenize__(self) -> Any:
        return self.ticket  # one that Dask still holds may tell of what was forgotten since

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_here": False}

    def __call__(self) -> Receipt:
        call, receipt = self.call, Receipt()
        if self._here:
            receipt.value = call.through(Gatherer(call.kept))
            return receipt
        desk = _Desk(self, receipt)
        try:
            value = call.through(Gatherer(desk.kept))
        except Exception as error:
            desk.end()
            with contextlib.suppress(AttributeError):  # one without a __dict__ tells nothing more
                error.__dict__[_MARK] = receipt
            raise
        desk.end()
        if self.way.travels or desk.size is None or desk.size <= SMALL:
            receipt.value = value
        else:
            receipt.elsewhere = True
        return receipt


class Gatherer:
    """A kept function that is worked off on the spot, whatever kind it is of."""

    awaits = False

    def __init__(self, kept: Kept[..., Any]) -> None:
        self.kept = kept

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return settled(self.kept.gather(args, kwargs))

    def broke(self, error: Exception) -> bool:
        return self.kept.broke(error)


class _Desk:
    """The cache as the flow sees it in a worker: it notes what is kept, found and told of."""

    def __init__(self, task: Task, receipt: Receipt) -> None:
        self.task, self.receipt = task, receipt
        self.keeps = False
        self.size: int | None = None
        """Encoded bytes of the result, once it is kept where the caller looks."""
        self.other = False
        """Whether the worker runs other code than was sent, so that its key is another."""
        kept: Kept[..., Any] = task.call.kept
        self.real = kept
        clone: Any = object.__new__(type(kept))
        self.kept = clone
        clone.__dict__ |= kept.__dict__
        clone.counts, clone._glance = receipt.counts, _no_glance
        clone.warn, clone.hit, clone.locate = self._warn, self._hit, self._locate
        if task.sent is not None:
            try:
                own = is_global(kept) or kept.locator.taken
                self.other = own and kept.locator.identity() != task.sent.identity()
            except Exception:  # noqa: BLE001  its code has no identity here: so not the caller's
                self.other = True
            if self.other:
                text = "a worker runs other code than this process, and keeps under its own key"
                receipt.told.append(("code", text))
            else:
                clone.locator = task.sent.for_locator(kept.locator)

    def _locate(self, values: tuple[Any, ...]) -> Located | None:
        sent = self.task.sent
        if sent is None or self.other:
            return self.real.locate(values)
        items = sent.items(self.real, values)
        self._open()
        return Located(self, sent.key, values, items)  # type: ignore[arg-type]  # a cache to the flow

    def _open(self) -> None:
        home = self.task.way.home
        if home != NEARBY:
            try:
                self.cache, self.keeps = unpack(home), True
            except Exception as error:
                if self.kept.broke(error):
                    raise
            else:
                return
        self.cache, self.backend = _nowhere(), _Notes(self.receipt.notes)
        self.note = self.backend.put
        self.noted: set[str] = set()

    def _warn(self, kind: str, text: str) -> None:
        self.receipt.told.append((kind, text))

    def _hit(self, cache: Cache, key: bytes, entry: Entry) -> None:
        if OPEN:
            hit(self.kept, key, entry)
        if not self.other:
            self.size = entry.body.size
            if self.task.way.own:
                body, call = entry.body, cache.calls.get(key.hex())
                metadata = {} if call is None else dict(call.metadata)
                self.receipt.made = STATES[body.state], body.seconds, metadata
        cache.used(key)
        self.receipt.counts.hits += 1
        self.receipt.counts.seconds_saved += entry.body.seconds

    def keep(self, key: bytes, result: Any, **said: Any) -> Call | None:
        if self.task.way.own or not self.keeps:
            self.receipt.made = said["state"], said["seconds"], dict(said["metadata"] or {})
            if said["state"] == "failed":
                with contextlib.suppress(Exception):  # then it comes without its causes
                    self.receipt.value = pickle.dumps(result)
        if not self.keeps:
            return None
        call = self.cache.keep(key, result, **said)
        self.size = call.size
        return call

    def end(self) -> None:
        """Count in this process too."""
        self.real.counts.add(self.receipt.counts)

    @property
    def env(self) -> str:
        return self.cache.env if self.keeps else ""  # or the caller would not hear of it

    @env.setter
    def env(self, name: str) -> None:
        self.cache.env = name

    def __getattr__(self, name: str) -> Any:
        if name == "cache":
            raise AttributeError(name)
        return getattr(self.cache, name)


def _no_glance(values: tuple[Any, ...]) -> Any:
    """A worker's hits are told to its caller, so it takes no short way."""
    return MISSING


class _Notes:
    """A place that has leases, and takes notes which go back with the receipt."""

    def __init__(self, into: dict[str, bytes]) -> None:
        self.put = into.__setitem__
        self.put_many = into.update
        self.notes = self
        self.locks = _nowhere().backend.locks


def _nowhere() -> Cache:
    """The cache of workers that reach none of the caller's."""
    global _void
    if _void is None:
        from wellkept.stores.memory import Void

        _void = Cache(Void(), Void(), memory=0)
    return _void
