"""The cache server over http: routes, limits, streaming of blobs, metrics."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

import anyio.to_thread
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    ProcessCollector,
    generate_latest,
)
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from wellkept.errors import ConfigError, DamagedValue, NotKept, StoreError
from wellkept.remote import wire
from wellkept.remote.auth import Grant, Namespaces, Rates, Tokens
from wellkept.remote.handlers import READ, Handlers
from wellkept.remote.wire import LONGEST, VERSION, Refused, WireError, digest, pack, told


def begun(handlers: Handlers, request: wire.Request, right: str) -> Iterator[bytes]:
    """Return the parts of an answer, the first of which has been made already."""
    parts = handlers.stream(request, right)
    # Most errors come with the first part; once the status is sent, an error can only break the connection.
    return chain([next(parts, b"")], parts)


MEDIA_TYPE = "application/x-wellkept"
HEADERS = {"wellkept-wire": str(VERSION), "cache-control": "no-store"}
PACE = 64 * 1024
"""Bytes that a client has to send within a deadline."""
# Looked through from the top, so a class stands before its base.
_STATUS: tuple[tuple[type[Exception], int], ...] = (
    (Refused, 403),
    (WireError, 400),
    (ConfigError, 400),
    (NotKept, 404),
    (DamagedValue, 422),
    (StoreError, 503),
)
log: logging.Logger = logging.getLogger("wellkept.serve")


class Limits(NamedTuple):
    """Limits on what clients may ask for."""

    largest: int = 16 * 1024**3
    """Bytes of the largest blob."""
    rate: float = 0.0
    """Requests a second of each token, on average; 0: no limit."""
    deadline: float = 30.0
    """Seconds within which a client has to go on sending, or receiving."""
    threads: int = 16
    """Maximum concurrent requests of a namespace."""
    readonly: bool = False
    """Whether nothing may be changed, whatever a token grants."""


class Turned(Exception):  # noqa: N818  says what happened
    """A request that is refused by its head alone."""

    status: int
    error: Exception
    headers: dict[str, str]

    def __init__(self, status: int, error: Exception, **headers: str) -> None:
        super().__init__(str(error))
        self.status, self.error, self.headers = status, error, headers


class Asked(NamedTuple):
    """A request that was admitted."""

    request: Request
    headers: Mapping[str, str]
    handlers: Handlers
    namespace: str
    owner: str
    right: str
    limits: Limits
    do: Callable[..., Awaitable[Any]]
    """Runs a function in one of the server's threads."""

    async def sent(self, most: int) -> AsyncIterator[bytes]:
        """Yield the parts of the request's body.

        Args:
            most: bytes that the body may have.

        Raises:
            Turned: it is larger, or does not come in time.
        """
        said = self.headers.get("content-length", "0")
        if not said.isdecimal() or int(said) > most:
            raise Turned(413, Refused(f"too large: {said[:20]} bytes, where {most:,} is the most"))
        # The deadline moves on with each 64 KiB, so a slow link may take as long as it needs for a large blob,
        # while a client that sends a byte at a time can't hold a connection for ever.
        got = mark = 0
        clock = asyncio.get_running_loop().time
        ends = clock() + self.limits.deadline
        more = True
        while more:
            try:
                async with asyncio.timeout_at(ends):
                    came = await self.request.receive()
            except TimeoutError:
                raise Turned(408, StoreError("the request did not come in time")) from None
            if came["type"] == "http.disconnect":
                raise ClientDisconnect
            part, more = came.get("body", b""), came.get("more_body", False)
            got += len(part)
            if got > most:
                raise Turned(413, Refused(f"too large: {most:,} bytes is the most"))
            if got - mark >= PACE:
                mark, ends = got, clock() + self.limits.deadline
            yield part

    async def whole(self) -> bytes:
        """Return the request's body, which is one message; raises as `sent`."""
        content = b"".join([part async for part in self.sent(LONGEST)])
        if self.headers.get("wellkept-digest", said := digest(content)) != said:
            raise Turned(400, WireError("the request was damaged in transfer"))
        return content


def failed(error: Exception, status: int = 0, **headers: str) -> Response:
    """Return the response for an error."""
    if not status:
        status = next((n for kind, n in _STATUS if isinstance(error, kind)), 500)
        if status == 500:
            log.error("a request failed", exc_info=error)
    return message(pack(told(error)), status, **headers)


