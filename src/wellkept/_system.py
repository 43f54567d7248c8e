"""What the operating system can, and what stands in where it can't.

The one module that names what only some systems have. The others ask here, and so read the same everywhere.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import select
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

POSIX = hasattr(os, "getuid")
"""Whether files have owners and modes, and may be replaced and removed while they are open."""


def _module(name: str) -> Any:
    try:
        return __import__(name, globals())
    except ImportError:
        return None


fcntl, msvcrt, resource = _module("fcntl"), _module("msvcrt"), _module("resource")
"""Modules that only some systems have; None where there is none."""

maps: Any = mmap
"""The module, whose names differ from system to system."""
fork: Callable[[], int] | None = getattr(os, "fork", None)


def since_boot() -> tuple[int, int]:
    """Return the ticks of a second, and the nanosecond in which the machine began. Only Linux tells."""
    if sys.platform == "linux":
        boot = time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        return os.sysconf("SC_CLK_TCK"), boot
    raise OSError(errno.ENOSYS, "this system does not tell")


# -- opening --------------------------------------------------------------------------------------

# Windows would translate line ends, and lend descriptors to child processes.
PLAIN: int = (
    getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOINHERIT", 0)
)
"""Flags that each `os.open` has."""
NONBLOCK: int = getattr(os, "O_NONBLOCK", 0)
NOFOLLOW: int = getattr(os, "O_NOFOLLOW", 0)

SEALED = 0o400 if POSIX else 0o600
"""The mode of a file that never changes. Windows does not remove what can't be written to."""

# -- places in files ------------------------------------------------------------------------------

# Reading at a place is moving there first, where the system has no call for both.
_moving = threading.Lock()


def _pread(fd: int, size: int, at: int) -> bytes:
    with _moving:
        os.lseek(fd, at, os.SEEK_SET)
        return os.read(fd, size)


def _pwrite(fd: int, content: Any, at: int) -> int:
    with _moving:
        os.lseek(fd, at, os.SEEK_SET)
        return os.write(fd, content)


def _preadv(fd: int, buffers: Sequence[Any], at: int) -> int:
    done = 0
    for buffer in buffers:
        part = _pread(fd, len(buffer), at + done)
        buffer[: len(part)] = part
        done += len(part)
        if len(part) < len(buffer):
            break
    return done


# A fork must not find it held.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: _moving._at_fork_reinit())  # type: ignore[attr-defined]

pread: Callable[[int, int, int], bytes] = getattr(os, "pread", _pread)
pwrite: Callable[[int, Any, int], int] = getattr(os, "pwrite", _pwrite)
preadv: Callable[[int, Sequence[Any], int], int] = getattr(os, "preadv", _preadv)

# -- names ----------------------------------------------------------------------------------------

# Seconds to wait for a file that somebody has open, where it can't be replaced or removed meanwhile. Nothing of
# this library holds one open for longer than it takes to read it.
_PATIENCE = 5.0


