"""Directories and files of a store: ownership, file systems, temporary files, mappings."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import mmap
import os
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wellkept._process import is_left, part_name
from wellkept._system import (
    NONBLOCK,
    PLAIN,
    POSIX,
    device_number,
    locked,
    maps,
    owner,
    pread,
    preadv,
    set_mode,
    unlink,
)
from wellkept.errors import StoreError, UntrustedSource
from wellkept.hashing import address


def refuse_untrusted(path: Path) -> None:
    """Refuse a file or directory that others can write to, as an SSH client does with its keys.

    Raises:
        UntrustedSource: others can write to it.
        OSError: there is no such file.
    """
    if (user := owner()) is None:
        return
    found = path.stat()
    mode = stat.S_IMODE(found.st_mode)
    if mode & 0o022 or found.st_uid not in (user, 0):
        raise UntrustedSource(
            f"others can write to {path} (mode {mode:04o}, owner {found.st_uid}), and kept values "
            "can run code: `chmod go-w` it, or open it with trust=True"
        )


def private_file(path: Path, trust: bool) -> None:
    """Make an empty file, and its directory, that others can't write to, unless it exists.

    Raises:
        UntrustedSource: others can write to either, and they are not trusted.
        StoreError: the file can't be made.
    """
    backend = path.parent
    try:
        if not backend.is_dir():
            backend.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists() and os.access(backend, os.W_OK):
            # Linked and not opened, as closing any descriptor of a file drops the process's locks on it, and so
            # SQLite's.
            with (
                Parts(backend, 0o600).writing(memoryview(b"")) as part,
                contextlib.suppress(OSError),
            ):
                path.hardlink_to(part)
        if not trust:
            refuse_untrusted(backend)
            if path.exists():
                refuse_untrusted(path)
    except OSError as error:
        raise StoreError(f"can't use {path} as a store: {error}") from error


_CHUNK = 16 * 1024 * 1024
# Seconds after which a dead writer's file is swept. Not at once, as a container may have this host's name and
# other process numbers.
_DEAD = 60.0
# Seconds after which the file of a writer on another host is swept, since whether that lives can't be told.
_OLD = 86400.0


class Parts:
    """A directory of files that are being written, named `host~pid~random`.

    Args:
        directory: on the file system that the files will be moved within.
        mode: of the files.
        durable: whether to fsync each file.
    """

    def __init__(self, directory: Path, mode: int = 0o400, *, durable: bool = False) -> None:
        self.directory = directory
        self._mode = mode
        self._durable = durable

    @contextlib.contextmanager
    def writing(self, content: memoryview) -> Iterator[Path]:
        """Write a file and return its path; it is removed at the end unless it was moved.

        Raises:
            OSError: it can't be written.
        """
        part = self.directory / part_name()
        fd = self._open(part)
        try:
            try:
                at = 0
                while at < content.nbytes:
                    at += os.write(fd, content[at : at + _CHUNK])
                # The umask may be stricter than the mode.
                set_mode(fd, part, self._mode)
                if self._durable:
                    os.fsync(fd)
            finally:
                os.close(fd)
            yield part
        finally:
            with contextlib.suppress(OSError):
                unlink(part)

    def _open(self, part: Path) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | PLAIN
        try:
            return os.open(part, flags, 0o600)
        # Someone removed the whole store meanwhile.
        except FileNotFoundError:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            return os.open(part, flags, 0o600)

    def sweep(self, dead: float = _DEAD, old: float = _OLD) -> int:
        """Remove the files that dead writers left; return how many.

        Args:
            dead: seconds after which the file of a dead process of this host counts as left.
            old: seconds after which any file does.
        """
        swept = 0
        with contextlib.suppress(OSError):
            for path in list(self.directory.iterdir()):
                with contextlib.suppress(OSError):
                    age = time.time() - path.stat().st_mtime
                    if age > old or (age >= dead and is_left(path.name)):
                        path.unlink()
                        swept += 1
        return swept


def map_file(fd: int, size: int, readonly: bool, offset: int = 0) -> mmap.mmap:
    """Map `size` (> 0) bytes of a file from `offset` (whole pages): copy-on-write, or read-only.

    Raises:
        OSError: the system can't, for instance because the process has too many mappings, or as a file that is
            mapped could not be removed.
    """
    if not POSIX:
        raise OSError(errno.ENOSYS, "this system maps no file that may be removed meanwhile")
    prot = maps.PROT_READ if readonly else maps.PROT_READ | maps.PROT_WRITE
    if sys.version_info >= (3, 13):
        return maps.mmap(fd, size, flags=maps.MAP_PRIVATE, prot=prot, trackfd=False, offset=offset)
    # Older Pythons hold a duplicate of the descriptor for each mapping, and a few hundred mapped results would
    # use up the process's descriptors. So the file is mapped over an anonymous mapping, which has none, at its
    # address.
    made: mmap.mmap = maps.mmap(-1, size, flags=maps.MAP_PRIVATE | maps.MAP_ANONYMOUS, prot=prot)
    flags = maps.MAP_PRIVATE | _MAP_FIXED
    # `address` works for read-only memory too, but takes four times as long.
    at = address(made) if readonly else ctypes.addressof(ctypes.c_char.from_buffer(made))
    if _mmap()(at, size, prot, flags, fd, offset) in _FAILED:
        error = ctypes.get_errno()
        made.close()
        raise OSError(error, "can't map a file")
    return made


def read_file(fd: int, size: int, offset: int = 0) -> bytearray:
    """Read so many bytes of a file, which may be more than the system reads at once.

    Raises:
        OSError: they can't be read, or there are fewer.
    """
    whole, at = bytearray(size), 0
    while at < size:
        done = preadv(fd, [memoryview(whole)[at : at + _CHUNK]], offset + at)
        if not done:
            raise OSError(errno.EIO, "the file is shorter than it was")
        at += done
    return whole


# The first bits of what the kernel says of a page: it is there, it is swapped out, it is a file's. A page
# that was written to is there or swapped out, and no file's any more.
_UNTOUCHED = bytes(bits for bits in range(256) if bits & 0x20 or not bits & 0xC0)
_FIRST = 7 if sys.byteorder == "little" else 0
_PAGES = 1 << 17


def untouched(at: int, size: int) -> bool:
    """Return whether nobody has written to a copy-on-write mapping of a file since it was mapped, through
    whatever view; False where the system does not say.

    Args:
        at: where the mapping begins.
    """
    return _pages_tell() and _untouched(at, size)


def _untouched(at: int, size: int) -> bool:
    try:
        # Opened each time: after a fork it would tell of the parent's memory.
        fd = os.open("/proc/self/pagemap", os.O_RDONLY | PLAIN)
    except OSError:
        return False
    try:
        page, end = at // mmap.PAGESIZE, -(-(at + size) // mmap.PAGESIZE)
        while page < end:
            wanted = 8 * min(_PAGES, end - page)
            found = pread(fd, wanted, 8 * page)
            if len(found) != wanted or found[_FIRST::8].translate(None, _UNTOUCHED):
                return False
            page += wanted // 8
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


@functools.cache
def _pages_tell() -> bool:
    """Return whether what the system says of pages is so, tried on one that is written to."""
    try:
        with open(os.__file__, "rb") as file:  # noqa: PTH123  any file does
            made = map_file(file.fileno(), 1, readonly=False)
    except (OSError, ValueError):
        return False
    view = memoryview(made)
    at = address(view)
    try:
        fresh = _untouched(at, 1)
        first = view[0]
        read = _untouched(at, 1)
        view[0] = first
        return fresh and read and not _untouched(at, 1)
    finally:
        view.release()
        made.close()


# MAP_FIXED, which the module `mmap` lacks; the number is the same on Linux and macOS.
_MAP_FIXED = 0x10
_FAILED = (None, ctypes.c_void_p(-1).value)
_found: Any = None


def _mmap() -> Any:
    global _found
    if _found is None:
        _found = ctypes.CDLL(None, use_errno=True).mmap
        _found.restype = ctypes.c_void_p
        _found.argtypes = (
            ctypes.c_void_p,
            ctypes.c_size_t,
            ctypes.c_int,
            ctypes.c_int,
            ctypes.c_int,
            ctypes.c_int64,
        )
    return _found


# Seconds to wait for another process that opens the same index.
_PATIENCE = 5.0
# Parts of the names of file systems that other hosts may write to, where SQLite's WAL and locks are unsafe.
_NETWORK = (
    *("nfs", "cifs", "smb", "9p", "afs", "ceph", "lustre", "gpfs", "beegfs", "pvfs", "gluster"),
    *("fuse.", "virtiofs", "vboxsf", "ocfs", "gfs", "davfs"),
)


@contextlib.contextmanager
def alone(directory: Path) -> Iterator[None]:
    """Keep other processes from opening the index in a directory, or setting it aside, meanwhile.

    Otherwise a new index could meet the log of the one before. On NFS, where a directory can't be locked, this
    promises nothing.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            stack.enter_context(locked(directory, _PATIENCE))
        yield


