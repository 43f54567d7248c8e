"""The items of a directory: its settings, and what is done with them in one transaction."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Self

from wellkept.errors import ConfigError, DamagedValue, tell
from wellkept.integrations.diskcache.disks import ENOVAL, Disk, Row, encoded
from wellkept.integrations.diskcache.recipes import F, memoized
from wellkept.kv import ExecutionStore, store
from wellkept.kv.entry import load
from wellkept.kv.ordered_items import Execute, Gone, OrderedItems, Timeout
from wellkept.stores.filesystem import refuse_untrusted

Side = Literal["front", "back"]

DEFAULT_SETTINGS: dict[str, Any] = {
    "statistics": 0,
    "tag_index": 0,
    "eviction_policy": "least-recently-stored",
    "size_limit": 2**30,
    "cull_limit": 10,
    "sqlite_auto_vacuum": 1,
    "sqlite_cache_size": 2**13,
    "sqlite_journal_mode": "wal",
    "sqlite_mmap_size": 2**26,
    "sqlite_synchronous": 1,
    "disk_min_file_size": 2**15,
    "disk_pickle_protocol": 5,
}
"""What a cache is told, by name. Those of SQLite are taken and passed over: wellkept chooses them."""

EVICTION_POLICY: dict[str, dict[str, str | None]] = {
    "none": {"init": None, "get": None, "cull": None},
    "least-recently-stored": {
        "init": "CREATE INDEX IF NOT EXISTS Cache_store_time ON Cache (store_time)",
        "get": None,
        "cull": "SELECT {fields} FROM Cache ORDER BY store_time LIMIT ?",
    },
    "least-recently-used": {
        "init": "CREATE INDEX IF NOT EXISTS Cache_access_time ON Cache (access_time)",
        "get": "access_time = {now}",
        "cull": "SELECT {fields} FROM Cache ORDER BY access_time LIMIT ?",
    },
    "least-frequently-used": {
        "init": "CREATE INDEX IF NOT EXISTS Cache_access_count ON Cache (access_count)",
        "get": "access_count = access_count + 1",
        "cull": "SELECT {fields} FROM Cache ORDER BY access_count LIMIT ?",
    },
}
"""Which items go first when a cache is over its size: the index to make, what a read changes, and which to
remove."""

_NUMBERS = (
    *("statistics", "tag_index", "size_limit", "cull_limit", "disk_min_file_size"),
    *("count", "size", "hits", "misses"),
)
_ROW = 100  # bytes that an item has beside its value,
_FILL = 1.3  # of which, and of a value in a row, a database has so many times as many
BATCH = 100  # items that are read, or removed, at once
FIELDS = "rowid, expire_time, tag, mode, filename, value"
FOUND = tuple(f"SELECT {FIELDS} FROM Cache WHERE raw = {raw} AND key = ?" for raw in (0, 1))
HELD = tuple(
    f"SELECT rowid, filename, expire_time FROM Cache WHERE raw = {r} AND key = ?" for r in (0, 1)
)
_INSERT = (
    "INSERT INTO Cache (store_time, expire_time, access_time, access_count, tag, size, mode, filename, "
    "value, key, raw, given) VALUES (?, ?, ?, 0, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_UPDATE = (
    "UPDATE Cache SET store_time = ?, expire_time = ?, access_time = ?, access_count = 0, tag = ?, "
    "size = ?, mode = ?, filename = ?, value = ? WHERE rowid = ?"
)
EXPIRED = (
    "SELECT rowid, filename FROM Cache WHERE expire_time IS NOT NULL AND expire_time < ? "
    "ORDER BY expire_time LIMIT ?"
)
_TAGGED = "CREATE INDEX IF NOT EXISTS Cache_tag ON Cache (tag) WHERE tag IS NOT NULL"
_UNDER_WAY = 60.0  # seconds, beside the timeout, for which a file may be there before its item
_EMPTY = 500_000_000_000_000  # the number of the first item of a queue


Key = tuple[Any, bool, Any]
"""What a row is found by, whether that is the key itself, and the key if that can't be told from it."""


