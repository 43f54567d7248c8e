"""Named state beside diskcache and beside the bare Redis client: `python benchmarks/kv.py [redis://…]`.

Both sides are timed in turns, in this process. Without a URL it starts a `redis-server` of its own.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import kept

ROUNDS, EACH = 15, 400
VALUE = {"state": "running", "step": 17, "loss": 0.25}


def seconds(do: Callable[[int], object]) -> float:
    begun = time.perf_counter()
    for number in range(EACH):
        do(number)
    return (time.perf_counter() - begun) / EACH


def ratio(
    mine: Callable[[int], object], other: Callable[[int], object]
) -> tuple[float, float, float]:
    """Seconds of both, and the median of their ratios, round by round."""
    mine(0), other(0)
    pairs = [(seconds(mine), seconds(other)) for _ in range(ROUNDS)]
    ours, theirs = (statistics.median(side) for side in zip(*pairs, strict=True))
    return ours, theirs, statistics.median(a / b for a, b in pairs)


def rows(redis_url: str | None = None) -> Iterator[tuple[str, float, float, float]]:
    """What is measured, seconds of kept, of the other, and their ratio."""
    with tempfile.TemporaryDirectory(prefix="kept-bench-") as place:
        yield from _beside_diskcache(Path(place))
        yield from _many_keys(Path(place))
    if redis_url is not None:
        yield from _beside_redis(redis_url)


def _beside_diskcache(place: Path) -> Iterator[tuple[str, float, float, float]]:
    import diskcache

    store = kept.store("bench", cache=kept.open(place / "kept"))
    other = diskcache.Cache(str(place / "diskcache"))
    for name, value in (("a small dict", VALUE), ("a text", "hello")):
        yield (
            f"set {name}, diskcache",
            *ratio(lambda n: store.set(f"k{n}", value), lambda n: other.set(f"k{n}", value)),  # noqa: B023  called at once
        )
        yield (
            f"get {name}, diskcache",
            *ratio(lambda n: store.get(f"k{n}"), lambda n: other.get(f"k{n}")),
        )

    def mixed(
        write: Callable[[str, object], object], read: Callable[[str], object]
    ) -> Callable[[int], object]:
        return lambda n: (write("k0", n), read(f"k{n}"), read("k0"))

    yield (
        "set and 2 gets, diskcache",
        *ratio(mixed(store.set, store.get), mixed(other.set, other.get)),
    )
    other.close()


def _many_keys(place: Path) -> Iterator[tuple[str, float, float, float]]:
    store = kept.store("many", cache=kept.open(place / "kept"))
    for begin in range(0, 1_000_000, 20_000):
        store.update({f"{n // 100:05}/{n % 100:02}": n for n in range(begin, begin + 20_000)})
    found = []
    for number in range(ROUNDS):
        begun = time.perf_counter()
        assert len(list(store.items(f"{number * 311:05}/"))) == 100
        found.append(time.perf_counter() - begun)
    yield (
        "100 of 1,000,000 by prefix, 10 ms",
        statistics.median(found),
        0.010,
        statistics.median(found) / 0.010,
    )


def _beside_redis(url: str) -> Iterator[tuple[str, float, float, float]]:
    import json

    import redis

    store, bare = kept.store("bench", cache=kept.open(url)), redis.Redis.from_url(url)
    yield (
        "set, bare redis",
        *ratio(lambda n: store.set(f"k{n}", VALUE), lambda n: bare.set(f"k{n}", json.dumps(VALUE))),
    )
    yield (
        "get, bare redis",
        *ratio(lambda n: store.get(f"k{n}"), lambda n: json.loads(bare.get(f"k{n}"))),
    )
    store.service.cleanup()


@contextmanager
def _server() -> Iterator[str]:
    import socket
    import subprocess

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as place:
        command = ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--dir", place]
        server = subprocess.Popen([*command, "--save", ""], stdout=subprocess.DEVNULL)
        try:
            time.sleep(1)
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            server.terminate()
            server.wait()


def main(url: str | None) -> None:
    if url is None:
        with _server() as url:
            return main(url)
    for name, ours, theirs, of in rows(url):
        print(f"{name:36} {ours * 1e6:10.1f} us  beside {theirs * 1e6:10.1f} us  ratio {of:5.2f}")
    return None


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
