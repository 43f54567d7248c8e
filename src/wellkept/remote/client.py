"""`https://host/namespace`: a remote cache over http, with reconnection."""

from __future__ import annotations

import contextlib
import re
import ssl
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from wellkept.errors import ConfigError, KeptError, StoreError
from wellkept.remote.auth import DEFAULT, NAMESPACE
from wellkept.remote.connections import BROKEN, Answer, Connections, send
from wellkept.remote.line import Broken, Later, Line, Sink
from wellkept.remote.remote_backend import RemoteBackend
from wellkept.remote.wire import (
    LONGEST,
    VERSION,
    Fetch,
    Read,
    Request,
    Send,
    WireError,
    another_version,
    digest,
    pack,
    raised,
)
from wellkept.stores.keyring import Trusts

# Bytes a second that an answer must reach once the deadline has passed: the deadline is for each read alone, so
# a server that sends a byte now and then would never reach it.
_PACE = 1000.0


class _Message(NamedTuple):
    what: str
    method: str
    path: str
    content: bytes | memoryview
    headers: str
    sink: Sink | None = None


class HttpLine(Line):
    """A server over http.

    Args:
        where: the URL of a namespace, without a token.
        token: the access token.
        deadline: see `Line`.
        context: the TLS context that checks the server's certificate; None for `http://`.
    """

    def __init__(self, where: str, token: str | None, deadline: float, context: Any) -> None:
        super().__init__(where, deadline)
        self._context = context
        # Stored values are compressed already, if at all; to try again would cost time.
        self._headers = "accept-encoding: identity\r\n"
        if token:
            self._headers += f"authorization: Bearer {token}\r\n"
        self._base = f"{where}/v{VERSION}/"
        self._begin()

    def _begin(self) -> None:
        self._connections: Connections | None = None
        self._behind: ThreadPoolExecutor | None = None
        self._last: Future[None] | None = None
        self._guard = threading.Lock()

    def _forked(self) -> None:
        super()._forked()
        if self._connections is not None:
            self._connections.close()
        self._begin()

    def ask(self, request: Request, sink: Sink | None = None, *, wait: bool = True) -> Any:
        """Return the answer to a request; see `Line`."""
        if isinstance(request, Read) and sink is not None:
            return self._read(request, sink)
        last = self._last
        # Requests that nobody waits for are sent by another thread; a later request has to find their effect.
        if wait and last is not None and not request.apart:
            last.result()
        return super().ask(request, sink, wait=wait)

    def _read(self, request: Read, sink: Sink) -> None:
        """Read a blob; after a broken connection, go on where it broke."""
        at = request.start
        stop = request.size if request.stop is None else request.stop

        def take(part: Any) -> None:
            nonlocal at
            at += len(part)
            sink(part)

        path = f"blobs/{request.name.hex()}?size={request.size}"
        while True:
            began = at
            part = f"range: bytes={at}-{stop - 1}\r\n" if at or stop != request.size else ""
            message = _Message("blob", "GET", path, b"", part, take)
            try:
                self._try(partial(self._exchange, message), again=False)
            except Broken:
                # Each attempt has to bring something, or a server that breaks every connection would be asked
                # for ever.
                if at == began or at >= stop:
                    raise
            else:
                return

    def _unheard(self, request: Request, content: bytes) -> None:
        # One thread sends them, so that the server does them in their order.
        with self._guard:
            if self._behind is None:
                self._behind = ThreadPoolExecutor(1, thread_name_prefix="wellkept-behind")
            self._last = self._behind.submit(self._alone, request, content)

    def _alone(self, request: Request, content: bytes) -> None:
        def do(first: bool) -> bytes:
            return self._ask(request, content, None, first)

        with contextlib.suppress(KeptError):
            self._try(do, again=not request.once, trips=0)

    # -- one request ------------------------------------------------------------------------------

    def _ask(self, request: Request, content: bytes, sink: Sink | None, first: bool) -> bytes:
        # The server may have given the lease in an answer that was lost; it tells by this flag that the client
        # may hold it already.
        if isinstance(request, Fetch) and not first:
            request.again = True
            content = pack(request)
        verb, headers = request.verb, f"wellkept-digest: {digest(content)}\r\n"
        return self._exchange(_Message(verb, "POST", verb, content, headers, sink))

    def _send(self, request: Send, content: memoryview) -> None:
        path = f"blobs/{request.name.hex()}"
        self._exchange(_Message("send a blob", "PUT", path, content, "if-none-match: *\r\n"))

    def _exchange(self, message: _Message, first: bool = True) -> bytes:
        connections, answer = self._connected(), None
        try:
            link = connections.take()
        except TimeoutError as error:
            raise self._silent(message.what) from error
        try:
            length = f"content-length: {len(message.content)}\r\n" * (message.method != "GET")
            head = (
                f"{message.method} {connections.target}{message.path} HTTP/1.1\r\n"
                f"{connections.headers}{self._headers}wellkept-owner: {self.owner}\r\n"
                f"{message.headers}{length}\r\n"
            )
            try:
                # A server that refuses a long request answers and takes no more of it.
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    send(link.sock, head, message.content)
                answer = Answer(link.sock, self.deadline)
            except BROKEN as error:
                raise self._failed(error, message.what) from error
            return self._answer(answer, message)
        finally:
            connections.give(link, again=answer is not None and answer.whole)

    def _failed(self, error: Exception, what: str) -> StoreError:
        if isinstance(error, TimeoutError):
            return self._silent(what)
        return Broken(f"{self.where}: the connection broke: {str(error) or type(error).__name__}")

    def _answer(self, answer: Answer, message: _Message) -> bytes:
        status, version = answer.status, answer.headers.get("wellkept-wire")
        if version is None:
            raise StoreError(
                f"{self.where}: no `wellkept serve` answers there, or a proxy can't reach it "
                f"(status {status})"
            )
        if version != str(VERSION):
            raise another_version(self.where, version)
        parts = self._paced(answer, message.what)
        if status in (200, 206) and message.sink is not None:
            for part in parts:
                message.sink(part)
            return b""
        content = b"".join(_bounded(parts))
        if status in (201, 412):
            return b""
        if status == 429:
            raise _later(answer.headers.get("retry-after", "1"))
        # TCP's checksum has 16 bits and proxies are not perfect: damage that passes would be a wrong result.
        if answer.headers.get("wellkept-digest") != digest(content):
            raise Broken(f"{self.where}: an answer was damaged in transfer")
        if status == 200:
            return content
        raise raised(content, self.where)

    def _paced(self, answer: Answer, what: str) -> Iterator[bytes]:
        """Yield the parts of an answer; raises if they come too slowly for too long."""
        began, got = time.monotonic(), 0
        parts = answer.parts()
        while True:
            try:
                part = next(parts, None)
            except BROKEN as error:
                raise self._failed(error, what) from error
            if part is None:
                return
            got += len(part)
            took = time.monotonic() - began
            if took > self.deadline and got < took * _PACE:
                raise self._silent(what)
            yield part

    # -- the connections --------------------------------------------------------------------------

    def _connected(self) -> Connections:
        connections = self._connections
        if connections is not None:
            return connections
        with self._guard:
            if self._connections is None:
                self._connections = Connections(self._base, self.deadline, self._context)
            return self._connections

    def close(self) -> None:
        """Close the connections, once pending requests are sent; the next use opens new ones."""
        # The guard is not held while the thread ends, as it may need the guard to connect.
        with self._guard:
            behind, self._behind = self._behind, None
        if behind is not None:
            behind.shutdown()
        with self._guard:
            connections, self._connections = self._connections, None
        if connections is not None:
            connections.close()
        super().close()


