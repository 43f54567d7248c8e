"""Runs: groups of calls, while they are made and afterwards."""

from __future__ import annotations

import contextlib
import fnmatch
import json
import time
from collections.abc import Iterator, Mapping
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, overload

from wellkept._process import identity, is_alive
from wellkept.caches import Cache, active, chosen
from wellkept.caches.option_text import parse_duration
from wellkept.errors import AmbiguousDigest, ConfigError, KeptError, NotKept, StoreError, tell
from wellkept.query import Cost, add_costs
from wellkept.readable import duration
from wellkept.records import Event, RunRecord
from wellkept.runs.causes import SAMPLE, Group, Why, grouped, told
from wellkept.runs.causes import table as table_of
from wellkept.runs.collectors import checked_tags, configured, environment, saying_more
from wellkept.runs.compare import Comparison, compare
from wellkept.runs.lineage import of_events
from wellkept.runs.recorder import (
    COSTS,
    ENVS,
    EVENTS,
    HEADS,
    INNER,
    OPEN,
    TOTALS,
    Recorder,
    Totals,
    current,
    flush_all,
    new_id,
    notes_of,
    pack_record,
    recorder,
    unpack,
    unpack_record,
    unpack_totals,
)
from wellkept.runs.table import Table, Tabled, by_call, by_function, records, summed
from wellkept.stores.base import delete_many, get_many, put_many

if TYPE_CHECKING:
    from contextvars import Token

    from wellkept.runs.graph import Graph


# Seconds in which calls are asked why they were computed.
_PATIENCE = 1.0


def begin(record: RunRecord, cache: Cache | None) -> Recorder:
    """Note that a run begins in this process; return the recorder of its events.

    Raises:
        ConfigError: the configuration is wrong.
    """
    outer = recorder()
    if cache is None and outer is not None:
        cache = outer.cache
    elif cache is None:
        try:
            cache = active()
        except StoreError as error:
            tell(f"the run {record.id} is not kept: {error}")
    env, facts = environment()
    record = record._replace(
        started=time.time(),
        owner=identity(),
        outer=None if outer is None else outer.record.id,
        env=env,
        metadata={
            name: json.loads(said) for name, said in configured().collect(None, cache).items()
        },
    )
    found = Recorder(record, cache, outer)
    found.own = True
    if cache is not None:
        items = {f"{HEADS}{record.id}": pack_record(record), f"{ENVS}{env}": facts}
        if outer is not None:
            items[f"{INNER}{outer.record.id}/{record.id}"] = b"{}"
        try:
            put_many(found.notes, items)
        except KeptError as error:
            tell(f"the run {record.id} is not kept: {error}")
            found.cache, found.notes = None, Recorder(record, None, outer).notes
    found.open()
    return found


def run(
    name: str = "", *, tags: Mapping[str, Any] | None = None, cache: Cache | str | None = None
) -> Run:
    """Return a run, which records the calls of kept functions in its `with` block.

    Calls in threads, tasks and sent calls that begin in the block belong to it too. If the store can't be
    written, that is a warning, and the run is only in memory.

    Args:
        name: for people; several runs may have one name.
        tags: text, numbers, booleans or None by name.
        cache: the cache that keeps its record; by default that of the run around it, or the active one.

    Raises:
        ConfigError: a tag has another type, or there is no such cache.
    """
    if not isinstance(name, str):
        raise ConfigError(f"a run's name is text, not {name!r}")
    where = None if cache is None else chosen(cache)
    return Run(RunRecord(new_id(time.time()), name, checked_tags(tags)), where)


