"""What a process is to others, and what happens when it forks: the one place for both.

The identity tells a process from a later one of the same number, from one of another host, and from one of
the same host before it was started again. What is registered here runs in the order in which it was
registered, so after a fork the locks of `wellkept.interrupts` are there before all that uses them.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from wellkept._system import host, owner, process_began
from wellkept.interrupts import Guard

T = TypeVar("T")

# -- who a process is -----------------------------------------------------------------------------


def host_name() -> str:
    """Return the name of this host and of the process namespace in it: containers may share a name."""
    namespace = ""
    with contextlib.suppress(OSError):
        namespace = str(Path("/proc/self/ns/pid").readlink())
    return f"{host()}{namespace}".replace("|", "/")


@functools.cache
def boot() -> str:
    """Return what differs after a restart of the machine; empty where the system does not say."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    return ""


@functools.cache
def user() -> str:
    """Return the user's name, or their number where there is no name."""
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # no name, and no variable that holds one
        return str(number) if (number := owner()) is not None else "?"


def chance() -> float:
    """Return a random number from 0 up to 1.

    The numbers of Python's `random` are the program's: it may have seeded them, and counts on their order.
    """
    return float((int.from_bytes(os.urandom(7), "big") >> 3) / 2**53)


def began(pid: int) -> str:
    """Return when a process of this host began, which tells it from a later one of the same number.

    The text is empty for one that is no more.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except FileNotFoundError:
        if Path("/proc/self/stat").exists():
            return ""
    except OSError:
        return ""
    else:
        fields = stat[stat.rindex(b")") + 2 :].split()
        return "" if fields[0] in (b"Z", b"X") else fields[19].decode()
    # There is no /proc on this system: often all that can be said is whether the number is in use.
    found = process_began(pid)
    return "running" if found is None else found


def is_running(pid: int) -> bool:
    """Return whether a process of this host has that number; True where that can't be told."""
    return process_began(pid) != ""


def identity() -> dict[str, Any]:
    """Return who this process is, for a record by which another one can tell whether it lives."""
    pid = os.getpid()
    return {"host": host_name(), "pid": pid, "begun": began(pid), "boot": boot(), "user": user()}


def is_alive(who: Mapping[str, Any]) -> bool | None:
    """Return whether the process with that identity lives; None: it is one of another host."""
    if who.get("host") != host_name():
        return None
    if who.get("boot") != boot():
        return False
    begun = who.get("begun")
    return bool(begun) and began(int(who.get("pid", 0))) == begun


def part_name() -> str:
    """Return a name for a file that this process is about to write, and nobody else."""
    return f"{_short_host()}~{os.getpid()}~{os.urandom(6).hex()}"


def is_left(part: str) -> bool:
    """Return whether the process that made a name with `part_name` was on this host and is no more."""
    host, _, rest = part.partition("~")
    pid = rest.partition("~")[0]
    return host == _short_host() and pid.isdecimal() and not is_running(int(pid))


def _short_host() -> str:
    return host()[:40].replace("~", "-").replace("/", "-")


# -- forks ----------------------------------------------------------------------------------------


_before: list[Callable[[], object]] = []
_in_parent: list[Callable[[], object]] = []
_in_child: list[Callable[[], object]] = []
_forking = False
_modules = 0
"""How many were imported when the hooks were registered the latest time."""


def at_fork(
    *,
    before: Callable[[], object] | None = None,
    in_parent: Callable[[], object] | None = None,
    in_child: Callable[[], object] | None = None,
) -> None:
    """Run functions around each fork of this process.

    `before` runs in the reverse order of registration, the others in that order, as those of
    `os.register_at_fork` do; all of it when no `Worker` has a thread.
    """
    for hooks, do in ((_before, before), (_in_parent, in_parent), (_in_child, in_child)):
        if do is not None:
            hooks.append(do)


def _run(hooks: Iterable[Callable[[], object]]) -> None:
    failure: BaseException | None = None
    for do in hooks:
        try:
            do()
        except BaseException as error:  # noqa: BLE001  raised below, when the rest has run
            failure = failure or error
    if failure is not None:
        raise failure  # the interpreter reports it, and forks all the same


def _before_fork() -> None:
    global _forking
    if _forking:  # it is registered several times
        return
    _forking = True  # no thread begins from here on
    # First the threads, while they still get every lock that they need to come to an end: what runs
    # next may hold some until the fork is over.
    _run([worker._before_fork for worker in list(_workers)])
    _run(reversed(_before))


