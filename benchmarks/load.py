"""Many clients of one `wellkept serve` at once: whether anything fails or is lost, how long calls take, and
what the server holds in memory.

    python benchmarks/load.py [--seconds 600] [--clients 200] [--processes 4] [--writes 0.3]

Starts the server on loopback. Each client is a thread with a cache of its own, in one of a few
processes; it calls a kept function on and on: a new call (a miss: a request that asks and one that
commits) with the chance `--writes`, otherwise one that some client of its process has written (a hit:
one request). Results are mostly of 2 kB, one in 20 has 100 kB and one in 200 has 2 MB. In the end every
call that was written is looked for, by a new client, and compared.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import psutil

import wellkept

SIZES = [2_000] * 189 + [100_000] * 10 + [2_000_000]


def body(seed: int) -> Any:
    """A result that can be told from every other."""
    made = np.random.default_rng(seed).integers(0, 255, SIZES[seed % len(SIZES)], np.uint8)
    return {"seed": seed, "array": made}


def opened(url: str, token: str) -> wellkept.Cache:
    return wellkept.open(url, token=token, memory=0, deadline=60.0)


def function(cache: wellkept.Cache) -> Any:
    return wellkept.keep(cache=cache, name="load", version=1, strict=True)(body)


# -- clients --------------------------------------------------------------------------------------


def clients(number: int, threads: int, seconds: float, writes: float, url: str, token: str) -> None:
    """One process of clients; tells what it did as a line of JSON."""
    warnings.simplefilter("error")
    written: list[int] = []
    took: dict[str, list[float]] = {"hit": [], "miss": []}
    errors: list[str] = []
    start = threading.Barrier(threads + 1)
    until = [0.0]

    def client(me: int) -> None:
        chance = random.Random(number * 10_000 + me)
        cache = opened(url, token)
        f = function(cache)
        start.wait()
        own = 0
        while time.monotonic() < until[0]:
            fresh = not written or chance.random() < writes
            if fresh:
                own += 1
                seed = (number * 1000 + me) * 1_000_000 + own
            else:
                seed = chance.choice(written)
            began = time.perf_counter()
            try:
                found = f(seed)
                took["miss" if fresh else "hit"].append(time.perf_counter() - began)
                if found["seed"] != seed:
                    errors.append(f"a wrong value for {seed}")
                if fresh:
                    written.append(seed)
            except Exception as error:  # noqa: BLE001  counted, whatever it is
                errors.append(repr(error)[:300])
        cache.close()

    running = [threading.Thread(target=client, args=(me,)) for me in range(threads)]
    for one in running:
        one.start()
    until[0] = time.monotonic() + seconds + 3600
    start.wait()
    until[0] = time.monotonic() + seconds
    for one in running:
        one.join()
    print(json.dumps({"written": written, "took": took, "errors": errors}))


# -- the whole ------------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--writes", type=float, default=0.3)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="wellkept-load-") as made:
        run(asked, Path(made))


def run(asked: argparse.Namespace, place: Path) -> None:
    from wellkept.remote.auth import Tokens

    token = Tokens(place / "tokens.json").add("load", {"default": "admin"})
    serve = [
        sys.executable,
        "-m",
        "wellkept",
        "serve",
        str(place / "cache"),
        "--listen",
        "127.0.0.1:0",
    ]
    server = subprocess.Popen(
        [*serve, "--tokens", str(place / "tokens.json")], stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        url = server.stdout.readline().split()[-1]
        each = asked.clients // asked.processes
        child = [sys.executable, __file__, "--child"]
        begun = [
            subprocess.Popen(
                [*child, str(n), str(each), str(asked.seconds), str(asked.writes), url, token],
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
            for n in range(asked.processes)
        ]
        memory = Memory(server.pid)
        done = [json.loads(one.communicate()[0]) for one in begun]
        held = memory.end()
        report(asked, done, held)
        check(done, url, token)
    finally:
        server.terminate()
        server.wait(30)


class Memory:
    """What a process holds that is its own, once a second."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._seen: list[float] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def _look(self) -> None:
        while not self._stop.wait(1.0):
            info = self._process.memory_info()
            self._seen.append((info.rss - info.shared) / 1e6)

    def end(self) -> list[float]:
        self._stop.set()
        self._thread.join()
        return self._seen


def report(asked: argparse.Namespace, done: list[Any], held: list[float]) -> None:
    print(
        f"{asked.clients} clients in {asked.processes} processes, {asked.seconds:g} s, "
        f"{os.cpu_count()} CPUs for them and the server"
    )
    for name in ("hit", "miss"):
        took = sorted(second for one in done for second in one["took"][name])
        if len(took) > 100:
            parts = statistics.quantiles(took, n=1000)
            print(
                f"  {name:5} {len(took):9,}  {len(took) / asked.seconds:7.0f} a second  median "
                f"{parts[499] * 1000:6.0f} ms  p99 {parts[989] * 1000:6.0f} ms  most "
                f"{took[-1] * 1000:6.0f} ms"
            )
    errors = [error for one in done for error in one["errors"]]
    print(f"  errors {len(errors)} {errors[:3] or ''}")
    tenth = max(1, len(held) // 10)
    tenths = [max(held[i : i + tenth]) for i in range(0, len(held), tenth)][:10]
    print(f"  memory of the server by tenths of the time, MB: {[round(mb) for mb in tenths]}")


def check(done: list[Any], url: str, token: str) -> None:
    """Whether all that was written is there, and right."""
    cache = opened(url, token)
    f = function(cache)
    wrong = 0
    written = [seed for one in done for seed in one["written"]]
    before = f.stats().computed
    for at in range(0, len(written), 500):
        some = written[at : at + 500]
        for seed, found in zip(some, f.map(some), strict=True):
            wrong += not np.array_equal(found["array"], body(seed)["array"])
    cache.close()
    lost = f.stats().computed - before
    print(f"  written {len(written):,}, lost {lost}, wrong {wrong}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        number, threads, seconds, writes, url, token = sys.argv[2:]
        clients(int(number), int(threads), float(seconds), float(writes), url, token)
    else:
        main()
