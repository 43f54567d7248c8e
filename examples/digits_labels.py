"""Label handwritten digits with several worker processes that share nothing but a store.

    python examples/digits_labels.py                      the cache directory of this user
    python examples/digits_labels.py --workers 4 --cache redis://localhost/0

What is asked for are jobs, one for each batch of images. What workers need to know (the settings) and
what they found (the labels) is state. Who is at work is state with a TTL: a worker that dies is gone
from the list a moment later, and another one takes its job, whose lease died with it. Run it again, or
kill a worker, or the program itself: no image is labelled twice for it.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from typing import Any

import wellkept
from wellkept.kv import Jobs

BATCH = 100


def stores(cache: str | None, run: str) -> tuple[wellkept.kv.ExecutionStore, Jobs]:
    """The run's state and its jobs; the scope keeps runs apart."""
    state = wellkept.store("labels", scope=run, cache=cache)
    return state, Jobs(wellkept.store("jobs", scope=run, cache=cache), ttl="7 d")


@wellkept.kv.cached(ttl="1 h", store="told", ignore=["cache"], scope=lambda run, cache: run)
def settings(run: str, cache: str | None) -> dict[str, Any]:
    """What all workers are told: read once an hour by each host."""
    state, _ = stores(cache, run)
    found: dict[str, Any] = state["settings"]
    return found


def model_of(neighbors: int) -> Any:
    """A classifier that has seen the first half of the digits."""
    from sklearn.datasets import load_digits
    from sklearn.neighbors import KNeighborsClassifier

    images, truth = load_digits(return_X_y=True)
    half = len(images) // 2
    return KNeighborsClassifier(neighbors).fit(images[:half], truth[:half]), images


def work(run: str, cache: str | None) -> None:
    """Take jobs until there are none."""
    state, jobs = stores(cache, run)
    model, images = model_of(settings(run, cache)["neighbors"])
    while any(job["state"] in ("requested", "running") for job in jobs.list()):
        state.set(f"workers/{os.getpid()}", {"since": time.time()}, ttl=5)
        job = jobs.claim()
        if job is None:  # others have them: one may die yet
            time.sleep(0.1)
            continue
        with job:  # completed at its end, failed by an exception
            begin, end = job.payload
            for at in range(begin, end, 10):
                found = model.predict(images[at : min(at + 10, end)])
                state.update({f"image/{at + i:04}": int(label) for i, label in enumerate(found)})
                job.progress((at - begin) / (end - begin))
            state.increment("batches")


def ask(state: wellkept.kv.ExecutionStore, jobs: Jobs, neighbors: int) -> int:
    """Ask for what is not asked for yet; how many images there are to label."""
    from sklearn.datasets import load_digits

    count = len(load_digits().target)
    half = count // 2
    state.set_if_absent("settings", {"neighbors": neighbors})
    for begin in range(half, count, BATCH):
        number = f"{begin:04}"
        if number not in jobs.store:
            jobs.create([begin, min(begin + BATCH, count)], id=number, owner=os.getpid())
    return count - half


def main() -> int:
    """Ask for labels, have them made, and say how good they are."""
    parser = argparse.ArgumentParser(description="Label digits with several processes.")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--neighbors", type=int, default=3)
    parser.add_argument("--run", default="digits", help="the name of the run")
    parser.add_argument("--cache", help="a directory, a name or a URL")
    options = parser.parse_args()
    state, jobs = stores(options.cache, options.run)
    begin = state.revision
    wanted = ask(state, jobs, options.neighbors)
    processes = [
        multiprocessing.get_context("spawn").Process(target=work, args=(options.run, options.cache))
        for _ in range(options.workers)
    ]
    for process in processes:
        process.start()
    seen = 0
    while any(process.is_alive() for process in processes):
        for change in state.watch("image/", since=begin, timeout=0.5):
            begin, seen = change.revision, seen + 1
        done, at_work = state.count("image/"), state.count("workers/")
        print(f"{done} of {wanted} images labelled, {at_work} workers", flush=True)
    for process in processes:
        process.join()
    return report(state, jobs, wanted, seen)


def report(state: wellkept.kv.ExecutionStore, jobs: Jobs, wanted: int, seen: int) -> int:
    """Compare the labels with the truth."""
    from sklearn.datasets import load_digits

    failed = [job["error"] for job in jobs.list("failed")]
    truth = load_digits().target
    labels = {int(key.partition("/")[2]): label for key, label in state.items("image/")}
    right = sum(truth[at] == label for at, label in labels.items())
    print(
        f"{seen} labels came in; {right} of {len(labels)} are right ({right / max(1, len(labels)):.1%})"
    )
    for error in failed:
        print(f"a batch failed: {error}", file=sys.stderr)
    return 0 if len(labels) == wanted and not failed else 1


if __name__ == "__main__":
    raise SystemExit(main())
