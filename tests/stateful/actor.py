"""One of the two processes: a cache, functions, and a clock that can be moved.

Run as a program it takes commands as lines of JSON and answers each with one.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import wellkept
from wellkept import keep

_real = time.time
TTL = 100.0


class Actor:
    """Acts on a cache at `root`; every body that runs adds a line to `log`."""

    def __init__(self) -> None:
        self.cache: wellkept.Cache | None = None
        self.offset = 0.0
        self.root = self.log = ""
        self.memory = ""
        self.nonce = ""
        self.network = False
        self.ssh: dict[str, str] = {}
        time.time = lambda: _real() + self.offset

        def body(name: str, i: int) -> Any:
            fd = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.write(fd, f"{name} {i}\n".encode())
            os.close(fd)
            return result(name, i, self.nonce)

        # The cache is chosen when a function is called, so these outlive an example.
        @keep(name="small", version=1)
        def small(i: int) -> Any:
            return body("small", i)

        @keep(name="text", version=1)
        def text(i: int) -> Any:
            return body("text", i)

        @keep(name="large", version=1)
        def large(i: int) -> Any:
            return body("large", i)

        @keep(name="brief", version=1, ttl=TTL)
        def brief(i: int) -> Any:
            return body("brief", i)

        self.functions = {f.function_name: f for f in (small, text, large, brief)}

    def do(self, what: str, *args: Any) -> Any:
        return getattr(self, "do_" + what)(*args)

    def do_reach(self, url: str, options: dict[str, str]) -> None:
        """From now on, caches are opened at that server."""
        self.ssh = {"url": url, **options}

    def do_reset(self, root: str, memory: str, network: bool, offset: float) -> None:
        if self.cache is not None:
            self.cache.close()
        self.root, self.memory, self.network, self.offset = root, memory, network, offset
        self.log = root + ".log"
        self.do_open()

    def do_open(self) -> None:
        if self.ssh:
            options: Any = dict(self.ssh)
            url = options.pop("url") + self.root
            self.cache = wellkept.open(url, memory=self.memory, **options)
        else:
            self.cache = wellkept.open(self.root, memory=self.memory, network=self.network)

    def do_reopen(self) -> None:
        assert self.cache is not None
        self.cache.close()
        self.do_open()

    def do_close(self) -> None:
        assert self.cache is not None
        self.cache.close()

    def do_flush(self) -> None:
        assert self.cache is not None
        self.cache.flush()

    def do_clock(self, offset: float) -> None:
        self.offset = offset

    def _using(self, do: Callable[[], Any]) -> Any:
        assert self.cache is not None
        with wellkept.use(self.cache):
            return do()

    def do_call(self, name: str, i: int, nonce: str) -> Any:
        self.nonce = nonce
        return self._using(lambda: changed(self.functions[name](i)))

    def do_rerun(self, name: str, i: int, nonce: str) -> Any:
        self.nonce = nonce
        return self._using(lambda: changed(self.functions[name].rerun(i)))

    def do_forget(self, name: str, i: int) -> bool:
        return self._using(lambda: self.functions[name].forget(i))

    def do_contains(self, name: str, i: int) -> bool:
        return self._using(lambda: self.functions[name].contains(i))

    def do_load(self, name: str, i: int) -> Any:
        try:
            return self._using(lambda: changed(self.functions[name].load(i)))
        except wellkept.NotKept:
            return "not kept"

    def do_evict(self, name: str) -> int:
        assert self.cache is not None
        return int(self.cache.evict(name).calls)

    def do_verify(self) -> list[str]:
        assert self.cache is not None
        return [str(problem) for problem in self.cache.verify().problems if problem.kind != "stray"]

    def do_gc(self) -> None:
        assert self.cache is not None
        self.cache.gc()

    def do_in_fork(self, what: str, *args: Any) -> Any:
        r, w = os.pipe()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                os.write(w, json.dumps(self.do(what, *args)).encode())
                status = 0
            except BaseException as error:  # noqa: BLE001  the parent sees the status
                os.write(2, f"in a fork: {error!r}\n".encode())
            finally:
                os._exit(status)
        os.close(w)
        with os.fdopen(r) as source:
            answer = source.read()
        assert os.waitpid(pid, 0)[1] == 0, "it failed in a fork"
        return json.loads(answer)


def result(name: str, i: int, nonce: str) -> Any:
    """What the function `name` computes, so that two computations can be told apart."""
    if name == "small":
        return {"of": [i, nonce]}
    if name == "text":
        return f"{i} {nonce}"
    if name == "large":
        return bytearray(f"{i:5} {nonce:>10} ".encode() * 4500)
    return (i, nonce)


def changed(value: Any) -> str:
    """What a result says; it is changed afterwards, which nobody else may notice."""
    if isinstance(value, dict):
        i, nonce = value["of"]
        value["of"].append("changed")
        return f"{i} {nonce}"
    if isinstance(value, (bytearray, memoryview)):
        i, nonce = bytes(value[:17]).decode().split()
        assert bytes(value[-17:-1]).decode().split() == [i, nonce]
        value[:17] = b"x" * 17
        return f"{i} {nonce}"
    if isinstance(value, tuple):
        return f"{value[0]} {value[1]}"
    return str(value)


def main() -> None:
    actor = Actor()
    for line in sys.stdin:
        try:
            answer = {"is": actor.do(*json.loads(line))}
        except Exception as error:  # noqa: BLE001  it is raised in the test
            import traceback

            answer = {"error": f"{error!r}\n{traceback.format_exc()}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    main()
