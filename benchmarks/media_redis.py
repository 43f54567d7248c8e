"""A hit in Redis beside the bare client: `python benchmarks/media_redis.py [redis://…]`.

Without a URL it starts a `redis-server` of its own. Both sides are timed in turns, in this process.
"""

from __future__ import annotations

import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import redis

import wellkept
from wellkept.stores.redis import Redis

ROUNDS, EACH = 30, 300


def seconds(do: Callable[[], object]) -> float:
    begun = time.perf_counter()
    for _ in range(EACH):
        do()
    return (time.perf_counter() - begun) / EACH


def result(size: int) -> bytes:
    """What is kept."""
    return b"x" * size


def compare(name: str, mine: Callable[[], object], bare: Callable[[], object]) -> None:
    mine(), bare()
    pairs = [(seconds(mine), seconds(bare)) for _ in range(ROUNDS)]
    ours, theirs = (statistics.median(side) for side in zip(*pairs, strict=True))
    ratio = statistics.median(a / b for a, b in pairs)
    print(f"{name:24} {ours * 1e6:8.1f} us  bare {theirs * 1e6:8.1f} us  ratio {ratio:5.2f}")


def main(url: str) -> None:
    store, bare = Redis(url, prefix="bench:"), redis.Redis.from_url(url)
    for size in (200, 1000, 60_000, 1_000_000):
        key, item = f"calls/{size:064x}", b"x" * size
        name = f"bench:{key}"
        compare(f"put {size:,}", lambda: store.put(key, item), lambda: bare.set(name, item))  # noqa: B023  called at once
        compare(f"get {size:,}", lambda: store.get(key), lambda: bare.get(name))  # noqa: B023  called at once
    with wellkept.open(url, prefix="bench:") as cache:
        f = wellkept.keep(cache=cache, strict=True)(result)
        f(800)
        name = f"bench:calls/{f.key(800)}"
        assert bare.get(name) is not None
        compare("hit through @keep, 800", lambda: f(800), lambda: bare.get(name))
    keys = [f"calls/{n:064x}" for n in range(100)]
    names = [f"bench:{key}" for key in keys]
    store.put_many(dict.fromkeys(keys, b"x" * 1000))
    compare("get_many, 100 of 1,000", lambda: store.get_many(keys), lambda: bare.mget(names))
    store.delete_many(list(store.keys()))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(sys.argv[1])
    else:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        with tempfile.TemporaryDirectory() as place:
            command = ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--dir", place]
            server = subprocess.Popen([*command, "--save", ""], stdout=subprocess.DEVNULL)
            try:
                time.sleep(1)
                main(f"redis://127.0.0.1:{port}")
            finally:
                server.terminate()
                server.wait()
