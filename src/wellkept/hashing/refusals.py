"""Types whose objects have no identity: reading them uses them up, or they are a live resource."""

from __future__ import annotations

from typing import Any

from .buffers import Known
from .objects import NOTHING_HELPS
from .registry import Reducer, Refused

__all__ = ["REFUSED"]

_WHAT = {
    "an open file or stream": "_io._IOBase io.IOBase tempfile._TemporaryFileWrapper "
    "os.DirEntry posix.DirEntry nt.DirEntry",
    "a socket": "_socket.socket socket.socket ssl.SSLSocket ssl.SSLContext "
    "_ssl._SSLContext _ssl._SSLSocket",
    "a lock": "_thread.lock _thread.LockType _thread.RLock threading._RLock "
    "threading.Condition threading.Event threading.Semaphore threading.Barrier "
    "multiprocessing.synchronize.SemLock _multiprocessing.SemLock "
    "asyncio.locks.Lock asyncio.locks.Event asyncio.locks.Condition "
    "asyncio.locks.Semaphore asyncio.locks.Barrier multiprocessing.synchronize.Event "
    "multiprocessing.synchronize.Condition multiprocessing.synchronize.Barrier",
    "a thread": "threading.Thread _thread._ThreadHandle",
    "thread-local state": "_thread._local _threading_local.local",
    "a queue": "queue.Queue _queue.SimpleQueue asyncio.queues.Queue multiprocessing.queues.Queue "
    "multiprocessing.queues.SimpleQueue",
    "a pipe": "multiprocessing.connection._ConnectionBase _multiprocessing.Connection",
    "an event loop": "asyncio.events.AbstractEventLoop",
    "a future": "_asyncio.Future _asyncio.Task asyncio.futures.Future "
    "concurrent.futures._base.Future",
    "an executor": "concurrent.futures._base.Executor multiprocessing.pool.Pool",
    "a process": "multiprocessing.process.BaseProcess subprocess.Popen asyncio.subprocess.Process",
    "a frame": "builtins.frame",
    "a traceback": "builtins.traceback",
    "a generator": "builtins.generator builtins.async_generator",
    "a coroutine": "builtins.coroutine",
    "a weak reference": "weakref.ReferenceType _weakref.ReferenceType _weakref.ProxyType "
    "_weakref.CallableProxyType weakref.ProxyType weakref.CallableProxyType weakref.WeakSet "
    "_weakrefset.WeakSet weakref.WeakKeyDictionary weakref.WeakValueDictionary weakref.finalize",
    "a database connection": "sqlite3.Connection sqlite3.Cursor sqlite3.Blob",
    "a memory map": "mmap.mmap",
    "shared memory": "multiprocessing.shared_memory.SharedMemory",
    "a context variable": "_contextvars.ContextVar _contextvars.Context _contextvars.Token",
    "a selector": "selectors.BaseSelector select.epoll select.poll",
    "a logging handler": "logging.Handler",
}

_USED_UP = {"a generator": "reading it would use it up; pass a list, or "}


def _refuse(what: str) -> Reducer:
    def reduce(value: Any, known: Known | None) -> tuple[Any, ...]:
        more = _USED_UP.get(what, "")
        raise Refused(f"{what} has no identity ({type(value).__qualname__}): {more}{NOTHING_HELPS}")

    return reduce


REFUSED: dict[str, Reducer] = {
    name: _refuse(what) for what, names in _WHAT.items() for name in names.split()
}
"""`module.qualname` -> a reducer that refuses, for the type and its subclasses."""
