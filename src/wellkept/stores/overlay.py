"""A file as it will be: what overwrites it is gathered in memory, what is behind its end is written.

It is what a library that writes files is given in a file's place; `journal` makes the change.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from typing import Any

__all__ = ["PAGE", "Change", "read_at", "write_at"]

PAGE = 4096
_ONCE = 1 << 30  # systems read and write less than 2 GiB at once


class Change(io.RawIOBase):
    """The file as it will be: what a library that writes files is given in its place."""

    failure: OSError | None = None
    """What the system answered; a library may have swallowed it."""
    dead = False
    """The change will not be made: whatever is still written is of no account."""

    def __init__(self, fd: int, base: int) -> None:
        super().__init__()
        self._fd, self.base, self.size = fd, base, base
        self._at = 0
        # The head is never written to directly, not even the first time: it says what there is.
        self._cut = max(base, PAGE)
        self._pages: dict[int, bytearray] = {}

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.size}[whence]
        self._at = start + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        wanted = max(0, min(view.nbytes, self.size - self._at))
        found = read_at(self._fd, wanted, self._at)
        view[:wanted] = found.ljust(wanted, b"\0")
        for page in range(self._at // PAGE * PAGE, min(self._at + wanted, self._cut), PAGE):
            if (content := self._pages.get(page)) is not None:
                start, stop = max(page, self._at), min(page + len(content), self._at + wanted)
                if start < stop:
                    view[start - self._at : stop - self._at] = content[start - page : stop - page]
        self._at += wanted
        return wanted

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        if not self.dead:
            try:
                self._write(view)
            except OSError as error:
                self.failure, self.dead = OSError(*error.args), True
                raise
        self._at += view.nbytes
        self.size = max(self.size, self._at)
        return view.nbytes

    def _write(self, view: memoryview) -> None:
        at, done = self._at, 0
        while done < view.nbytes and at + done < self._cut:
            page = (at + done) // PAGE * PAGE
            content = self._pages.get(page)
            if content is None:
                length = min(PAGE, self._cut - page)
                content = bytearray(os.pread(self._fd, length, page).ljust(length, b"\0"))
                self._pages[page] = content
            start = at + done - page
            n = min(view.nbytes - done, len(content) - start)
            content[start : start + n] = view[done : done + n]
            done += n
        write_at(self._fd, view[done:], at + done)

    def truncate(self, size: int | None = None) -> int:
        size = self._at if size is None else size
        self.size = size
        return size

    def gathered(self) -> Iterator[tuple[int, bytes]]:
        """What is overwritten by something else: offsets and bytes."""
        for page, content in self._pages.items():
            new = bytes(content[: max(0, self.size - page)])
            if new != os.pread(self._fd, len(new), page):
                yield page, new


def write_at(fd: int, content: Any, at: int) -> None:
    """Write all of it."""
    view, done = memoryview(content), 0
    while done < view.nbytes:
        done += os.pwrite(fd, view[done : done + _ONCE], at + done)


def read_at(fd: int, size: int, at: int) -> bytes:
    """Up to `size` bytes; fewer where the file ends."""
    found = os.pread(fd, min(size, _ONCE), at)
    if len(found) == size or not found:
        return found
    parts = [found]
    while found and (missing := size - sum(map(len, parts))):
        found = os.pread(fd, min(missing, _ONCE), at + size - missing)
        parts.append(found)
    return b"".join(parts)
