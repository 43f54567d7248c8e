"""Work done at once: in threads, and in a forked child."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

__all__ = ["in_fork", "in_threads"]


def in_threads(count: int, work: Callable[[int], None]) -> None:
    """Run `work(0)` to `work(count - 1)`, each in a thread of its own; raise what one raised."""
    errors: list[BaseException] = []

    def run(me: int) -> None:
        try:
            work(me)
        except BaseException as error:  # noqa: BLE001  it is raised below, where pytest sees it
            errors.append(error)

    threads = [threading.Thread(target=run, args=(me,)) for me in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def in_fork(do: Callable[[], None]) -> int:
    """Run `do()` in a forked child; its exit status, which is 1 where it raised."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            do()
            status = 0
        except BaseException as error:  # noqa: BLE001  the parent sees the status
            os.write(2, f"in the forked process: {error!r}\n".encode())
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
