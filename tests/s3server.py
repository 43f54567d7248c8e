"""moto's S3 as a process: `python tests/s3server.py PORT [--ignore-conditions]`.

moto looks at a condition and then writes, and another request may come between, which S3 rules out.
So requests that write are let in one by one. With `--ignore-conditions` it is an endpoint that
takes no notice of `If-Match` and `If-None-Match`, as some do. While there is a file `full` in its
working directory it has no room, which moto itself never runs out of.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple


class OneByOne:
    def __init__(self, app: Callable[..., Iterable[bytes]], *, conditions: bool) -> None:
        self._app, self._conditions = app, conditions
        self._lock = threading.Lock()

    def __call__(self, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        if not self._conditions and environ["REQUEST_METHOD"] == "PUT":
            environ.pop("HTTP_IF_MATCH", None)
            environ.pop("HTTP_IF_NONE_MATCH", None)
        if environ["REQUEST_METHOD"] in ("GET", "HEAD"):
            return self._app(environ, start)
        if environ["REQUEST_METHOD"] == "PUT" and Path("full").exists():
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start("507 Insufficient Storage", [("Content-Type", "application/xml")])
            return [b"<Error><Code>QuotaExceeded</Code><Message>no room</Message></Error>"]
        with self._lock:
            return [b"".join(self._app(environ, start))]


if __name__ == "__main__":
    app = DomainDispatcherApplication(create_backend_app)
    run_simple(
        "127.0.0.1",
        int(sys.argv[1]),
        OneByOne(app, conditions="--ignore-conditions" not in sys.argv),
        threaded=True,
    )
