"""The pages over http, for one person on this host: who may ask, and what each answer carries."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import re
import secrets
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from typing import Any, Self
from urllib.parse import parse_qsl

import anyio.to_thread
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from wellkept.caches.option_text import redacted
from wellkept.errors import AmbiguousDigest, ConfigError, KeptError, NotKept
from wellkept.kv.backends import entries_of, has_entries
from wellkept.remote.listening import listen, server
from wellkept.web import overview, preview, upkeep_pages
from wellkept.web.render import (
    HERE,
    PAGES,
    STATIC,
    Frame,
    Page,
    address,
    as_json,
    environment,
    page,
    trouble,
)
from wellkept.web.site import Site

_HOSTS = re.compile(r"(?:localhost|127\.0\.0\.1|\[::1\])(?::\d{1,5})?", re.ASCII)
"""Names of this host; the port may be another one, as through a tunnel."""
_POLICY = "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'"
_HEADERS = {
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
_THREADS = 4
# Bytes of a form.
_LARGEST = 16 * 1024
# Seconds between looks, and between signs of life.
_BEAT, _SILENT = 1.0, 15.0
_DEADLINE = 30.0


class Refused(Exception):  # noqa: N818  says what happened
    """A request that is not let in."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Web:
    """The pages of a site as an ASGI application.

    Args:
        site: what they are about.
        framed: for a notebook: whoever has the address with the token in its path is let in, in a frame
            of another page too, where no cookie is sent.
    """

    site: Site
    token: str

    def __init__(self, site: Site, *, framed: bool = False) -> None:
        self.site, self._framed = site, framed
        self.token, self._form = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
        self._ticker = Ticker(partial(_state_of, site))
        self.ends: Callable[[], bool] = lambda: False
        """Whether the server is about to end."""
        methods = ["GET", "HEAD", "POST"]
        self.app: Any = Starlette(routes=[Route("/{path:path}", self._answer, methods=methods)])
        self._limiter: Any = None

    @property
    def path(self) -> str:
        """The path of the first address."""
        return f"/~{self.token}/" if self._framed else f"/?token={self.token}"

    async def _answer(self, request: Request) -> Response:
        base, asked = "", request.url.path.lstrip("/")
        frame = self._frame(base)
        try:
            self._check_host(request)
            if asked.startswith("~"):
                first, _, asked = asked.partition("/")
                base = f"/{first}" if self._framed and self._is_token(first[1:]) else ""
                frame = self._frame(base)
            if asked.startswith("static/"):
                return self._static(asked.removeprefix("static/"))
            ask = dict(request.query_params)
            if "token" in ask and not base and request.method != "POST":
                return self._let_in(request, asked, ask)
            self._check_known(request, base)
            if asked == "events":
                return self._sent(StreamingResponse(self._events(), media_type="text/event-stream"))
            if request.method == "POST":
                return await self._post(request, base, asked)
            return await self._run(self._got, frame, asked, ask)
        except Refused as error:
            status = error.status
            return self._sent(_html(trouble(None, status, str(error), frame), status))

    def _frame(self, base: str) -> Frame:
        def link(page: str, /, **ask: Any) -> str | None:
            return address(base, page, ask)

        return Frame(link, lambda name: f"{base}/static/{name}", self._form)

    # -- who may ask ------------------------------------------------------------------------------

    def _check_host(self, request: Request) -> None:
        """Refuse other names of this host: a page of another site could reach this one by a name of its own."""
        hosts = request.headers.getlist("host")
        if len(hosts) != 1 or _HOSTS.fullmatch(hosts[0]) is None:
            raise Refused(403, "this server answers to localhost and 127.0.0.1 only")

    def _is_token(self, said: str) -> bool:
        return hmac.compare_digest(said.encode(), self.token.encode())

    def _check_known(self, request: Request, base: str) -> None:
        said = request.headers.get("authorization", "").removeprefix("Bearer ")
        if not base and not self._is_token(request.cookies.get(self._cookie(request), "") or said):
            raise Refused(403, _CLOSED)

    def _cookie(self, request: Request) -> str:
        return f"wellkept-{(request.scope.get('server') or ('', 0))[1]}"

    def _let_in(self, request: Request, asked: str, ask: Mapping[str, str]) -> Response:
        """Answer the first address, which has the token: from then on a cookie has it."""
        if not self._is_token(ask["token"]):
            raise Refused(403, _CLOSED)
        name = asked.removesuffix(".json")
        rest = {key: value for key, value in ask.items() if key != "token"}
        where = address("", asked if name in PAGES else "", rest)
        answer = RedirectResponse(where, 303)
        answer.set_cookie(self._cookie(request), self.token, httponly=True, samesite="strict")
        return self._sent(answer)

    # -- answers ----------------------------------------------------------------------------------

    def _sent(self, answer: Response) -> Response:
        for name, value in _HEADERS.items():
            answer.headers.setdefault(name, value)
        frames = "" if self._framed else "; frame-ancestors 'none'"
        answer.headers.setdefault("content-security-policy", _POLICY + frames)
        return answer

    def _static(self, name: str) -> Response:
        kind = STATIC.get(name)
        if kind is None:
            raise Refused(404, "there is no such file")
        content = (HERE / "static" / name).read_bytes()
        return self._sent(Response(content, media_type=kind))

    async def _run(self, do: Callable[..., Response], *arguments: Any) -> Response:
        if self._limiter is None:
            self._limiter = anyio.CapacityLimiter(_THREADS)
        answer = await anyio.to_thread.run_sync(do, *arguments, limiter=self._limiter)
        return self._sent(answer)

    def _got(self, frame: Frame, asked: str, ask: Mapping[str, str], note: str = "") -> Response:
        name = asked.removesuffix(".json")
        plain, name = name != asked, "" if name == "index" else name
        try:
            if asked == "image":
                return self._image(ask)
            self.site.look()
            if not self.site.ready():
                return self._soon(frame, plain)
            data = _page(name).data(self.site, ask)
            if plain:
                return Response(as_json(data), media_type="application/json")
            return _html(page(self.site, name, ask, data, frame, note))
        except KeptError as error:
            status = (
                404 if isinstance(error, NotKept) else 400 if isinstance(error, _ASKED) else 503
            )
            if plain:
                return Response(
                    as_json({"error": redacted(str(error))}), status, media_type="application/json"
                )
            return _html(trouble(self.site, status, redacted(str(error)), frame), status)
        # Whatever it is, the page says so, and the terminal what.
        except Exception as error:
            logging.getLogger("wellkept.ui").exception("a page failed: /%s", asked)
            said = f"{type(error).__name__}; the terminal has the rest"
            return _html(trouble(self.site, 500, said, frame), 500)

    def _soon(self, frame: Frame, plain: bool) -> Response:
        said = "the index by which calls are found is being made; this page has them in a moment"
        if plain:
            return Response(as_json({"error": said}), 503, {"retry-after": "2"}, "application/json")
        answer = _html(trouble(self.site, 202, said, frame), 202)
        answer.headers["refresh"] = "2"
        return answer

    def _image(self, ask: Mapping[str, str]) -> Response:
        call = self.site.cache.calls.get(self.site.cache.expand(ask.get("key", "")))
        found = None if call is None else preview.image(self.site.cache, call)
        if found is None:
            raise NotKept("its result is no image")
        kind, content = found
        return Response(
            content,
            media_type=kind,
            headers={"content-security-policy": "default-src 'none'; sandbox"},
        )

    async def _post(self, request: Request, base: str, asked: str) -> Response:
        said = request.headers.get("content-length", "")
        if not said.isdecimal() or int(said) > _LARGEST:
            raise Refused(413, "a form of a page is small")
        origin = request.headers.get("origin")
        if origin not in (None, f"http://{request.headers['host']}"):
            raise Refused(403, "a form of another site")
        form = dict(parse_qsl((await request.body()).decode(errors="replace")))
        if not hmac.compare_digest(form.get("token", "").encode(), self._form.encode()):
            raise Refused(
                403, "a form is taken only from a page of this server: load the page again"
            )
        return await self._run(self._done, self._frame(base), asked, form)

    def _done(self, frame: Frame, asked: str, form: Mapping[str, str]) -> Response:
        note = ""
        try:
            if asked == "disk":
                note = upkeep_pages.free(self.site, form)
            elif asked == "health":
                self.site.verify()
            else:
                raise Refused(404, "there is nothing to be done")
        except KeptError as error:
            status = 400 if isinstance(error, _ASKED) else 503
            return _html(trouble(self.site, status, redacted(str(error)), frame), status)
        return self._got(frame, asked, {}, note)

    async def _events(self) -> AsyncIterator[str]:
        """Yield a line whenever something changed; one ticker looks, however many read."""
        yield "retry: 3000\n\n"
        with self._ticker as ticker:
            while not self.ends():
                changed = await ticker.wait(_SILENT, self.ends)
                yield f"data: {ticker.number}\n\n" if changed else ": still here\n\n"