class UnknownFileWarning(UserWarning):
    """A file of values that no item names."""


class EmptyDirWarning(UserWarning):
    """A directory of values without any."""


class OfDirectory(ABC):
    """What caches that are directories have in common."""

    _directory: str

    @property
    def directory(self) -> str:
        """Its directory."""
        return self._directory

    @property
    def store(self) -> ExecutionStore:
        """Named state of the same directory: locks and semaphores are there, and what else a program has."""
        return store("diskcache", cache=Path(self._directory))

    @abstractmethod
    def reset(self, key: str, value: Any = ENOVAL) -> Any:
        """A setting, read anew, or set for all who use the directory."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the files; the next use opens them again."""

    def create_tag_index(self) -> None:
        """Let `evict` find the items of a tag without looking at all of them."""
        self.reset("tag_index", 1)

    def drop_tag_index(self) -> None:
        """Have no index of tags."""
        self.reset("tag_index", 0)

    def memoize(
        self,
        name: str | None = None,
        typed: bool = False,
        expire: float | None = None,
        tag: Any = None,
        ignore: Iterable[int | str] = (),
    ) -> Callable[[F], F]:
        """A decorator that keeps what a function returns for its arguments; `@keep` also sees that the
        function's code has changed.

        Args:
            name: of the function in keys; its module and name by default.
            typed: the types of the arguments count too; 3, 3.0 and True are told apart in any case.
            expire: seconds; at 0 nothing is kept.
            tag: of all results.
            ignore: positions and names of arguments that don't count.
        """
        made: Callable[[F], F] = memoized(self, name, typed, expire, tag, ignore)
        return made

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._directory!r})"