def _come_first() -> None:
    """Have what is done here before a fork be done before what modules imported since then do.

    The latest registered runs first. `logging` and `concurrent.futures` take a lock that the work of a
    thread may need to come to an end, and the fork waits for that end.
    """
    global _modules
    if (found := len(sys.modules)) > _modules and hasattr(os, "register_at_fork"):
        _modules = found
        os.register_at_fork(before=_before_fork)


def _after_fork_in_parent() -> None:
    global _forking
    _forking = False
    _run(_in_parent)
    _run([worker._after_fork for worker in list(_workers)])


def _after_fork_in_child() -> None:
    global _forking
    _forking = False
    _run([worker._reset for worker in list(_workers)])
    _run(_in_child)


class Instances(weakref.WeakSet[T]):
    """The living objects of a class, each of which does something when the process forks.

    Args:
        before, in_parent, in_child: called with each of them, as `at_fork` calls functions.
    """

    def __init__(
        self,
        *,
        before: Callable[[T], object] | None = None,
        in_parent: Callable[[T], object] | None = None,
        in_child: Callable[[T], object] | None = None,
    ) -> None:
        super().__init__()
        at_fork(
            before=self._each(before),
            in_parent=self._each(in_parent),
            in_child=self._each(in_child),
        )

    def _each(self, do: Callable[[T], object] | None) -> Callable[[], None] | None:
        def run() -> None:
            for one in list(self):
                assert do is not None
                do(one)

        return None if do is None else run


# -- work in the background -----------------------------------------------------------------------

# As it is before `caches.active` lets threads know what was said where they were started: what is done for all
# callers is not done in the name of the one that begins it, nor does it hold that one's cache.
_start = threading.Thread.start


class Worker:
    """A daemon thread that does something again and again while there is something to do.

    No thread of it is there while the process forks: Python warns of forking with threads, and a lock
    that it held would be held in the child for ever. The parent goes on afterwards; in the child there
    is nothing to do until `begin` is called.

    Args:
        name: of the thread.
        work: does it once, and returns whether there may be more; it raises nothing.
        pause: returns the seconds until the next time.
        patience: seconds for which `stop`, and so a fork, waits for the work to end; None: for as long
            as it takes.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[], bool],
        pause: Callable[[], float],
        patience: float | None = None,
    ) -> None:
        self._name, self._work, self._pause, self._patience = name, work, pause, patience
        self._reset()
        _workers.add(self)

    def _reset(self) -> None:
        self._guard = Guard()
        self._wake = threading.Event()
        self._wanted = False
        self._thread: threading.Thread | None = None

    def begin(self) -> bool:
        """See that the work is done from now on, until there is none; False if no thread can begin."""
        with self._guard:
            self._wanted = True
            # A thread may have been interrupted at its start.
            if not _forking and (self._thread is None or not self._thread.is_alive()):
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                try:
                    _start(self._thread)
                except RuntimeError:  # the interpreter ends
                    self._thread = None
                    return False
        return True

    def is_here(self) -> bool:
        """Return whether the thread that asks is the worker's."""
        return threading.current_thread() is self._thread

    def wake(self) -> None:
        """Have it done at once."""
        self._wake.set()

    def waited(self, seconds: float) -> bool:
        """Wait in the midst of the work; returns whether it should end, as `stop` was called."""
        self._wake.wait(seconds)
        return not self.is_here()

    def stop(self) -> None:
        """End the thread after what it does now, and wait for that."""
        with self._guard:
            thread, self._thread = self._thread, None
            self._wanted = False
            self._wake.set()
        if thread is not None and thread is not threading.current_thread() and thread.is_alive():
            thread.join(self._patience)

    def _run(self) -> None:
        while True:
            self._wake.wait(self._pause())
            with self._guard:
                if not self.is_here():  # it was stopped, and another may have begun
                    return
                self._wake.clear()
                self._wanted = False
            _come_first()
            more = self._work()
            with self._guard:
                if not self.is_here():
                    return
                # Whoever called `begin` meanwhile found this thread alive, and counts on it.
                if not more and not self._wanted:
                    self._thread = None
                    return

    def _before_fork(self) -> None:
        going = self._thread is not None
        self.stop()
        if going:
            self._wanted = True

    def _after_fork(self) -> None:
        if self._wanted:
            self.begin()


_workers: weakref.WeakSet[Worker] = weakref.WeakSet()

_come_first()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
