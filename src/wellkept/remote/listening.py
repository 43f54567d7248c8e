"""Sockets that listen, and uvicorn on them: a connection that does not go on in time is ended."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Any

import uvicorn
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from wellkept._system import POSIX
from wellkept.errors import ConfigError

_BACKLOG = 2048
# Seconds for which a connection is held without a request. Clients hold theirs for less: if the server closed
# first, a request could meet the closing.
_IDLE = 75
# Seconds that requests have to end when the server does.
_GRACE = 10
# Bytes of the head of a request, or of what follows its body; as `h11` has it.
_HEAD = 1 << 16
_LARGE = "The head of the request is too large."


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; with port 0 on any free one.

    Raises:
        ConfigError: it can't listen there.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sets TCP_NODELAY only on a socket whose protocol is given; without it small answers wait for the
    # client's delayed acknowledgement.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        # On Windows a second server could listen beside this one, and have some of its requests.
        if POSIX:
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
    """Return the server, whose `run(sockets=[…])` serves until the process gets a signal to end.

    Args:
        app: the ASGI application.
        deadline: seconds within which a client has to go on.
        cert, key: files of a certificate and its private key; None for plain http.

    Raises:
        ConfigError: the certificate or its key can't be used.
    """
    config = uvicorn.Config(
        app,
        interface="asgi3",
        http=type("Guarded", (_Guarded,), {"deadline": deadline}),
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,
        server_header=False,
        # Nobody asks for the client's address.
        proxy_headers=False,
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


class _Guarded(AutoHTTPProtocol):  # type: ignore[misc, valid-type]  # a class chosen at run time
    """A connection that ends when its client begins no request, or receives no answer, in time."""

    # uvicorn limits how long a connection is idle between requests, but neither how long the head of a request
    # may take nor how long a client may leave an answer unread.

    deadline = 30.0
    _begins: asyncio.TimerHandle | None = None
    _takes: asyncio.TimerHandle | None = None
    _named = _events = _partial = 0

    def connection_made(self, transport: Any) -> None:
        super().connection_made(_Joined(transport))
        self._await_request()

    def on_response_complete(self) -> None:
        self.transport.flush()
        super().on_response_complete()

    def data_received(self, data: bytes) -> None:
        events = self._events
        super().data_received(data)
        # `h11` tells of no events: it bounds a head by itself.
        self._partial = self._partial + len(data) if self._events == events else 0
        if self._events and self._partial > _HEAD and not self.transport.is_closing():
            if self.cycle is None or self.cycle.response_complete:
                self.send_400_response(_LARGE)
            else:
                self.transport.abort()
        if self.cycle is None or self.cycle.response_complete:
            # Only a part of a request's head came.
            self._await_request()
        else:
            _cancel(self._begins)
            self._begins = None

    # `httptools` keeps as much of a head, or of what follows a body, as a client sends, and calls these.

    def on_message_begin(self) -> None:
        self._named = 0
        self._events += 1
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._events += 1
        self._named += len(name) + len(value)
        if self._named > _HEAD:
            # The parser tells of it as of any head that can't be read.
            raise ValueError(_LARGE)
        super().on_header(name, value)

    def on_body(self, body: bytes) -> None:
        self._events += 1
        super().on_body(body)

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


class _Joined:
    """A transport that sends the head of an answer with what follows it: one packet in place of two.

    Args:
        transport: what sends.
    """

    def __init__(self, transport: Any) -> None:
        self._to, self._head = transport, b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._to, name)

    def write(self, data: bytes) -> None:
        """Send bytes; a head only with the next ones."""
        if self._head:
            data, self._head = self._head + data, b""
        elif data.endswith(b"\r\n\r\n") and data.startswith(b"HTTP/1.1 ") and data[9:10] != b"1":
            self._head = data
            return
        self._to.write(data)

    def flush(self) -> None:
        """Send a head that nothing follows."""
        if self._head:
            head, self._head = self._head, b""
            self._to.write(head)

    def close(self) -> None:
        """Close the connection when all is sent."""
        self.flush()
        self._to.close()


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
