"""Five processes at one store, each with a copy that was pickled to it."""

from __future__ import annotations

import multiprocessing
import pickle
import signal
from collections.abc import Callable
from typing import Any

WORKERS = 5


def race(work: Callable[..., Any], store: Any, *args: Any) -> list[Any]:
    """What `work(store, *args, me)` returns in each of the processes, which begin at once."""
    context = multiprocessing.get_context("spawn")
    start, answers = context.Barrier(WORKERS), context.SimpleQueue()
    sent = pickle.dumps((work, store, args))
    workers = [
        context.Process(target=_run, args=(sent, me, start, answers)) for me in range(WORKERS)
    ]
    for worker in workers:
        worker.start()
    found = [answers.get() for _ in workers]
    for worker in workers:
        worker.join()
    for answer in found:
        if isinstance(answer, BaseException):
            raise answer
    return found


def _run(sent: bytes, me: int, start: Any, answers: Any) -> None:
    try:
        work, store, args = pickle.loads(sent)
        start.wait(60)
        answers.put(work(store, *args, me))
    except BaseException as error:  # noqa: BLE001  it is raised where pytest sees it
        answers.put(RuntimeError(f"in process {me}: {error!r}"))


def die_in_time(seconds: int = 30) -> None:
    """In a forked child, which may wait for a thread that it lacks: end, whatever happens."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # pytest's own handler would go on testing here
    signal.alarm(seconds)


def create_each(store: Any, keys: list[str], me: int) -> list[str]:
    """The keys that this process was the one to create."""
    return [key for key in keys if store.create(key, b"%d" % me)]


def count_up(store: Any, key: str, times: int, me: int) -> int:
    """Add one so many times; how often somebody else came between."""
    lost = 0
    for _ in range(times):
        while True:
            old = store.get(key)
            if store.replace(key, old, b"%d" % (int(old) + 1)):
                break
            lost += 1
    return lost


def _create_and_count(store: Any, names: list[str], times: int, me: int) -> tuple[list[str], int]:
    return create_each(store, names, me), count_up(store, "leases/count", times, me)


def check_races(store: Any, *, keys: int = 20, times: int = 50) -> None:
    """One winner a key, and no increment lost."""
    names = [f"leases/{n}" for n in range(keys)]
    store.put("leases/count", b"0")
    won, lost = zip(*race(_create_and_count, store, names, times), strict=True)
    assert sorted(name for some in won for name in some) == sorted(names)
    for me, some in enumerate(won):
        del me
        assert len({store.get(name) for name in some}) <= 1, "a loser's item is there"
    assert store.get("leases/count") == b"%d" % (WORKERS * times)
    assert sum(lost) > 0, "nobody met anybody: this was no race"
