"""A server in this process, and what reaches it over a real connection."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
from pathlib import Path
from typing import Any, Self

import wellkept
from wellkept.remote.handlers import Handlers
from wellkept.remote.ssh import Piped
from wellkept.remote.stdio import serve_stream
from wellkept.remote.wire import Fetch, Put, Request, Row, Send

RELAY = Path(__file__).with_name("relay.py")


class Counting(Handlers):
    """Handlers that remember what they were asked."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.asked: list[str] = []

    def answer(self, request: Request, *args: Any) -> Any:
        if not (isinstance(request, Put) and request.kind == "meta"):  # nobody waits for it
            self.asked.append(request.verb)
        return super().answer(request, *args)

    def at_hand(self, request: Fetch, *args: Any) -> list[Row] | None:
        found = super().at_hand(request, *args)
        if found is not None:
            self.asked.append(request.verb)
        return found

    def stream(self, request: Request, *args: Any) -> Any:
        self.asked.append(request.verb)
        return super().stream(request, *args)

    def upload(self, request: Send, *args: Any) -> Any:
        self.asked.append(request.verb)
        return super().upload(request, *args)


class Served:
    """Serves a cache to any number of clients, each in a thread."""

    def __init__(self, url: str | Path, right: str = "admin", **options: Any) -> None:
        self.cache = wellkept.open(url)
        self.handlers = Counting(self.cache, **options)
        self.right = right
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=50)
        self.port: int = self._listener.getsockname()[1]
        self._links: list[socket.socket] = []
        self._pid = os.getpid()
        threading.Thread(target=self._accept, daemon=True).start()

    def since(self) -> list[str]:
        """What it was asked since the last time, and somebody waited for."""
        asked, self.handlers.asked = self.handlers.asked, []
        return asked

    def backend(self, port: int | None = None, **options: Any) -> Piped:
        """A client's backend; `port` is of what stands between."""
        command = [sys.executable, "-I", "-S", str(RELAY), str(port or self.port)]
        return Piped(command, **options)

    def client(self, *, memory: int | str = "256 MB", **options: Any) -> wellkept.Cache:
        """A client's cache; see `backend`."""
        return wellkept.Cache(backend=self.backend(**options), memory=memory)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                link = self._listener.accept()[0]
                link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._links.append(link)
                threading.Thread(target=self._serve, args=(link,), daemon=True).start()

    def _serve(self, link: socket.socket) -> None:
        with contextlib.suppress(OSError):
            serve_stream(self.handlers, link.fileno(), link.fileno(), self.right)
        with contextlib.suppress(OSError):
            link.shutdown(socket.SHUT_RDWR)
        link.close()

    def cut(self) -> None:
        """Break all connections."""
        for link in self._links:
            with contextlib.suppress(OSError):
                link.shutdown(socket.SHUT_RDWR)
        self._links.clear()

    def close(self) -> None:
        if os.getpid() != self._pid:
            return
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        self.handlers.close()
        self.cache.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