class ItemTable(OfDirectory):
    """What a `Cache` is made of; see there."""

    statistics: int
    tag_index: int
    eviction_policy: str
    size_limit: float
    cull_limit: int
    disk_min_file_size: int
    disk_pickle_protocol: int

    _tells = True
    """Whether it says that there is a cache of diskcache; else what it is a part of does."""

    def __init__(
        self,
        directory: str | os.PathLike[str] | None = None,
        timeout: float = 60,
        disk: type[Disk] = Disk,
        *,
        trust: bool = False,
        **settings: Any,
    ) -> None:
        if not (isinstance(disk, type) and issubclass(disk, Disk)):
            raise ConfigError(f"disk is a class that derives from Disk, not {disk!r:.80}")
        self._directory = directory_of(directory)
        self._timeout, self._trust = timeout, trust
        given = Path(self._directory)
        if self._tells:
            tell_of_diskcache(given, given, f"`wellkept import diskcache {given} --into {given}`")
        os.makedirs(self._directory, 0o700, exist_ok=True)  # noqa: PTH103  its error is what diskcache raises
        # The file has to be there before the disk's settings can be read from it.
        self._items = OrderedItems(
            given, lambda name: self._disk.remove(name), timeout, trust=trust
        )
        if not trust and (given / "values").exists():
            refuse_untrusted(given / "values")
        kept = dict(self._items.rows("SELECT key, value FROM Settings"))
        kept.pop("scheme")
        for key, value in settings.items():
            check_setting(key, value)
        known = {**DEFAULT_SETTINGS, **kept, **settings}
        options = {key[5:]: value for key, value in known.items() if key.startswith("disk_")}
        self._disk = disk(self._directory, **options)
        check_setting("eviction_policy", known["eviction_policy"])
        new = {key: value for key, value in known.items() if key not in kept or kept[key] != value}
        if new:
            self._items.write(True, _set_all, new)
        for key, value in known.items():
            setattr(self, key, value)

    @property
    def timeout(self) -> float:
        """Seconds to wait for others that write."""
        return self._timeout

    @property
    def disk(self) -> Disk:
        """What lays keys and values out."""
        return self._disk

    def reset(self, key: str, value: Any = ENOVAL, update: bool = True) -> Any:
        """A setting, read anew, or set for all who use the directory.

        Args:
            value: what it is from now on.
            update: whether others see it.

        Raises:
            ConfigError: there is no such setting, or it can't have that value.
        """
        if value is ENOVAL:
            found = self._items.row("SELECT value FROM Settings WHERE key = ?", key)
            if found is None:
                raise ConfigError(
                    f"a cache has no setting {key!r}; it has {', '.join(DEFAULT_SETTINGS)}"
                )
            value = found[0]
        else:
            check_setting(key, value)
            if update:
                self._items.write(True, _set_all, {key: value})
            if key.startswith("disk_"):
                setattr(self._disk, key[5:], value)
        setattr(self, key, value)
        return value

    # -- changes, each in a transaction

    def _where(self, key: Any) -> Key:
        found, raw = self._disk.put(key)
        # Of what is only found by its digest the key is stored as well.
        return found, raw, encoded(key) if not raw and type(found) is bytes else None

    def _laid_out(self, key: Any, value: Any, read: bool = False) -> Row:
        size, mode, filename, row = self._disk.store(value, read, key=key)
        if filename is not None and (mine := self._items.transaction) is not None:
            mine.made.append(filename)
        return size_of(size, filename), mode, filename, row

    def _stored(
        self,
        how: tuple[Any, ...],
        key: Any,
        value: Any,
        expire: float | None,
        read: bool,
        tag: Any,
        retry: bool,
        where: Key | None = None,
    ) -> Any:
        """Lay a value out, and its file, before the transaction; what that answers: None if it was not
        needed, and then its file goes."""
        if not isinstance(tag, str | int | float | bytes | None):
            raise TypeError(f"a tag is text, bytes or a number, not {tag!r:.80}")
        now = time.time()
        where = self._where(key) if where is None else where
        _, _, filename, _ = laid = self._laid_out(key, value, read)
        columns = (now, expiry(now, expire), now, tag, *laid)
        try:
            done = self._items.write(retry, how[0], columns, where, *how[1:])
        except Exception:
            if filename is not None:
                self._disk.remove(filename)
            raise
        if done is None and filename is not None:
            self._disk.remove(filename)
        return done

    def _put(self, run: Execute, gone: Gone, columns: Any, where: Key, adds: bool) -> bool | None:
        held = run(HELD[where[1]], where[:1]).fetchone()
        if adds and held is not None and lives(held[2], columns[0]):
            return None
        self._write(run, gone, columns, held, where)
        return True

    def _pushed(
        self,
        run: Execute,
        gone: Gone,
        columns: Any,
        _where: Key,
        prefix: str | None,
        side: Side,
        find: tuple[str, Any, Any],
    ) -> Any:
        query, *ends = find
        last = run(query, ends).fetchone()
        if last is None:
            number = _EMPTY
        else:
            found = int(last[0] if prefix is None else last[0].rpartition("-")[2])
            number = found + 1 if side == "back" else found - 1
        key = number if prefix is None else f"{prefix}-{number:015d}"
        self._write(run, gone, columns, None, (key, True, None))
        return key

    def _write(self, run: Execute, gone: Gone, columns: Any, held: Any, where: Key) -> None:
        if held is None:
            run(_INSERT, (*columns, *where))
        else:
            run(_UPDATE, (*columns, held[0]))
            if held[1] is not None:
                gone(held[1])
        self._make_room(run, gone, columns[0])

    def _incr(
        self,
        run: Execute,
        gone: Gone,
        where: Key,
        key: Any,
        delta: float,
        default: float | None,
    ) -> Any:
        now = time.time()
        found = run(FOUND[where[1]], where[:1]).fetchone()
        if found is None or not lives(found[1], now):
            if default is None:
                raise KeyError(key)
            value = default + delta
            columns = (now, None, now, None, *self._laid_out(key, value))
            held = None if found is None else (found[0], found[4])
            self._write(run, gone, columns, held, where)
            return value
        value = self._disk.fetch(found[3], found[4], found[5], False) + delta
        used = EVICTION_POLICY[self.eviction_policy]["get"]
        also = "" if used is None else f", {used.format(now=now)}"
        run(
            f"UPDATE Cache SET store_time = ?, size = ?, mode = ?, filename = ?, value = ?{also} "
            "WHERE rowid = ?",
            (now, *self._laid_out(key, value), found[0]),
        )
        if found[4] is not None:
            gone(found[4])
        return value

    def _used(self, run: Execute, _gone: object, key: Any, raw: bool) -> Any:
        now = time.time()
        row = run(FOUND[raw], (key,)).fetchone()
        if row is not None and not lives(row[1], now):
            row = None
        if self.statistics:
            what = "misses" if row is None else "hits"
            run("UPDATE Settings SET value = value + 1 WHERE key = ?", (what,))
        used = EVICTION_POLICY[self.eviction_policy]["get"]
        if row is not None and used is not None:
            run(f"UPDATE Cache SET {used.format(now=now)} WHERE rowid = ?", (row[0],))
        return row

    def _taken(self, run: Execute, gone: Gone, row: Any) -> Any:
        """The value of a row, which is removed; `ENOVAL` if there is nothing to be read any more."""
        value: Any = ENOVAL
        try:
            # First: what an error or an interrupt ends here stays.
            value = self._disk.fetch(row[3], row[4], row[5], False)
        except (OSError, DamagedValue) as error:
            missed(error, removes=True)
        remove(run, gone, [(row[0], row[4])])
        return value

    def _end(self, query: Iterable[Any], retry: bool) -> tuple[Any, Any] | None:
        """The row that a query gives, once it lives and can be read, and its value."""
        broken = None
        while rows := self._items.rows(*query):
            (row,) = rows
            if lives(row[1], time.time()):
                try:
                    return row, self._disk.fetch(row[3], row[4], row[5], False)
                except (OSError, DamagedValue) as error:
                    # It may just have been replaced; or else there is nothing to be read any more.
                    again, broken = broken == row[:6], row[:6]
                    if not again:
                        continue
                    missed(error, removes=True)

            def drop(run: Execute, gone: Gone, row: Any = row) -> None:
                same = "SELECT rowid, filename FROM Cache WHERE rowid = ? AND expire_time IS ?"
                remove(run, gone, run(same, row[:2]).fetchall())

            self._items.write(retry, drop)
        return None

    def _key(self, key: Any, raw: Any, given: Any) -> Any:
        return self._disk.get(key, bool(raw)) if given is None else load(given)

    def _keys(self, order: str, newest: int) -> Iterator[Any]:
        low, high = 0, newest + 1
        query = (
            "SELECT rowid, key, raw, given FROM Cache WHERE rowid > ? AND rowid < ? "
            f"ORDER BY rowid {order} LIMIT {BATCH}"
        )
        while rows := self._items.rows(query, low, high):
            for row in rows:
                yield self._key(*row[1:])
            low, high = (rows[-1][0], high) if order == "ASC" else (low, rows[-1][0])

    def _make_room(self, run: Execute, gone: Gone, now: float) -> None:
        """Remove some of what has expired, and if that is not enough, what goes first."""
        most = self.cull_limit
        if not most:
            return
        expired = run(EXPIRED, (now, most)).fetchall()
        if expired:
            remove(run, gone, expired)
            most -= len(expired)
        first = EVICTION_POLICY[self.eviction_policy]["cull"]
        if not most or first is None:
            return
        if size_now(run) >= self.size_limit:
            query = first.format(fields="rowid, filename", now=now)
            remove(run, gone, run(query, (most,)).fetchall())

    def _removed(self, retry: bool, query: str, *values: Any, over: bool = False) -> int:
        """Remove what a query selects, some at a time; how many they were.

        Args:
            over: only while the items are over their size.

        Raises:
            Timeout: its argument is how many were removed before.
        """
        count, limit = 0, 10 if over else BATCH

        def some(run: Execute, gone: Gone) -> int:
            if over and size_now(run) <= self.size_limit:
                return 0
            return remove(run, gone, run(query, (*values, limit)).fetchall())

        try:
            while done := self._items.write(retry, some):
                count += done
        except Timeout:
            raise Timeout(count) from None
        if count and self._items.transaction is None:
            self._items.give_back()
        return count

    def _check(self, run: Execute, gone: Gone, fix: bool) -> None:
        known, lost = set(), []
        for rowid, name, size in run(
            "SELECT rowid, filename, size FROM Cache WHERE filename IS NOT NULL"
        ):
            path = os.path.join(self._directory, name)  # noqa: PTH118  as disks name them
            known.add(path)
            try:
                whole = size_of(os.stat(path).st_size, name) == size  # noqa: PTH116  as above
            except OSError:
                whole = False
            if not whole:
                lost.append((rowid, name))
                warnings.warn(f"file is missing, or of another size: {path}", stacklevel=2)
        if fix:
            remove(run, gone, lost)
        # A younger one may be of an item that is about to be written.
        since = time.time() - self._timeout - _UNDER_WAY
        for directory, below, names in os.walk(Path(self._directory, "values")):
            for name in names:
                path = os.path.join(directory, name)  # noqa: PTH118  as above
                try:
                    old = os.stat(path).st_mtime < since  # noqa: PTH116  as above
                except FileNotFoundError:
                    continue
                if old and path not in known:
                    warnings.warn(f"unknown file: {path}", UnknownFileWarning, stacklevel=2)
                    if fix:
                        self._disk.remove(os.path.relpath(path, self._directory))
            if not names and not below:
                warnings.warn(f"empty directory: {directory}", EmptyDirWarning, stacklevel=2)
                if fix:
                    with contextlib.suppress(OSError):
                        os.removedirs(directory)
        ((count, size),) = run("SELECT count(*), coalesce(sum(size), 0) FROM Cache")
        for key, is_ in (("count", count), ("size", size)):
            ((says,),) = run("SELECT value FROM Settings WHERE key = ?", (key,))
            if says != is_:
                warnings.warn(f"the {key} of the items is {is_}, and not {says}", stacklevel=2)
                if fix:
                    set_one(run, key, is_)

    # -- its life

    def close(self) -> None:
        """Let go of the file; the next use opens it again."""
        self._items.close()

    def __getstate__(self) -> tuple[Any, ...]:
        return self._directory, self._timeout, type(self._disk), self._trust

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        directory, timeout, disk, trust = state
        self.__init__(directory, timeout, disk, trust=trust)  # type: ignore[misc]  # as diskcache's


