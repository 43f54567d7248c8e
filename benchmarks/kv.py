"""Named state beside diskcache, and beside the bare Redis client on the same server.

python benchmarks/kv.py                   # its rows alone; takes what peers.py takes, such as --quick

`rows` gives them to `peers.py`. Rows of Redis are there if a `redis-server` is, which they start.
"""

from __future__ import annotations

import itertools
import json
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from time import perf_counter, perf_counter_ns, sleep
from typing import TYPE_CHECKING

from measure import CannotDoError, Room, quiet_collector, same

import wellkept

if TYPE_CHECKING:
    from works import Row

EACH = 400
VALUE = {"state": "running", "step": 17, "loss": 0.25}

Sampler = Callable[[], float]
Do = Callable[[str], object]


class Verbs:
    """Setting and getting small values, on a disk or in Redis.

    Args:
        verb: `set`, `get`, or `mixed`: a set and two gets.
    """

    def __init__(self, verb: str) -> None:
        self.notes: dict[str, str] = {}
        self.unsound: set[str] = set()
        self._verb = verb
        self._url = ""
        self._ends: list[Callable[[], object]] = []

    def prepare(self, entrant: str, room: Room, quick: bool) -> Sampler:
        write, read = self._sides(entrant, room)
        for n in range(EACH):
            write(f"k{n}")
        same(read("k7"), VALUE, entrant)

        def mixed(key: str) -> None:
            write("k0"), read(key), read("k0")

        do: Do = {"set": write, "get": read, "mixed": mixed}[self._verb]

        def sample() -> float:
            with quiet_collector():
                start = perf_counter_ns()
                for n in range(EACH):
                    do(f"k{n}")
                took = perf_counter_ns() - start
            same(read("k3"), VALUE, entrant)
            return took / 1e9 / EACH

        return sample

    def _sides(self, entrant: str, room: Room) -> tuple[Do, Do]:
        if entrant == "wellkept":
            store = wellkept.store("bench", cache=wellkept.open(room.new()))
            return lambda key: store.set(key, VALUE), store.get
        import diskcache

        other = diskcache.Cache(str(room.new()))
        self._ends.append(other.close)
        return lambda key: other.set(key, VALUE), other.get

    def finish(self) -> None:
        while self._ends:
            self._ends.pop()()


class SameInterface(Verbs):
    """diskcache's interface, on wellkept and its own."""

    def _sides(self, entrant: str, room: Room) -> tuple[Do, Do]:
        import diskcache

        from wellkept.integrations import diskcache as ours

        cache = (ours if entrant == "wellkept" else diskcache).Cache(str(room.new()))
        self._ends.append(cache.close)
        return lambda key: cache.set(key, VALUE), cache.get


class InRedis(Verbs):
    """The same, in one server."""

    def _sides(self, entrant: str, room: Room) -> tuple[Do, Do]:
        import redis

        url = self._url = self._url or self._served(room)
        if entrant == "wellkept":
            store = wellkept.store("bench", cache=wellkept.open(url))
            return lambda key: store.set(key, VALUE), store.get
        bare = redis.Redis.from_url(url)
        self._ends.insert(0, bare.close)
        return lambda key: bare.set(key, json.dumps(VALUE)), lambda key: json.loads(bare.get(key))

    def _served(self, room: Room) -> str:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--save", ""]
        server = subprocess.Popen([*command, "--dir", room.new()], stdout=subprocess.DEVNULL)

        def end() -> None:
            server.terminate()
            server.wait()

        self._ends.append(end)
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
            except OSError:
                sleep(0.05)
            else:
                return f"redis://127.0.0.1:{port}/0"
        raise CannotDoError("redis-server did not start")

    def finish(self) -> None:
        super().finish()
        self._url = ""


class ManyKeys:
    """Keys with a prefix that 100 have, among a million."""

    def __init__(self) -> None:
        self.notes: dict[str, str] = {}
        self.unsound: set[str] = set()

    def prepare(self, entrant: str, room: Room, quick: bool) -> Sampler:
        many = 50_000 if quick else 1_000_000
        self.notes[entrant] = f"among {many:,} keys"
        store = wellkept.store("many", cache=wellkept.open(room.new()))
        for begin in range(0, many, 10_000):
            store.update({f"{n // 100:05}/{n % 100:02}": n for n in range(begin, begin + 10_000)})
        prefixes = itertools.cycle(f"{number:05}/" for number in range(0, many // 100, 311))

        def sample() -> float:
            prefix = next(prefixes)
            start = perf_counter()
            found = list(store.items(prefix))
            took = perf_counter() - start
            first = int(prefix[:-1]) * 100
            same([value for _, value in found], list(range(first, first + 100)), entrant)
            return took

        return sample

    def finish(self) -> None: ...


class Sweep:
    """The slowest of a reader's reads while 100,000 expired keys are swept."""

    def __init__(self) -> None:
        self.notes: dict[str, str] = {}
        self.unsound: set[str] = set()

    def prepare(self, entrant: str, room: Room, quick: bool) -> Sampler:
        many = 10_000 if quick else 100_000

        def sample() -> float:
            store = wellkept.store("swept", cache=wellkept.open(room.new()))
            store["stays"] = 1
            for begin in range(0, many, 5_000):
                store.update({f"t{n}": n for n in range(begin, begin + 5_000)}, ttl=3600)
            store.service.entries.ahead += 7200
            sweeper = threading.Thread(target=store.sweep)
            sweeper.start()
            slowest, reads = 0.0, 0
            while sweeper.is_alive():
                start = perf_counter()
                found = store["stays"]
                slowest = max(slowest, perf_counter() - start)
                same(found, 1, entrant)
                reads += 1
                sleep(0.0005)
            same(store.service.entries.due(), None, entrant)
            self.notes[entrant] = f"{many:,} keys, {reads:,} reads meanwhile"
            return slowest

        return sample

    def finish(self) -> None: ...


def rows() -> tuple[Row, ...]:
    """The rows for the table."""
    from works import Limit, Row

    found = [
        Row(
            f"{name}-{verb}",
            f"{of}: {title}",
            lambda verb=verb, kind=kind: kind(verb),  # type: ignore[misc]  # bound in each round
            ("wellkept", "diskcache"),
            (Limit(most, 0.7, "diskcache"),),
        )
        for name, of, kind, most in (
            ("state", "named state", Verbs, 0.8),
            ("diskcache", "diskcache's interface", SameInterface, 1.5),
        )
        for verb, title in (("set", "set"), ("get", "get"), ("mixed", "a set and 2 gets"))
    ]
    if shutil.which("redis-server"):
        found += [
            Row(
                f"state-redis-{verb}",
                f"named state in Redis: {verb}",
                lambda verb=verb: InRedis(verb),  # type: ignore[misc]  # the same
                ("wellkept", "bare redis"),
                (Limit(1.5, 1.2, "bare redis"),),
            )
            for verb in ("set", "get")
        ]
    alone = ("wellkept",)
    prefix = "named state: list 100 of 1,000,000 keys by prefix"
    sweep = "named state: slowest read while 100,000 expired keys are swept"
    return (
        *found,
        Row("state-prefix", prefix, ManyKeys, alone, (Limit(0.010, 0.001),)),
        Row("state-sweep", sweep, Sweep, alone, (Limit(0.020, 0.005),), rounds=3),
    )


if __name__ == "__main__":
    import peers

    peers.ROWS = rows()
    sys.argv[1:1] = ["--json", str(peers.HERE / "out" / "kv.json")]  # a later one counts
    sys.exit(peers.main())
