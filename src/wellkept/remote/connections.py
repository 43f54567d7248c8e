"""The connections of a client to a server over http, through a proxy where the environment names one."""

from __future__ import annotations

import re
import socket
import ssl
import time
import weakref
from base64 import b64encode
from collections import deque
from collections.abc import Iterator
from http.client import BadStatusLine, HTTPConnection, HTTPException, HTTPSConnection
from queue import Empty, SimpleQueue
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from wellkept._system import ready
from wellkept.errors import StoreError

# Seconds to connect: a host that does not answer is noticed long before the deadline of a slow answer.
_CONNECT = 15.0
# Seconds for which an idle connection is held. The server holds it longer, so that it does not close one just
# as a request is sent on it.
_IDLE = 30.0
_CONNECTIONS = 32
# Bytes that are sent or received at once.
_PIECE = 256 * 1024
_PORTS = {"http": 80, "https": 443}

BROKEN: tuple[type[Exception], ...] = (OSError, HTTPException)
"""What tells that a connection ended, or that what came is no answer; a `TimeoutError` that nothing came."""

# Bytes of the head of an answer, and how many heads may come before the one that counts.
_HEAD = 64 * 1024
_HEADS = 8
_STATUS = re.compile(rb"HTTP/1\.([01]) (\d{3})(?: .*)?")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*")
_LENGTH = re.compile(r"\d{1,18}", re.ASCII)
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;.*)?")


class Answer:
    """An answer to a request, whose content is still to be read.

    `http.client` takes three times as long for a head, and loses what came behind the answer.

    Args:
        sock: the connection.
        deadline: seconds within which a line has to come; for the content it is the connection's own.

    Raises:
        OSError, HTTPException: see `BROKEN`.
    """

    status: int
    headers: dict[str, str]
    whole: bool = False
    """Whether all of it was read and nothing more came, so that the connection can be used again."""

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._sock, self._deadline = sock, deadline
        # What has come, and how much of it was read.
        self._data, self._at = b"", 0
        for _ in range(_HEADS):
            first, *lines = self._until(b"\r\n\r\n").split(b"\r\n")
            found = _STATUS.fullmatch(first)
            if found is None:
                raise BadStatusLine(first[:40].decode("latin-1"))
            version, self.status = found[1], int(found[2])
            if self.status >= 200:
                break
        else:
            raise HTTPException("an answer that does not begin")
        headers: dict[str, str] = {}
        self.headers = headers
        for line in lines:
            said = _HEADER.fullmatch(line)
            if said is None:
                raise HTTPException("a header that can't be read")
            name, value = said[1].lower().decode(), said[2].decode("latin-1")
            # Whoever stands between may have taken the other one.
            if (
                name in ("content-length", "transfer-encoding")
                and headers.get(name, value) != value
            ):
                raise HTTPException(f"two of the header {name}")
            headers[name] = value
        coding, length = headers.get("transfer-encoding"), headers.get("content-length")
        if not (coding is None or coding.lower() == "chunked") or not (
            length is None or _LENGTH.fullmatch(length)
        ):
            raise HTTPException("an answer whose length can't be read")
        self._chunked = coding is not None
        self._length = None if length is None or self._chunked else int(length)
        if self.status in (204, 304):
            self._chunked, self._length = False, 0
        self._held = (
            version == b"1"
            and "close" not in headers.get("connection", "").lower()
            and (coding is None) != (length is None)
        )

    def parts(self) -> Iterator[bytes]:
        """Yield the content in parts, each as soon as it has come; raises as `Answer`."""
        if self._chunked:
            while size := self._chunk():
                yield from self._sized(size)
                if self._until(b"\r\n"):
                    raise HTTPException("a chunk that is longer than it says")
            # Trailers may follow. They are left unread, and the connection is closed.
            self._held = not self._until(b"\r\n") and self._held
        elif self._length is not None:
            yield from self._sized(self._length)
        else:
            yield self._data[self._at :]
            while part := self._sock.recv(_PIECE):
                yield part
        self.whole = self._held and self._at == len(self._data)

    def _chunk(self) -> int:
        said = _CHUNK.fullmatch(self._until(b"\r\n"))
        if said is None:
            raise HTTPException("a chunk without its length")
        return int(said[1], 16)

    def _sized(self, left: int) -> Iterator[bytes]:
        while left:
            if self._at == len(self._data):
                self._more(b"", _PIECE)
            part = self._data[self._at : self._at + left]
            self._at += len(part)
            left -= len(part)
            yield part

    def _until(self, mark: bytes) -> bytes:
        """Return what comes before a mark, and go on behind it."""
        ends = time.monotonic() + self._deadline
        while (found := self._data.find(mark, self._at, self._at + _HEAD)) < 0:
            if len(self._data) - self._at >= _HEAD:
                raise HTTPException("the head of the answer is too long")
            if time.monotonic() > ends:
                raise TimeoutError("the head of the answer did not come in time")
            self._more(self._data[self._at :], _HEAD)
        line = self._data[self._at : found]
        self._at = found + len(mark)
        return line

    def _more(self, kept: bytes, most: int) -> None:
        came = self._sock.recv(most)
        if not came:
            raise ConnectionResetError("it ended before the answer did")
        self._data, self._at = kept + came, 0