def open_regular(path: str | os.PathLike[str], flags: int = os.O_RDONLY, mode: int = 0o600) -> int:
    """Open a file and return its descriptor.

    Raises:
        OSError: it can't be opened, or is a pipe, a device or a directory.
    """
    # Opening a pipe waits for its other end without O_NONBLOCK, and reading a pipe or a device may never end.
    fd = os.open(path, flags | NONBLOCK | PLAIN, mode)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise _irregular(path)
    return fd


def refuse_irregular(path: Path) -> None:
    """Check that neither a file that SQLite opens nor those that it has beside it are pipes or devices.

    A missing file is fine.

    Raises:
        StoreError: one is, or can't be examined.
    """
    for end in ("", "-wal", "-shm", "-journal"):
        one = f"{path}{end}"
        try:
            found = os.stat(one)  # noqa: PTH116  the text is at hand
            if not stat.S_ISREG(found.st_mode):
                raise _irregular(one)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise StoreError(f"can't open {one}: {error}") from error


def _irregular(path: str | os.PathLike[str]) -> OSError:
    return OSError(errno.EINVAL, "it is not a regular file", os.fspath(path))


def identity(path: Path) -> tuple[int, int] | None:
    """Return device and inode of a file; None if there is no file."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def on_network(directory: Path) -> bool:
    """Return whether a directory is on a network file system, by Linux's mount table."""
    kind = kind_of(directory)
    return any(name in kind for name in _NETWORK)


