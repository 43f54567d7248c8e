"""`wellkept serve --stdio`: serves one client over standard input and output, many requests at a time."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from wellkept._process import Worker
from wellkept._system import PIPES, readv, writev
from wellkept.errors import ConfigError, KeptError
from wellkept.remote import wire
from wellkept.remote.handlers import Handlers
from wellkept.remote.staging import Staged
from wellkept.remote.wire import (
    ANSWER,
    BANNER,
    CHUNK,
    END,
    ERROR,
    HEADER,
    REQUEST,
    VERSION,
    Request,
    WireError,
    messages,
    pack,
    told,
)

__all__ = ["serve_stream"]

# Seconds between the signs of life for a slow request; far below any useful deadline of a client.
_TICK = 5.0
_THREADS = 8
# Requests that may wait for a thread. Beyond that the stream is not read, so that the client waits and the
# memory of the server does not grow.
_ABREAST = 64


def serve_stream(handlers: Handlers, source: int, target: int, right: str = "admin") -> None:
    """Answer the requests that come from one descriptor on another, until the stream ends.

    Raises:
        ConfigError: this system's pipes are not enough for it.
    """
    if not PIPES:
        raise ConfigError(
            "wellkept serve --stdio needs pipes as POSIX has them, which this system lacks; "
            "serve over http: wellkept serve --listen HOST:PORT"
        )
    _Stream(handlers, source, target, right).run()


class _Stream:
    def __init__(self, handlers: Handlers, source: int, target: int, right: str) -> None:
        self._handlers, self._source, self._target, self._right = handlers, source, target, right
        self._owner = os.urandom(8).hex()
        self._writing = threading.Lock()
        self._room = threading.Semaphore(_ABREAST)
        # None for a blob that was refused while its parts are still coming.
        self._uploads: dict[int, Staged | None] = {}
        self._slow_ones: set[int] = set()
        self._ticking = Worker("wellkept-serve-tick", self._tick, lambda: _TICK, patience=1.0)

    def run(self) -> None:
        self._write(BANNER % VERSION)
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="wellkept-serve") as pool:
            try:
                for kind, number, content in messages(self._read):
                    if kind == REQUEST:
                        self._request(pool, number, content)
                    elif kind in (CHUNK, END):
                        self._part(kind, number, content)
                    else:
                        raise WireError("a client sent a message that is no request")  # noqa: TRY301  sent below
            except (WireError, OSError) as error:
                with contextlib.suppress(OSError):
                    self._say(ERROR, 0, told(error))
            finally:
                for blob in self._uploads.values():
                    if blob is not None:
                        blob.drop()
                self._handlers.gone(self._owner)

    def _read(self, room: memoryview) -> int:
        return int(readv(self._source, [room]))

    def _request(self, pool: ThreadPoolExecutor, number: int, content: memoryview) -> None:
        verb, _, fields = bytes(content).partition(b"\0")
        try:
            request = wire.request(verb.decode("ascii", "replace"), fields)
            if isinstance(request, wire.Send):
                self._uploads[number] = None
                self._uploads[number] = self._handlers.upload(request, self._owner, self._right)
            elif isinstance(request, wire.Hello):
                self._owner = request.owner
                self._say(ANSWER, number, None)
            elif _is_brief(request):
                # It is done before another thread would have started.
                self._do(request, number)
            else:
                self._room.acquire()
                pool.submit(self._apart, request, number)
        except Exception as error:  # noqa: BLE001  the client gets it
            if verb == wire.Send.verb.encode():
                self._uploads[number] = None
            self._fail(number, error)

    def _apart(self, request: Request, number: int) -> None:
        if request.slow:
            self._slow_ones.add(number)
            self._ticking.begin()
        try:
            self._do(request, number)
        finally:
            self._slow_ones.discard(number)
            self._room.release()

    def _tick(self) -> bool:
        # An empty part tells the client that its request is being worked on. One that comes after the answer is
        # ignored: its number is no longer known.
        with contextlib.suppress(OSError):
            for number in list(self._slow_ones):
                self._write(HEADER.pack(0, CHUNK, number))
        return bool(self._slow_ones)

    def _do(self, request: Request, number: int) -> None:
        try:
            if request.parts:
                for part in self._handlers.stream(request, self._right):
                    self._write(HEADER.pack(len(part), CHUNK, number), part)
                content = b""
            else:
                content = pack(self._handlers.answer(request, self._owner, self._right))
        except OSError:
            # The client is gone.
            return
        except Exception as error:  # noqa: BLE001  the client gets it
            self._fail(number, error)
        else:
            with contextlib.suppress(OSError):
                self._write(HEADER.pack(len(content), ANSWER, number), content)

    # -- blobs that are being received ------------------------------------------------------------

    def _part(self, kind: int, number: int, content: Any) -> None:
        if number not in self._uploads:
            raise WireError("a client sent parts of a blob that it did not announce")
        blob = self._uploads[number]
        if kind == END:
            del self._uploads[number]
        if blob is None:
            return
        try:
            if kind == CHUNK:
                blob.write(content)
                return
            blob.finish()
            self._handlers.host.staged(self._owner, blob)
        except KeptError as error:
            blob.drop()
            if kind == CHUNK:
                self._uploads[number] = None
            self._fail(number, error)
        else:
            self._say(ANSWER, number, None)

    # -- answering --------------------------------------------------------------------------------

    def _fail(self, number: int, error: Exception) -> None:
        # Where it happened, for the administrator; not the message, which may hold data of the cache.
        if not isinstance(error, KeptError):
            for at in traceback.extract_tb(error.__traceback__)[-3:]:
                kind = type(error).__name__
                print(f"{kind} in {at.name}, {at.filename}:{at.lineno}", file=sys.stderr)
        with contextlib.suppress(OSError):
            self._say(ERROR, number, told(error))

    def _say(self, kind: int, number: int, value: Any) -> None:
        content = pack(value)
        self._write(HEADER.pack(len(content), kind, number), content)

    def _write(self, *parts: Any) -> None:
        # One message at a time, and all of it: `writev` may write only some of what it is given.
        with self._writing:
            views = [memoryview(part) for part in parts]
            while views:
                done = writev(self._target, views)
                while views and done >= len(views[0]):
                    done -= len(views.pop(0))
                if views:
                    views[0] = views[0][done:]


def _is_brief(request: Request) -> bool:
    # Metadata records are written before the next request is read, since a client does not wait for the answer
    # and its later requests have to find them.
    if isinstance(request, wire.Put):
        return request.kind == "meta"
    if isinstance(request, wire.Fetch):
        return len(request.keys) == 1
    return isinstance(request, (wire.Use, wire.Get, wire.Create, wire.Lease, wire.Have))
