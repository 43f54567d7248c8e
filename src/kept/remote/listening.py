"""The application on a port, with a deadline for whoever does not go on."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Any

import uvicorn
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from kept.errors import ConfigError

__all__ = ["listen", "server"]

_BACKLOG = 2048
_IDLE = 75  # seconds for which a connection is held without a request; longer than clients hold it
_GRACE = 10  # seconds that requests have to end when the server does


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0: any that is free.

    Raises:
        ConfigError: it can't.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sends without delay only where the protocol is said.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(_BACKLOG)
    except (OSError, OverflowError) as error:
        sock.close()
        raise ConfigError(f"can't listen on {host}:{port}: {error}") from error
    return sock


def server(
    app: Any, *, deadline: float, cert: str | None = None, key: str | None = None
) -> uvicorn.Server:
    """What serves, with `run(sockets=[…])` until the process is told to end.

    Args:
        deadline: seconds within which a client has to go on.

    Raises:
        ConfigError: the certificate or its key can't be used.
    """
    config = uvicorn.Config(
        app,
        http=type("Guarded", (_Guarded,), {"deadline": deadline}),
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=_IDLE,
        timeout_graceful_shutdown=_GRACE,
        ssl_certfile=cert,
        ssl_keyfile=key,
    )
    try:
        config.load()
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"can't use the certificate {cert}: {error}") from error
    return uvicorn.Server(config)


class _Guarded(AutoHTTPProtocol):  # type: ignore[misc, valid-type]  # which class it is is found out
    """A connection that ends when its client begins no request, or takes no answer, in time."""

    deadline = 30.0
    _begins: asyncio.TimerHandle | None = None
    _takes: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._await_request()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is None or self.cycle.response_complete:
            self._await_request()  # a part of a request's head
        else:
            _cancel(self._begins)
            self._begins = None

    def _await_request(self) -> None:
        if self._begins is None:
            self._begins = self._in_time(self._not_begun)

    def _not_begun(self) -> None:
        self._begins = None
        if self.cycle is None or self.cycle.response_complete:
            self.transport.abort()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._takes is None:
            self._takes = self._in_time(self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        _cancel(self._takes)
        self._takes = None

    def connection_lost(self, exc: Exception | None) -> None:
        _cancel(self._begins)
        _cancel(self._takes)
        super().connection_lost(exc)

    def _in_time(self, do: Callable[[], None]) -> asyncio.TimerHandle:
        timer: asyncio.TimerHandle = self.loop.call_later(self.deadline, do)
        return timer


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
