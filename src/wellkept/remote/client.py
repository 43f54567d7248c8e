"""`https://host/namespace`: the requests of a remote cache over http; it connects again when it has to."""

from __future__ import annotations

import contextlib
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

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

_CONNECT = 15.0  # seconds
_IDLE = 30.0  # seconds for which a connection is held for the next request
_CONNECTIONS = 32
_PIECE = 256 * 1024  # bytes of a blob that are sent at once
_PACE = 1000.0  # bytes a second that an answer has to come with after the deadline


class _Message(NamedTuple):
    what: str
    method: str
    path: str
    content: bytes | Callable[[], Iterator[bytes]]
    headers: Mapping[str, str]
    sink: Sink | None = None


class HttpLine(Line):
    """A server over http.

    Args:
        where: the URL of a namespace, without a token.
        token: what the server lets in.
        deadline: see `Line`.
        context: how a server's certificate is checked.
    """

    def __init__(self, where: str, token: str | None, deadline: float, context: Any) -> None:
        super().__init__(where, deadline)
        self._token, self._context = token, context
        self._base = f"{where}/v{VERSION}/"
        self._ends = 0  # how often it was closed
        self._begin()

    def _begin(self) -> None:
        self._client: httpx.Client | None = None
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
        if wait and last is not None and not request.apart:
            last.result()
        return super().ask(request, sink, wait=wait)

    def _read(self, request: Read, sink: Sink) -> None:
        """Read a blob, going on where the connection broke."""
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
                if at == began or at >= stop:
                    raise
            else:
                return

    def _unheard(self, request: Request, content: bytes) -> None:
        # One thread asks them, so that they are done in their order.
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
        if isinstance(request, Fetch) and not first:  # a lease may have been lost with the answer
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
        client, ends = self._connected(), self._ends
        content = message.content
        try:
            made = client.build_request(
                message.method,
                self._base + message.path,
                content=content() if callable(content) else content,
                headers={**message.headers, "wellkept-owner": self.owner},
            )
            with contextlib.closing(client.send(made, stream=True)) as response:
                return self._answer(response, message)
        except httpx.ConnectError as error:
            raise StoreError(f"can't connect to {self.where}: {error}") from error
        except httpx.TimeoutException as error:
            raise self._silent(message.what) from error
        except httpx.TransportError as error:
            broken = Broken(f"{self.where}: the connection broke: {error}")
            broken.final = self._ends != ends
            raise broken from error
        except (httpx.HTTPError, httpx.InvalidURL, RuntimeError) as error:  # closed meanwhile
            broken = Broken(f"{self.where}: can't {message.what}: {error}")
            broken.final = self._ends != ends
            raise broken from error

    def _answer(self, response: httpx.Response, message: _Message) -> bytes:
        status, version = response.status_code, response.headers.get("wellkept-wire")
        if version is None:
            raise StoreError(
                f"{self.where}: what answers there is no `wellkept serve`, or it can't be reached "
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
        # What TCP lets through is one in many, and would be a wrong result.
        if response.headers.get("wellkept-digest") != digest(content):
            raise Broken(f"{self.where}: an answer was damaged on its way")
        if status == 200:
            return content
        raise raised(content, self.where)

    def _paced(self, response: httpx.Response, what: str) -> Iterator[bytes]:
        """The parts of an answer, which may not come by drops."""
        began, got = time.monotonic(), 0
        for part in response.iter_raw():
            got += len(part)
            took = time.monotonic() - began
            if took > self.deadline and got < took * _PACE:
                raise self._silent(what)
            yield part

    # -- the connections --------------------------------------------------------------------------

    def _connected(self) -> httpx.Client:
        client = self._client
        if client is not None:
            return client
        with self._guard:
            if self._client is None:
                headers = {"accept-encoding": "identity"}
                if self._token:
                    headers["authorization"] = f"Bearer {self._token}"
                # Without a context it is http://, where there is nothing to check; to make one
                # takes 20 ms.
                self._client = httpx.Client(
                    headers=headers,
                    verify=self._context if self._context is not None else False,
                    timeout=httpx.Timeout(self.deadline, connect=min(_CONNECT, self.deadline)),
                    limits=httpx.Limits(
                        max_connections=_CONNECTIONS,
                        max_keepalive_connections=_CONNECTIONS,
                        keepalive_expiry=_IDLE,
                    ),
                )
            return self._client

    def close(self) -> None:
        """End the connections, when what nobody waits for has gone; the next use makes new ones."""
        with self._guard:
            self._ends += 1
            behind, self._behind = self._behind, None
        if behind is not None:
            behind.shutdown()
        with self._guard:
            client, self._client = self._client, None
        if client is not None:
            client.close()
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
            raise WireError("an answer that is longer than any message")
        yield part


_LOCAL = re.compile(r"localhost|127(\.\d+){3}|::1|.*\.localhost", re.ASCII)


class Http(RemoteBackend):
    """What a server keeps in a namespace.

    Args:
        url: `https://[token@]host[:port]/namespace`; without a namespace, the server's `default`.
        token: what the server lets in; in place of the one in the URL.
        ca: a file of certificates to trust in place of the system's.
        deadline: seconds without an answer after which a request has failed.
        trust: decode what comes from there, signed or not.
        insecure: send the token over `http://` to another host than this one, where it can be read
            on its way.

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
            raise ConfigError("a token is visible ASCII without spaces")
        plain = base.startswith("http://")
        if plain and token and not insecure and not _LOCAL.fullmatch(host):
            raise ConfigError(
                f"{base}: over http:// a token can be read on its way: use https://, or say "
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
    """The URL without its token, the host, and the token.

    Raises:
        ConfigError: it is none of a server.
    """
    try:
        parts = urlsplit(url)
        host, port, user, password = parts.hostname, parts.port, parts.username, parts.password
    except ValueError:
        raise ConfigError("not a URL of a server: its host or port can't be read") from None
    if not host or not re.fullmatch(r"[A-Za-z0-9._:-]+", host):
        raise ConfigError("the URL of a server names its host: https://host/namespace")
    if parts.query or parts.fragment:
        raise ConfigError("the URL of a server has no query; options are given beside it")
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