class _Seat:
    """Permission for one connection to be in use. One that an interrupt loses is replaced as it is freed."""

    __slots__ = ("_of",)

    def __init__(self, of: weakref.ref[Connections]) -> None:
        self._of = of

    def __del__(self) -> None:
        found = self._of()
        if found is not None:
            found.seats.put(type(self)(self._of))


class Link:
    """A connection in use."""

    __slots__ = ("_seat", "sock")

    def __init__(self, seat: _Seat, sock: socket.socket) -> None:
        self._seat: _Seat | None = seat
        self.sock = sock

    def leave(self) -> None:
        """Make room for another, though this is still named by the traceback of an error."""
        self._seat = None


class Connections:
    """The connections to a server, each of which serves one request at a time.

    Args:
        where: the URL to which the paths of requests are added.
        deadline: seconds to wait for a connection, and for each step of what happens on it.
        context: the TLS context that checks the server's certificate; None for `http://`.

    Raises:
        StoreError: the environment names a proxy that can't be used.
    """

    target: str
    """What a request names before its path."""
    headers: str
    """Lines that belong into the head of each request."""

    def __init__(self, where: str, deadline: float, context: ssl.SSLContext | None) -> None:
        parts = urlsplit(where)
        self._where, self._deadline, self._context = parts, deadline, context
        self._proxy = _proxy(parts)
        self.target, self.headers = parts.path, f"host: {parts.netloc}\r\n"
        # Through a proxy https goes in a tunnel, where the server is asked as if there were none.
        if self._proxy is not None and context is None:
            self.target = where
            self.headers += "".join(f"{k}: {v}\r\n" for k, v in _permission(self._proxy).items())
        self.seats: SimpleQueue[_Seat] = SimpleQueue()
        for _ in range(_CONNECTIONS):
            self.seats.put(_Seat(weakref.ref(self)))
        # The last one used is the first to be used again, so that those which are not needed become old.
        self._idle: deque[tuple[socket.socket, float]] = deque()
        self._open = True

    def take(self) -> Link:
        """Return a connection, for this thread alone until it is given back.

        Raises:
            StoreError: there is no connection to the server.
            TimeoutError: none came to be in time.
        """
        try:
            seat: _Seat | None = self.seats.get(timeout=self._deadline)
        except Empty:
            raise TimeoutError("every connection is in use") from None
        assert seat is not None
        try:
            while (kept := _last(self._idle)) is not None:
                sock, since = kept
                if time.monotonic() - since < _IDLE and not _readable(sock):
                    return Link(seat, sock)
                sock.close()
            return Link(seat, self._connect())
        finally:
            # Or the traceback of an error would hold it.
            seat = None

    def give(self, link: Link, *, again: bool) -> None:
        """Give a connection back.

        Args:
            link: the connection.
            again: whether its last answer was read to the end and the server holds it; otherwise it is
                closed, as what is left of that answer would be taken for the next.
        """
        if again and self._open:
            self._idle.append((link.sock, time.monotonic()))
        else:
            link.sock.close()
        link.leave()
        if not self._open:
            self.close()

    def close(self) -> None:
        """Close the connections, those in use when they are given back."""
        # Without a lock, as a forked child calls it, where a lock may be held by a thread that it has not.
        self._open = False
        while (kept := _last(self._idle)) is not None:
            kept[0].close()

    def _connect(self) -> socket.socket:
        at = self._proxy or self._where
        host, port = at.hostname or "", at.port or _PORTS[at.scheme]
        timeout = min(_CONNECT, self._deadline)
        made = HTTPConnection(host, port, timeout=timeout)
        if self._context is not None or at.scheme == "https":
            context = self._context or ssl.create_default_context()
            made = HTTPSConnection(host, port, timeout=timeout, context=context)
        if self._proxy is not None and self._context is not None:
            made.set_tunnel(self._where.hostname or "", self._where.port, _permission(self._proxy))
        try:
            made.connect()
            made.sock.settimeout(self._deadline)
        except BaseException as error:
            made.close()
            # A name that is no host's is a ValueError of its encoding.
            if isinstance(error, TimeoutError) or not isinstance(error, (*BROKEN, ValueError)):
                raise
            through = f" through the proxy {host}:{port}" if self._proxy else ""
            raise StoreError(
                f"can't connect to {self._where.geturl()}{through}: {error}"
            ) from error
        sock: socket.socket = made.sock
        return sock


