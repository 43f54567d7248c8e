"""The runs that a cache knows of."""

from __future__ import annotations

import fnmatch
import time
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any, overload

from wellkept.caches import Cache
from wellkept.caches.sizes import parse_duration
from wellkept.errors import AmbiguousDigest, ConfigError, NotKept
from wellkept.records import RunRecord
from wellkept.runs.beginning import checked_tags
from wellkept.runs.events import Totals, unpack_record, unpack_totals
from wellkept.runs.notes import HEADS, TOTALS, notes_of
from wellkept.runs.recording import OPEN, flush_all
from wellkept.runs.run import Run
from wellkept.runs.table import Table, duration
from wellkept.stores.base import get_many

__all__ = ["Runs"]


class Runs:
    """The runs of a cache, the newest first; read when it is asked, and each time anew.

    `runs["sweep"]` is the one whose id or name begins so (of one name, the newest), `runs[0]` the
    newest of all.

    Args:
        cache: beside whose calls they are.
        name: only those whose name or id is this, or fits this pattern (`*`, `?`, `[…]`).
        tags: only those that have all of these.

    Raises:
        ConfigError: a name or tag is nothing to choose by.
    """

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
        for recorder in OPEN:  # one that is open here has events that are not written yet
            if recorder.record.id == record.id:
                run._recorder = recorder
        return run

    @overload
    def __getitem__(self, which: str | int) -> Run: ...
    @overload
    def __getitem__(self, which: slice) -> list[Run]: ...
    def __getitem__(self, which: Any) -> Any:
        """The run of an id or name, or of the beginning of one; or by its place.

        Raises:
            NotKept: there is none.
            AmbiguousDigest: the beginning fits runs of several names.
            IndexError: there are not so many.
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

    def totals(self) -> dict[str, Totals]:
        """The events of all runs added up, by id of the run: read in one trip.

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
        """Delete what was recorded of runs; the calls and their results stay. One that is running
        stays, too.

        Args:
            which: an id or name, or the beginning of one; all of these runs by default.
            older: only those that began so long ago, at the least; seconds or text like `"30 d"`.

        Returns the ids of those that are gone.

        Raises:
            ConfigError: neither is said, and this is not a choice of runs; or the one is running.
            NotKept, AmbiguousDigest: there is no such run, or several.
            StoreError: the store can't be written.
        """
        if which is not None:
            run = self[which]
            run.forget()
            return [run.id]
        if older is None and self.name is None and not self.tags:
            raise ConfigError("which runs? Say a name or id, tags, or older= how much")
        late = time.time() - (0.0 if older is None else parse_duration(older))
        gone = []
        for run in self:
            if run.record.started <= late and run.state != "running":
                run.forget()
                gone.append(run.id)
        return gone

    def table(self) -> Table:
        """A row for each run.

        Raises:
            StoreError: they can't be read.
        """
        totals = self.totals()
        rows = [_row(run, totals.get(run.id, Totals())) for run in self]
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
        return Table(rows, columns, "name", "" if rows else f"no runs in {self.cache} yet")

    def __repr__(self) -> str:
        return str(self.table())

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()


def _row(run: Run, total: Totals) -> dict[str, Any]:
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