def directory_of(directory: str | os.PathLike[str] | None) -> str:
    """The directory that an argument names.

    Raises:
        ConfigError: it is the URL of another medium.
    """
    if directory is None:
        return tempfile.mkdtemp(prefix="wellkept-")
    found = os.fsdecode(directory)
    if "://" in found or found == "memory:":
        raise ConfigError(
            f"a cache of diskcache's kind is a directory, which {found!r:.80} is not: order, tags and "
            "transactions are only there; use wellkept.store or wellkept.kv.cached on other media"
        )
    # Absolute, for a program that goes to another directory.
    return os.path.abspath(os.path.expandvars(Path(found).expanduser()))  # noqa: PTH100  text, as the rest


def tell_of_diskcache(place: Path, part: Path, how: str) -> None:
    """Warn that values are in a cache of diskcache, or a part of one, when it is first opened here."""
    if (part / "cache.db").exists() and not (part / "state.sqlite").exists():
        tell(
            f"{place} holds a cache of diskcache, whose pickles are not read here: {how} takes over what is "
            "in it"
        )


def size_of(size: int, filename: str | None) -> int:
    """About how many bytes an item has on the disk."""
    return int(_ROW * _FILL) + (size if filename else int(size * _FILL))


def expiry(now: float, expire: float | None) -> float | None:
    if expire is None:
        return None
    at = now + expire
    if at != at:
        raise ValueError(f"expire is a number of seconds, not {expire!r}")
    return at


