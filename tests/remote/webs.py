"""Servers of caches over http: one in this process that counts, and real ones."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import httpx
from tests.remote.hosts import Counting
from tests.services import Service

import wellkept
from wellkept.remote.auth import Tokens
from wellkept.remote.client import Http
from wellkept.remote.listening import listen, server
from wellkept.remote.server import Limits, Web


class _One:
    """In the place of `Namespaces`: one cache, whose handlers count."""

    def __init__(self, handlers: Counting) -> None:
        self._one = handlers

    def __iter__(self) -> Any:
        return iter(["default"])

    def opened(self, name: str) -> Counting | None:
        return self._one if name == "default" else None

    handlers = opened


class _Prompt:
    """Ends a server as soon as it has to: by itself it looks ten times a second, and waits as often.

    Args:
        server: one of uvicorn's, that does not run yet.
    """

    def __init__(self, server: Any) -> None:
        self._server = server
        self._loop: asyncio.AbstractEventLoop | None = None
        self._over = asyncio.Event()
        self._begun = threading.Event()
        server.main_loop, server.shutdown = self._main_loop, self._shutdown

    def end(self) -> None:
        """Have it end, from another thread."""
        assert self._begun.wait(20)
        assert self._loop is not None
        with contextlib.suppress(RuntimeError):  # it has ended
            self._loop.call_soon_threadsafe(self._over.set)

    async def _main_loop(self) -> None:
        self._loop = asyncio.get_running_loop()
        await self._server.on_tick(0)
        self._begun.set()
        await self._over.wait()

    async def _shutdown(self, sockets: Any = None) -> None:
        state = self._server.server_state
        for each in (*self._server.servers, *(sockets or ())):
            each.close()
        for connection in list(state.connections):
            connection.shutdown()
        deadline = time.monotonic() + 10
        while (state.connections or state.tasks) and time.monotonic() < deadline:
            await asyncio.sleep(0.002)


class WebServed:
    """Serves a cache over a real port of this host, in threads of this process."""

    def __init__(
        self,
        url: str | Path | wellkept.Cache,
        right: str = "admin",
        *,
        limits: Limits | None = None,
        secured: tuple[str, str] | None = None,
        **options: Any,
    ) -> None:
        self.cache = url if isinstance(url, wellkept.Cache) else wellkept.open(url)
        self.handlers = Counting(self.cache, **options)
        self.tokens = Tokens(Path.cwd() / f"tokens-{id(self)}.json")
        self.token = self.tokens.add("tests", {"default": right})
        limits = limits or Limits()
        web = Web(_One(self.handlers), self.tokens, limits)  # type: ignore[arg-type]  # stands in for them
        cert, key = secured or (None, None)
        self._sock = listen("127.0.0.1", 0)
        self._server = server(web.app, deadline=limits.deadline, cert=cert, key=key)
        self._prompt = _Prompt(self._server)
        scheme = "http" if secured is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self._sock.getsockname()[1]}"
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._sock]}, daemon=True
        )
        self._thread.start()
        self._pid = os.getpid()

    def since(self) -> list[str]:
        """What it was asked since the last time, and somebody waited for."""
        asked, self.handlers.asked = self.handlers.asked, []
        return asked

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def backend(self, port: int | None = None, **options: Any) -> Http:
        """A client's backend; `port` is of what stands between."""
        url = self.url.replace(f":{self.port}", f":{port or self.port}")
        return Http(url, token=self.token, **options)

    def client(self, *, memory: int | str = "256 MB", **options: Any) -> wellkept.Cache:
        """A client's cache; see `backend`."""
        return wellkept.Cache(backend=self.backend(**options), memory=memory)

    def cut(self) -> None:
        """Break all connections."""
        for connection in list(self._server.server_state.connections):
            with contextlib.suppress(AttributeError):  # it has just begun, or ended
                connection.loop.call_soon_threadsafe(connection.transport.abort)
        until(lambda: not self._server.server_state.connections)

    def raw(self, token: str | None = None, **options: Any) -> httpx.Client:
        """A client of the server that knows nothing of kept."""
        headers = {"authorization": f"Bearer {self.token if token is None else token}"}
        if token == "":
            headers = {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=30.0, **options)

    def close(self) -> None:
        if os.getpid() != self._pid:
            return
        self._prompt.end()
        self._thread.join(20)
        self._sock.close()
        self.handlers.close()
        self.cache.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class WebService(Service):
    """`wellkept serve`, a process of its own, that serves namespaces below its directory.

    Args:
        grants: names of tokens to what each may.
        secured: the certificate, where `options` name one.
        options: of `wellkept serve`.
        served: namespaces to what is served; by default `default` in a directory.
    """

    def __init__(
        self,
        grants: Mapping[str, Mapping[str, str]],
        *options: str,
        served: Mapping[str, str] | None = None,
        program: list[str] | None = None,
        secured: str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.tokens: dict[str, str] = {}
        self._grants = grants
        self._more = dict(environment or {})
        python = [sys.executable]
        run = program or ["-m", "wellkept", "serve"]

        def command(directory: Path, port: int) -> list[str | Path]:
            places = [f"{name}={at}" for name, at in (served or {"default": "./cache"}).items()]
            file = str(directory / "tokens.json")
            listening = ["--listen", f"127.0.0.1:{port}", "--tokens", file]
            return [*python, *run, *places, *listening, *options]

        scheme = "http" if secured is None else "https"

        def answers(port: int) -> None:
            check = ssl.create_default_context(cafile=secured)
            url = f"{scheme}://127.0.0.1:{port}/health"
            httpx.get(url, timeout=5.0, verify=check).raise_for_status()

        super().__init__(
            "wellkept-serve",
            command,
            answers,
            url=scheme + "://127.0.0.1:{port}",
            prepare=self._prepare,
        )

    def _prepare(self, service: Service) -> None:
        known = Tokens(service.directory / "tokens.json")
        self.tokens = {name: known.add(name, rights) for name, rights in self._grants.items()}

    def _environment(self) -> dict[str, str]:
        source = str(Path(wellkept.__file__).parents[1])
        return {**super()._environment(), "PYTHONPATH": source, **self._more}

    @property
    def pid(self) -> int:
        """Of the server: who starts it has become it."""
        assert self._process is not None
        return self._process.pid

    def open(self, name: str, namespace: str = "default", **options: Any) -> wellkept.Cache:
        """A cache of a client with that token."""
        options = {"memory": 0, **options}
        return wellkept.open(f"{self.url}/{namespace}", token=self.tokens[name], **options)


class Anywhere(WebService):
    """Serves every directory of this machine, at its own path; see `anywhere.py`."""

    def __init__(self) -> None:
        program = str(Path(__file__).with_name("anywhere.py"))
        super().__init__({"all": {"*": "admin"}}, program=[program])

    @property
    def options(self) -> dict[str, str]:
        """What `wellkept.open` takes beside the URL, which is this one's and a path."""
        return {"token": self.tokens["all"]}


def until(true: Any, patience: float = 20.0) -> None:
    """Wait for something to be so."""
    deadline = time.monotonic() + patience
    while not true():
        assert time.monotonic() < deadline, "it did not come to be"
        time.sleep(0.01)