class Run:
    """A group of calls: each hit, computation and failure is an event with its cost.

    Made for a `with` block, or from what was recorded.

    Args:
        record: its name, tags, times and owner.
        cache: the cache that keeps it; None if it could not be kept, and ends with the process.
    """

    def __init__(self, record: RunRecord, cache: Cache | None) -> None:
        self._record, self.cache = record, cache
        self._recorder: Recorder | None = None
        self._token: Token[Recorder | None] | None = None
        self._tags: contextlib.AbstractContextManager[None] = contextlib.nullcontext()

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
        # Calls have the tags of the runs around them.
        self._tags = saying_more({"tags": self.tags})
        self._tags.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._token is not None:
            self._tags.__exit__(None, None, None)
            # A generator may leave the block in another context than it entered it.
            with contextlib.suppress(ValueError):
                current.reset(self._token)
        recorder = self._recorder
        # In a forked child the block and its end are the parent's.
        if recorder is None or not recorder.own:
            return
        recorder.close()
        self.end(None if kind is None else kind.__qualname__)

    def end(self, error: str | None = None) -> None:
        """Note that the run has ended, and how."""
        self._record = self._record._replace(ended=time.time(), error=error)
        if self.cache is not None:
            try:
                notes_of(self.cache).put(f"{HEADS}{self.id}", pack_record(self._record))
            except KeptError as trouble:
                tell(f"the end of the run {self.id} can't be written: {trouble}")

    def joined(self) -> contextlib.AbstractContextManager[None]:
        """Record the calls of a block in this run, in a worker that was not started by it.

        Raises:
            ConfigError: the run is not open.
        """
        if self._recorder is None:
            raise ConfigError(f"the run {self.id} is not open: only its `with` block makes it so")
        return self._recorder.joined()

    # -- its record -------------------------------------------------------------------------------

    @property
    def id(self) -> str:
        """Return its name in the store: when it began, and six random digits."""
        return self._record.id

    @property
    def name(self) -> str:
        return self._record.name

    @property
    def tags(self) -> Mapping[str, Any]:
        return self._record.tags

    @property
    def record(self) -> RunRecord:
        """Return its name, tags, times, owner and metadata."""
        return self._record

    @property
    def state(self) -> str:
        """Return `running`, `done`, `failed`, `crashed` or `unfinished`.

        A failed run ended with an exception; the process of a crashed one is gone; an unfinished one did not
        end, and its process is on another host, so whether it lives can't be told.
        """
        if self._record.ended is not None:
            return "failed" if self._record.error else "done"
        alive = is_alive(self._record.owner)
        return "unfinished" if alive is None else "running" if alive else "crashed"

    @property
    def seconds(self) -> float | None:
        """Return how long it took, or has taken; None if it did not end and does not run."""
        if self._record.ended is not None:
            return self._record.ended - self._record.started
        return time.time() - self._record.started if self.state == "running" else None

    # -- its events -------------------------------------------------------------------------------

    def events(self, *, inner: bool = True) -> list[Event]:
        """Return its events in the order of time.

        Args:
            inner: include the runs inside this one.

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
        """Return its id, and those of the runs inside it."""
        found = [self.id]
        notes = self._notes()
        if inner and notes is not None:
            for run in found:
                at = f"{INNER}{run}/"
                found += [name for key in notes.keys(at) if (name := key[len(at) :]) not in found]
        return found

    def totals(self, *, inner: bool = True) -> Totals:
        """Return the sums of its events.

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
        """Delete the record of the run. The calls and their results stay.

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

    def table(self, by: Literal["call", "function", "cause"] = "call") -> Table:
        """Return a row for each call and its outcome, for each function, or for each cause of misses.

        Args:
            by: `"call"`, `"function"` or `"cause"`.

        Raises:
            ConfigError: `by` is none of these.
            StoreError: the run can't be read.
        """
        if by not in ("call", "function", "cause"):
            raise ConfigError(
                f"the table of a run is by='call', 'function' or 'cause', not {by!r:.80}"
            )
        events = self.events()
        causes = self._causes(events)
        summary = self._summary(causes)
        if by == "cause":
            return table_of(causes, summary)
        return (
            by_call(events, self.cache, summary) if by == "call" else by_function(events, summary)
        )

    def costs(self) -> dict[str, Cost]:
        """What its computations cost besides time, and what its hits would have cost, by what `cost=` of
        `keep` counts; of calls that are still kept.

        Raises:
            StoreError: it can't be read.
        """
        found: dict[str, Cost] = {}
        if self.cache is None or notes_of(self.cache).get(COSTS) is None:
            return found
        events = summed(self.events())
        known = records(self.cache, [event.key for event in events])
        for event in events:
            call = known.get(event.key or "")
            if call is not None:
                hit = event.outcome == "hit"
                add_costs(found, call, 0 if hit else event.count, event.count if hit else 0)
        return found

    def causes(self) -> list[Group]:
        """Return why calls were computed, those of one reason together. Of many calls of one function and
        code some are asked.

        Raises:
            StoreError: it can't be read.
        """
        return self._causes(self.events())

    def _causes(self, events: list[Event]) -> list[Group]:
        return grouped(Why(self.cache).misses(events), SAMPLE, _PATIENCE)[0]

    def _summary(self, causes: list[Group]) -> str:
        total = self.totals()
        text = (
            f"{self.name or self.id}: {self.state}; {total.hits:,} hits, {total.computed:,} computed, "
            f"{total.failed:,} failed; {duration(total.spent)} spent, {duration(total.saved)} saved"
        )
        for name, cost in self.costs().items():
            text += f"; {cost.spent:.4g} {name} spent, {cost.saved:.4g} saved"
        if why := told(causes):
            text += f"; computed: {why}"
        return f"{text}; {total.lost:,} events lost" if total.lost else text

    def graph(self) -> Graph:
        """Return the graph of its calls: which called which, and whose result was whose argument.

        Raises:
            StoreError: it can't be read.
        """
        return of_events(self.events(), self.cache, self.record.engine)

    def compare(self, other: Run, *, by: Literal["call", "cause"] = "call") -> Comparison:
        """Return what was reused, new, or drifted, compared with an earlier run.

        Args:
            by: `"cause"` for calls of one reason together, where it is shown.

        Raises:
            ConfigError: `other` is not a run, or `by` is neither.
            StoreError: a run can't be read.
        """
        if not isinstance(other, Run):
            raise ConfigError(
                f"a run is compared with a run, not with {other!r:.80}; wellkept.runs() finds them"
            )
        if by not in ("call", "cause"):
            raise ConfigError(f"runs are compared by='call' or by='cause', not {by!r:.80}")
        return compare(self, other, by)

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


class Runs(Tabled):
    """The runs of a cache, the newest first; they are read anew at each use.

    `runs["sweep"]` is the one whose id or name begins so (of one name, the newest), `runs[0]` the newest of
    all.

    Args:
        cache: the cache that keeps them.
        name: only those whose name or id is this, or matches this pattern (`*`, `?`, `[…]`).
        tags: only those that have all of these.

    Raises:
        ConfigError: the name or a tag has the wrong type.
    """

    cache: Cache
    name: str | None
    tags: dict[str, Any]

    def __init__(
        self, cache: Cache, name: str | None = None, tags: Mapping[str, Any] | None = None
    ) -> None:
        if name is not None and not isinstance(name, str):
            raise ConfigError(f"a run's name is text, not {name!r:.80}")
        self.cache, self.name, self.tags = cache, name, checked_tags(tags)

    def _records(self) -> list[RunRecord]:
        flush_all()
        notes = notes_of(self.cache)
        found = []
        for note in get_many(notes, list(notes.keys(HEADS))).values():
            record = unpack_record(note)
            if record is not None and self._fits(record):
                found.append(record)
        found.sort(key=lambda record: (record.started, record.id), reverse=True)
        return found

    def _fits(self, record: RunRecord) -> bool:
        if self.name is not None and not any(
            self.name == one or fnmatch.fnmatchcase(one, self.name)
            for one in (record.name, record.id)
        ):
            return False
        return all(
            name in record.tags and record.tags[name] == value for name, value in self.tags.items()
        )

    def __iter__(self) -> Iterator[Run]:
        return (self._run(record) for record in self._records())

    def __len__(self) -> int:
        return len(self._records())

    def _run(self, record: RunRecord) -> Run:
        run = Run(record, self.cache)
        # The events of a run that is open in this process may not be written yet.
        for open_here in OPEN:
            if open_here.record.id == record.id:
                run._recorder = open_here
        return run

    @overload
    def __getitem__(self, which: str | int) -> Run: ...
    @overload
    def __getitem__(self, which: slice) -> list[Run]: ...
    def __getitem__(self, which: Any) -> Any:
        """Return the run with an id or name, or whose id or name begins so; or the run at an index.

        Raises:
            NotKept: there is no such run.
            AmbiguousDigest: runs of several names begin so.
            IndexError: there are fewer runs.
        """
        found = list(self)
        if not isinstance(which, str):
            return found[which]
        for fits in (
            [run for run in found if run.id == which],
            [run for run in found if run.name == which],
            [run for run in found if which and run.id.startswith(which)],
            [run for run in found if which and run.name.startswith(which)],
        ):
            names = dict.fromkeys(run.name or run.id for run in fits)
            if len(names) > 1:
                first = ", ".join(f"{run.id} ({run.name})" for run in fits[:3])
                raise AmbiguousDigest(f"{which!r} fits several runs: {first}; say more of one")
            if fits:
                return fits[0]
        raise NotKept(f"no run {which!r} is known in {self.cache}; `wellkept runs` lists them")

    def latest(self, count: int, before: str = "") -> list[Run]:
        """Return the newest of all runs, by their ids; only their records are read.

        Args:
            count: the most runs.
            before: only runs older than the one of this id.

        Raises:
            StoreError: they can't be read.
        """
        flush_all()
        notes = notes_of(self.cache)
        keys = sorted(notes.keys(HEADS), reverse=True)
        some = [key for key in keys if not before or key < HEADS + before][:count]
        found = get_many(notes, some)
        read = (unpack_record(found.get(key)) for key in some)
        records = [record for record in read if record is not None]
        records.sort(key=lambda record: (record.started, record.id), reverse=True)
        return [self._run(record) for record in records]

    def totals(self) -> dict[str, Totals]:
        """Return the sums of the events of each run, by its id, read in one trip.

        Raises:
            StoreError: they can't be read.
        """
        flush_all()
        notes = notes_of(self.cache)
        found: dict[str, Totals] = {}
        for key, note in get_many(notes, list(notes.keys(TOTALS))).items():
            run = key[len(TOTALS) :].partition("/")[0]
            found[run] = found.get(run, Totals()).plus(unpack_totals(note))
        return found

    def forget(
        self, which: str | None = None, *, older: float | str | timedelta | None = None
    ) -> list[str]:
        """Delete the records of runs, except running ones; the calls and their results stay.

        Args:
            which: an id or name, or the beginning of one; all of these runs by default.
            older: only runs that began at least so long ago; seconds or text like `"30 d"`.

        Returns the ids of the deleted runs.

        Raises:
            ConfigError: neither is given, and these are all runs of the cache; or the run is running.
            NotKept, AmbiguousDigest: there is no such run, or there are several.
            StoreError: the store can't be written.
        """
        if which is not None:
            run = self[which]
            run.forget()
            return [run.id]
        if older is None and self.name is None and not self.tags:
            raise ConfigError("which runs? Say a name or id, tags, or older= how much")
        late = time.time() - (0.0 if older is None else parse_duration(older, option="older"))
        gone = []
        for run in self:
            if run.record.started <= late and run.state != "running":
                run.forget()
                gone.append(run.id)
        return gone

    def table(self) -> Table:
        """Return a row for each run.

        Raises:
            StoreError: they can't be read.
        """
        totals = self.totals()
        rows = [run_row(run, totals.get(run.id, Totals())) for run in self]
        columns = [
            ("id", lambda row: row["id"]),
            ("name", lambda row: row["name"]),
            ("state", lambda row: row["state"]),
            ("hits", lambda row: f"{row['hits']:,}"),
            ("computed", lambda row: f"{row['computed']:,}"),
            ("failed", lambda row: f"{row['failed']:,}"),
            ("took", lambda row: duration(row["seconds"]) or "-"),
            ("saved", lambda row: duration(row["saved"])),
        ]
        empty = "" if rows else f"no runs in {self.cache} yet"
        return Table(rows, columns, "name", empty, drop=("saved", "failed", "computed"))


def run_row(run: Run, total: Totals) -> dict[str, Any]:
    """Return a run as a row of a table."""
    record = run.record
    return {
        "id": run.id,
        "name": run.name,
        "state": run.state,
        "tags": dict(run.tags),
        "started": record.started,
        "ended": record.ended,
        "seconds": run.seconds,
        "hits": total.hits,
        "computed": total.computed,
        "failed": total.failed,
        "spent": total.spent,
        "saved": total.saved,
        "lost": total.lost,
        "error": record.error,
        "engine": record.engine,
        "outer": record.outer,
        "host": str(record.owner.get("host", "")).partition("pid:")[0],
        "pid": record.owner.get("pid"),
        "user": record.owner.get("user"),
    }