def lives(expires: float | None, now: float) -> bool:
    return expires is None or expires > now


def answer(value: Any, row: Any, expire_time: bool, tag: bool) -> Any:
    """The value, with what else was asked for."""
    if not expire_time and not tag:
        return value
    also = (None, None) if row is None else (row[1], row[2])
    return (value, *(what for what, asked in zip(also, (expire_time, tag), strict=True) if asked))


def missed(error: OSError | DamagedValue, removes: bool = False) -> None:
    """Pass over an item that can't be read, and say so if it is damaged.

    Args:
        removes: it is removed then, and so has to be gone or damaged: else this raises the error.
    """
    if isinstance(error, DamagedValue):
        tell(f"an item of a cache counts as missing: {error}")
    elif removes and error.errno != errno.ENOENT:
        raise error


def queue(prefix: str | None, side: Side, fields: str) -> tuple[str, Any, Any]:
    """A query of one end of a queue, and the keys between which it is."""
    if side not in ("front", "back"):
        raise ValueError(f"side is 'front' or 'back', not {side!r:.80}")
    order = "ASC" if side == "front" else "DESC"
    ends: tuple[Any, Any] = (0, 10**15 - 1)
    if prefix is not None:
        ends = (f"{prefix}-{0:015d}", f"{prefix}-{10**15 - 1}")
    query = f"SELECT {fields} FROM Cache WHERE key > ? AND key < ? AND raw = 1 ORDER BY key {order} LIMIT 1"
    return query, *ends


