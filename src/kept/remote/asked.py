"""A request to the server, once it is let in: what it is about, what it sends, how it is refused."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NamedTuple

from starlette.requests import Request
from starlette.responses import Response

from kept.errors import ConfigError, DamagedValue, NotKept, StoreError
from kept.remote.desk import Desk
from kept.remote.digests import digest
from kept.remote.errors import Refused, told
from kept.remote.frames import LONGEST, VERSION
from kept.remote.wire import WireError, pack

__all__ = ["HEADERS", "MEDIA_TYPE", "Asked", "Limits", "Turned", "failed", "log", "message"]

MEDIA_TYPE = "application/x-kept"
HEADERS = {"kept-wire": str(VERSION), "cache-control": "no-store"}
PACE = 64 * 1024
"""Bytes that a client has to send within a deadline."""
_STATUS: tuple[tuple[type[Exception], int], ...] = (
    (Refused, 403),
    (WireError, 400),
    (ConfigError, 400),
    (NotKept, 404),
    (DamagedValue, 422),
    (StoreError, 503),
)
log = logging.getLogger("kept.serve")


class Limits(NamedTuple):
    """How much a client may ask for."""

    largest: int = 16 * 1024**3
    """Bytes of the largest blob."""
    rate: float = 0.0
    """Requests a second of each token, on average; 0: any."""
    deadline: float = 30.0
    """Seconds within which a client has to go on sending, or taking."""
    threads: int = 16
    """Requests of a namespace that are worked on at the same time."""
    readonly: bool = False
    """Whatever a token grants, nothing is changed."""


class Turned(Exception):  # noqa: N818  says what happened
    """A request that is not even looked at."""

    def __init__(self, status: int, error: Exception, **headers: str) -> None:
        super().__init__(str(error))
        self.status, self.error, self.headers = status, error, headers


class Asked(NamedTuple):
    """A request that was let in."""

    request: Request
    desk: Desk
    namespace: str
    owner: str
    right: str
    limits: Limits
    do: Callable[..., Awaitable[Any]]
    """Runs a function in one of the server's threads."""

    async def sent(self, most: int) -> AsyncIterator[bytes]:
        """The parts of what comes with it: at a pace, and not too much.

        Raises:
            Turned: it is too much, or does not come in time.
        """
        said = self.request.headers.get("content-length", "0")
        if not said.isdecimal() or int(said) > most:
            raise Turned(413, Refused(f"too large: {said[:20]} bytes, where {most:,} is the most"))
        got = mark = 0
        clock = asyncio.get_running_loop().time
        ends = clock() + self.limits.deadline
        parts = self.request.stream()
        while True:
            try:
                async with asyncio.timeout_at(ends):
                    part = await anext(parts, b"")
            except TimeoutError:
                raise Turned(408, StoreError("the request did not come in time")) from None
            if not part:
                return
            got += len(part)
            if got > most:
                raise Turned(413, Refused(f"too large: {most:,} bytes is the most"))
            if got - mark >= PACE:
                mark, ends = got, clock() + self.limits.deadline
            yield part

    async def whole(self) -> bytes:
        """All that comes with it, which is one message; raises as `sent`."""
        content = b"".join([part async for part in self.sent(LONGEST)])
        if self.request.headers.get("kept-digest", said := digest(content)) != said:
            raise Turned(400, WireError("the request was damaged on its way"))
        return content


def failed(error: Exception, status: int = 0, **headers: str) -> Response:
    """The answer that tells of an error."""
    if not status:
        status = next((n for kind, n in _STATUS if isinstance(error, kind)), 500)
        if status == 500:
            log.error("a request failed", exc_info=error)
    return message(pack(told(error)), status, **headers)


def message(content: bytes, status: int = 200, **headers: str) -> Response:
    """An answer that is one message."""
    headers = {**HEADERS, "kept-digest": digest(content), **headers}
    return Response(content, status, headers, MEDIA_TYPE)
