"""A cache behind sshd, beside fleche's `SshCache` and `scp`: over a slow link, and with large arrays.
The same with `--over http`.

    python benchmarks/remote.py [--over ssh] [--delay 20] [--size 1000] [--rows trips,large]

Starts an sshd of its own on loopback, or `wellkept serve`. The slow link is a process that holds back what
goes each way by half of `--delay` milliseconds, so that a round trip takes that long. Medians of five
rounds; `--size` is in MB.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil

import wellkept

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.remote.webs import Anywhere  # noqa: E402  after the path
from tests.services import Service, ssh_options_of, start_sshd  # noqa: E402

MANY = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--delay", type=float, default=20.0)
    parser.add_argument("--size", type=int, default=1000)
    parser.add_argument("--rows", default="trips,large")
    parser.add_argument("--over", choices=["ssh", "http"], default="ssh")
    asked = parser.parse_args()
    sshd = start_sshd()
    web = Anywhere() if asked.over == "http" else None
    try:
        with tempfile.TemporaryDirectory(prefix="wellkept-bench-") as made:
            if "trips" in asked.rows:
                trips(sshd, web, Path(made), asked.delay / 1000)
            if "large" in asked.rows:
                large(sshd, web, Path(made), asked.size * 1_000_000)
    finally:
        sshd.close()
        if web is not None:
            web.close()


def opened(
    sshd: Service, web: Anywhere | None, port: int, place: Path, **more: Any
) -> wellkept.Cache:
    if web is not None:
        return wellkept.open(f"http://127.0.0.1:{port}{place}", **web.options, **more)
    return wellkept.open(f"ssh://127.0.0.1:{port}{place}", **ssh_options_of(sshd), **more)


# -- round trips ----------------------------------------------------------------------------------


def trips(sshd: Service, web: Anywhere | None, place: Path, delay: float) -> None:
    port = delayed((web or sshd).port, delay / 2)
    options = ssh_options_of(sshd)
    cache = opened(sshd, web, port, place / "far")

    @wellkept.keep(cache=cache, name="square", version=1)
    def square(x: int) -> dict[str, int]:
        return {"x": x * x}

    list(square.map(range(MANY)))
    with_map = median(lambda: list(square.map(range(MANY))))
    one = median(lambda: square(1))
    fresh = iter(range(10_000, 20_000))
    miss = median(lambda: square(next(fresh)))
    print(f"link of {delay * 1000:.0f} ms a round trip")
    print(f"  {MANY:,} hits by map   kept {with_map * 1000:8.1f} ms")
    print(f"  a hit               kept {one * 1000:8.1f} ms")
    print(f"  a miss              kept {miss * 1000:8.1f} ms")
    cache.close()
    if web is not None:
        return
    try:
        peer(port, options, place)
    except ImportError as error:
        print(f"  fleche is not here: {error}")


def peer(port: int, options: dict[str, Any], place: Path) -> None:
    from fleche import cache as using
    from fleche import fleche
    from fleche.remote import SshCache

    home = place / "fleche"
    home.mkdir()
    config = options["ssh"].split()[2]
    cache = SshCache(
        "127.0.0.1",
        python=sys.executable,
        ssh_options=("-F", config, "-p", str(port)),
        setup_commands=(f"cd {home}", f"export HOME={home} XDG_CACHE_HOME={home}"),
    )

    @fleche
    def square(x: int) -> dict[str, int]:
        return {"x": x * x}

    with using(cache):
        square(1)
        one = median(lambda: square(1))
        few = 50
        for x in range(few):
            square(x)
        many = median(lambda: [square(x) for x in range(few)]) * MANY / few
        fresh = iter(range(10_000, 20_000))
        miss = median(lambda: square(next(fresh)))
    print(f"  {MANY:,} hits          fleche {many * 1000:8.1f} ms (from {few}: it has no batches)")
    print(f"  a hit               fleche {one * 1000:8.1f} ms")
    print(f"  a miss              fleche {miss * 1000:8.1f} ms")


def median(work: Callable[[], Any], rounds: int = 5) -> float:
    work()
    taken = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def delayed(target: int, delay: float) -> int:
    """The port of a relay that holds back each byte by `delay` seconds each way."""
    ready = threading.Event()
    port = 0

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop, queue = asyncio.get_running_loop(), asyncio.Queue[tuple[float, bytes]]()

        async def write() -> None:
            while True:
                due, data = await queue.get()
                await asyncio.sleep(max(0.0, due - loop.time()))
                if not data:
                    return writer.close()
                writer.write(data)
                await writer.drain()

        task = asyncio.ensure_future(write())
        while data := await reader.read(1 << 16):
            queue.put_nowait((loop.time() + delay, data))
        queue.put_nowait((loop.time() + delay, b""))
        await task

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, there = await asyncio.open_connection("127.0.0.1", target)
        await asyncio.gather(carry(reader, there), carry(back, writer), return_exceptions=True)

    async def serve() -> None:
        nonlocal port
        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        ready.set()
        await server.serve_forever()

    threading.Thread(target=lambda: asyncio.run(serve()), daemon=True).start()
    ready.wait(10)
    return port


# -- large arrays ---------------------------------------------------------------------------------


def large(sshd: Service, web: Anywhere | None, place: Path, size: int) -> None:
    options = ssh_options_of(sshd)
    config = options["ssh"].split()[2]
    source = place / "array.bin"
    np.random.default_rng(1).integers(0, 1 << 62, size // 8).tofile(source)
    there, back = f"127.0.0.1:{place}/copy", place / "back"
    scp = ["scp", "-q", "-F", config, "-P", str(sshd.port)]
    subprocess.run([*scp, source, there], check=True)  # warm
    up = median(lambda: subprocess.run([*scp, source, there], check=True), 3)
    down = median(lambda: subprocess.run([*scp, there, back], check=True), 3)
    print(f"{size / 1e6:.0f} MB over loopback")
    print(f"  scp     there {size / up / 1e6:6.0f} MB/s   back {size / down / 1e6:6.0f} MB/s")
    for path in (place / "copy", back):
        path.unlink()

    cache = opened(sshd, web, (web or sshd).port, place / "large", memory=0)
    array = np.fromfile(source, dtype=np.int64)
    source.unlink()

    @wellkept.keep(cache=cache, name="large", version=1)
    def compute(n: int) -> np.ndarray:
        array[0] = n  # another content each time
        return array

    cache.calls.get("0" * 64)  # connected
    server = the_server(f"{place}/large") if web is None else psutil.Process(web.pid)
    for what, work in (("there", compute), ("back", None)):
        taken, client_peak, server_peak = [], 0, 0
        for n in range(3):
            with Peak(psutil.Process()) as mine, Peak(server) as theirs:
                began = time.perf_counter()
                if work is not None:
                    work(n)
                else:
                    found = compute(n)
                    assert found[0] == n
                taken.append(time.perf_counter() - began)
            client_peak, server_peak = max(client_peak, mine.added), max(server_peak, theirs.added)
            if work is None:
                del found
        rate = size / statistics.median(taken) / 1e6
        print(
            f"  kept    {what:5} {rate:6.0f} MB/s   {rate / (size / (up if work else down) / 1e6):.2f}"
            f" x scp   memory added: client {client_peak / 1e6:.0f} MB, "
            f"server {server_peak / 1e6:.0f} MB"
        )
    cache.close()


def the_server(directory: str) -> psutil.Process:
    for process in psutil.process_iter(["cmdline"]):
        command = process.info["cmdline"] or []
        if "--stdio" in command and directory in command and "wellkept" in command:
            return process
    raise RuntimeError("no server runs")


class Peak:
    """The most memory of its own that a process had inside the block, over what it had before: pages
    of files that are mapped are the system's."""

    def __init__(self, process: psutil.Process) -> None:
        self._status = Path(f"/proc/{process.pid}/status")
        self._stop = threading.Event()
        self.added = 0

    def _now(self) -> int:
        lines = dict(line.split(":", 1) for line in self._status.read_text().splitlines())
        return sum(int(lines[name].split()[0]) for name in ("RssAnon", "RssShmem")) * 1024

    def _watch(self) -> None:
        while not self._stop.wait(0.005):
            self.added = max(self.added, self._now() - self._start)

    def __enter__(self) -> Peak:
        self._start = self._now()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


if __name__ == "__main__":
    main()