def remove(run: Execute, gone: Gone, rows: Iterable[Any]) -> int:
    """Remove rows, by their numbers and files; how many they are."""
    count = 0
    for row in rows:
        run("DELETE FROM Cache WHERE rowid = ?", (row[0],))
        count += 1
        if row[1] is not None:
            gone(row[1])
    return count


def check_setting(key: str, value: Any) -> None:
    """Raise a `ConfigError` if there is no such setting, or it can't have that value."""
    if key == "eviction_policy":
        if value not in EVICTION_POLICY:
            raise ConfigError(f"{key} is {', '.join(EVICTION_POLICY)}, not {value!r:.80}")
    elif key in _NUMBERS:
        if not isinstance(value, int | float) or not value >= 0:
            raise ConfigError(f"{key} is a number, 0 or above, not {value!r:.80}")
    elif key not in DEFAULT_SETTINGS and not key.startswith("disk_"):
        raise ConfigError(f"a cache has no setting {key!r}; it has {', '.join(DEFAULT_SETTINGS)}")


def _set_all(run: Execute, _gone: object, settings: Mapping[str, Any]) -> None:
    for key, value in settings.items():
        set_one(run, key, value)
        if key == "eviction_policy" and (index := EVICTION_POLICY[value]["init"]) is not None:
            run(index)
        elif key == "tag_index":
            run(_TAGGED if value else "DROP INDEX IF EXISTS Cache_tag")


def size_now(run: Execute) -> int:
    """About how many bytes the items have."""
    return int(run("SELECT value FROM Settings WHERE key = 'size'").fetchone()[0])


def set_one(run: Execute, key: str, value: Any) -> None:
    """Write a setting, or a count, down."""
    run("INSERT OR REPLACE INTO Settings VALUES (?, ?)", (key, value))
