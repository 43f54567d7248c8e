"""How many workers one PostgreSQL and one S3 bucket carry: measured constants, a model, a simulation.

    .venv/bin/python benchmarks/scale.py               # measure, model, simulate (about two minutes)
    .venv/bin/python benchmarks/scale.py --model       # of the constants measured last

Starts servers of its own, as the tests do. What is measured is what each operation takes of a server's
processors, of its log, of its memory and of the worker, by the operating system's own counts: they hold
for a larger machine too, as times on a busy one do not. The last constants are in `out/scale.json`;
docs/explanation/scale.md says what follows from them.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

OUT = Path(__file__).parent / "out" / "scale.json"
BEAT = 1.0
"""Seconds between the heartbeats of a lease: `wellkept.stores.leases.BEAT`."""

PAUSE = 0.25
"""Seconds between the looks of who waits for a lease: `wellkept.stores.lease_records._PAUSE`."""

# What is not measured but published, or a choice of who runs the servers.
S3_PUTS, S3_GETS = 3_500, 5_500
"""Requests a second and prefix that S3 promises."""
S3_SECONDS = 0.03
"""Of a request of a small object."""
PG_CORES, PG_MEMORY, PG_LOG = 32, 256e9, 500e6
"""Of a large server: processors, bytes of memory, bytes of log that it writes a second."""


# -- constants ------------------------------------------------------------------------------------


def measure(times: int) -> dict[str, Any]:
    """What one operation takes, for results of 1 KiB and of 1 MiB."""
    import psutil
    import psycopg
    from tests.services import start_postgresql, start_s3

    import wellkept
    from wellkept.stores import Sql
    from wellkept.stores.leases import Leases
    from wellkept.stores.object_store import Objects

    with tempfile.TemporaryDirectory(prefix="wellkept-scale-") as home:
        postgresql, s3 = start_postgresql(), start_s3()
        try:
            watch = psycopg.connect(postgresql.url, autocommit=True)
            server = psutil.Process(postgresql._process.pid)

            def used() -> tuple[float, float, int, int]:
                mine = watch.info.backend_pid
                those = [p for p in server.children(recursive=True) if p.pid != mine]
                cpu = sum(sum(p.cpu_times()[:2]) for p in those)
                log, commits = watch.execute(
                    "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint, "
                    "(SELECT sum(xact_commit + xact_rollback)::bigint FROM pg_stat_database)"
                ).fetchone()
                return cpu, time.process_time(), int(log), int(commits)

            def taken(work: Callable[[int], Any], offset: int) -> dict[str, float]:
                for i in range(offset, offset + 20):  # warm
                    work(i)
                before = used()
                began = time.perf_counter()
                for i in range(offset + 20, offset + 20 + times):
                    work(i)
                wall = time.perf_counter() - began
                time.sleep(1.2)  # until the server has counted
                cpu, own, log, commits = (b - a for a, b in zip(before, used(), strict=True))
                return {
                    "server": cpu / times,
                    "worker": own / times,
                    "log": log / times,
                    "commits": round(commits / times, 1),
                    "wall": wall / times,
                }

            found: dict[str, Any] = {}
            found["idle"] = taken(lambda i: None, 0)
            import http.client

            bucket = http.client.HTTPConnection("127.0.0.1", s3.port)
            bucket.request("PUT", "/scale")
            bucket.getresponse().read()
            values = Objects(
                "s3://scale/values",
                endpoint=s3.url,
                access_key_id="a",
                secret_access_key="b",
            )
            cache = wellkept.Cache(values=values, calls=Sql(postgresql.url), memory=0)
            whole = wellkept.open(postgresql.url, memory=0)
            body = random.Random(0).randbytes(1024)

            @wellkept.keep(version=1, cache=cache, name="mixed")
            def mixed(i: int) -> bytes:
                return body + i.to_bytes(8, "little")

            @wellkept.keep(version=1, cache=whole, name="whole")
            def small(i: int) -> bytes:
                return body + i.to_bytes(8, "little")

            found["miss, in PostgreSQL"] = taken(small, 0)
            found["hit, in PostgreSQL"] = taken(small, 0)
            found["miss, value in S3"] = taken(mixed, 0)
            found["hit, value in S3"] = taken(mixed, 0)
            records = whole.backend.locks.leases
            assert isinstance(records, Leases)
            key = b"k" * 32
            assert records.acquire(key)
            found["heartbeat"] = taken(lambda i: records._renew(key, records._held[key]), 0)
            waiter = type(records)(records._records)

            def look(i: int) -> None:
                waiter._again.clear()
                assert not waiter.acquire(key)

            found["a look at another's lease"] = taken(look, 0)
            records.release(key)
            backends = [
                p.memory_full_info().uss
                for p in server.children(recursive=True)
                if "idle" in " ".join(p.cmdline()) and p.pid != watch.info.backend_pid
            ]
            found["memory of a connection"] = max(backends)
            row = watch.execute(
                "SELECT pg_total_relation_size('kept')::float8 / GREATEST(count(*), 1) FROM kept"
            ).fetchone()
            found["bytes of a row"] = row[0]
            cache.close()
            whole.close()
            watch.close()
        finally:
            postgresql.close()
            s3.close()
            del home
    return found


# -- the model ------------------------------------------------------------------------------------


def limits(constants: dict[str, Any], seconds: float, hits: float = 0.0) -> list[tuple[str, float]]:
    """How many workers each part carries, the least first.

    Args:
        seconds: what a body takes.
        hits: which share of calls is kept already.
    """
    miss, hit = constants["miss, value in S3"], constants["hit, value in S3"]
    beat = constants["heartbeat"]
    misses = 1.0 - hits
    # A worker's round: the body and the overhead of a miss, or a hit.
    overhead = 2 * S3_SECONDS  # of a miss; the rest is far below a millisecond a trip
    round_ = misses * (seconds + overhead) + hits * S3_SECONDS
    beats = misses * seconds / BEAT if seconds >= BEAT else 0.0
    server = misses * miss["server"] + hits * hit["server"] + beats * beat["server"]
    log = misses * miss["log"] + hits * hit["log"] + beats * beat["log"]
    found = [
        ("connections", PG_MEMORY / 2 / constants["memory of a connection"]),
        ("processors of PostgreSQL", PG_CORES * round_ / server),
        ("log of PostgreSQL", PG_LOG * round_ / log if log else float("inf")),
        ("puts to S3, one prefix", S3_PUTS * round_ / misses if misses else float("inf")),
        ("gets from S3, one prefix", S3_GETS * round_ / hits if hits else float("inf")),
    ]
    return sorted(found, key=lambda pair: pair[1])


# -- the simulation -------------------------------------------------------------------------------


def simulate(
    constants: dict[str, Any], workers: int, seconds: float, rounds: int = 4, seed: int = 0
) -> dict[str, float]:
    """Every worker computes `rounds` misses one after another; heartbeats and commits queue for the
    processors of the database. How many calls that makes, how long operations wait for a processor, and
    which share of a worker's time its bodies have.
    """
    miss, beat = constants["miss, value in S3"], constants["heartbeat"]
    dice = random.Random(seed)
    cores = [0.0] * PG_CORES
    heapq.heapify(cores)
    number = itertools.count()
    events: list[tuple[float, int, str, int, int, float]] = []
    waits: list[float] = []

    def serve(now: float, work: float) -> float:
        """When work that comes now is done: first come, first served, on the first free core."""
        free = heapq.heappop(cores)
        begin = max(now, free)
        done = begin + dice.expovariate(1 / work)
        heapq.heappush(cores, done)
        waits.append(begin - now)
        return done

    def put(at: float, what: str, worker: int, left: int, until: float) -> None:
        heapq.heappush(events, (at, next(number), what, worker, left, until))

    for worker in range(workers):
        put(dice.random() * seconds, "ask", worker, rounds, 0.0)
    begun: dict[int, float] = {}
    taken: list[float] = []
    while events:
        now, _, what, worker, left, until = heapq.heappop(events)
        if what == "ask":  # look and lease
            begun[worker] = now
            done = serve(now, miss["server"] / 2)
            until = done + dice.uniform(0.9, 1.1) * seconds
            put(until, "keep", worker, left, until)
            if seconds >= BEAT:
                put(done + BEAT, "beat", worker, left, until)
        elif what == "beat":
            if now < until:
                put(max(serve(now, beat["server"]), now + BEAT), "beat", worker, left, until)
        elif what == "keep":  # the value first, then the call that names it
            put(now + 2 * S3_SECONDS * dice.uniform(0.5, 1.5), "commit", worker, left, until)
        else:
            done = serve(now, miss["server"] / 2)
            taken.append(done - begun[worker])
            if left > 1:
                put(done, "ask", worker, left - 1, 0.0)
    waits.sort()
    mean = sum(taken) / len(taken)
    return {
        "calls a second": workers / mean,
        "wait, p99": waits[int(0.99 * len(waits))],
        "efficiency": seconds / mean,
    }


# -- telling --------------------------------------------------------------------------------------


def tell(constants: dict[str, Any]) -> Iterator[str]:
    yield "| operation | PostgreSQL | worker | log | transactions |"
    yield "|---|---|---|---|---|"
    for name, one in constants.items():
        if isinstance(one, dict) and name != "idle":
            yield (
                f"| {name} | {one['server'] * 1e6:.0f} us | {one['worker'] * 1e6:.0f} us "
                f"| {one['log']:.0f} B | {one['commits']:g} |"
            )
    yield ""
    yield f"memory of a connection: {constants['memory of a connection'] / 1e6:.1f} MB; "
    yield f"a call's row and its index entries: {constants['bytes of a row']:.0f} B"
    yield ""
    yield "| a body takes | first limit | workers | next | workers | next | workers |"
    yield "|---|---|---|---|---|---|---|"
    for seconds in (0.01, 0.1, 1.0, 10.0, 100.0, 3600.0):
        cells = " | ".join(
            f"{name} | {count:,.0f}" for name, count in limits(constants, seconds)[:3]
        )
        yield f"| {seconds:g} s | {cells} |"
    yield ""
    waiting = (
        1
        / PAUSE
        * sum(
            constants[name]["server"]
            for name in ("hit, in PostgreSQL", "a look at another's lease")
        )
    )
    yield f"waiters for one key that PostgreSQL carries: {PG_CORES / waiting:,.0f}"
    yield ""
    yield "| workers | a body takes | calls a second | wait for PostgreSQL, p99 | efficiency |"
    yield "|---|---|---|---|---|"
    for workers, seconds in (
        (1_000, 0.1),
        (10_000, 0.1),
        (10_000, 1.0),
        (10_000, 10.0),
        (10_000, 60.0),
        (30_000, 0.1),
    ):
        found = simulate(constants, workers, seconds)
        yield (
            f"| {workers:,} | {seconds:g} s | {found['calls a second']:,.0f} "
            f"| {found['wait, p99'] * 1e3:.1f} ms | {found['efficiency']:.1%} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", action="store_true", help="measure nothing")
    parser.add_argument("--times", type=int, default=1500, help="operations of each kind")
    asked = parser.parse_args()
    if asked.model:
        constants = json.loads(OUT.read_text())
    else:
        constants = measure(asked.times)
        OUT.parent.mkdir(exist_ok=True)
        OUT.write_text(json.dumps(constants, indent=2))
    print("\n".join(tell(constants)))


if __name__ == "__main__":
    main()
