"""A byte store of files: each item is a file with exactly its bytes, written once and moved into place whole.

The part of a key before its last `/` names a directory (with `,` for `/`), and the file is in a shard named by
the first two characters of the rest: `blobs/abcd…` is `<root>/blobs/ab/abcd…`.

Items do not rely on locks, but on rename and link, which are atomic on NFS too. There is no compare-and-set, as
files have none. (A lock file that can be taken over does not give one either: its owner may wake up after the
takeover, and write.)
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from wellkept._system import (
    POSIX,
    SEALED,
    is_reserved,
    pread,
    replace,
    sync_directory,
    unlink,
)
from wellkept.errors import ConfigError, StoreError
from wellkept.records import Buffer
from wellkept.stores.base import check_key, check_prefix
from wellkept.stores.filesystem import (
    CACHE_TAG,
    Parts,
    map_file,
    on_network,
    open_regular,
    refuse_untrusted,
)
from wellkept.stores.openers import checked_path

__all__ = ["Files"]

_CHUNK = 1024 * 1024
# Attempts to read a file on NFS that another host replaces again and again.
_STALE = 5


class Files:
    """A directory that holds items, for as many processes and hosts as see it.

    Args:
        root: the directory; made with mode 0700 if it is missing. Files in it have its mode.
        durable: whether an item survives a power cut once it is put (fsync of it and its directory).
        trust: whether to accept a directory that others can write to.
        network: whether other hosts write to the directory too, so that leases are records among its items and
            not locks; found out by default. (Set it if this host exports the directory.)

    Raises:
        UntrustedSource: others can write to the directory, and it is not trusted.
        StoreError: the directory can't be made or read.
    """

    durable: bool
    trust: bool

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        durable: bool = False,
        trust: bool = False,
        network: bool | None = None,
    ) -> None:
        self.root: Path = checked_path(root)
        self.durable, self.trust = durable, trust
        self._root = str(self.root)
        self._mode = 0o700
        self._prepare()
        self.network: bool = on_network(self.root) if network is None else network
        self._parts = Parts(self.root / ".tmp", self._mode & 0o444 | SEALED, durable=durable)
        self.lock_file: tuple[Path, int] | None = (
            None if self.network else (self.root / ".locks", self._mode & 0o666)
        )
        """The file whose byte ranges are locked, and its mode; None if they can't be, or other hosts see it."""
        # A file system that ignores case finds CACHEDIR.TAG by this name, and would take two keys for one file.
        self._one_case = (self.root / "cachedir.tag").exists()
        self._parts.sweep()

    def _prepare(self) -> None:
        try:
            if not self.root.is_dir():
                self.root.mkdir(parents=True, exist_ok=True)
                self.root.chmod(0o700)
            # The group's bit too (02000): in a directory that a group shares, new files must belong to the
            # group.
            self._mode = stat.S_IMODE(self.root.stat().st_mode) & 0o2777
            if not self.trust:
                refuse_untrusted(self.root)
            if os.access(self.root, os.W_OK):
                self._directory(self.root / ".tmp")
                tag = self.root / "CACHEDIR.TAG"
                if not tag.exists():
                    tag.write_text(CACHE_TAG, "ascii")
        except OSError as error:
            raise StoreError(f"can't use {self.root} as a store: {error}") from error

    # -- names ------------------------------------------------------------------------------------

    def _path(self, key: str) -> str:
        check_key(key)
        if self._one_case and key != key.lower():
            raise ConfigError(
                f"can't keep {key!r}: the file system of {self.root} ignores the case of letters"
            )
        room, _, name = key.rpartition("/")
        if not POSIX and (name[-1:] == "." or room[-1:] == "."):
            raise ConfigError(
                f"can't keep {key!r}: Windows leaves out the dot at the end of a name"
            )
        name = _plain(name)
        # A `Path` would cost as much as opening the file.
        return f"{self._root}/{_room(room)}/{name[:2]}/{name}"

    def path(self, key: str) -> Path | None:
        """Return the file of an item, or None. It is never changed in place, and must not be by others."""
        path = Path(self._path(key))
        try:
            return path if path.is_file() else None
        except OSError as error:
            raise self._failed("read", path, error) from error

    # -- reading ----------------------------------------------------------------------------------

    def get(self, key: str) -> bytes | None:
        found = self._open(key, _read)
        return None if found is None else bytes(found)

    def map(self, key: str) -> Buffer | None:
        """Return the item as a copy-on-write mapping: it costs no read, and changing it changes no file."""
        found = self.map_stamped(key)
        return None if found is None else found[0]

    def map_stamped(self, key: str) -> tuple[Buffer, Hashable] | None:
        """Return the item as `map` does, and a stamp that changes whenever the file does."""
        found: tuple[Buffer, Hashable] | None = self._open(key, _map)
        return found

    def _open(self, key: str, take: Any) -> Any:
        path = self._path(key)
        for attempt in range(_STALE):
            try:
                fd = open_regular(path)
                try:
                    return take(fd, os.fstat(fd))
                finally:
                    os.close(fd)
            except FileNotFoundError:
                return None
            except OSError as error:
                # On NFS, a file that another host replaces is gone even for a process that has it open.
                if error.errno != errno.ESTALE or attempt == _STALE - 1:
                    raise self._failed("read", path, error) from error
        return None

    def get_many(self, keys: Iterable[str]) -> dict[str, bytes]:
        found = ((key, self.get(key)) for key in dict.fromkeys(keys))
        return {key: item for key, item in found if item is not None}

    def keys(self, prefix: str = "") -> Iterator[str]:
        check_prefix(prefix)
        for room in self._names(self._root):
            before = _decoded(room)
            before = f"{before}/" if before else ""
            if before.startswith(prefix):
                rest = ""
            elif prefix.startswith(before) and "/" not in prefix[len(before) :]:
                rest = prefix[len(before) :]
            else:
                continue
            wanted = _plain(rest) if rest else ""
            for shard in self._names(f"{self._root}/{room}"):
                if shard[: len(wanted)] == wanted[:2]:
                    for name in self._names(f"{self._root}/{room}/{shard}"):
                        if name.startswith(wanted):
                            yield before + _decoded(name)

    def _names(self, directory: str) -> list[str]:
        """Return the names in a directory, read whole before any is used, as the directory may change."""
        try:
            return [path.name for path in Path(directory).iterdir() if path.name[0] != "."]
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise self._failed("list", directory, error) from error

    # -- writing ----------------------------------------------------------------------------------

    def put(self, key: str, item: Buffer) -> None:
        """Keep the item. An equal one is left as it is, but for the time of its file."""
        # On NFS, replacing a file would break the mapping of a reader on another host.
        path, view = Path(self._path(key)), memoryview(item).cast("B")
        try:
            if self._same(path, view):
                return
            with self._parts.writing(view) as part:
                self._into(path, lambda: replace(part, path))
        except OSError as error:
            raise self._failed(f"write {view.nbytes:,} bytes to", path, error) from error

    def create(self, key: str, item: Buffer) -> bool:
        """Keep the item if the key is absent; return whether it was.

        Raises:
            StoreError: it can't be written, or the file system has no hard links.
        """
        # A link fails if the name exists, and the file has all its content by then. O_EXCL would make an empty
        # file first, which a reader could see.
        path, view = Path(self._path(key)), memoryview(item).cast("B")
        try:
            if path.exists():
                return False
            with self._parts.writing(view) as part:
                return bool(self._into(path, lambda: _link(part, path)))
        except OSError as error:
            raise self._failed(f"create, with {view.nbytes:,} bytes,", path, error) from error

    def _into(self, path: Path, move: Callable[[], object]) -> object:
        shard = path.parent
        try:
            done = move()
        except FileNotFoundError:
            self._directory(shard.parent)
            self._directory(shard)
            done = move()
        if self.durable:
            sync_directory(shard)
        return done

    def _directory(self, path: Path) -> None:
        try:
            path.mkdir(self._mode)
        except FileExistsError:
            return
        # The umask may be stricter than the root's mode.
        path.chmod(self._mode)
        if self.durable:
            sync_directory(path.parent)

    def _same(self, path: Path, view: memoryview) -> bool:
        """Return whether the file holds this already; its time is then set to now."""
        # A garbage collection spares young items, and this one is about to be referenced.
        try:
            if path.stat().st_size != view.nbytes:
                return False
            with os.fdopen(open_regular(path), "rb", 0) as file:
                at = 0
                while at < view.nbytes:
                    part = file.read(_CHUNK)
                    # As bytes, since comparing views goes element by element.
                    if not part or part != bytes(view[at : at + len(part)]):
                        return False
                    at += len(part)
            # Only its owner may set a file's time.
            with contextlib.suppress(PermissionError):
                os.utime(path)
        except FileNotFoundError:
            return False
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
            return False
        return True

    def put_many(self, items: Mapping[str, Buffer]) -> None:
        """Keep each item; each is there whole or not at all."""
        for key, item in items.items():
            self.put(key, item)

    def delete(self, key: str) -> None:
        path = Path(self._path(key))
        try:
            unlink(path)
            if self.durable:
                sync_directory(path.parent)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise self._failed("delete", path, error) from error

    def delete_many(self, keys: Iterable[str]) -> None:
        for key in list(keys):
            self.delete(key)

    def _failed(self, what: str, path: object, error: OSError) -> StoreError:
        return StoreError(f"can't {what} {path}: {error.strerror or error}")

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self._root, self.durable, self.trust, self.network)


