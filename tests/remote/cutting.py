"""What stands between a client and a server, and fails as networks and servers do."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from typing import Self


class Between:
    """Carries each connection to a port, until one of its directions fails.

    Args:
        port: where the server listens; None: there is none, and `answer` says what comes.
        answer: given each connection of a client, in the place of a server.
    """

    def __init__(
        self, port: int | None = None, answer: Callable[[socket.socket], None] | None = None
    ) -> None:
        self._port, self._answer = port, answer
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.port = self._listener.getsockname()[1]
        self.links: list[socket.socket] = []
        self.connections = 0
        self.down = self.up = -1
        """Bytes after which what comes from the server, or goes to it, fails; -1: never."""
        self.how = "end"
        """`end`, `reset`, `hang`, or `garble`: what becomes of it then."""
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client = self._listener.accept()[0]
                self.links.append(client)
                self.connections += 1
                if self._answer is not None:
                    self._start(self._answered, client)
                    continue
                server = socket.create_connection(("127.0.0.1", self._port))
                self.links.append(server)
                self._start(self._carry, server, client, "down")
                self._start(self._carry, client, server, "up")

    def _start(self, do: Callable[..., None], *args: object) -> None:
        threading.Thread(target=do, args=args, daemon=True).start()

    def _answered(self, client: socket.socket) -> None:
        assert self._answer is not None
        with contextlib.suppress(OSError), client:
            self._answer(client)

    def _carry(self, source: socket.socket, target: socket.socket, way: str) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                left = getattr(self, way)
                if 0 <= left < len(data):
                    setattr(self, way, -1)
                    if self.how == "garble":
                        data = data[:left] + bytes([data[left] ^ 0x55]) + data[left + 1 :]
                    else:
                        target.sendall(data[:left])
                        return self._fail(source, target)
                elif left > 0:
                    setattr(self, way, left - len(data))
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        return None

    def _fail(self, *both: socket.socket) -> None:
        if self.how == "hang":
            return  # what comes is not carried any more
        for link in both:
            with contextlib.suppress(OSError):
                if self.how == "reset":
                    now = struct.pack("ii", 1, 0)
                    link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, now)
                    # The thread of the other direction reads it, and keeps it open until it wakes.
                    with contextlib.suppress(OSError):
                        link.shutdown(socket.SHUT_RD)
                    link.close()
                else:
                    link.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        for link in (self._listener, *self.links):
            with contextlib.suppress(OSError):
                link.shutdown(socket.SHUT_RDWR)
            link.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
