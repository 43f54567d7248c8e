"""`https://host/namespace`: the http client of a cache server; it connects again when it has to."""

from __future__ import annotations

import contextlib
import os
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import httpx

from wellkept._process import Instances
from wellkept.errors import ConfigError, KeptError, StoreError
from wellkept.remote.auth import DEFAULT, NAMESPACE
from wellkept.remote.backend import RemoteBackend
from wellkept.remote.ssh import ONCE, Broken, Unanswered
from wellkept.remote.wire import LONGEST, VERSION, WireError, digest, pack, raised, unpack
from wellkept.stores.keyring import Trusts
from wellkept.stores.silence import Silence

_CONNECT = 15.0  # seconds
_IDLE = 30.0  # seconds for which a connection is held for the next request
_CONNECTIONS = 32
_PIECE = 256 * 1024  # bytes of a blob that are sent at once
_PACE = 1000.0  # bytes a second that an answer has to come with after the deadline
_APART = frozenset(("fetch", "fetch_many", "commit", "count", "beat", "blob", "send a blob"))
"""What may be answered before what was asked earlier, and nobody waits for."""
_Sink = Callable[[Any], Any]


class _Request(NamedTuple):
    verb: str
    method: str
    path: str
    content: bytes | Callable[[], Iterator[bytes]]
    headers: Mapping[str, str]
    sink: _Sink | None = None