def _reopen(root: str, durable: bool, trust: bool, network: bool) -> Files:
    return Files(root, durable=durable, trust=trust, network=network)


def _plain(part: str) -> str:
    """Return a part of a key as the name of a file, which is neither hidden nor empty."""
    return f",{part}" if part[:1] in ("", ".") or is_reserved(part) else part


def _room(part: str) -> str:
    """Return the part of a key before its last `/` as the name of a directory other than the tag's."""
    return ",CACHEDIR.TAG" if part == "CACHEDIR.TAG" else _plain(part.replace("/", ","))


def _decoded(name: str) -> str:
    return name.removeprefix(",").replace(",", "/")


def _read(fd: int, file: os.stat_result) -> bytes | bytearray:
    size = file.st_size
    content = os.read(fd, size) if size else b""
    if len(content) == size:
        return content
    # Linux reads at most 2 GiB at once.
    whole = bytearray(content)
    while len(whole) < size and (part := pread(fd, _CHUNK, len(whole))):
        whole += part
    return whole


def _map(fd: int, file: os.stat_result) -> tuple[Buffer, Hashable]:
    stamp = (file.st_dev, file.st_ino, file.st_size, file.st_mtime_ns)
    if file.st_size:
        with contextlib.suppress(OSError, ValueError):
            return memoryview(map_file(fd, file.st_size, False)), stamp
    return bytearray(_read(fd, file)), stamp


def _link(part: Path, path: Path) -> bool:
    try:
        path.hardlink_to(part)
    except OSError as error:
        # Over NFS a link may succeed while its reply is lost, and the repeated request then fails: the count of
        # links tells (see O_EXCL in open(2)).
        if part.stat().st_nlink == 2:
            return True
        if isinstance(error, FileExistsError):
            return False
        if error.errno in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
            raise OSError(error.errno, "the file system has no hard links") from error
        raise
    return True