def _patient(do: Callable[[], None]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            return do()
        except PermissionError:
            if POSIX or time.monotonic() > deadline:
                raise
            time.sleep(0.005)


def replace(made: str | os.PathLike[str], path: str | os.PathLike[str]) -> None:
    """Give a file another name, in place of what had it.

    Raises:
        OSError: it can't be.
    """
    _patient(lambda: os.replace(made, path))  # noqa: PTH105  nothing of a Path is needed


def unlink(path: str | os.PathLike[str]) -> None:
    """Remove a file; raises as `replace`."""
    if not POSIX:
        # Windows removes nothing that can't be written to.
        with contextlib.suppress(OSError):
            os.chmod(path, 0o600)  # noqa: PTH101  as above
    _patient(lambda: os.unlink(path))  # noqa: PTH108  as above


def set_mode(fd: int, path: str | os.PathLike[str], mode: int) -> None:
    """Set the mode of an open file; raises as `replace`."""
    if sys.platform != "win32" and POSIX:
        os.fchmod(fd, mode)
    else:
        os.chmod(path, mode | 0o600)  # noqa: PTH101  as above


def sync_directory(path: Path) -> None:
    """Make the names in a directory survive a power cut, where directories can be opened."""
    if not POSIX:
        return
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def device_number(number: int) -> str:
    """Return the number of a device as Linux's table of mounts has it."""
    major, minor = (getattr(os, name, lambda number: number) for name in ("major", "minor"))
    return f"{major(number)}:{minor(number)}"


def anonymous_file() -> int:
    """Return the descriptor of a file without a name, in memory where the system has that."""
    if sys.platform == "linux" and hasattr(os, "memfd_create"):
        return os.memfd_create("wellkept", os.MFD_CLOEXEC)
    # A deleted one is as good. Linux has no need of the module.
    import tempfile

    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def owner() -> int | None:
    """Return the number of the user; None where modes and owners of files don't say who may write."""
    if sys.platform != "win32" and POSIX:
        return os.getuid()
    return None


_DEVICES = {"con", "prn", "aux", "nul"} | {f"{a}{b}" for a in ("com", "lpt") for b in range(10)}


def is_reserved(name: str) -> bool:
    """Return whether this name is a device's, as some are on Windows in each directory."""
    return not POSIX and name.partition(".")[0].lower() in _DEVICES


# -- locks ----------------------------------------------------------------------------------------


@contextlib.contextmanager
def locked(directory: Path, patience: float | None = None) -> Iterator[None]:
    """Keep other processes that ask for the same directory waiting meanwhile.

    Args:
        patience: seconds to wait for another one, after which it goes on all the same; None: for ever.

    Raises:
        OSError: the directory can't be locked.
    """
    # A file in it where directories can't be opened; it stays, as another process may wait for it.
    fd = (
        os.open(directory, os.O_RDONLY | PLAIN)
        if fcntl is not None
        else os.open(directory / ".wellkept.lock", os.O_RDWR | os.O_CREAT | PLAIN, 0o600)
    )
    deadline = None if patience is None else time.monotonic() + patience
    held = False
    try:
        while not (held := _lock(fd)):
            if deadline is not None and time.monotonic() > deadline:
                break
            time.sleep(0.002)
        yield
    finally:
        # Closing would not unlock if a child that was forked meanwhile has the descriptor too.
        with contextlib.suppress(OSError):
            if fcntl is not None:
                fcntl.flock(fd, fcntl.LOCK_UN)
            elif held:
                _lock_bytes(fd, msvcrt.LK_UNLCK, 0, 1)
        os.close(fd)


def _no_locks() -> None:
    raise OSError(errno.ENOSYS, "this system has no locks on files")


def _lock(fd: int) -> bool:
    try:
        if fcntl is not None:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        elif msvcrt is not None:
            _lock_bytes(fd, msvcrt.LK_NBLCK, 0, 1)
        else:
            _no_locks()
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES, errno.EDEADLK):
            return False
        raise
    return True


give_way: Callable[[], object] = getattr(os, "sched_yield", partial(time.sleep, 0))
"""Let another thread or process run, if one waits for a processor."""
RANGES = fcntl is not None
"""Whether the kernel locks ranges of bytes, shared or alone, and frees them when their owner dies."""
SHARES = RANGES or msvcrt is not None
"""Whether a file can be locked by many who share it, or by one alone."""
FREE, READ, WRITE = (
    getattr(fcntl, name, place) for place, name in enumerate(("F_UNLCK", "F_RDLCK", "F_WRLCK"))
)
_OFD = getattr(fcntl, "F_OFD_SETLK", None)
KIND = "posix" if _OFD is None else "open-file-description"
"""Which locks this system gives."""
_LINUX = sys.platform == "linux"
# Struct flock of <fcntl.h>.
_FLOCK = struct.Struct("hhqqi4x" if _LINUX else "qqihh")
_BUSY = (errno.EAGAIN, errno.EACCES)


def set_range(fd: int, kind: int, at: int, width: int = 1) -> bool:
    """Lock bytes of a file, or free them (`READ`, `WRITE`, `FREE`); return False where somebody else has one.

    Without `RANGES` all bytes of the file are one.

    Raises:
        OSError: the file can't be locked.
    """
    if fcntl is None:
        return _set_slots(fd, kind)
    try:
        fcntl.fcntl(
            fd,
            fcntl.F_SETLK if _OFD is None else _OFD,
            _FLOCK.pack(kind, 0, at, width, 0) if _LINUX else _FLOCK.pack(at, width, 0, kind, 0),
        )
    except OSError as error:
        if error.errno in _BUSY:
            return False
        raise
    return True