def message(content: bytes, status: int = 200, **headers: str) -> Response:
    """Return a response that is one message."""
    response = _Message(content, status)
    response.raw_headers = [
        *_ALIKE,
        (b"content-length", b"%d" % len(content)),
        (b"wellkept-digest", digest(content).encode()),
        *((name.encode(), value.encode("latin-1")) for name, value in headers.items()),
    ]
    return response


# What the heads of all messages say; to encode them for each takes a tenth of its time.
_ALIKE = Response(None, 204, HEADERS, MEDIA_TYPE).raw_headers


class _Message(Response):
    def init_headers(self, headers: Mapping[str, str] | None = None) -> None:
        """Leave the headers to `message`."""


_NAME = re.compile(r"[0-9a-f]{64}", re.ASCII)
_RANGE = re.compile(r"bytes=(\d{0,20})-(\d{0,20})", re.ASCII)
_SIZE = re.compile(r"\d{1,18}", re.ASCII)
# Bytes that are read at once. For a client that does not receive them, two such chunks are held in memory.
_CHUNK = 128 * 1024
# Bytes that are written at once: each write is a change of threads.
_PIECE = 1024 * 1024


async def get_blob(asked: Asked) -> Response:
    """Answer with a blob, or the range of it that is asked for."""
    request, name = asked.request, _blob_name(asked)
    # A client that knows the size spares the server a look at the store.
    said = request.query_params.get("size", "")
    size = int(said) if _SIZE.fullmatch(said) else None
    if size is None:
        size = await asked.do(asked.handlers.host.size, bytes.fromhex(name))
    if size is None:
        raise Turned(404, DamagedValue(f"the blob {name} is missing"))
    # A blob is named by its content, so its name is an exact tag.
    etag = f'"{name}"'
    headers = {**HEADERS, "etag": etag, "accept-ranges": "bytes"}
    if asked.headers.get("if-none-match") in (etag, "*"):
        return Response(status_code=304, headers=headers)
    status, start, stop = 200, 0, size
    if asked.headers.get("if-range", etag) == etag:
        ranged = _range(asked.headers.get("range", ""), size)
        if ranged is not None:
            status, (start, stop) = 206, ranged
            headers["content-range"] = f"bytes {start}-{stop - 1}/{size}"
    headers["content-length"] = str(stop - start)
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type=MEDIA_TYPE)
    read = wire.Read(bytes.fromhex(name), size, start, stop, _CHUNK)
    parts = await asked.do(begun, asked.handlers, read, asked.right)
    return StreamingResponse(parts, status, headers=headers, media_type=MEDIA_TYPE)


async def put_blob(asked: Asked) -> Response:
    """Receive a blob; it is staged until a record names it."""
    name, said = _blob_name(asked), asked.headers.get("content-length", "")
    if not _SIZE.fullmatch(said):
        raise Turned(411, WireError("a blob must be sent with its length"))
    size, most = int(said), asked.limits.largest
    if size > most:
        raise Turned(413, Refused(f"too large: {size:,} bytes, where {most:,} is the most"))
    sent = wire.Send(bytes.fromhex(name), size)
    staged = await asked.do(asked.handlers.upload, sent, asked.owner, asked.right)
    try:
        there = asked.headers.get("if-none-match") in ("*", f'"{name}"')
        if there and await asked.do(asked.handlers.host.size, sent.name) == size:
            staged.drop()
            return Response(status_code=412, headers=HEADERS)
        some, held = [], 0
        async for part in asked.sent(size):
            some.append(part)
            held += len(part)
            if held >= _PIECE:
                await asked.do(staged.write, b"".join(some))
                some, held = [], 0
        await asked.do(staged.write, b"".join(some))
        await asked.do(staged.finish)
        await asked.do(asked.handlers.host.staged, asked.owner, staged)
    # Also when the client goes away, which cancels this task: half a blob must not stay until the server ends.
    except BaseException:
        staged.drop()
        raise
    return Response(status_code=201, headers=HEADERS)


def _blob_name(asked: Asked) -> str:
    name = asked.request.path_params["name"]
    if not _NAME.fullmatch(name):
        raise Turned(400, WireError("a blob's name is 64 hex digits"))
    return str(name)


def _range(said: str, size: int) -> tuple[int, int] | None:
    """Return start and stop of the one range that is asked for; None for the whole blob.

    Raises:
        Turned: the blob has no bytes there.
    """
    # Several ranges, or a header that can't be read, may be answered with the whole (RFC 9110, 14.2).
    found = _RANGE.fullmatch(said.replace(" ", ""))
    if found is None or not (found[1] or found[2]):
        return None
    if found[1]:
        start, stop = int(found[1]), min(size, int(found[2]) + 1 if found[2] else size)
    else:
        start, stop = max(0, size - int(found[2])), size
    if start >= stop:
        headers = {"content-range": f"bytes */{size}"}
        raise Turned(416, WireError("there is no such range in the blob"), **headers)
    return start, stop


