"""One HDF5 file as a medium, for file systems where inodes are scarce.

An item is a dataset of bytes: `calls/abcd…` is `/calls/ab/abcd…`, which every tool for HDF5 reads.
The library by itself leaves a file unusable when its writer is killed. Here it writes through a
journal, so a put has happened wholly or not at all.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import stat
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from wellkept.errors import ConfigError, StoreError, tell
from wellkept.records import Buffer
from wellkept.stores.base import check_key, check_prefix
from wellkept.stores.filesystem import on_network, refuse_irregular, refuse_untrusted
from wellkept.stores.journal import JournaledFile
from wellkept.stores.overlay import Change, read_at

__all__ = ["Hdf5"]

T = TypeVar("T")

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_FORMAT = ("v110", "v110")  # its metadata has checksums, and every HDF5 since 2016 reads it
_HEX = re.compile(r"[0-9a-f]{2}").match
_DAMAGE = (OSError, RuntimeError, KeyError, ValueError, TypeError)
_WASTE = 64 * 1024 * 1024  # bytes that may lie unused in a file
_FREED = "wellkept: bytes freed"


class Hdf5:
    """A file of items, shared by the processes of a host (of several, where flock reaches so far).

    Args:
        path: the file; made with mode 0600 by the first put, `<path>.journal` beside it.
        durable: an item survives a power cut once it is put.
        trust: take items from a file that others can write to.
        network: other hosts write to the file too; found out by default. See `Files`.

    Raises:
        ConfigError: h5py is not installed.
        UntrustedSource: others can write to the file, and it is not trusted.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        durable: bool = False,
        trust: bool = False,
        network: bool | None = None,
    ) -> None:
        try:
            import h5py
            import numpy
        except ImportError as error:
            raise ConfigError("HDF5 needs h5py: pip install 'wellkept[hdf5]'") from error
        self.path = Path(path).expanduser().absolute()
        self.durable, self.trust = durable, trust
        self.network = on_network(self.path.parent) if network is None else network
        beside = self.path.with_name(f"{self.path.name}.locks")
        self.lock_file = None if self.network else (beside, 0o600)
        """See `Files.lock_file`."""
        self._h5py, self._numpy = h5py, numpy
        self._file = JournaledFile(self.path, _end, durable=durable)
        self._opened: tuple[Any, Any] | None = None  # for reading, and as of when
        self._check_trust()
        _all.add(self)

    def _check_trust(self) -> None:
        if self.path.is_dir():
            raise StoreError(f"{self.path} is a directory; name a file")
        refuse_irregular(self.path)
        if (
            not self.trust
        ):  # its directory, where it could be replaced, and what is yet to be written
            for path in (self.path.parent, self.path, Path(self._file.beside)):
                with contextlib.suppress(FileNotFoundError):
                    refuse_untrusted(path)

    # -- the four verbs ---------------------------------------------------------------------------

    def get(self, key: str) -> bytes | None:
        check_key(key)
        return self._read(lambda h5, fd: self._content(h5, fd, key), None)

    def put(self, key: str, item: Buffer) -> None:
        self.put_many({key: item})

    def delete(self, key: str) -> None:
        self.delete_many([key])

    def keys(self, prefix: str = "") -> Iterator[str]:
        """The keys that begin with `prefix`, each once."""
        check_prefix(prefix)
        for room in self._names("/"):
            start = _room_key(room)
            rest = prefix[len(start) :] if prefix.startswith(start) else ""
            if not start.startswith(prefix) and not prefix.startswith(start):
                continue
            for shard in [_shard(rest)] if len(rest) > 1 else self._names(room):
                for leaf in self._names(f"{room}/{shard}"):
                    key = start + _PLAIN.get(leaf, leaf)
                    if key.startswith(prefix):
                        yield key

    def _names(self, group: str) -> list[str]:
        return self._read(lambda h5, fd: list(h5.get(group, ())), [])

    # -- abilities --------------------------------------------------------------------------------

    def create(self, key: str, item: Buffer) -> bool:
        """Keep the item if the key is absent; whether it was."""
        path, view = _path(check_key(key)), _view(item)
        if self._has([path]):
            return False

        def do(h5: Any) -> bool:
            if path in h5:
                return False
            self._add(h5, {path: view})
            return True

        return self._change(do)

    def replace(self, key: str, old: bytes, item: Buffer) -> bool:
        """Keep the item if exactly `old` is under the key; whether it was."""
        path, view = _path(check_key(key)), _view(item)
        if self.get(key) != old:
            return False

        def do(h5: Any) -> bool:
            found = h5.get(path)
            if found is None or found[()].tobytes() != old:
                return False
            self._add(h5, {path: view})
            return True

        return self._change(do)

    def get_many(self, keys: Iterable[str]) -> dict[str, bytes]:
        wanted = [check_key(key) for key in dict.fromkeys(keys)]

        def do(h5: Any, fd: int) -> dict[str, bytes]:
            found = ((key, self._content(h5, fd, key)) for key in wanted)
            return {key: item for key, item in found if item is not None}

        return self._read(do, {})

    def put_many(self, items: Mapping[str, Buffer]) -> None:
        """Keep each item: all of them, or none."""
        named = {_path(check_key(key)): _view(item) for key, item in items.items()}
        if named:
            self._change(lambda h5: self._add(h5, named))

    def delete_many(self, keys: Iterable[str]) -> None:
        paths = [_path(check_key(key)) for key in dict.fromkeys(keys)]
        if paths and self._has(paths) and self._change(lambda h5: self._remove(h5, paths)):
            self.compact()

    def compact(self) -> int:
        """Write the file anew without what was freed; how many bytes that was. Deleting does it
        by itself once half of a large file lies unused.
        """
        self._forget_handle()
        part = self.path.with_name(f"{self.path.name}.part")
        with self._file.replacing() as (fd, _):
            if fd < 0:
                return 0
            before = os.fstat(fd).st_size
            try:
                part.unlink(missing_ok=True)
                os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
                with (
                    self._open(Change(fd, _end(fd)), "r") as old,
                    self._h5py.File(part, "w", libver=_FORMAT, locking=False) as new,
                ):
                    for room in old:
                        old.copy(room, new)
                if self.durable:
                    _sync(part)
                part.chmod(stat.S_IMODE(os.fstat(fd).st_mode))
                part.replace(self.path)
            except (*_DAMAGE, MemoryError) as error:
                with contextlib.suppress(OSError):
                    part.unlink()
                raise StoreError(f"can't compact {self.path}: {error}") from error
            return before - self.path.stat().st_size

    # -- the file ---------------------------------------------------------------------------------

    def _content(self, h5: Any, fd: int, key: str) -> bytes | None:
        h5d = self._h5py.h5d
        try:
            found = h5d.open(h5.id, _path(key).encode())
        except (KeyError, TypeError, ValueError):  # also what is there but no dataset
            return None
        at = found.get_offset()
        if at is None:  # empty, or laid out anew by another tool
            return bytes(self._h5py.Dataset(found)[()].tobytes())
        size = found.get_storage_size()
        content = read_at(fd, size, at)  # the library would copy it once more
        return content if len(content) == size else None

    def _add(self, h5: Any, items: dict[str, memoryview]) -> None:
        # First all that is new, then away with what it replaces: or the library would write into
        # what was just freed, and all of that would have to go through the journal.
        for path, item in items.items():
            data = self._numpy.frombuffer(item, "u1") if len(item) else ()
            name = f"{path}~" if path in h5 else path
            h5.create_dataset(name, data=data, dtype="u1")
        replaced = [path for path in items if f"{path}~" in h5]
        self._remove(h5, replaced)
        for path in replaced:
            h5.move(f"{path}~", path)

    def _remove(self, h5: Any, paths: list[str]) -> bool:
        """Whether so much lies unused now that the file should be written anew."""
        freed = 0
        for path in paths:
            if (found := h5.get(path)) is not None:
                freed += found.id.get_storage_size()
            if path in h5:
                del h5[path]
        if freed:
            freed += int(h5.attrs.get(_FREED, 0))
            h5.attrs[_FREED] = freed
        return freed > max(_WASTE, int(h5.id.get_filesize()) // 2)

    def _has(self, paths: list[str]) -> bool:
        return bool(self._read(lambda h5, fd: any(path in h5 for path in paths), False))

    def _read(self, do: Callable[[Any, int], T], none: T) -> T:
        """What `do` finds in the file; `none` where there is no file."""
        with self._file.reading() as (fd, generation):
            if fd < 0 or (end := _end(fd)) == 0:
                return none
            damage: BaseException
            for _ in range(2):  # before it is called damaged: once more, opened anew
                try:
                    return do(self._handle(fd, end, generation), fd)
                except _DAMAGE as error:
                    damage = error
                self._forget_handle()
        if isinstance(damage, OSError) and damage.errno:
            raise StoreError(f"can't read {self.path}: {damage}") from damage
        self._set_aside(damage, generation)
        return none

    def _handle(self, fd: int, end: int, generation: int) -> Any:
        found = os.fstat(fd)
        now = (os.getpid(), generation, found.st_dev, found.st_ino, end)
        if self._opened is None or self._opened[1] != now:
            self._forget_handle()
            self._opened = self._open(Change(fd, end), "r"), now
        return self._opened[0]

    def _change(self, do: Callable[[Any], T]) -> T:
        damage: BaseException
        for _ in range(2):
            with self._file.reading() as (_, generation):
                self._forget_handle()
            try:
                with self._file.changing() as change:
                    mode = "r+" if change.size else "w"
                    with self._open(change, mode, libver=_FORMAT) as h5:
                        return do(h5)
            except _DAMAGE as error:
                damage = error
            self._set_aside(damage, generation)
        raise StoreError(f"can't write {self.path}: {damage}") from damage

    def _set_aside(self, error: BaseException, generation: int) -> None:
        """A damaged file must not stop anybody's work: another one is begun."""
        aside = f"{self.path}.damaged-{time.strftime('%Y%m%d-%H%M%S')}-{os.urandom(2).hex()}"
        with self._file.replacing() as (fd, now):
            if fd < 0 or now != generation:
                return  # somebody was faster
            self._forget_handle()
            try:
                self.path.rename(aside)
            except OSError as failure:
                raise StoreError(f"can't set the damaged {self.path} aside: {failure}") from failure
        tell(f"{self.path} is damaged ({error}); it is now {aside}, and a new one is begun")

    def _open(self, change: Change, mode: str, **options: Any) -> Any:
        try:
            return self._h5py.File(change, mode, **options)
        except _DAMAGE as error:
            damage = str(error)
        # Not from within: the error's frames hold what the library would let go of at the exit,
        # by a call into a Python that has ended.
        raise RuntimeError(damage)

    def _forget_handle(self) -> None:
        """Close it; call this while no other thread can be reading."""
        if self._opened is not None:
            handle, self._opened = self._opened[0], None
            with contextlib.suppress(*_DAMAGE):
                handle.close()

    # -- elsewhere --------------------------------------------------------------------------------

    def close(self) -> None:
        """Let go of the file; the next use opens it again."""
        with self._file.turn:
            self._forget_handle()
            self._file.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (self.path, self.durable, self.trust, self.network)

    def __repr__(self) -> str:
        return f"Hdf5({str(self.path)!r})"


def _again(path: Path, durable: bool, trust: bool, network: bool) -> Hdf5:
    return Hdf5(path, durable=durable, trust=trust, network=network)


def _end(fd: int) -> int:
    """Where a file's content ends by its superblock (version 2 or 3, section II.A of the format)."""
    size, head = os.fstat(fd).st_size, os.pread(fd, 48, 0)
    if not head.strip(b"\0"):
        return 0  # begun by a writer that died
    if head[:8] == _SIGNATURE and len(head) == 48 and head[8] in (2, 3) and head[9] == 8:
        return min(size, int.from_bytes(head[28:36], "little"))
    return size


def _view(item: Buffer) -> memoryview:
    return memoryview(item).cast("B")


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


# Names that HDF5 does not have, or that would be taken for others; no key has a tilde or a colon.
_CODED = {"": "~e", ".": "~d"}
_PLAIN = {coded: name for name, coded in _CODED.items()}
_NO_ROOM = "~"


def _path(key: str) -> str:
    room, slash, leaf = key.rpartition("/")
    group = _CODED.get(room, room).replace("/", ":") if slash else _NO_ROOM
    return f"{group}/{_shard(leaf)}/{_CODED.get(leaf, leaf)}"


def _room_key(group: str) -> str:
    """What the keys in a group begin with."""
    return "" if group == _NO_ROOM else _PLAIN.get(group, group).replace(":", "/") + "/"


def _shard(leaf: str) -> str:
    return leaf[:2] if _HEX(leaf) else "~"


_all: weakref.WeakSet[Hdf5] = weakref.WeakSet()


def _after_fork() -> None:
    for store in list(_all):
        store._file.forget()


def _at_exit() -> None:
    # The library would ask for a file's bytes when Python can't give them any more.
    for store in list(_all):
        store._forget_handle()


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
