"""Blobs over http: ranges of them out, and in once."""

from __future__ import annotations

import re
from typing import Any

from starlette.responses import Response, StreamingResponse

from kept.errors import DamagedValue
from kept.remote.asked import HEADERS, MEDIA_TYPE, Asked, Turned
from kept.remote.errors import Refused
from kept.remote.parts import begun
from kept.remote.wire import WireError

__all__ = ["get_blob", "put_blob"]

_NAME = re.compile(r"[0-9a-f]{64}", re.ASCII)
_RANGE = re.compile(r"bytes=(\d{0,20})-(\d{0,20})", re.ASCII)
_SIZE = re.compile(r"\d{1,18}", re.ASCII)
_CHUNK = (
    128 * 1024
)  # bytes that are read at once; of a client that does not take them, two are held
_PIECE = 1024 * 1024  # bytes that are written at once


async def get_blob(asked: Asked) -> Response:
    """The bytes of a blob, or the range of them that is asked for."""
    request, name = asked.request, _blob_name(asked)
    said = request.query_params.get("size", "")  # who knows it spares a look
    size = int(said) if _SIZE.fullmatch(said) else None
    if size is None:
        size = await asked.do(asked.desk.host.size, bytes.fromhex(name))
    if size is None:
        raise Turned(404, DamagedValue(f"the blob {name} is missing"))
    etag = f'"{name}"'  # named by its content, which never changes
    headers = {**HEADERS, "etag": etag, "accept-ranges": "bytes"}
    if request.headers.get("if-none-match") in (etag, "*"):
        return Response(status_code=304, headers=headers)
    status, start, stop = 200, 0, size
    if request.headers.get("if-range", etag) == etag:
        ranged = _range(request.headers.get("range", ""), size)
        if ranged is not None:
            status, (start, stop) = 206, ranged
            headers["content-range"] = f"bytes {start}-{stop - 1}/{size}"
    headers["content-length"] = str(stop - start)
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type=MEDIA_TYPE)
    fields: dict[str, Any] = {"name": bytes.fromhex(name), "size": size}
    fields |= {"start": start, "stop": stop, "piece": _CHUNK}
    parts = await asked.do(begun, asked.desk, "blob", fields, asked.right)
    return StreamingResponse(parts, status, headers=headers, media_type=MEDIA_TYPE)


async def put_blob(asked: Asked) -> Response:
    """A blob on its way in; it becomes one with the record that names it."""
    request, name = asked.request, _blob_name(asked)
    said = request.headers.get("content-length", "")
    if not _SIZE.fullmatch(said):
        raise Turned(411, WireError("a blob comes with its length"))
    size, most = int(said), asked.limits.largest
    if size > most:
        raise Turned(413, Refused(f"too large: {size:,} bytes, where {most:,} is the most"))
    fields = {"name": bytes.fromhex(name), "size": size}
    staged = await asked.do(asked.desk.upload, fields, asked.owner, asked.right)
    try:
        there = request.headers.get("if-none-match") in ("*", f'"{name}"')
        if there and await asked.do(asked.desk.host.size, fields["name"]) == size:
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
        await asked.do(asked.desk.host.staged, asked.owner, staged)
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
    """Start and stop of the one range that is asked for; None: the whole.

    Raises:
        Turned: there is nothing there.
    """
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
