"""How often a hit asks a server: counted on the wire, between the client and the server."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

import numpy as np
import pytest
from tests.caches.places import Counted

import wellkept


class Wire:
    """A proxy on a port of its own, which counts the turns: what a client sends after an answer."""

    def __init__(self, port: int) -> None:
        self.turns = 0
        self._server = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._open = [self._listener]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client = self._listener.accept()[0]
                server = socket.create_connection(("127.0.0.1", self._server))
                self._open += [client, server]
                answered = threading.Event()
                answered.set()
                for source, target, asks in ((client, server, True), (server, client, False)):
                    threading.Thread(
                        target=self._carry, args=(source, target, asks, answered), daemon=True
                    ).start()

    def _carry(
        self, source: socket.socket, target: socket.socket, asks: bool, answered: threading.Event
    ) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if asks and answered.is_set():
                    answered.clear()
                    self.turns += 1
                elif not asks:
                    answered.set()
                target.sendall(data)

    def close(self) -> None:
        for one in self._open:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


@pytest.fixture(params=["postgresql", "mariadb", "redis"])
def wired(request: pytest.FixtureRequest) -> Iterator[tuple[str, Wire]]:
    parts = urlsplit(request.getfixturevalue(f"{request.param}_url"))
    assert parts.port is not None
    wire = Wire(parts.port)
    host = parts.netloc.replace(f":{parts.port}", f":{wire.port}")
    yield parts._replace(netloc=host).geturl(), wire
    wire.close()


def test_a_hit_is_one_round_trip(wired: tuple[str, Wire]) -> None:
    url, wire = wired
    with wellkept.open(url, memory=0) as cache:  # or a blob that was read once is near
        counted = Counted(lambda x: np.zeros(30_000) if x < 0 else {"x": x, "text": "a" * 50 * x})
        f = counted.into(cache, strict=True)
        for x in (0, 1000, -1):
            f(x)
        for x, trips in ((0, 1), (1000, 1), (-1, 2)):  # a blob is one more
            for _ in range(10):
                f(x)  # a driver prepares what it has seen a few times
            before = wire.turns
            for _ in range(5):
                f(x)
            assert wire.turns - before == 5 * trips
        assert counted.runs == 3
        before = wire.turns
        f(1)
        # A look, the lease's record looked for and made, a look whether somebody was faster, the
        # result, the lease's record looked at and removed.
        assert wire.turns - before <= 7
