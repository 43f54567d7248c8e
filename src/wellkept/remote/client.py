"""`https://host/namespace`: a remote cache over http, with reconnection."""

from __future__ import annotations

import contextlib
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache, partial
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx

from wellkept.errors import ConfigError, KeptError, StoreError
from wellkept.remote.auth import DEFAULT, NAMESPACE
from wellkept.remote.backend import RemoteBackend
from wellkept.remote.line import Broken, Later, Line, Sink
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

# Seconds to connect: a host that does not answer is noticed long before the deadline of a slow answer.
_CONNECT = 15.0
# Seconds for which an idle connection is held. The server holds it longer, so that it does not close one just
# as a request is sent on it.
_IDLE = 30.0
_CONNECTIONS = 32
# Bytes of a blob that are sent at once.
_PIECE = 256 * 1024
# Bytes a second that an answer must reach once the deadline has passed: httpx's timeout is for each read alone,
# so a server that sends a byte now and then would never reach it.
_PACE = 1000.0


class _Message(NamedTuple):
    what: str
    method: str
    path: str
    content: bytes | Callable[[], Iterator[bytes]]
    headers: Mapping[str, str]
    sink: Sink | None = None


class _Sender:
    """The connections to a server. A client of httpx knows proxies, and takes twice as long for what a
    transport of it does, so that is asked where there is no proxy.
    """

    def __init__(self, where: str, context: Any) -> None:
        # For http:// there is no certificate to check, and httpx would take 20 ms to make a context.
        verify = context if context is not None else False
        limits = httpx.Limits(
            max_connections=_CONNECTIONS,
            max_keepalive_connections=_CONNECTIONS,
            keepalive_expiry=_IDLE,
        )
        self._client: httpx.Client | None = None
        self._transport: httpx.HTTPTransport | None = None
        if _proxied(where):
            self._client = httpx.Client(verify=verify, limits=limits)
        else:
            self._transport = httpx.HTTPTransport(verify=verify, limits=limits)

    def send(self, request: httpx.Request) -> httpx.Response:
        """Return the response, whose content is still to be read."""
        if self._transport is not None:
            return self._transport.handle_request(request)
        assert self._client is not None
        return self._client.send(request, stream=True)

    def close(self) -> None:
        """Close the connections."""
        for each in (self._client, self._transport):
            if each is not None:
                each.close()


def _proxied(where: str) -> bool:
    """Return whether there may be a proxy between here and a server."""
    proxies = getproxies()
    return any(proxies.get(kind) for kind in ("all", "http", "https")) and not proxy_bypass(
        urlsplit(where).netloc.rpartition("@")[2]
    )


# A URL takes as long to parse as a third of a request; those of verbs are always the same.
_url = lru_cache(maxsize=64)(httpx.URL)


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
        self._headers = {"accept-encoding": "identity"}
        if token:
            self._headers["authorization"] = f"Bearer {token}"
        timeouts = httpx.Timeout(deadline, connect=min(_CONNECT, deadline))
        self._timeouts = {"timeout": timeouts.as_dict()}
        self._base = f"{where}/v{VERSION}/"
        # How often `close` was called: a request whose connection breaks because of it is not sent again.
        self._ends = 0
        self._begin()

    def _begin(self) -> None:
        self._sender: _Sender | None = None
        self._behind: ThreadPoolExecutor | None = None
        self._last: Future[None] | None = None
        self._guard = threading.Lock()

    def _forked(self) -> None:
        super()._forked()
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
            part = {"range": f"bytes={at}-{stop - 1}"} if at or stop != request.size else {}
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
        verb, headers = request.verb, {"wellkept-digest": digest(content)}
        return self._exchange(_Message(verb, "POST", verb, content, headers, sink))

    def _send(self, request: Send, content: memoryview) -> None:
        def pieces() -> Iterator[bytes]:
            for at in range(0, len(content), _PIECE):
                yield bytes(content[at : at + _PIECE])

        headers = {"content-length": str(len(content)), "if-none-match": "*"}
        path = f"blobs/{request.name.hex()}"
        self._exchange(_Message("send a blob", "PUT", path, pieces, headers))

    def _exchange(self, message: _Message, first: bool = True) -> bytes:
        sender, ends = self._connected(), self._ends
        content = message.content
        try:
            made = httpx.Request(
                message.method,
                _url(self._base + message.path),
                content=content() if callable(content) else content,
                headers={**self._headers, **message.headers, "wellkept-owner": self.owner},
                extensions=self._timeouts,
            )
            with contextlib.closing(sender.send(made)) as response:
                return self._answer(response, message)
        except httpx.ConnectError as error:
            raise StoreError(f"can't connect to {self.where}: {error}") from error
        except httpx.TimeoutException as error:
            raise self._silent(message.what) from error
        except httpx.TransportError as error:
            broken = Broken(f"{self.where}: the connection broke: {error}")
            broken.final = self._ends != ends
            raise broken from error
        # httpx raises RuntimeError for a client that another thread has closed.
        except (httpx.HTTPError, httpx.InvalidURL, RuntimeError) as error:
            broken = Broken(f"{self.where}: can't {message.what}: {error}")
            broken.final = self._ends != ends
            raise broken from error

    def _answer(self, response: httpx.Response, message: _Message) -> bytes:
        status, version = response.status_code, response.headers.get("wellkept-wire")
        if version is None:
            raise StoreError(
                f"{self.where}: no `wellkept serve` answers there, or a proxy can't reach it "
                f"(status {status})"
            )
        if version != str(VERSION):
            raise another_version(self.where, version)
        parts = self._paced(response, message.what)
        if status in (200, 206) and message.sink is not None:
            for part in parts:
                message.sink(part)
            return b""
        content = b"".join(_bounded(parts))
        if status in (201, 412):
            return b""
        if status == 429:
            raise _later(response.headers.get("retry-after", "1"))
        # TCP's checksum has 16 bits and proxies are not perfect: damage that passes would be a wrong result.
        if response.headers.get("wellkept-digest") != digest(content):
            raise Broken(f"{self.where}: an answer was damaged in transfer")
        if status == 200:
            return content
        raise raised(content, self.where)

    def _paced(self, response: httpx.Response, what: str) -> Iterator[bytes]:
        """Yield the parts of an answer; raises if they come too slowly for too long."""
        began, got = time.monotonic(), 0
        for part in response.iter_raw():
            got += len(part)
            took = time.monotonic() - began
            if took > self.deadline and got < took * _PACE:
                raise self._silent(what)
            yield part

    # -- the connections --------------------------------------------------------------------------

    def _connected(self) -> _Sender:
        sender = self._sender
        if sender is not None:
            return sender
        with self._guard:
            if self._sender is None:
                self._sender = _Sender(self._base, self._context)
            return self._sender

    def close(self) -> None:
        """Close the connections, once pending requests are sent; the next use opens new ones."""
        # Counted first, so that a request that breaks from here on knows that it was closed on purpose. The
        # guard is not held while the thread ends, as it may need the guard to connect.
        with self._guard:
            self._ends += 1
            behind, self._behind = self._behind, None
        if behind is not None:
            behind.shutdown()
        with self._guard:
            sender, self._sender = self._sender, None
        if sender is not None:
            sender.close()
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