def _later(said: str) -> Later:
    try:
        return Later(min(60.0, max(0.001, float(said))))
    except ValueError:
        return Later(1.0)


def _bounded(parts: Iterable[bytes]) -> Iterator[bytes]:
    got = 0
    for part in parts:
        got += len(part)
        if got > LONGEST:
            raise WireError("the answer is longer than any message may be")
        yield part


_LOCAL = re.compile(r"localhost|127(\.\d+){3}|::1|.*\.localhost", re.ASCII)


class Http(RemoteBackend):
    """A namespace of a cache server over http.

    Args:
        url: `https://[token@]host[:port]/namespace`; without a namespace, the server's `default`.
        token: the access token, in place of the one in the URL.
        ca: a file of certificates to trust in place of the system's.
        deadline: seconds without an answer after which a request has failed.
        trust: decode values from this server, signed or not.
        insecure: send the token over `http://` to another host, although it can be read in transfer.

    Raises:
        ConfigError: the URL or an option is wrong.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        ca: str | None = None,
        deadline: float = 30.0,
        trust: bool = False,
        insecure: bool = False,
    ) -> None:
        base, host, said = _parts(url)
        token = token or said
        if token is not None and not re.fullmatch(r"[\x21-\x7e]{1,1000}", token):
            raise ConfigError("token= must be visible ASCII characters without spaces")
        plain = base.startswith("http://")
        if plain and token and not insecure and not _LOCAL.fullmatch(host):
            raise ConfigError(
                f"{base}: over http:// a token can be read in transfer: use https://, or set "
                "insecure=True"
            )
        try:
            context: Any = None if plain else ssl.create_default_context(cafile=ca)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"can't read certificates from {ca}: {error}") from error
        super().__init__(HttpLine(base, token, deadline, context), Trusts(trust))

    def __repr__(self) -> str:
        return f"Http({self.line.where!r})"


def _parts(url: str) -> tuple[str, str, str | None]:
    """Return the URL without its token, the host, and the token.

    Raises:
        ConfigError: it is not the URL of a server.
    """
    try:
        parts = urlsplit(url)
        host, port, user, password = parts.hostname, parts.port, parts.username, parts.password
    except ValueError:
        # Without the cause and the URL, which may hold the token.
        raise ConfigError("not a URL of a server: its host or port can't be read") from None
    if not host or not re.fullmatch(r"[A-Za-z0-9._:-]+", host):
        raise ConfigError("the URL of a server names its host: https://host/namespace")
    if parts.query or parts.fragment:
        raise ConfigError("the URL of a server has no query; options are arguments of their own")
    if password is not None:
        raise ConfigError("the URL of a server has a token, and no password: https://TOKEN@host/")
    segments = [part for part in parts.path.split("/") if part] or [DEFAULT]
    if not NAMESPACE.fullmatch(segments[-1]) or any(
        not re.fullmatch(r"(?!\.+\Z)[A-Za-z0-9._~-]+", part) for part in segments
    ):
        raise ConfigError(f"not a namespace: {segments[-1][:64]!r}; use a-z, 0-9, - and _")
    at = f"[{host}]" if ":" in host else host
    at += f":{port}" if port else ""
    return f"{parts.scheme.lower()}://{at}/{'/'.join(segments)}", host, user and unquote(user)
