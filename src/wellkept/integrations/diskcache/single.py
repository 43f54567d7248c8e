"""diskcache's `Cache`, on a directory of wellkept."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

from wellkept.errors import DamagedValue
from wellkept.integrations.diskcache.disks import ENOVAL, UNKNOWN
from wellkept.integrations.diskcache.item_table import (
    BATCH,
    EVICTION_POLICY,
    EXPIRED,
    FIELDS,
    FOUND,
    HELD,
    ItemTable,
    Side,
    answer,
    expiry,
    lives,
    missed,
    queue,
    remove,
)
from wellkept.kv.ordered_items import Execute, Gone, Timeout


class Cache(ItemTable):
    """Keys and values in a directory, for all its processes, as diskcache's `Cache` has them.

    Args:
        directory: made when needed; None: a temporary one, which stays.
        timeout: seconds to wait for others that write.
        disk: the class that lays keys and values out.
        trust: take values from a directory that others can write to; what they put there may run code.
        settings: any of `DEFAULT_SETTINGS`, and what the disk's class takes, as `disk_…`. What is not given
            stays as the directory has it.

    Raises:
        ConfigError: an argument or a setting is wrong.
        UntrustedSource: others can write to the directory, and it is not trusted.
        OSError: the directory can't be made.
        StoreError: it can't be used.
    """

    # -- items ------------------------------------------------------------------------------------

    def set(
        self,
        key: Any,
        value: Any,
        expire: float | None = None,
        read: bool = False,
        tag: Any = None,
        retry: bool = False,
    ) -> bool:
        """Set an item; True.

        Args:
            expire: seconds after which it is gone; None: it stays.
            read: the value is a file open for reading, whose bytes are the value.
            tag: text, bytes or a number, for `evict`.
            retry: wait for others that write for as long as it takes.

        Raises:
            Timeout: others were writing for longer than the timeout.
            EncodeError: the key or the value can't be encoded.
        """
        return self._stored((self._put, False), key, value, expire, read, tag, retry) is not None

    def __setitem__(self, key: Any, value: Any) -> None:
        self.set(key, value, retry=True)

    def add(
        self,
        key: Any,
        value: Any,
        expire: float | None = None,
        read: bool = False,
        tag: Any = None,
        retry: bool = False,
    ) -> bool:
        """Set an item if there is none, atomically; whether there was none. Args and errors as of `set`."""
        return self._stored((self._put, True), key, value, expire, read, tag, retry) is not None

    def push(
        self,
        value: Any,
        prefix: str | None = None,
        side: Side = "back",
        expire: float | None = None,
        read: bool = False,
        tag: Any = None,
        retry: bool = False,
    ) -> Any:
        """Put a value at an end of a queue; its key: a number, or a prefix, a dash and a number.

        Args:
            prefix: which queue.
            side: `"back"` or `"front"`.
            expire, read, tag, retry: as of `set`.
        """
        find = queue(prefix, side, "key")
        how = self._pushed, prefix, side, find
        return self._stored(how, UNKNOWN, value, expire, read, tag, retry, (None, True, None))

    def incr(
        self, key: Any, delta: float = 1, default: float | None = 0, retry: bool = False
    ) -> Any:
        """Add to a number, atomically; the sum.

        Args:
            default: what a number that is not there counts as.

        Raises:
            KeyError: it is not there, and `default` is None.
            TypeError: the item is no number.
            Timeout: others were writing for longer than the timeout.
        """
        return self._items.write(retry, self._incr, self._where(key), key, delta, default)

    def decr(
        self, key: Any, delta: float = 1, default: float | None = 0, retry: bool = False
    ) -> Any:
        """Subtract from a number, atomically; the difference. Args and errors as of `incr`."""
        return self.incr(key, -delta, default, retry)

    def touch(self, key: Any, expire: float | None = None, retry: bool = False) -> bool:
        """Let an item expire so many seconds from now, or with None never; whether it is there."""
        now = time.time()
        db_key, raw = self._disk.put(key)

        def touched(run: Execute, _gone: object) -> bool:
            held = run(HELD[raw], (db_key,)).fetchone()
            if held is None or not lives(held[2], now):
                return False
            run("UPDATE Cache SET expire_time = ? WHERE rowid = ?", (expiry(now, expire), held[0]))
            return True

        return self._items.write(retry, touched)

    def get(
        self,
        key: Any,
        default: Any = None,
        read: bool = False,
        expire_time: bool = False,
        tag: bool = False,
        retry: bool = False,
    ) -> Any:
        """An item's value, or `default`.

        Args:
            read: of a value that is the bytes of a file, that file, open for reading.
            expire_time, tag: a tuple, in which the time stands at which it expires, and its tag.
            retry: wait for others that write for as long as it takes; a read waits only where it is
                counted, or changes which item goes first.

        Raises:
            DecodeError: the value can't be decoded here, such as for a class that is gone.
        """
        db_key, raw = self._disk.put(key)
        if self.statistics or EVICTION_POLICY[self.eviction_policy]["get"]:
            row = self._items.write(retry, self._used, db_key, raw)
        else:
            row = self._items.row(FOUND[raw], db_key)
            if row is not None and not lives(row[1], time.time()):
                row = None
        if row is not None:
            try:
                value = self._disk.fetch(row[3], row[4], row[5], read)
            except (OSError, DamagedValue) as error:
                missed(error)
            else:
                return answer(value, row, expire_time, tag)
        return answer(default, None, expire_time, tag)

    def __getitem__(self, key: Any) -> Any:
        value = self.get(key, ENOVAL, retry=True)
        if value is ENOVAL:
            raise KeyError(key)
        return value

    def read(self, key: Any, retry: bool = False) -> Any:
        """An item's file, open for reading.

        Raises:
            KeyError: it is not there.
        """
        handle = self.get(key, ENOVAL, read=True, retry=retry)
        if handle is ENOVAL:
            raise KeyError(key)
        return handle

    def __contains__(self, key: Any) -> bool:
        db_key, raw = self._disk.put(key)
        row = self._items.row(HELD[raw], db_key)
        return row is not None and lives(row[2], time.time())

    def pop(
        self,
        key: Any,
        default: Any = None,
        expire_time: bool = False,
        tag: bool = False,
        retry: bool = False,
    ) -> Any:
        """An item's value, removing it, or `default`; atomically. Args as of `get`."""
        db_key, raw = self._disk.put(key)
        now = time.time()

        def popped(run: Execute, gone: Gone) -> Any:
            row = run(FOUND[raw], (db_key,)).fetchone()
            if row is None or not lives(row[1], now):
                return default, None
            value = self._taken(run, gone, row)
            return (default, None) if value is ENOVAL else (value, row)

        found, row = self._items.write(retry, popped)
        return answer(found, row, expire_time, tag)

    def __delitem__(self, key: Any, retry: bool = True) -> None:
        if not self.delete(key, retry):
            raise KeyError(key)

    def delete(self, key: Any, retry: bool = False) -> bool:
        """Remove an item; whether it was there."""
        now = time.time()
        db_key, raw = self._disk.put(key)

        def deleted(run: Execute, gone: Gone) -> bool:
            held = run(HELD[raw], (db_key,)).fetchone()
            if held is None or not lives(held[2], now):
                return False
            remove(run, gone, [held])
            return True

        return self._items.write(retry, deleted)

    # -- ends -------------------------------------------------------------------------------------

    def pull(
        self,
        prefix: str | None = None,
        default: Any = (None, None),
        side: Side = "front",
        expire_time: bool = False,
        tag: bool = False,
        retry: bool = False,
    ) -> Any:
        """Key and value at an end of a queue, removing them, or `default`; atomically.

        Args:
            prefix: which queue.
            side: `"front"` or `"back"`.
            expire_time, tag, retry: as of `get`.
        """
        query, *ends = queue(prefix, side, f"{FIELDS}, key")

        def pulled(run: Execute, gone: Gone) -> Any:
            while (row := run(query, ends).fetchone()) is not None:
                if not lives(row[1], time.time()):
                    remove(run, gone, [(row[0], row[4])])
                elif (value := self._taken(run, gone, row)) is not ENOVAL:
                    return (row[6], value), row
            return default, None

        found, row = self._items.write(retry, pulled)
        return answer(found, row, expire_time, tag)

    def peek(
        self,
        prefix: str | None = None,
        default: Any = (None, None),
        side: Side = "front",
        expire_time: bool = False,
        tag: bool = False,
        retry: bool = False,
    ) -> Any:
        """Key and value at an end of a queue, or `default`; they stay, and what has expired before them
        is removed. Args as of `pull`."""
        found = self._end(queue(prefix, side, f"{FIELDS}, key"), retry)
        if found is None:
            return answer(default, None, expire_time, tag)
        row, value = found
        return answer((row[6], value), row, expire_time, tag)

    def peekitem(
        self, last: bool = True, expire_time: bool = False, tag: bool = False, retry: bool = False
    ) -> Any:
        """Key and value of the last item, or the first, in the order in which they were inserted; they
        stay, and what has expired behind it is removed.

        Raises:
            KeyError: there is none.
        """
        order = "DESC" if last else "ASC"
        query = f"SELECT {FIELDS}, key, raw, given FROM Cache ORDER BY rowid {order} LIMIT 1"
        found = self._end((query,), retry)
        if found is None:
            raise KeyError("dictionary is empty")
        row, value = found
        return answer((self._key(*row[6:]), value), row, expire_time, tag)

    # -- all of them ------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Any]:
        """The keys in the order in which they were inserted, of what has expired too."""
        return self._each("ASC")

    def __reversed__(self) -> Iterator[Any]:
        return self._each("DESC")

    def _each(self, order: str) -> Iterator[Any]:
        ((newest,),) = self._items.rows("SELECT max(rowid) FROM Cache")
        return self._keys(order, newest or 0)

    def iterkeys(self, reverse: bool = False) -> Iterator[Any]:
        """The keys in SQLite's order: numbers, text, bytes; of what has expired too."""
        order, beyond = ("DESC", "<") if reverse else ("ASC", ">")
        where, after = "", ()
        while True:
            query = (
                f"SELECT key, raw, given FROM Cache {where} "
                f"ORDER BY key {order}, raw {order} LIMIT {BATCH}"
            )
            rows = self._items.rows(query, *after)
            if not rows:
                return
            for row in rows:
                yield self._key(*row)
            where, after = f"WHERE (key, raw) {beyond} (?, ?)", rows[-1][:2]

    def __len__(self) -> int:
        """How many items there are, with what has expired and is not removed yet."""
        return int(self.reset("count"))

    def volume(self) -> int:
        """About how many bytes the items have."""
        return int(self.reset("size"))

    def expire(self, now: float | None = None, retry: bool = False) -> int:
        """Remove what has expired; how many they were.

        Raises:
            Timeout: its argument is how many were removed before.
        """
        return self._removed(retry, EXPIRED, time.time() if now is None else now)

    def evict(self, tag: Any, retry: bool = False) -> int:
        """Remove the items with a tag; how many they were. Raises as `expire`."""
        return self._removed(retry, "SELECT rowid, filename FROM Cache WHERE tag = ? LIMIT ?", tag)

    def clear(self, retry: bool = False) -> int:
        """Remove all items; how many they were. Raises as `expire`."""
        return self._removed(retry, "SELECT rowid, filename FROM Cache ORDER BY rowid LIMIT ?")

    def cull(self, retry: bool = False) -> int:
        """Remove what has expired, and then what goes first until the size is within its limit; how many
        they were. Raises as `expire`."""
        now = time.time()
        count = self.expire(now, retry)
        first = EVICTION_POLICY[self.eviction_policy]["cull"]
        if first is None:
            return count
        query = first.format(fields="rowid, filename", now=now)
        try:
            return count + self._removed(retry, query, over=True)
        except Timeout as timeout:
            raise Timeout(count + timeout.args[0]) from None

    def stats(self, enable: bool = True, reset: bool = False) -> tuple[int, int]:
        """How many reads were hits, and how many misses, while that was counted.

        Args:
            enable: count from now on, for all who open the directory later; a read is a write then.
            reset: begin at 0.
        """
        found = (self.reset("hits"), self.reset("misses"))
        if reset:
            self.reset("hits", 0)
            self.reset("misses", 0)
        self.reset("statistics", int(enable))
        return found

    def transact(self, retry: bool = False) -> AbstractContextManager[None]:
        """Return a block that is one transaction: others wait to write and read what was before, and an
        error undoes all of it. Blocks may stand in blocks, in one thread.

        Args:
            retry: wait for others that write for as long as it takes; otherwise for the timeout.

        Raises:
            Timeout: others were writing for longer than the timeout.
        """
        return self._items.transact(retry)

    def check(self, fix: bool = False, retry: bool = False) -> list[warnings.WarningMessage]:
        """Warnings of what is not as it should be: damage, files without items, items without files.

        Args:
            fix: make it right: what can't be read is removed.
        """
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            for (text,) in self._items.rows("PRAGMA integrity_check"):
                if text != "ok":
                    warnings.warn(text, stacklevel=2)
            self._items.write(retry, self._check, fix)
        return found
