"""A Hamilton dataflow whose nodes are kept, on real data.

    python examples/hamilton_flow/run.py

The first run computes every node; a second one only asks again which penalties there are. Change a
function of `tumours.py`, and only what depends on it is computed again. Runs in two terminals compute
nothing twice.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter

import tumours
from hamilton import driver
from hamilton.execution.executors import MultiThreadingExecutor

from wellkept.integrations.hamilton import KeptAdapter


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=6, help="how many penalties are tried")
    parser.add_argument("--folds", type=int, default=5, help="parts that the cases are split into")
    parser.add_argument("--cache", help="a directory or URL; the active cache by default")
    asked = parser.parse_args()

    cache = KeptAdapter(asked.cache)
    dr = (
        driver.Builder()
        .with_modules(tumours)
        .enable_dynamic_execution(allow_experimental_mode=True)
        .with_remote_executor(MultiThreadingExecutor(max_tasks=2))
        .with_adapters(cache)
        .build()
    )
    began = time.perf_counter()
    found = dr.execute(["table", "best"], inputs={"steps": asked.steps, "folds": asked.folds})
    took = time.perf_counter() - began

    print(found["table"].to_string(index=False))
    print(f"best: penalty {found['best']['penalty']:g}, right {found['best']['accuracy']:.1%}")
    outcomes = Counter(
        event.outcome
        for event in cache.metadata_store.kept_run().events()
        for _ in range(event.count)
    )
    said = ", ".join(f"{outcomes[name]} {name}" for name in ("computed", "hit", "failed"))
    print(f"{said}; {took:.2f} s")


if __name__ == "__main__":
    main()
