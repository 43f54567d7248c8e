"""The rows of a damaged SQLite file: its pages read one by one, what is broken left out.

SQLite gives up at the first broken page; this goes on with the next. It follows the trees from
their roots, so rows that were deleted do not come back; only where the way to a page is broken, the
page itself is enough. The format is published (https://www.sqlite.org/fileformat2.html). Nothing
here can tell a flipped bit inside a row: whoever reads the rows verifies them.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from wellkept.errors import StoreError
from wellkept.stores.filesystem import open_regular

__all__ = ["Pages", "Row"]

Row = tuple[int, tuple[Any, ...]]
"""The number of a row and its columns; text is bytes."""

_MAGIC = b"SQLite format 3\0"
_LEAF, _INTERIOR = 13, 5
_SIZES = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}  # serial type -> bytes of an integer


class BadPageError(Exception):
    """A page, or a cell of one, is not what it should be."""


class Pages:
    """The pages of a file and of the log beside it (`-wal`), up to the last whole transaction.

    Raises:
        StoreError: the file can't be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lost = 0
        """Pages that could not be read."""
        self._log: dict[int, int] = {}
        self._fd = self._log_fd = -1
        try:
            self._fd = open_regular(path)
            log = Path(f"{path}-wal")
            if log.is_file():
                self._log_fd = open_regular(log)
            self._begin()
        except OSError as error:
            self.close()
            raise StoreError(f"can't read {path}: {error}") from error

    def _begin(self) -> None:
        head = os.pread(self._fd, 100, 0)
        self._size, reserved = 4096, 0
        if self._log_fd >= 0:
            found = int.from_bytes(os.pread(self._log_fd, 32, 0)[8:12], "big")
            self._size = found if _is_page_size(found) else 4096
        if head.startswith(_MAGIC):
            found = int.from_bytes(head[16:18], "big")
            found = 65536 if found == 1 else found
            if _is_page_size(found):
                self._size, reserved = found, head[20]
        self._usable = self._size - reserved
        if self._log_fd >= 0:
            self._read_log()
        self.count = max((os.fstat(self._fd).st_size // self._size, *self._log))

    def _read_log(self) -> None:
        head = os.pread(self._log_fd, 32, 0)
        salts, at, pending = head[16:24], 32, {}
        while len(frame := os.pread(self._log_fd, 24, at)) == 24 and frame[8:16] == salts:
            number, commit = struct.unpack_from(">II", frame)
            pending[number] = at + 24
            if commit:
                self._log |= pending
                pending = {}
            at += 24 + self._size

    def __enter__(self) -> Pages:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        for fd in (self._fd, self._log_fd):
            if fd >= 0:
                os.close(fd)
        self._fd = self._log_fd = -1

    # -- trees ------------------------------------------------------------------------------------

    def roots(self) -> dict[str, int]:
        """Name of a table -> its root page, as far as the first page tells."""
        found = {}
        for _, row in self.rows(self.leaves(1, set())):
            if len(row) == 5 and row[0] == b"table" and type(row[3]) is int:
                found[bytes(row[1] or b"").decode(errors="replace")] = row[3]
        return found

    def leaves(self, root: int, seen: set[int]) -> list[int]:
        """The pages with the rows of a table, in order.

        Args:
            seen: pages that were met; added to.
        """
        todo, found = [root], []
        while todo:
            number = todo.pop()
            if number in seen or not 1 <= number <= self.count:
                self.lost += 1
                continue
            seen.add(number)
            try:
                page, at = self._page(number)
                if page[at] == _INTERIOR:
                    todo += reversed(self._children(page, at))
                elif page[at] == _LEAF:
                    found.append(number)
                else:
                    self.lost += 1
            except (BadPageError, OSError):
                self.lost += 1
        return found

    def strays(self, seen: set[int]) -> list[int]:
        """Pages with rows that no readable page leads to, and that are not free."""
        free = self._free()
        if free is None:
            return []  # any page may be one that was emptied long ago
        found = []
        for number in range(2, self.count + 1):
            if number not in seen and number not in free:
                try:
                    page, at = self._page(number)
                except (BadPageError, OSError):
                    continue
                if page[at] == _LEAF:
                    found.append(number)
        return found

    def rows(self, numbers: Iterable[int]) -> Iterator[Row]:
        """The rows on some pages."""
        for number in numbers:
            try:
                yield from self._cells(*self._page(number))
            except (BadPageError, OSError):
                self.lost += 1

    def _free(self) -> set[int] | None:
        try:
            head, _ = self._page(1)
        except (BadPageError, OSError):
            return None
        if not head.startswith(_MAGIC):
            return None
        number, total = struct.unpack_from(">II", head, 32)
        free: set[int] = set()
        while number:
            if number in free or number > self.count:
                return None
            free.add(number)
            try:
                page, _ = self._page(number)
            except (BadPageError, OSError):
                return None
            number, n = struct.unpack_from(">II", page)
            if n > self._usable // 4 - 2:
                return None
            free.update(struct.unpack_from(f">{n}I", page, 8))
        return free if len(free) == total else None

    # -- pages ------------------------------------------------------------------------------------

    def _page(self, number: int) -> tuple[bytes, int]:
        """A page, and where its header begins."""
        at = self._log.get(number)
        if at is None:
            page = os.pread(self._fd, self._size, (number - 1) * self._size)
        else:
            page = os.pread(self._log_fd, self._size, at)
        if len(page) != self._size:
            raise BadPageError
        return page, 100 if number == 1 else 0

    def _pointers(self, page: bytes, at: int, header: int) -> tuple[int, ...]:
        (n,) = struct.unpack_from(">H", page, at + 3)
        if at + header + 2 * n > self._usable:
            raise BadPageError
        return struct.unpack_from(f">{n}H", page, at + header)

    def _children(self, page: bytes, at: int) -> list[int]:
        pointers = self._pointers(page, at, 12)
        if any(pointer + 4 > self._usable for pointer in pointers):
            raise BadPageError
        children = [int.from_bytes(page[p : p + 4], "big") for p in pointers]
        return [*children, int.from_bytes(page[at + 8 : at + 12], "big")]

    def _cells(self, page: bytes, at: int) -> Iterator[Row]:
        for pointer in self._pointers(page, at, 8):
            try:
                size, start = _varint(page, pointer)
                rowid, start = _varint(page, start)
                rowid -= (rowid >> 63) << 64
                yield rowid, _record(self._payload(page, start, size))
            except (BadPageError, IndexError, struct.error):
                continue

    def _payload(self, page: bytes, at: int, size: int) -> bytes:
        most = self._usable - 35
        if size <= most:
            return page[at : at + size]
        least = (self._usable - 12) * 32 // 255 - 23
        local = least + (size - least) % (self._usable - 4)
        local = local if local <= most else least
        parts, left = [page[at : at + local]], size - local
        number = int.from_bytes(page[at + local : at + local + 4], "big")
        if left > self.count * self._usable:
            raise BadPageError
        while left > 0:
            if not 1 <= number <= self.count:
                raise BadPageError
            more, _ = self._page(number)
            number = int.from_bytes(more[:4], "big")
            parts.append(more[4 : 4 + min(left, self._usable - 4)])
            left -= len(parts[-1])
        return b"".join(parts)


def _is_page_size(size: int) -> bool:
    return 512 <= size <= 65536 and size & (size - 1) == 0


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for i in range(8):
        byte = data[at + i]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + i + 1
    return value << 8 | data[at + 8], at + 9


def _record(payload: bytes) -> tuple[Any, ...]:
    end, at = _varint(payload, 0)
    body = end
    row: list[Any] = []
    while at < end:
        if body > len(payload):
            raise BadPageError
        kind, at = _varint(payload, at)
        if kind in (0, 8, 9):
            row.append(None if kind == 0 else kind - 8)
        elif kind in _SIZES:
            size = _SIZES[kind]
            row.append(int.from_bytes(payload[body : body + size], "big", signed=True))
            body += size
        elif kind == 7:
            row.append(struct.unpack_from(">d", payload, body)[0])
            body += 8
        elif kind >= 12:
            size = (kind - 12) // 2
            row.append(payload[body : body + size])
            body += size
        else:
            raise BadPageError
    if body > len(payload):
        raise BadPageError
    return tuple(row)
