"""What `kept serve` answers over http: a few verbs, for who has a token, within limits."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import anyio.to_thread
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from kept.errors import ConfigError, NotKept, StoreError
from kept.remote.asked import HEADERS, MEDIA_TYPE, PACE, Asked, Limits, Turned, failed, log, message
from kept.remote.describing import described, page
from kept.remote.desk import READ
from kept.remote.errors import Refused
from kept.remote.frames import LONGEST, VERSION
from kept.remote.metrics import Metrics
from kept.remote.namespaces import Namespaces
from kept.remote.parts import begun
from kept.remote.rates import Rates
from kept.remote.tokens import Grant, Tokens
from kept.remote.webblobs import get_blob, put_blob
from kept.remote.wire import WireError, pack, unpack
from kept.stores.base import check_key

__all__ = ["Limits", "Web"]

_OWNER = re.compile(r"[0-9a-f]{8,64}", re.ASCII)
_SMALL = 256 * 1024  # bytes of a request that needs no turn


class Web:
    """The application: `app` is what an ASGI server runs.

    Args:
        namespaces: what is served; closed by who made it.
        tokens: who may what.
    """

    def __init__(
        self, namespaces: Namespaces, tokens: Tokens, limits: Limits | None = None
    ) -> None:
        self._namespaces, self._tokens = namespaces, tokens
        self._limits = limits = limits or Limits()
        self.metrics = Metrics()
        self._rates = Rates(limits.rate)
        self._threads: dict[str, anyio.CapacityLimiter] = {}
        self._large = asyncio.Semaphore(limits.threads)
        self._health: tuple[float, bool] = (0.0, False)
        at = f"/{{namespace}}/v{VERSION}"
        self.app = Starlette(
            routes=[
                Route("/", self._page),
                Route("/openapi.json", self._description),
                Route("/health", self._healthy),
                Route("/metrics", self._measured),
                self._route(f"{at}/blobs/{{name}}", get_blob, "blob", "GET"),  # and HEAD
                self._route(f"{at}/blobs/{{name}}", put_blob, "blob.put", "PUT"),
                self._route(f"{at}/notes/{{key:path}}", self._note, "note", "GET"),
                self._route(f"{at}/notes/{{key:path}}", self._note_put, "note.put", "PUT"),
                self._route(f"{at}/{{verb}}", self._verb, "", "POST"),
            ],
            exception_handlers={404: _nowhere, 405: _nowhere},
        )

    # -- who asks ---------------------------------------------------------------------------------

    def _route(
        self, path: str, do: Callable[[Asked], Awaitable[Response]], verb: str, method: str
    ) -> Route:
        async def endpoint(request: Request) -> Response:
            began = time.perf_counter()
            name = verb or request.path_params["verb"]
            namespace = "-"  # of requests that are not let in
            self.metrics.under_way += 1
            try:
                asked = await self._admitted(request)
                namespace = asked.namespace
                response = await do(asked)
            except ClientDisconnect:
                response = Response(status_code=499)
            except Turned as turned:
                response = failed(turned.error, turned.status, **turned.headers)
            except Exception as error:  # noqa: BLE001  it is told, and written down if it is ours
                response = failed(error)
            finally:
                self.metrics.under_way -= 1
            if namespace == "-" or response.status_code in (400, 404):
                name = "-"  # or whoever asks could fill the memory with names
            said = request.headers.get("content-length", "")
            if response.status_code >= 400 and not (said.isdecimal() and int(said) <= PACE):
                response.headers["connection"] = "close"  # what is left of it is not read
            took = time.perf_counter() - began
            self.metrics.answered(namespace, name, response.status_code, took)
            sent = response.headers.get("content-length", "0")
            self.metrics.count("kept_sent_bytes_total", namespace, by=int(sent))
            if response.status_code < 400 and said.isdecimal():
                self.metrics.count("kept_received_bytes_total", namespace, by=int(said))
            return response

        return Route(path, endpoint, methods=[method])

    def _granted(self, request: Request) -> Grant:
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        try:
            grant = self._tokens.find(token.strip()) if kind.lower() == "bearer" else None
        except ConfigError as error:
            log.error("%s", error)
            raise Turned(503, StoreError("the server can't read its tokens")) from error
        if grant is None:
            what = "this token is not known" if token else "a token is needed"
            headers = {"www-authenticate": "Bearer"}
            raise Turned(401, Refused(f"{what}: ask who runs the server for one"), **headers)
        wait = self._rates.wait(grant.name)
        if wait:
            raise Turned(429, StoreError("too many requests"), **{"retry-after": f"{wait:.3f}"})
        return grant

    async def _admitted(self, request: Request) -> Asked:
        grant = self._granted(request)
        namespace = request.path_params["namespace"]
        right = grant.right(namespace)
        if right is None:  # whether there is such a namespace is not told
            raise Turned(403, Refused(f"the token {grant.name} is not for {namespace[:64]!r}"))
        desk = self._namespaces.opened(namespace)
        if desk is None:
            desk = await anyio.to_thread.run_sync(self._namespaces.desk, namespace)
        if desk is None:
            raise Turned(404, StoreError(f"there is no namespace {namespace[:64]!r}"))
        owner = request.headers.get("kept-owner", "")
        if owner and not _OWNER.fullmatch(owner):
            raise Turned(400, WireError("a client's name is 8 to 64 hex digits"))
        if self._limits.readonly:
            right = READ
        # A client can't be taken for one with another token.
        owner = f"{grant.name} {owner}"
        do = self._do(namespace)
        return Asked(request, desk, namespace, owner, right, self._limits, do)

    def _do(self, namespace: str) -> Callable[..., Awaitable[Any]]:
        """Runs functions in threads of a namespace: one whose store hangs holds up no other."""
        limiter = self._threads.get(namespace)
        if limiter is None:
            limiter = self._threads[namespace] = anyio.CapacityLimiter(self._limits.threads)
        return partial(anyio.to_thread.run_sync, limiter=limiter)

    # -- verbs ------------------------------------------------------------------------------------

    async def _verb(self, asked: Asked) -> Response:
        verb = asked.request.path_params["verb"]
        said = asked.request.headers.get("content-length", "")
        if said.isdecimal() and int(said) <= _SMALL:
            return await self._answer(asked, verb)
        async with self._large:  # so many are held in memory at a time, and no more
            return await self._answer(asked, verb)

    async def _answer(self, asked: Asked, verb: str) -> Response:
        content = await asked.whole()
        if asked.desk.streams(verb):
            parts = await asked.do(begun, asked.desk, verb, unpack(content), asked.right)
            return StreamingResponse(parts, headers=HEADERS, media_type=MEDIA_TYPE)
        answer = await asked.do(self._answered, asked, verb, content)
        return message(answer)

    def _answered(self, asked: Asked, verb: str, content: bytes) -> bytes:
        fields, most = unpack(content), self._limits.largest
        if "kept-again" in asked.request.headers and isinstance(fields, dict):
            fields["again"] = True
        sent = fields.get("blobs") if isinstance(fields, dict) else None
        if any(type(blob) is bytes and len(blob) > most for blob in sent or ()):
            raise Refused(f"too large: an array or file of more than {most:,} bytes")
        answer = asked.desk.answer(verb, fields, asked.owner, asked.right)
        if verb in ("fetch", "fetch_many"):
            for row in answer if isinstance(answer, list) else (answer,):
                there = "hit" if "frame" in row else "miss"
                self.metrics.count("kept_lookups_total", asked.namespace, f',found="{there}"')
        packed = pack(answer)
        if len(packed) > LONGEST:
            raise WireError("the answer is too long for one message")
        return packed

    # -- notes ------------------------------------------------------------------------------------

    async def _note(self, asked: Asked) -> Response:
        key = check_key(asked.request.path_params["key"])
        fields = {"keys": [key]}
        found = await asked.do(asked.desk.answer, "notes.get", fields, asked.owner, asked.right)
        if key not in found:
            raise Turned(404, NotKept(f"there is no note {key}"))
        return Response(found[key], headers=HEADERS, media_type="application/octet-stream")

    async def _note_put(self, asked: Asked) -> Response:
        key = check_key(asked.request.path_params["key"])
        verb, condition = "notes.put", asked.request.headers.get("if-none-match")
        if condition not in (None, "*"):
            raise Turned(400, WireError("a note is put, or put if there is none: If-None-Match: *"))
        item = await asked.whole()
        fields: dict[str, Any] = {"items": {key: item}}
        if condition:
            verb, fields = "notes.create", {"key": key, "item": item}
        made = await asked.do(asked.desk.answer, verb, fields, asked.owner, asked.right)
        return Response(status_code=412 if made is False else 201, headers=HEADERS)

    # -- about the server -------------------------------------------------------------------------

    async def _page(self, request: Request) -> Response:
        headers = {
            **HEADERS,
            "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'",
        }
        return HTMLResponse(page(), headers=headers)

    async def _description(self, request: Request) -> Response:
        return JSONResponse(described(), headers=HEADERS)

    async def _healthy(self, request: Request) -> Response:
        """Whether each namespace answers; who asks more than once a second is told the same."""
        now = time.monotonic()
        if now - self._health[0] > 1.0:
            self._health = now, self._health[1]
            self._health = now, await self._alive()
        well = self._health[1]
        return JSONResponse(
            {"status": "ok" if well else "failing"}, 200 if well else 503, headers=HEADERS
        )

    async def _alive(self) -> bool:
        def look(name: str) -> None:
            desk = self._namespaces.desk(name)
            if desk is not None:
                desk.place.notes.get("health")

        try:
            async with asyncio.timeout(self._limits.deadline):
                for name in list(self._namespaces):
                    await anyio.to_thread.run_sync(look, name, abandon_on_cancel=True)
        except Exception as error:  # noqa: BLE001  whatever it is, it is not well
            log.error("not well: %s", error)
            return False
        return True

    async def _measured(self, request: Request) -> Response:
        try:
            grant = self._granted(request)
        except Turned as turned:
            return failed(turned.error, turned.status, **turned.headers)

        def shown(namespace: str) -> bool:
            return grant.right(namespace) == "admin"

        if not any(right == "admin" for right in grant.rights.values()):
            return failed(Refused("the metrics are for who may administer"), 403)
        text = self.metrics.text(shown)
        return Response(text, headers=HEADERS, media_type="text/plain; version=0.0.4")


async def _nowhere(request: Request, error: Exception) -> Response:
    return failed(WireError(f"there is nothing at {request.url.path[:100]!r}"), 404)