def _page(name: str) -> Page:
    if name not in PAGES:
        raise NotKept(f"there is no page /{name[:80]}")
    return PAGES[name]


def _html(text: str, status: int = 200) -> Response:
    return Response(text.encode(errors="replace"), status, media_type="text/html")


_ASKED = (ConfigError, AmbiguousDigest)
_CLOSED = "open the address that `wellkept ui` printed: it has a token, which this browser does not have yet"


def _state_of(site: Site) -> Any:
    """Return what differs when a page would."""
    found: list[Any] = [site.cache.token()]
    with contextlib.suppress(KeptError):
        running = overview.running(site)
        found += [[one["key"] for one in running["leases"]], running["waits"], running["runs"]]
        if has_entries(site.cache):
            found.append(entries_of(site.cache).newest())
    return repr(found)


class Ticker:
    """Looks once a second whether something changed, while anybody waits for it."""

    number: int

    def __init__(self, look: Callable[[], Any]) -> None:
        self._look, self._readers = look, 0
        self._task: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self.number = 0

    def __enter__(self) -> Self:
        self._readers += 1
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())
        return self

    def __exit__(self, *_: object) -> None:
        self._readers -= 1

    async def _run(self) -> None:
        seen = None
        while self._readers:
            found = await anyio.to_thread.run_sync(self._look)
            if seen is not None and found != seen:
                self.number += 1
                self._changed.set()
                self._changed = asyncio.Event()
            seen = found
            await asyncio.sleep(_BEAT)

    async def wait(self, patience: float, ends: Callable[[], bool]) -> bool:
        """Wait until something changed; False if nothing did in time."""
        event, clock = self._changed, asyncio.get_running_loop().time
        until = clock() + patience
        while not event.is_set() and clock() < until and not ends():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(event.wait(), _BEAT)
        return event.is_set()


class Serving:
    """A site that is served on loopback until it is closed: in the calling thread, or one of its own.

    Args:
        port: 0 for a free one.

    Raises:
        ConfigError: the port can't be had.
    """

    def __init__(self, site: Site, port: int = 0, *, framed: bool = False) -> None:
        environment()
        self.web: Web = Web(site, framed=framed)
        self._server = server(self.web.app, deadline=_DEADLINE)
        self.web.ends = lambda: self._server.should_exit
        self._sock = listen("127.0.0.1", port)
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """The first address, with the token."""
        return f"http://127.0.0.1:{self._sock.getsockname()[1]}{self.web.path}"

    def run(self) -> None:
        """Serve until the process gets a signal to end."""
        with self._sock:
            self._server.run(sockets=[self._sock])

    def start(self) -> Self:
        """Serve in a thread."""
        self._thread = threading.Thread(target=self.run, name="wellkept-ui-server", daemon=True)
        self._thread.start()
        return self

    def close(self) -> None:
        """End it, and wait a moment for what is under way."""
        self._server.should_exit = True
        if self._thread is not None:
            self._thread.join(15)
        self.web.site.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()
