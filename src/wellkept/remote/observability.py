"""What the cache server reports of itself: Prometheus metrics and an OpenAPI description."""

from __future__ import annotations

import os
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator
from html import escape
from typing import Any

from wellkept import __version__
from wellkept.remote.handlers import VERBS
from wellkept.remote.wire import VERSION

_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_HELP = {
    "wellkept_requests_total": "Requests answered, by namespace, verb and status.",
    "wellkept_lookups_total": "Keys that were looked for, by namespace and whether they were there.",
    "wellkept_received_bytes_total": "Bytes of requests, by namespace.",
    "wellkept_sent_bytes_total": "Bytes of answers, by namespace.",
}


class Metrics:
    """Counts, by namespace."""

    def __init__(self) -> None:
        self._counts: dict[str, dict[tuple[str, str], float]] = {name: {} for name in _HELP}
        self._seconds: dict[tuple[str, str], list[float]] = {}
        self._guard = threading.Lock()
        self._since = time.time()
        self.under_way = 0
        """Requests that are being answered."""

    def count(self, name: str, namespace: str, labels: str = "", by: float = 1) -> None:
        """Add to a count; `labels` as Prometheus writes them."""
        counts = self._counts[name]
        with self._guard:
            counts[namespace, labels] = counts.get((namespace, labels), 0) + by

    def answered(self, namespace: str, verb: str, status: int, seconds: float) -> None:
        """A request was answered."""
        self.count("wellkept_requests_total", namespace, f',verb="{verb}",status="{status}"')
        with self._guard:
            found = self._seconds.setdefault((namespace, verb), [0.0] * (len(_BOUNDS) + 2))
            found[bisect_left(_BOUNDS, seconds)] += 1
            found[-1] += seconds

    def text(self, shown: Callable[[str], bool]) -> str:
        """All of it, of the namespaces that may be shown."""
        with self._guard:
            lines = [*self._lines(shown)]
        return "\n".join(lines) + "\n"

    def _lines(self, shown: Callable[[str], bool]) -> Iterator[str]:
        for name, counts in self._counts.items():
            yield from (f"# HELP {name} {_HELP[name]}", f"# TYPE {name} counter")
            for (namespace, labels), n in sorted(counts.items()):
                if shown(namespace):
                    yield f'{name}{{namespace="{namespace}"{labels}}} {n:.0f}'
        name = "wellkept_request_seconds"
        yield from (f"# HELP {name} How long answers took.", f"# TYPE {name} histogram")
        for (namespace, verb), found in sorted(self._seconds.items()):
            if not shown(namespace):
                continue
            labels, sofar = f'namespace="{namespace}",verb="{verb}"', 0.0
            for bound, n in zip((*_BOUNDS, "+Inf"), found, strict=False):
                sofar += n
                yield f'{name}_bucket{{{labels},le="{bound}"}} {sofar:.0f}'
            yield f"{name}_sum{{{labels}}} {found[-1]:.6f}"
            yield f"{name}_count{{{labels}}} {sofar:.0f}"
        for gauge, told, value in (
            ("wellkept_requests_under_way", "Requests that are being answered.", self.under_way),
            ("wellkept_start_seconds", "When the server began, since the epoch.", self._since),
            ("wellkept_memory_bytes", "Resident memory of the server.", _resident()),
        ):
            yield from (f"# HELP {gauge} {told}", f"# TYPE {gauge} gauge", f"{gauge} {value:.0f}")


def _resident() -> int:
    try:
        with open("/proc/self/statm", "rb") as file:  # noqa: PTH123  a file of the kernel
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


_WIRE = "application/x-wellkept"
_ABOUT = (
    "A cache of the Python library wellkept. Bodies of type application/x-wellkept are typed messages "
    "(None, booleans, integers, floats, text, bytes, lists and mappings); the reference of wellkept "
    "says how they are written. Nothing here ever unpickles."
)
_VERBS = {
    "hello": "Nothing: whether the token is good.",
    "fetch": "A call with its result, under a key; with `lease`, the right to compute it.",
    "fetch_many": "The calls under many keys, with their results.",
    "commit": "Keep a call and its result.",
    "count": "Add to how often results were used.",
    "acquire": "Take the right to compute a key, if nobody has it.",
    "release": "Let go of it.",
    "beat": "Hold on to it.",
    "call.get": "The record of a call.",
    "call.put": "Change the record of a call.",
    "call.delete": "Forget a call.",
    "value.get": "An encoded value, without its blobs.",
    "value.put": "Keep an encoded value.",
    "value.delete": "Forget values.",
    "notes.get": "Notes, by key.",
    "notes.put": "Keep notes.",
    "notes.create": "Keep a note if there is none.",
    "notes.delete": "Forget notes.",
    "have": "Which blobs are there.",
    "mend": "Drop a blob that is damaged there, so that it can be sent again.",
    "totals": "How many calls and bytes there are.",
    "verify": "Look for damage.",
    "repair": "Look for damage, and forget what is damaged.",
    "evict": "Forget the calls of a function, or old ones.",
    "found": "How many calls fit a query.",
    "find": "The calls that fit a query.",
    "keys": "The keys of calls, values or notes.",
    "gc": "Throw away what nothing names.",
    "free": "Throw results away.",
}
_ERRORS = {
    "400": "It is no such request.",
    "401": "The token is missing or not known.",
    "403": "The token is not for this namespace, or has not the right to do that.",
    "413": "It is too large.",
    "429": "Too many requests; Retry-After says how many seconds to wait.",
    "503": "The store behind the server can't be used now.",
}