class HttpLine:
    """A server, for all threads of this process.

    Args:
        where: the URL of a namespace, without a token.
        token: what the server lets in.
        deadline: seconds without an answer, or more of it, after which a request has failed.
        context: how a server's certificate is checked.
    """

    def __init__(self, where: str, token: str | None, deadline: float, context: Any) -> None:
        self.where, self.deadline = where, deadline
        self._token, self._context = token, context
        self._base = f"{where}/v{VERSION}/"
        self.silence = Silence()
        self.trips = 0
        """How many answers were waited for."""
        self._ends = 0  # how often it was closed
        self._forked()
        _all.add(self)

    def _forked(self) -> None:
        self.owner = os.urandom(8).hex()
        self._client: httpx.Client | None = None  # in a child, the parent's is left alone
        self._behind: ThreadPoolExecutor | None = None
        self._last: Future[None] | None = None
        self._guard = threading.Lock()

    def ask(self, verb: str, fields: Any, sink: _Sink | None = None, *, wait: bool = True) -> Any:
        """The answer to a request; asked once more where it broke and that is harmless.

        Args:
            sink: given each part of an answer that comes in parts.
            wait: whether to wait for the answer.

        Raises:
            StoreError: there is none.
            KeptError: the server told of it.
        """
        if verb == "blob" and sink is not None:
            return self._blob(fields, sink)
        content = pack(fields)
        if len(content) > LONGEST:
            raise StoreError(f"{self.where}: can't {verb}: too much for one message")
        headers = {"wellkept-digest": digest(content)}
        request = _Request(verb, "POST", verb, content, headers, sink)
        if wait:
            last = self._last
            if last is not None and verb not in _APART:
                last.result()
            return self._try(request)
        with self._guard:
            if self._behind is None:
                self._behind = ThreadPoolExecutor(1, thread_name_prefix="wellkept-behind")
            self._last = self._behind.submit(self._unheard, request)
        return None

    def _unheard(self, request: _Request) -> None:
        with contextlib.suppress(KeptError):
            self._try(request, trips=0)

    def send(self, fields: Any, content: memoryview) -> None:
        """Send a blob, unless it is there; raises as `ask`."""

        def pieces() -> Iterator[bytes]:
            for at in range(0, len(content), _PIECE):
                yield bytes(content[at : at + _PIECE])

        headers = {"content-length": str(len(content)), "if-none-match": "*"}
        path = f"blobs/{fields['name'].hex()}"
        self._try(_Request("send a blob", "PUT", path, pieces, headers))

    def _blob(self, fields: Any, sink: _Sink) -> Any:
        """A blob, gone on with where the connection broke."""
        at, stop = int(fields.get("start", 0)), fields.get("stop") or int(fields["size"])

        def take(part: Any) -> None:
            nonlocal at
            at += len(part)
            sink(part)

        path = f"blobs/{fields['name'].hex()}?size={fields['size']}"
        while True:
            began = at
            part = {"range": f"bytes={at}-{stop - 1}"} if at or stop != fields["size"] else {}
            try:
                return self._try(_Request("blob", "GET", path, b"", part, take))
            except Broken:
                if at == began or at >= stop:
                    raise

    # -- one request ------------------------------------------------------------------------------

    def _try(self, request: _Request, trips: int = 1) -> Any:
        self.silence.check()
        began, ends = time.monotonic(), self._ends
        again = request.verb not in ONCE and request.sink is None
        self.trips += trips
        while True:
            try:
                return self._once(request)
            except _Later as later:  # it was not done
                if time.monotonic() - began + later.seconds > self.deadline:
                    raise StoreError(f"{self.where}: too many requests for this token") from None
                time.sleep(later.seconds)
            except Broken:
                # One that broke while it was idle is not worth an error.
                if not again or self._ends != ends:
                    raise
                again = False
                request = request._replace(headers={**request.headers, "wellkept-again": "1"})
            except Unanswered as error:
                self.silence.note(str(error), began)
                raise

    def _once(self, request: _Request) -> Any:
        client = self._connected()
        content = request.content
        try:
            made = client.build_request(
                request.method,
                self._base + request.path,
                content=content() if callable(content) else content,
                headers={**request.headers, "wellkept-owner": self.owner},
            )
            with contextlib.closing(client.send(made, stream=True)) as response:
                return self._answer(response, request)
        except httpx.ConnectError as error:
            raise StoreError(f"can't connect to {self.where}: {error}") from error
        except httpx.TimeoutException as error:
            raise self._unanswered(request.verb) from error
        except httpx.TransportError as error:
            raise Broken(f"{self.where}: the connection broke: {error}") from error
        except (httpx.HTTPError, httpx.InvalidURL, RuntimeError) as error:  # closed meanwhile
            raise Broken(f"{self.where}: can't {request.verb}: {error}") from error

    def _unanswered(self, verb: str) -> Unanswered:
        return Unanswered(
            f"{self.where}: no answer to {verb} within {self.deadline:g} s; is it overloaded or "
            "cut off?"
        )

    def _answer(self, response: httpx.Response, request: _Request) -> Any:
        status, version = response.status_code, response.headers.get("wellkept-wire")
        if version is None:
            raise StoreError(
                f"{self.where}: what answers there is no `wellkept serve`, or it can't be reached "
                f"(status {status})"
            )
        if version != str(VERSION):
            raise StoreError(
                f"{self.where} speaks version {version[:20]} of the wire, and this kept version "
                f"{VERSION}: upgrade the older of the two"
            )
        parts = self._paced(response, request.verb)
        if status in (200, 206) and request.sink is not None:
            for part in parts:
                request.sink(part)
            return {}
        content = b"".join(_bounded(parts))
        if status in (201, 412):
            return {}
        if status == 429:
            raise _Later(response.headers.get("retry-after", "1"))
        # What TCP lets through is one in many, and would be a wrong result.
        if response.headers.get("wellkept-digest") != digest(content):
            raise Broken(f"{self.where}: an answer was damaged on its way")
        said = unpack(content)
        if status == 200:
            return said
        raise raised(said, self.where)

    def _paced(self, response: httpx.Response, verb: str) -> Iterator[bytes]:
        """The parts of an answer, which may not come by drops."""
        began, got = time.monotonic(), 0
        for part in response.iter_raw():
            got += len(part)
            took = time.monotonic() - began
            if took > self.deadline and got < took * _PACE:
                raise self._unanswered(verb)
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
        self.silence.over()


class _Later(Exception):  # noqa: N818  says what happened
    """The server asks to be asked later."""

    def __init__(self, said: str) -> None:
        super().__init__(said)
        try:
            self.seconds = min(60.0, max(0.001, float(said)))
        except ValueError:
            self.seconds = 1.0


def _bounded(parts: Iterable[bytes]) -> Iterator[bytes]:
    got = 0
    for part in parts:
        got += len(part)
        if got > LONGEST:
            raise WireError("an answer that is longer than any message")
        yield part


_all: Instances[HttpLine] = Instances(in_child=HttpLine._forked)


_LOCAL = re.compile(r"localhost|127(\.\d+){3}|::1|.*\.localhost", re.ASCII)


class Http(RemoteBackend):
    """What a server keeps in a namespace.

    Args:
        url: `https://[token@]host[:port]/namespace`; without a namespace, the server's `default`.
        token: what the server lets in; in place of the one in the URL.
        ca: a file of certificates to trust in place of the system's.
        deadline: seconds without an answer after which a request has failed.
        trust: decode what comes from there, whoever signed it or not.
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
        if not 0 < deadline < 86400:
            raise ConfigError(f"a deadline is a positive number of seconds, not {deadline!r}")
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
