"""A system that can do less: a program runs as the library would see it on Windows, as far as Linux shows that.

    python -m tests.bare_system -m pytest tests/stores/test_files.py

The library finds no module and no name that only POSIX has. A file that is open is not replaced or removed,
nor is one that can't be written to, and `rename` takes no name that there is. Everything else is as it is here:
the standard library, and child processes.
"""

import builtins
import contextlib
import errno
import os
import runpy
import stat
import struct
import sys
import types
from pathlib import Path
from typing import Any

MODULES = {"fcntl", "pwd", "grp", "resource", "termios", "tty", "pty", "syslog", "posix"}
"""Modules that Windows lacks."""

_NAMES = {
    "os": """
        O_CLOEXEC O_DIRECTORY O_DSYNC O_NOFOLLOW O_NONBLOCK O_SYNC O_TMPFILE MFD_CLOEXEC chown chroot
        copy_file_range fchdir fchmod fchown fdatasync fork forkpty fwalk getegid geteuid getgid getgroups
        getloadavg getpgid getsid getuid killpg lchown lockf major makedev memfd_create minor mkfifo mknod nice
        openpty pathconf pipe2 posix_fadvise posix_fallocate posix_spawn pread preadv pwrite pwritev readv
        register_at_fork sched_getaffinity sendfile set_blocking setgid setsid setuid statvfs sync sysconf uname
        wait wait3 wait4 waitid writev""",
    "signal": "SIGALRM SIGCHLD SIGHUP SIGKILL SIGPIPE SIGQUIT SIGUSR1 SIGUSR2 alarm setitimer pthread_sigmask",
    "mmap": "MAP_ANONYMOUS MAP_PRIVATE MAP_SHARED PROT_READ PROT_WRITE PROT_EXEC",
    "socket": "AF_UNIX SO_REUSEPORT",
    "select": "poll epoll POLLIN POLLOUT",
    "time": "clock_gettime clock_gettime_ns CLOCK_BOOTTIME",
}
NAMES = {module: frozenset(names.split()) for module, names in _NAMES.items()}
"""Names that the modules of Windows lack."""


class _Less(types.ModuleType):
    def __init__(self, whole: types.ModuleType, lacks: frozenset[str]) -> None:
        super().__init__(whole.__name__)
        self.__dict__.update(_whole=whole, _lacks=lacks)

    def __getattr__(self, name: str) -> Any:
        if name in self._lacks:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        return getattr(self._whole, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._whole, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._whole, name)

    def __dir__(self) -> list[str]:
        return sorted({*dir(self._whole)} - self._lacks)


def install() -> None:
    """Have the library see less from now on; before it is imported."""
    assert not any(name.partition(".")[0] == "wellkept" for name in sys.modules)
    less = {name: _Less(__import__(name), lacks) for name, lacks in NAMES.items()}
    original = builtins.__import__

    def look(name: str, space: Any = None, *rest: Any, **more: Any) -> Any:
        if str((space or {}).get("__name__", "")).partition(".")[0] == "wellkept":
            if name in MODULES:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)
            if name in less:
                return less[name]
            if name == "msvcrt":
                return WINDOWS
        return original(name, space, *rest, **more)

    builtins.__import__ = look
    _strict_files()


def _strict_files() -> None:
    replace, rename, unlink = os.replace, os.rename, os.unlink

    def refuse(path: Any, *, written: bool = True) -> None:
        try:
            found = os.lstat(path)
        except (OSError, TypeError):
            return
        name = os.path.realpath(path)
        if not stat.S_ISREG(found.st_mode) or name.startswith("/dev/"):
            return
        sealed = written and not found.st_mode & stat.S_IWUSR
        if sealed or name in _open_here():
            raise PermissionError(errno.EACCES, "it is open, or can't be written to", str(path))

    def replaced(source: Any, target: Any, **more: Any) -> None:
        refuse(source, written=False)
        refuse(target)
        replace(source, target, **more)

    def renamed(source: Any, target: Any, **more: Any) -> None:
        refuse(source, written=False)
        if Path(target).exists():
            raise FileExistsError(errno.EEXIST, "there is such a file", str(target))
        rename(source, target, **more)

    def unlinked(path: Any, **more: Any) -> None:
        refuse(path)
        unlink(path, **more)

    os.replace, os.rename, os.unlink, os.remove = replaced, renamed, unlinked, unlinked


def _locking(fd: int, mode: int, size: int) -> None:
    """Lock bytes from where the file is, as `msvcrt.locking` does: for one holder alone."""
    import fcntl  # the names above are looked at on each system

    kind = fcntl.F_UNLCK if mode == 0 else fcntl.F_WRLCK
    flock = struct.pack("hhqqi4x", kind, 0, os.lseek(fd, 0, os.SEEK_CUR), size, 0)
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, flock)
    except BlockingIOError as error:
        raise PermissionError(errno.EACCES, "it is locked") from error


WINDOWS = types.SimpleNamespace(LK_UNLCK=0, LK_NBLCK=2, locking=_locking)
"""What stands in for the module `msvcrt`."""


def _open_here() -> set[str]:
    found = set()
    for number in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            found.add(str(number.readlink()))
    return found


def main() -> None:
    """Run what follows on the command line: `-m MODULE …`, `-c CODE …`, or a file."""
    install()
    sys.argv.pop(0)
    if sys.argv[0] == "-m":
        sys.argv.pop(0)
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    elif sys.argv[0] == "-c":
        code = sys.argv.pop(1)
        exec(code, {"__name__": "__main__"})
    else:
        runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