_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """Counters of a server, by namespace, and Prometheus' own of its process."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self.requests: Any = Counter(
            "wellkept_requests",
            "Requests answered, by namespace, verb and status.",
            ("namespace", "verb", "status"),
            registry=registry,
        )
        self.lookups: Any = Counter(
            "wellkept_lookups",
            "Keys that were looked for, by namespace and whether they were there.",
            ("namespace", "found"),
            registry=registry,
        )
        self.received: Any = Counter(
            "wellkept_received_bytes",
            "Bytes of requests, by namespace.",
            ("namespace",),
            registry=registry,
        )
        self.sent: Any = Counter(
            "wellkept_sent_bytes",
            "Bytes of answers, by namespace.",
            ("namespace",),
            registry=registry,
        )
        self.seconds: Any = Histogram(
            "wellkept_request_seconds",
            "How long answers took.",
            ("namespace", "verb"),
            buckets=_BOUNDS,
            registry=registry,
        )
        self.under_way: Any = Gauge(
            "wellkept_requests_under_way", "Requests that are being answered.", registry=registry
        )
        ProcessCollector(registry=registry)
        # The children of these metrics by their labels: each look-up of one takes as long as to count.
        self._counted: dict[tuple[str, str, int], tuple[Any, ...]] = {}
        self._looked: dict[tuple[str, str], Any] = {}

    def looked(self, namespace: str, found: str) -> None:
        """Count a key that was looked for."""
        looked = self._looked.get((namespace, found))
        if looked is None:
            looked = self._looked[namespace, found] = self.lookups.labels(namespace, found)
        looked.inc()

    def count(
        self, namespace: str, verb: str, status: int, took: float, sent: int, received: int
    ) -> None:
        """Count an answer: its seconds, and the bytes of it and of its request."""
        counted = self._counted.get((namespace, verb, status))
        if counted is None:
            counted = self._counted[namespace, verb, status] = (
                self.requests.labels(namespace, verb, status),
                self.seconds.labels(namespace, verb),
                self.sent.labels(namespace),
                self.received.labels(namespace),
            )
        counted[0].inc()
        counted[1].observe(took)
        counted[2].inc(sent)
        counted[3].inc(received)

    def text(self, shown: Callable[[str], bool]) -> bytes:
        """Return all metrics as Prometheus reads them, for the namespaces that may be shown."""
        return generate_latest(_Shown(self._registry, shown))


class _Shown(CollectorRegistry):
    """Those samples of a registry whose namespace may be shown."""

    def __init__(self, whole: CollectorRegistry, shown: Callable[[str], bool]) -> None:
        super().__init__()
        self._whole, self._shown = whole, shown

    def collect(self) -> Iterator[Metric]:
        for metric in self._whole.collect():
            metric.samples = [
                sample
                for sample in metric.samples
                if "namespace" not in sample.labels or self._shown(sample.labels["namespace"])
            ]
            yield metric


_OWNER = re.compile(r"[0-9a-f]{8,64}", re.ASCII)
# Requests of up to so many bytes are read at once. Of larger ones only a few may be in memory at a time: a
# hundred clients with messages of 16 MiB would take 1.6 GB.
_SMALL = 256 * 1024
# And up to so many bytes they are looked into before a thread has them.
_SHORT = 1024
# What every path of a client begins with, behind the namespace.
_AT = f"v{VERSION}"
_STREAMED = frozenset(verb for verb, kind in wire.REQUESTS.items() if kind.parts)


class Web:
    """The application; an ASGI server runs its `app`.

    Args:
        namespaces: the caches that are served; the caller closes them.
        tokens: the tokens and their rights.
        limits: see `Limits`.
    """

    def __init__(
        self, namespaces: Namespaces, tokens: Tokens, limits: Limits | None = None
    ) -> None:
        self._namespaces, self._tokens = namespaces, tokens
        self._limits = limits = limits or Limits()
        self.metrics: Metrics = Metrics()
        self._rates = Rates(limits.rate)
        self._threads: dict[str, ThreadPoolExecutor] = {}
        self._large = asyncio.Semaphore(limits.threads)
        self._health: tuple[float, bool] = (0.0, False)
        blobs = f"/{{namespace}}/{_AT}/blobs/{{name}}"
        self._others = Starlette(
            routes=[
                Route("/health", self._healthy),
                Route("/metrics", self._measured),
                # And HEAD.
                Route(blobs, self._endpoint(get_blob, "blob"), methods=["GET"]),
                Route(blobs, self._endpoint(put_blob, "blob.put"), methods=["PUT"]),
            ],
            exception_handlers={404: _nowhere, 405: _nowhere},
        )
        self._verbs = self._endpoint(self._verb)

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request, as an ASGI application."""
        # A request of a verb takes half as long without what finds its way among routes.
        if scope["type"] == "http" and scope["method"] == "POST":
            _, namespace, *rest = scope["path"].split("/")
            if namespace and len(rest) == 2 and rest[0] == _AT and rest[1]:
                scope["path_params"] = {"namespace": namespace, "verb": rest[1]}
                response = await self._verbs(Request(scope, receive))
                return await response(scope, receive, send)
        return await self._others(scope, receive, send)

    # -- clients ----------------------------------------------------------------------------------

    def _endpoint(
        self, do: Callable[[Asked], Awaitable[Response]], verb: str = ""
    ) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            began = time.perf_counter()
            name = verb or request.path_params["verb"]
            headers = {
                name.decode("latin-1"): value.decode("latin-1")
                for name, value in request.scope["headers"]
            }
            # The label of requests that are not admitted.
            namespace = "-"
            self.metrics.under_way.inc()
            try:
                asked = await self._admitted(request, headers)
                namespace = asked.namespace
                response = await do(asked)
            except ClientDisconnect:
                response = Response(status_code=499)
            except Turned as turned:
                response = failed(turned.error, turned.status, **turned.headers)
            except Exception as error:  # noqa: BLE001  the client gets it; the log too if it is a fault of ours
                response = failed(error)
            finally:
                self.metrics.under_way.dec()
            # Each label that a client can choose would be a time series more, until the memory is full.
            if namespace == "-" or response.status_code in (400, 404):
                name = "-"
            said = headers.get("content-length", "")
            # To use the connection again, the rest of a large body would have to be read.
            if response.status_code >= 400 and not (said.isdecimal() and int(said) <= PACE):
                response.headers["connection"] = "close"
            took = time.perf_counter() - began
            # What is streamed is counted where its length is known before.
            plain = not isinstance(response, StreamingResponse)
            sent = len(response.body) if plain else int(response.headers.get("content-length", "0"))
            received = int(said) if response.status_code < 400 and said.isdecimal() else 0
            self.metrics.count(namespace, name, response.status_code, took, sent, received)
            return response

        return endpoint

    def _granted(self, headers: Mapping[str, str]) -> Grant:
        kind, _, token = headers.get("authorization", "").partition(" ")
        try:
            grant = self._tokens.find(token.strip()) if kind.lower() == "bearer" else None
        except ConfigError as error:
            log.error("%s", error)  # noqa: TRY400  the line says it all; a trace tells no operator more
            raise Turned(503, StoreError("the server can't read its tokens")) from error
        if grant is None:
            what = "this token is unknown or has expired" if token else "a token is needed"
            headers = {"www-authenticate": "Bearer"}
            raise Turned(401, Refused(f"{what}: ask the server's administrator"), **headers)
        wait = self._rates.wait(grant.name)
        if wait:
            raise Turned(429, StoreError("too many requests"), **{"retry-after": f"{wait:.3f}"})
        return grant

    async def _admitted(self, request: Request, headers: Mapping[str, str]) -> Asked:
        grant = self._granted(headers)
        namespace = request.path_params["namespace"]
        right = grant.right(namespace)
        # The same answer whether or not there is such a namespace: a token must not be able to list them.
        if right is None:
            raise Turned(
                403,
                Refused(
                    f"permission denied: token {grant.name} has no right to {namespace[:64]!r}"
                ),
            )
        handlers = self._namespaces.opened(namespace)
        if handlers is None:
            handlers = await anyio.to_thread.run_sync(self._namespaces.handlers, namespace)
        if handlers is None:
            raise Turned(404, StoreError(f"there is no namespace {namespace[:64]!r}"))
        owner = headers.get("wellkept-owner", "")
        if owner and not _OWNER.fullmatch(owner):
            raise Turned(400, WireError("a client's name is 8 to 64 hex digits"))
        if self._limits.readonly:
            right = READ
        # With the token's name, a client can't use the leases and blobs of one with another token.
        owner = f"{grant.name} {owner}"
        do = self._do(namespace)
        return Asked(request, headers, handlers, namespace, owner, right, self._limits, do)

    def _do(self, namespace: str) -> Callable[..., Awaitable[Any]]:
        """Return what runs functions in a namespace's threads, so that a store that hangs stops no other."""
        pool = self._threads.get(namespace)
        if pool is None:
            pool = ThreadPoolExecutor(self._limits.threads, f"wellkept-{namespace}")
            self._threads[namespace] = pool
        return partial(_run, pool)

    # -- verbs ------------------------------------------------------------------------------------

    async def _verb(self, asked: Asked) -> Response:
        verb = asked.request.path_params["verb"]
        said = asked.headers.get("content-length", "")
        if said.isdecimal() and int(said) <= _SMALL:
            return await self._answer(asked, verb)
        async with self._large:
            return await self._answer(asked, verb)

    async def _answer(self, asked: Asked, verb: str) -> Response:
        content = await asked.whole()
        if verb in _STREAMED:
            request = wire.request(verb, content)
            parts = await asked.do(begun, asked.handlers, request, asked.right)
            return StreamingResponse(parts, headers=HEADERS, media_type=MEDIA_TYPE)
        # Where a result is at hand, two changes of threads would be half of the work.
        if verb == wire.Fetch.verb and len(content) < _SHORT:
            request = wire.unpack(content, wire.Fetch)
            rows = asked.handlers.at_hand(request, asked.right)
            if rows is not None:
                self.metrics.looked(asked.namespace, "hit")
                return message(pack(rows))
        return message(await asked.do(self._answered, asked, verb, content))

    def _answered(self, asked: Asked, verb: str, content: bytes) -> bytes:
        request, most = wire.request(verb, content), self._limits.largest
        if any(blob is not None and len(blob) > most for blob in getattr(request, "blobs", ())):
            raise Refused(f"too large: an array or file of more than {most:,} bytes")
        answer = asked.handlers.answer(request, asked.owner, asked.right)
        if isinstance(request, wire.Fetch):
            for row in answer:
                self.metrics.looked(asked.namespace, "miss" if row.envelope is None else "hit")
        return pack(answer)

    # -- about the server -------------------------------------------------------------------------

    async def _healthy(self, request: Request) -> Response:
        """Answer whether each namespace works; the answer is at most a second old."""
        now = time.monotonic()
        # /health needs no token, so it must cost nothing to ask often. The time is set before the check too, so
        # that requests which come during it do not begin another.
        if now - self._health[0] > 1.0:
            self._health = now, self._health[1]
            self._health = now, await self._alive()
        well = self._health[1]
        return JSONResponse(
            {"status": "ok" if well else "failing"}, 200 if well else 503, headers=HEADERS
        )

    async def _alive(self) -> bool:
        def look(name: str) -> None:
            handlers = self._namespaces.handlers(name)
            if handlers is not None:
                handlers.backend.notes.get("health")

        try:
            async with asyncio.timeout(self._limits.deadline):
                for name in list(self._namespaces):
                    await anyio.to_thread.run_sync(look, name, abandon_on_cancel=True)
        except Exception as error:  # noqa: BLE001  any failure means that the server is not healthy
            log.error("not healthy: %s", error)  # noqa: TRY400  the line says it all; a trace tells no more
            return False
        return True

    async def _measured(self, request: Request) -> Response:
        try:
            grant = self._granted(request.headers)
        except Turned as turned:
            return failed(turned.error, turned.status, **turned.headers)

        def shown(namespace: str) -> bool:
            return grant.right(namespace) == "admin"

        if not any(right == "admin" for right in grant.rights.values()):
            return failed(Refused("permission denied: /metrics needs 'admin'"), 403)
        text = self.metrics.text(shown)
        return Response(text, headers=HEADERS, media_type="text/plain; version=0.0.4")


async def _run(pool: ThreadPoolExecutor, function: Callable[..., Any], *args: Any) -> Any:
    job = pool.submit(function, *args)
    try:
        return await asyncio.wrap_future(job)
    except asyncio.CancelledError:
        # The caller then cleans up, such as a staged blob that the thread still writes to: it has to end first.
        if not job.cancelled():
            await asyncio.gather(asyncio.wrap_future(job), return_exceptions=True)
        raise


async def _nowhere(request: Request, error: Exception) -> Response:
    return failed(WireError(f"nothing is served at {request.url.path[:100]!r}"), 404)