# Windows locks bytes for one holder alone. So who shares has one of these, and who is alone has all of them.
_SLOTS = 64
_slots: dict[int, tuple[int, int]] = {}


def _set_slots(fd: int, kind: int) -> bool:
    held = _slots.pop(fd, None)
    if held is not None:
        # Closing a file has freed it already.
        with contextlib.suppress(OSError):
            _lock_bytes(fd, msvcrt.LK_UNLCK, *held)
    wanted = [(0, _SLOTS)] if kind == WRITE else [(slot, 1) for slot in range(_SLOTS)]
    for place in wanted if kind != FREE else ():
        try:
            _lock_bytes(fd, msvcrt.LK_NBLCK, *place)
        except PermissionError:
            continue
        _slots[fd] = place
        return True
    return kind == FREE


def _lock_bytes(fd: int, mode: int, at: int, size: int) -> None:
    os.lseek(fd, at, os.SEEK_SET)
    msvcrt.locking(fd, mode, size)


# -- pipes ----------------------------------------------------------------------------------------

set_blocking: Any = getattr(os, "set_blocking", None)
readv: Any = getattr(os, "readv", None)
writev: Any = getattr(os, "writev", None)
PIPES = POSIX and None not in (set_blocking, readv, writev)
"""Whether a process can be talked to through pipes, with deadlines."""


def enlarge(pipe: int, size: int) -> None:
    """Make a pipe hold more, where the system lets itself be asked."""
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        with contextlib.suppress(OSError):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, size)


def ready(fd: int, seconds: float, *, to_write: bool = False) -> bool:
    """Wait until a socket or pipe can be read from, or written to; return whether it can."""
    poll = getattr(select, "poll", None)
    if poll is None:
        to_read, writes = ([], [fd]) if to_write else ([fd], [])
        return any(select.select(to_read, writes, [], seconds))
    # `select` fails for descriptors above 1023.
    waiting = poll()
    waiting.register(fd, getattr(select, "POLLOUT" if to_write else "POLLIN"))
    return bool(waiting.poll(seconds * 1000))


# -- processes ------------------------------------------------------------------------------------


def host() -> str:
    """Return the name of this host."""
    if sys.platform != "win32" and POSIX:
        return os.uname().nodename
    # Imported where it is needed: it takes as long as this module.
    import platform

    return platform.node()


def process_began(pid: int) -> str | None:
    """Return what tells a process of this host from a later one of its number.

    It is empty where there is none, and None where that can't be told.
    """
    if sys.platform == "win32":
        return _times(pid)
    else:
        if not POSIX:
            return None
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return ""
        except (PermissionError, OverflowError):  # somebody else's, or no process number at all
            pass
        return "running"


if sys.platform == "win32":
    import ctypes
    from ctypes import wintypes

    _kernel = ctypes.WinDLL("kernel32", use_last_error=True)
    _kernel.OpenProcess.restype = wintypes.HANDLE
    _kernel.OpenProcess.argtypes = (wintypes.DWORD, wintypes.BOOL, wintypes.DWORD)
    _time = ctypes.POINTER(wintypes.FILETIME)
    _kernel.GetProcessTimes.argtypes = (wintypes.HANDLE, _time, _time, _time, _time)
    _kernel.CloseHandle.argtypes = (wintypes.HANDLE,)
    _QUERY, _DENIED = 0x1000, 5

    def _times(pid: int) -> str | None:
        """Return when a process was made. `os.kill(pid, 0)` would end it here."""
        handle = _kernel.OpenProcess(_QUERY, False, pid)
        if not handle:
            return "running" if ctypes.get_last_error() == _DENIED else ""
        try:
            made, ended, kernel, user = (wintypes.FILETIME() for _ in range(4))
            if not _kernel.GetProcessTimes(handle, made, ended, kernel, user):
                return None
            if ended.dwLowDateTime or ended.dwHighDateTime:
                return ""
            return str(made.dwHighDateTime << 32 | made.dwLowDateTime)
        finally:
            _kernel.CloseHandle(handle)
