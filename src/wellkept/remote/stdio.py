"""`wellkept serve --stdio`: one client over standard input and output, many requests at a time."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from wellkept.errors import KeptError
from wellkept.remote.handlers import LONG, Desk
from wellkept.remote.staging import Staged
from wellkept.remote.wire import (
    ANSWER,
    BANNER,
    CHUNK,
    END,
    ERROR,
    HEADER,
    LONGEST,
    REQUEST,
    VERSION,
    WireError,
    messages,
    pack,
    told,
    unpack,
)

__all__ = ["serve_stream"]

_SLOW = LONG | {"commit", "value.put", "found", "fetch_many", "mend"}
_TICK = 5.0  # seconds after which a client is told that its request is still at work
_THREADS = 8
_ABREAST = 64  # requests that wait for a thread; then the client has to


def serve_stream(desk: Desk, source: int, target: int, right: str = "admin") -> None:
    """Answer what comes from one descriptor on another, until it ends."""
    _Stream(desk, source, target, right).run()


class _Stream:
    def __init__(self, desk: Desk, source: int, target: int, right: str) -> None:
        self._desk, self._source, self._target, self._right = desk, source, target, right
        self._owner = os.urandom(8).hex()
        self._writing = threading.Lock()
        self._room = threading.Semaphore(_ABREAST)
        self._uploads: dict[int, Staged | None] = {}  # None: refused, and still coming

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
                        raise WireError("a client sends requests")  # noqa: TRY301  told below
            except (WireError, OSError) as error:
                with contextlib.suppress(OSError):
                    self._say(ERROR, 0, told(error))
            finally:
                for blob in self._uploads.values():
                    if blob is not None:
                        blob.drop()
                self._desk.gone(self._owner)

    def _read(self, room: memoryview) -> int:
        return os.readv(self._source, [room])

    def _request(self, pool: ThreadPoolExecutor, number: int, content: Any) -> None:
        said = unpack(content)
        if not isinstance(said, list) or len(said) != 2 or not isinstance(said[0], str):
            raise WireError("a request is a verb and its fields")
        verb, fields = said
        if verb == "blob.put":
            self._begin(number, fields)
        elif verb == "hello":
            self._hello(number, fields)
        elif verb in _SLOW or self._desk.streams(verb):
            self._room.acquire()
            pool.submit(self._slow, verb, fields, number)
        else:  # done before another thread would have begun
            self._do(verb, fields, number)

    def _slow(self, verb: str, fields: Any, number: int) -> None:
        done = threading.Event()
        if verb in LONG:
            threading.Thread(target=self._tick, args=(number, done), daemon=True).start()
        try:
            self._do(verb, fields, number)
        finally:
            done.set()
            self._room.release()

    def _tick(self, number: int, done: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while not done.wait(_TICK):
                self._write(HEADER.pack(0, CHUNK, number))

    def _do(self, verb: str, fields: Any, number: int) -> None:
        try:
            parts = self._desk.stream(verb, fields, self._right)
            if parts is None:
                answer = self._desk.answer(verb, fields, self._owner, self._right)
            else:
                for part in parts:
                    self._write(HEADER.pack(len(part), CHUNK, number), part)
                answer = {}
            content = pack(answer)
            if len(content) > LONGEST:
                raise WireError("the answer is too long for one message")  # noqa: TRY301  told like any
        except OSError:
            return  # nobody hears
        except Exception as error:  # noqa: BLE001  it is told
            self._fail(number, error)
        else:
            with contextlib.suppress(OSError):
                self._write(HEADER.pack(len(content), ANSWER, number), content)

    def _hello(self, number: int, fields: Any) -> None:
        # A client that comes back after its connection broke still holds what it held.
        owner = fields.get("owner") if isinstance(fields, dict) else None
        if isinstance(owner, str) and 8 <= len(owner) <= 64:
            self._owner = owner
        self._say(ANSWER, number, {"version": VERSION, "right": self._right})

    # -- blobs on their way in --------------------------------------------------------------------

    def _begin(self, number: int, fields: Any) -> None:
        try:
            self._uploads[number] = self._desk.upload(fields, self._owner, self._right)
        except Exception as error:  # noqa: BLE001  it is told
            self._uploads[number] = None
            self._fail(number, error)

    def _part(self, kind: int, number: int, content: Any) -> None:
        if number not in self._uploads:
            raise WireError("parts of nothing that was begun")
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
            self._desk.host.staged(self._owner, blob)
        except KeptError as error:
            blob.drop()
            if kind == CHUNK:
                self._uploads[number] = None
            self._fail(number, error)
        else:
            self._say(ANSWER, number, {})

    # -- answering --------------------------------------------------------------------------------

    def _fail(self, number: int, error: Exception) -> None:
        if not isinstance(error, KeptError):  # where, for who looks after the server; not what
            for at in traceback.extract_tb(error.__traceback__)[-3:]:
                kind = type(error).__name__
                print(f"{kind} in {at.name}, {at.filename}:{at.lineno}", file=sys.stderr)
        with contextlib.suppress(OSError):
            self._say(ERROR, number, told(error))

    def _say(self, kind: int, number: int, value: Any) -> None:
        content = pack(value)
        self._write(HEADER.pack(len(content), kind, number), content)

    def _write(self, *parts: Any) -> None:
        with self._writing:
            views = [memoryview(part) for part in parts]
            while views:
                done = os.writev(self._target, views)
                while views and done >= len(views[0]):
                    done -= len(views.pop(0))
                if views:
                    views[0] = views[0][done:]