def kind_of(directory: Path) -> str:
    """Return the kind of file system that a directory is on: `ext4`, `nfs4`; empty where that is not known."""
    try:
        table = Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape")
        device = directory.stat().st_dev
    except OSError:
        return ""
    wanted = device_number(device)
    # By device, since a path can reach a mount through links and bind mounts.
    for line in table.splitlines():
        fields, _, rest = line.partition(" - ")
        if fields.split(" ")[2] == wanted:
            return rest.split(" ")[0]
    return ""


CACHE_TAG = """Signature: 8a477f597d28d172789f06886806bc55
# This file marks a cache directory made by kept. See https://bford.info/cachedir/
"""


def prepare_directory(root: Path, trust: bool) -> None:
    """Make the directory of a cache if it is missing, and check its owner and mode.

    Raises:
        UntrustedSource: others can write to it, and it is not trusted.
        StoreError: it can't be made or used.
    """
    try:
        if not root.is_dir():
            root.parent.mkdir(parents=True, exist_ok=True)
            # With its mode from the start: changing it later would leave a moment for others to write.
            root.mkdir(mode=0o700, exist_ok=True)
        if not trust:
            refuse_untrusted(root)
        if os.access(root, os.W_OK):
            for name in ("blobs", "tmp"):
                (root / name).mkdir(mode=0o700, exist_ok=True)
            tag = root / "CACHEDIR.TAG"
            if not tag.exists():
                tag.write_text(CACHE_TAG, "utf-8")
    except OSError as error:
        raise StoreError(f"can't use {root} as a cache: {error}") from error