def send(sock: socket.socket, head: str, content: bytes | memoryview) -> None:
    """Send a request; raises `OSError`.

    The deadline is for each part that the other side takes, however long the whole is.
    """
    first = head.encode("ascii")
    # A small request is one packet, or the server would be woken twice.
    if len(content) < _PIECE:
        first, content = first + content, b""
    for part in (first, content):
        view = memoryview(part)
        while view:
            view = view[sock.send(view[:_PIECE]) :]


def _last(idle: deque[tuple[socket.socket, float]]) -> tuple[socket.socket, float] | None:
    try:
        return idle.pop()
    except IndexError:
        return None


def _readable(sock: socket.socket) -> bool:
    """Return whether a connection that should be silent was closed, or has more than the answer."""
    if isinstance(sock, ssl.SSLSocket) and sock.pending():
        return True
    return ready(sock.fileno(), 0)


def _proxy(where: SplitResult) -> SplitResult | None:
    """Return the URL of the proxy that the environment names for a server; None if there is none."""
    proxies = getproxies()
    said = proxies.get(where.scheme) or proxies.get("all")
    if not said or proxy_bypass(where.netloc):
        return None
    try:
        proxy = urlsplit(said if "://" in said else f"http://{said}")
        usable = bool(proxy.hostname) and (proxy.port is None or proxy.port > 0)
    except ValueError:
        usable = False
    # To the proxy over TLS and through it over TLS again is more than `http.client` does.
    if not usable or proxy.scheme not in ("http", "https")[: 2 if where.scheme == "http" else 1]:
        # Without the URL, which may hold a password.
        raise StoreError(
            f"can't use the proxy for {where.scheme}:// that the environment names: give it as "
            f"http://host:port, or name {where.hostname} in no_proxy"
        )
    return proxy


def _permission(proxy: SplitResult) -> dict[str, Any]:
    if proxy.username is None:
        return {}
    said = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"proxy-authorization": f"Basic {b64encode(said.encode()).decode()}"}
