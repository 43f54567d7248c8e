"""Where does a magnet lose its magnetism? A parameter sweep over many processes, every point kept.

    python examples/sweep_ising.py                       (a pool of processes)
    python examples/sweep_ising.py --on dask             (a Dask cluster)
    python examples/sweep_ising.py --on ray              (a Ray cluster)

Squares of atoms, each a small magnet that likes to point where its neighbours point, are shaken at a
temperature until they settle (the Ising model, by the Metropolis algorithm). Near 2.269 the order
breaks down, as Onsager has shown; the sweep looks for the temperature at which the squares fluctuate
most.

Stop it half way, or kill it with all its workers: the next run goes on where it stopped, on whatever
engine, because workers write what they have made into one cache, and what is there is not sent to
them. Start it in two terminals, on two engines, and no point is computed twice.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from typing import Any

import numpy as np

import wellkept
from wellkept import keep

SIZES = (16, 24, 32)
TEMPERATURES = tuple(round(2.1 + 0.03 * step, 2) for step in range(12))
ONSAGER = 2.0 / np.log(1.0 + np.sqrt(2.0))


# A `name` is the identity under which results are kept, wherever this script is.
@keep(name="sweep_ising.measure")
def measure(size: int, temperature: float, sweeps: int, seed: int = 0) -> dict[str, float]:
    """Magnetisation and susceptibility of a square of `size` x `size` atoms."""
    random = np.random.default_rng([seed, size, round(temperature * 1000)])
    spins = np.ones((size, size), dtype=np.int8)
    black = np.indices(spins.shape).sum(axis=0) % 2 == 0
    found = []
    for sweep in range(sweeps):
        for colour in (black, ~black):  # atoms of one colour have no neighbours among themselves
            around = sum(np.roll(spins, by, axis) for by in (-1, 1) for axis in (0, 1))
            chance = np.exp(-2.0 * spins * around / temperature)
            spins[colour & (random.random(spins.shape) < chance)] *= -1
        if sweep >= sweeps // 5:  # settled by then
            found.append(abs(int(spins.sum())))
    mean = np.mean(found)
    spread = np.mean(np.square(found, dtype=float)) - mean**2
    return {
        "magnetisation": float(mean / size**2),
        "susceptibility": float(spread / temperature / size**2),
    }


@contextlib.contextmanager
def processes(workers: int) -> Iterator[Executor]:
    with ProcessPoolExecutor(workers) as pool:
        yield pool


@contextlib.contextmanager
def dask(workers: int) -> Iterator[Executor]:
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
        client.get_executor() as pool,
    ):
        yield pool


@contextlib.contextmanager
def ray(workers: int) -> Iterator[Executor]:
    import ray

    from wellkept.integrations.ray import executor

    ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False)
    try:
        yield executor(num_cpus=1)
    finally:
        ray.shutdown()


ENGINES = {"processes": processes, "dask": dask, "ray": ray}


def report(points: list[tuple[int, float]], results: list[dict[str, float]]) -> None:
    """What was found: for each size the temperature of the greatest susceptibility."""
    for size in SIZES:
        own = [
            (result["susceptibility"], temperature)
            for (at, temperature), result in zip(points, results, strict=True)
            if at == size
        ]
        greatest, temperature = max(own)
        print(f"{size:3} x {size}: greatest at {temperature:.2f} ({greatest:.1f})")
    print(f"Onsager, of a square without end: {ONSAGER:.3f}")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--on", choices=ENGINES, default="processes", help="what runs the workers")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="how many")
    parser.add_argument("--sweeps", type=int, default=1000, help="how long a square is shaken")
    asked: Any = parser.parse_args(arguments)

    points = [(size, temperature) for size in SIZES for temperature in TEMPERATURES]
    print(f"{len(points)} points on {asked.workers} workers ({asked.on}), kept in {measure.cache}")
    began = time.perf_counter()
    with (
        ENGINES[asked.on](asked.workers) as pool,
        wellkept.run("ising", tags={"on": asked.on}) as run,
    ):
        sizes, temperatures = zip(*points, strict=True)
        results = measure.map(
            sizes, temperatures, [asked.sweeps] * len(points), executor=pool, progress=None
        )
    taken = time.perf_counter() - began
    report(points, results)
    counts = measure.stats()
    print(
        f"{counts.computed} computed, {counts.hits} from the cache: {taken:.1f} s in place of "
        f"{sum(match.call.seconds for match in measure.query(sweeps=asked.sweeps)):.1f} s of work; "
        f"wellkept runs show {run.id}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
