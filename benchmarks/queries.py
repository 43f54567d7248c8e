"""Queries over a million calls, and fleche's over as many as it can be asked to hold.

python benchmarks/queries.py                 # a million calls, some minutes
python benchmarks/queries.py --calls 100000
python benchmarks/queries.py --check         # exit code 1 if a bound is not met
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

ROUNDS = 9
FEW = 3_000
"""Calls that fleche is asked about."""


class Timed(NamedTuple):
    """One line of the table."""

    name: str
    calls: int
    milliseconds: float
    bound: float | None = None
    """What it must not take longer than, milliseconds."""

    @property
    def met(self) -> bool:
        return self.bound is None or self.milliseconds <= self.bound


def timed(work: Callable[[], Any], check: Callable[[Any], bool], rounds: int = ROUNDS) -> float:
    """The median of some rounds, in milliseconds, after one that does not count."""
    took = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        found = work()
        took.append((time.perf_counter() - start) * 1e3)
        if not check(found):
            raise SystemExit(f"a wrong answer: {found!r:.200}")
    return median(took[1:])


def fill(cache: Any, calls: int) -> Any:
    """Keep so many calls of one function; the function."""
    import wellkept

    @wellkept.keep(name="bench:sample", version=1, cache=cache)
    def sample(n: int, seed: int = 0, rate: float = 0.5) -> int:
        return n

    for n in range(calls):
        sample(n, n % 7, n / 2)
    return sample


def of_kept(root: Path, calls: int) -> list[Timed]:
    """wellkept's lines; every answer is checked."""
    import wellkept

    with wellkept.open(root, memory=0) as cache:
        start = time.perf_counter()
        sample = fill(cache, calls)
        each = (time.perf_counter() - start) / calls * 1e3
        start = time.perf_counter()
        sample.query().count()
        first = (time.perf_counter() - start) * 1e3
        some = [calls // 10 * i + 3 for i in range(10)]
        many = min(calls, 100_000)

        def by_argument() -> int:
            return sum(len(list(sample.query(n))) for n in some)

        def latest() -> Any:
            return sample.query().latest().arguments["n"]

        def table() -> int:
            return len(sample.query().limit(many).to_pandas())

        def between() -> int:
            return len(list(sample.query(n=wellkept.between(some[5], some[5] + 9))))

        lines = [
            Timed("keep one call", calls, each),
            Timed("the first query", calls, first),
            Timed("count", calls, timed(sample.query().count, calls.__eq__), 20),
            Timed("10 calls by argument", calls, timed(by_argument, (10).__eq__), 10),
            Timed("10 calls by a range", calls, timed(between, (10).__eq__), 10),
            Timed("latest", calls, timed(latest, (calls - 1).__eq__), 10),
            Timed(f"to_pandas of {many:,}", calls, timed(table, many.__eq__, 3), 1000),
            Timed(
                "first result",
                calls,
                timed(lambda: sample.query(n=some[1]).one().result, some[1].__eq__),
            ),
        ]
        expected = len(range(3, calls, 7))
        counted = timed(sample.query(seed=3).count, expected.__eq__)
        return [*lines, Timed(f"count of {expected:,} by argument", calls, counted)]


def of_fleche(root: Path, calls: int = FEW) -> list[Timed]:
    """fleche's lines; none where it is not installed."""
    try:
        import fleche
    except ImportError:
        return []
    from libraries import Fleche

    session = Fleche(root, "sql")
    before = fleche.cache()
    session.enter()
    try:

        @fleche.fleche(version=1)
        def sample(n: int, seed: int = 0, rate: float = 0.5) -> int:
            return n

        for n in range(calls):
            sample(n, n % 7, n / 2)
        last = calls - 1

        def latest() -> Any:
            return max(sample.query(), key=_when).arguments["n"]

        return [
            Timed(
                "fleche: count", calls, timed(lambda: len(list(sample.query())), calls.__eq__, 3)
            ),
            Timed(
                "fleche: 10 calls by argument", calls, timed(lambda: _ten(sample), (10).__eq__, 3)
            ),
            Timed("fleche: latest", calls, timed(latest, last.__eq__, 3)),
        ]
    finally:
        fleche.cache(before)
        session.close()


def _ten(sample: Any) -> int:
    return sum(len(list(sample.query(n=n))) for n in range(3, 1003, 100))


def _when(call: Any) -> Any:
    return call.metadata["runtime"]["timestart"]


def rows(calls: int) -> list[Timed]:
    """Every line, for who shows them elsewhere."""
    room = Path(tempfile.mkdtemp(prefix="wellkept-queries-"))
    try:
        found = of_kept(room / "million", calls)
        few = [
            line._replace(name=f"wellkept: {line.name}") for line in of_kept(room / "few", FEW)[2:6]
        ]
        try:
            few += of_fleche(room)
        except Exception as error:  # noqa: BLE001 - whatever it raises becomes a line
            print(f"fleche: {type(error).__name__}: {error}", file=sys.stderr)
        return found + [line._replace(bound=None) for line in few]
    finally:
        shutil.rmtree(room, ignore_errors=True)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--calls", type=int, default=1_000_000)
    parser.add_argument("--check", action="store_true", help="exit code 1 if a bound is not met")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    lines = rows(asked.calls)
    if asked.json:
        asked.json.write_text(json.dumps([line._asdict() for line in lines], indent=1) + "\n")
    return shown(lines, check=asked.check)


def shown(lines: list[Timed], *, check: bool) -> int:
    """Print the lines; the exit code."""
    for line in lines:
        bound = "" if line.bound is None else f"  (at most {line.bound:g} ms)"
        mark = "" if line.met else "  NOT MET"
        print(f"{line.calls:>9,}  {line.name:32} {line.milliseconds:10.3f} ms{bound}{mark}")
    return 1 if check and not all(line.met for line in lines) else 0


if __name__ == "__main__":
    sys.exit(main())
