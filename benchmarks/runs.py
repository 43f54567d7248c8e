"""A hit inside a run beside a hit outside of one, and what a run costs of itself.

```bash
python benchmarks/runs.py
python benchmarks/runs.py --check    # exit code 1 if a limit is not met
```

Hits of one call (`again`) and of 2,000 calls in turn (`each`), from memory and from disk, inside and
outside of a run, one after the other in one process. The ratio is the median of the ratios of
neighbours, so that what a machine does meanwhile is in both. `measure` returns seconds and ratios.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import wellkept

MUST = 1.3
CALLS = 2_000


@wellkept.keep(name="bench:work", version=1)
def work(n: int, scale: float = 1.5) -> float:
    return n * scale


def sample(hits: Callable[[], None]) -> float:
    """Seconds of one hit."""
    began = time.perf_counter()
    hits()
    return (time.perf_counter() - began) / CALLS


def again() -> None:
    for _ in range(CALLS):
        work(7)


def each() -> None:
    for n in range(CALLS):
        work(n)


def measure(rounds: int = 41) -> dict[str, float]:
    """By kind of hit: seconds `outside` and `inside` of a run, and the `ratio`; and `run`, of an empty
    run.
    """
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="wellkept-runs-") as made:
        for where, memory in (("memory", "256 MB"), ("disk", 0)):
            with wellkept.open(Path(made) / "cache", memory=memory) as cache, wellkept.use(cache):
                each()
                for name, hits in (("again", again), ("each", each)):
                    hits()
                    pairs = []
                    for _ in range(rounds):
                        outside = sample(hits)
                        with wellkept.run("bench"):
                            if name == "again":
                                work(7)  # a run that has begun
                            pairs.append((outside, sample(hits)))
                    at = f"{where}, {name}"
                    found[f"{at}: outside"] = statistics.median(pair[0] for pair in pairs)
                    found[f"{at}: inside"] = statistics.median(pair[1] for pair in pairs)
                    found[f"{at}: ratio"] = statistics.median(b / a for a, b in pairs)
                began = time.perf_counter()
                for _ in range(20):
                    with wellkept.run("empty"):
                        pass
                found[f"{where}: run"] = (time.perf_counter() - began) / 20
    return found


def main() -> int:
    """Print the figures; the exit code is 1 if a limit is not met and `--check` asks for that."""
    found, missed = measure(), False
    for kind in ("memory, again", "memory, each", "disk, again", "disk, each"):
        outside, inside = found[f"{kind}: outside"] * 1e6, found[f"{kind}: inside"] * 1e6
        ratio = found[f"{kind}: ratio"]
        must = f"(must: <= {MUST})" if kind != "memory, each" else "(each makes an event)"
        missed |= ratio > MUST and kind != "memory, each"
        times = f"outside {outside:5.2f} us, in a run {inside:5.2f} us"
        print(f"hit, {kind:14} {times}: {ratio:.2f} x {must}")
    print(f"a run of nothing    {found['disk: run'] * 1e6:.0f} us")
    return int(missed and "--check" in sys.argv)


if __name__ == "__main__":
    raise SystemExit(main())