def described() -> dict[str, Any]:
    """The OpenAPI description."""
    at = f"/{{namespace}}/v{VERSION}"
    paths: dict[str, Any] = {
        f"{at}/{verb}": {
            "post": _operation(_VERBS.get(verb, verb), right, body=_WIRE, answer=_WIRE)
        }
        for verb, right in VERBS.items()
        if verb != "blob"  # which has a path of its own
    }
    name = _parameter("name", "64 hex digits: the BLAKE3 of the bytes")
    octets = "application/octet-stream"
    absent = _parameter("If-None-Match", "`*`: only if there is none", "header", required=False)
    some = _parameter("Range", "`bytes=FIRST-LAST`: a part of it", "header", required=False)
    got = {"206": "A part of it.", "304": "It is what it was.", "404": "It is missing."}
    put = {"201": "It was kept.", "412": "It is there already."}
    paths[f"{at}/blobs/{{name}}"] = {
        "parameters": [name],
        "get": _operation("The bytes of a blob.", "read", answer=octets, more=got, takes=[some]),
        "head": _operation("The length of a blob.", "read", more=got),
        "put": _operation(
            "Send a blob; it is kept with the record that names it.",
            "write",
            body=octets,
            more=put,
            takes=[absent],
        ),
    }
    paths[f"{at}/notes/{{key}}"] = {
        "parameters": [_parameter("key", "the key of a note")],
        "get": _operation("A note.", "read", answer=octets, more={"404": "There is none."}),
        "put": _operation("Keep a note.", "write", body=octets, more=put, takes=[absent]),
    }
    for path in paths.values():
        path.setdefault("parameters", []).insert(0, _parameter("namespace", "which cache"))
    paths["/health"] = {"get": _operation("Whether the server and its stores answer.", None)}
    paths["/metrics"] = {
        "get": _operation(
            "Counts and times, as Prometheus reads them.", "admin", answer="text/plain"
        )
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "wellkept serve", "version": __version__, "description": _ABOUT},
        "security": [{"token": []}],
        "paths": paths,
        "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
    }


def _parameter(
    name: str, what: str, where: str = "path", *, required: bool = True
) -> dict[str, Any]:
    return {
        "name": name,
        "in": where,
        "required": required,
        "description": what,
        "schema": {"type": "string"},
    }


def _operation(
    what: str,
    right: str | None,
    *,
    body: str = "",
    answer: str = "",
    more: dict[str, str] | None = None,
    takes: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    binary = {"schema": {"type": "string", "format": "binary"}}
    done: dict[str, Any] = {"description": "Done."}
    if answer:
        done["content"] = {answer: binary}
    errors = {**(more or {}), **(_ERRORS if right else {"503": _ERRORS["503"]})}
    made: dict[str, Any] = {
        "summary": what,
        "responses": {"200": done, **{n: {"description": text} for n, text in errors.items()}},
    }
    if right is None:
        made["security"] = []
    else:
        made["description"] = f"Takes the right to {right}."
    if body:
        made["requestBody"] = {"content": {body: binary}}
    if takes:
        made["parameters"] = takes
    return made


_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60em;margin:2em auto;padding:0 1em}"
    "table{border-collapse:collapse}td,th{text-align:left;padding:.2em 1em .2em 0;"
    "border-bottom:1px solid #ccc;vertical-align:top}code{white-space:nowrap}"
)


def page() -> str:
    """The description as HTML that needs nothing from elsewhere."""
    api = described()
    rows = []
    for path, item in api["paths"].items():
        for method, operation in item.items():
            if method == "parameters":
                continue
            right = operation.get("description", "Takes no token.")
            cells = f"{method.upper()} {path}", operation["summary"], right
            row = f"<td><code>{escape(cells[0])}</code></td>"
            row += "".join(f"<td>{escape(cell)}</td>" for cell in cells[1:])
            rows.append(f"<tr>{row}</tr>")
    info = api["info"]
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{info["title"]}</title>'
        f"<style>{_STYLE}</style><h1>wellkept serve {escape(info['version'])}</h1>"
        f"<p>{escape(info['description'])}</p>"
        '<p>The same for programs: <a href="openapi.json">openapi.json</a>.</p>'
        f"<table><tr><th>Request<th>What it does<th>Right</tr>{''.join(rows)}</table></html>\n"
    )
