"""A run: calls that belong together, while they are made and ever after."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from wellkept.caches import Cache, chosen
from wellkept.errors import ConfigError, KeptError, tell
from wellkept.records import Event, RunRecord
from wellkept.runs.beginning import begin, checked_tags
from wellkept.runs.compare import Comparison, compare
from wellkept.runs.events import Totals, pack_record, unpack, unpack_totals
from wellkept.runs.lineage import of_run
from wellkept.runs.notes import EVENTS, HEADS, INNER, TOTALS, new_id, notes_of
from wellkept.runs.processes import is_alive
from wellkept.runs.recording import Recorder, current
from wellkept.runs.report import by_call, by_function
from wellkept.runs.table import Table
from wellkept.stores.base import delete_many, get_many

if TYPE_CHECKING:
    from contextvars import Token

    from wellkept.runs.graph import Graph

__all__ = ["Run", "run"]


def run(
    name: str = "", *, tags: Mapping[str, Any] | None = None, cache: Cache | str | None = None
) -> Run:
    """A run: the calls of kept functions in its `with` block, and in the threads, tasks and sent
    calls that begin there, are recorded as its events.

    Args:
        name: what people call it; several may have one name.
        tags: names with text, numbers, truths or None.
        cache: beside whose calls it is recorded; by default that of the run around it, or the
            active one.

    Raises:
        ConfigError: a tag is not what it may be, or there is no such cache.

    Where the store can't be written to, that is a warning: the run is in memory then.
    """
    if not isinstance(name, str):
        raise ConfigError(f"a run's name is text, not {name!r}")
    where = None if cache is None else chosen(cache)
    return Run(RunRecord(new_id(time.time()), name, checked_tags(tags)), where)


class Run:
    """A group of calls: each hit, computation and failure is an event with its cost.

    Made for a `with` block, or from what was recorded.

    Args:
        record: what is known of it.
        cache: beside whose calls it is kept; None: it could not be kept, and ends with the process.
    """

    def __init__(self, record: RunRecord, cache: Cache | None) -> None:
        self._record, self.cache = record, cache
        self._recorder: Recorder | None = None
        self._token: Token[Recorder | None] | None = None

    # -- recording --------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        if self._recorder is not None or self._record.started:
            raise ConfigError(
                f"the run {self._record.name or self.id!r} began already: it is one `with` block; "
                "begin another"
            )
        self._recorder = begin(self._record, self.cache)
        self._record, self.cache = self._recorder.record, self._recorder.cache
        self._token = current.set(self._recorder)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._token is not None:
            with contextlib.suppress(ValueError):  # left in another context than entered
                current.reset(self._token)
        recorder = self._recorder
        if recorder is None or not recorder.own:  # a forked child leaves its parent's block
            return
        recorder.close()
        self.end(None if kind is None else kind.__qualname__)

    def end(self, error: str | None = None) -> None:
        """Note that it has ended, and how. What another engine records ends so too."""
        self._record = self._record._replace(ended=time.time(), error=error)
        if self.cache is not None:
            try:
                notes_of(self.cache).put(f"{HEADS}{self.id}", pack_record(self._record))
            except KeptError as trouble:
                tell(f"the end of the run {self.id} can't be written: {trouble}")

    def joined(self) -> contextlib.AbstractContextManager[None]:
        """Record what happens in a block as part of this run: in a worker that was not started by
        it, to which it was sent.

        Raises:
            ConfigError: it is no run that is open.
        """
        if self._recorder is None:
            raise ConfigError(f"the run {self.id} is not open: only its `with` block makes it so")
        return self._recorder.joined()

    # -- what is known ----------------------------------------------------------------------------

    @property
    def id(self) -> str:
        """Its name in the store: when it began, and six random digits."""
        return self._record.id

    @property
    def name(self) -> str:
        return self._record.name

    @property
    def tags(self) -> Mapping[str, Any]:
        return self._record.tags

    @property
    def record(self) -> RunRecord:
        """All that is known of it beside its events."""
        return self._record

    @property
    def state(self) -> str:
        """`running`, `done`, `failed` (an exception left its block), `crashed` (its process is no
        more), or `unfinished` (it did not end, and its process is one of another host).
        """
        if self._record.ended is not None:
            return "failed" if self._record.error else "done"
        alive = is_alive(self._record.owner)
        return "unfinished" if alive is None else "running" if alive else "crashed"

    @property
    def seconds(self) -> float | None:
        """How long it took, or takes already; None of one that did not end."""
        if self._record.ended is not None:
            return self._record.ended - self._record.started
        return time.time() - self._record.started if self.state == "running" else None

    # -- its events -------------------------------------------------------------------------------

    def events(self, *, inner: bool = True) -> list[Event]:
        """What happened, in the order of time.

        Args:
            inner: in the runs inside this one too.

        Raises:
            StoreError: they can't be read.
        """
        found: list[Event] = []
        if self._recorder is not None:
            self._recorder.flush()
            found += self._recorder.unwritten()
        notes = self._notes()
        if notes is not None:
            for run in self._family(inner):
                kept = get_many(notes, list(notes.keys(f"{EVENTS}{run}/")))
                for note in kept.values():
                    found += unpack(note)
        found.sort(key=lambda event: event.at)
        return found

    def _notes(self) -> Any:
        if self._recorder is not None:
            return self._recorder.notes
        return None if self.cache is None else notes_of(self.cache)

    def _family(self, inner: bool) -> list[str]:
        """Its id, and those of the runs inside it."""
        found = [self.id]
        notes = self._notes()
        if inner and notes is not None:
            for run in found:
                at = f"{INNER}{run}/"
                found += [name for key in notes.keys(at) if (name := key[len(at) :]) not in found]
        return found

    def totals(self, *, inner: bool = True) -> Totals:
        """Its events, added up.

        Raises:
            StoreError: they can't be read.
        """
        if self._recorder is not None:
            self._recorder.flush()
        notes, total = self._notes(), Totals()
        if notes is not None:
            for run in self._family(inner):
                for note in get_many(notes, list(notes.keys(f"{TOTALS}{run}/"))).values():
                    total = total.plus(unpack_totals(note))
        if self._recorder is not None:
            for event in self._recorder.unwritten():
                total = total.add(event)
        return total

    def forget(self) -> None:
        """Delete what was recorded of it. The calls and their results stay.

        Raises:
            ConfigError: it is running.
            StoreError: the store can't be written.
        """
        if self.state == "running":
            raise ConfigError(
                f"the run {self.id} is running; it can be forgotten when it has ended"
            )
        notes = self._notes()
        if notes is not None:
            for run in reversed(self._family(True)):
                gone = [f"{HEADS}{run}"]
                for start in (EVENTS, TOTALS, INNER):
                    gone += notes.keys(f"{start}{run}/")
                if self._record.outer is not None:
                    gone.append(f"{INNER}{self._record.outer}/{run}")
                delete_many(notes, gone)

    # -- shown ------------------------------------------------------------------------------------

    def table(self, by: str = "call") -> Table:
        """A row for each call and what became of it, or for each function.

        Args:
            by: `"call"` or `"function"`.

        Raises:
            ConfigError: neither.
            StoreError: it can't be read.
        """
        if by not in ("call", "function"):
            raise ConfigError(f"the table of a run is by='call' or by='function', not {by!r:.80}")
        return by_call(self) if by == "call" else by_function(self)

    def graph(self) -> Graph:
        """Its calls: which called which, and whose result was whose argument.

        Raises:
            StoreError: it can't be read.
        """
        return of_run(self)

    def compare(self, other: Run) -> Comparison:
        """What was reused, what was new and what drifted, as compared with an earlier run.

        Raises:
            ConfigError: it is no run.
            StoreError: one can't be read.
        """
        if not isinstance(other, Run):
            raise ConfigError(
                f"a run is compared with a run, not with {other!r:.80}; wellkept.runs() finds them"
            )
        return compare(self, other)

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()

    def __repr__(self) -> str:
        name = f" {self.name!r}" if self.name else ""
        begun = self.state if self._record.started else "not begun"
        return f"<wellkept.Run {self.id}{name} {begun}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Run) and self.id == other.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopened, (self._record, self.cache, self._recorder)


def _reopened(record: RunRecord, cache: Cache | None, recorder: Recorder | None) -> Run:
    run = Run(record, cache)
    run._recorder = recorder
    return run
