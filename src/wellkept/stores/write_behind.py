"""Write-behind: results of the near backend of a stack, delivered to a far one when that accepts them.

Only keys are queued: the results are in the near backend, and a note there says that one is not delivered yet.
So results that a program could not deliver before it ended, or was killed, are delivered by the next program,
and however many wait, they take no memory.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from blake3 import blake3

from wellkept._process import Instances
from wellkept.errors import DecodeError, KeptError, StoreError, tell

# Keys that are queued in memory; of more, only the notes are there.
_BOUND = 10_000
# Seconds before the next attempt at a far backend that did not accept a result.
_PAUSE = 2.0
# Seconds that the end of a program waits for the last deliveries, as long as they succeed.
_EXIT = 30.0
# Notes that are removed at once, as each removal is a transaction.
_MANY = 100


class Behind:
    """Delivers results to one far backend, in a thread of its own.

    Args:
        near: the backend that has the results.
        name: of the far backend, the same in every program.
        deliver: commits a key's result to the far backend; raises `StoreError` if it can't.
    """

    # The thread is no `Worker`: it waits for the next key in its queue, so that a result is delivered at once,
    # and a fork could not wait until a large one is delivered. The child begins with an empty queue: what the
    # parent owes is the parent's to deliver.

    def __init__(self, near: Any, name: str, deliver: Callable[[bytes], None]) -> None:
        self._near, self._name, self._deliver = near, name, deliver
        self._prefix = f"behind/{blake3(name.encode()).hexdigest(8)}/"
        self._forked()
        _all.add(self)

    def _forked(self) -> None:
        self._guard = threading.Lock()
        self._queue: queue.Queue[bytes] = queue.Queue(_BOUND)
        self._thread: threading.Thread | None = None
        self._idle = threading.Event()
        self._trouble = threading.Event()
        self._hurry = threading.Event()
        self._told = False

    def owe(self, key: bytes) -> None:
        """Note that a result was kept in the near backend; raises what that backend does."""
        # The note first: if the program is killed here, the next one finds it.
        self._near.notes.put(self._prefix + key.hex(), b"1")
        self._idle.clear()
        # If the queue is full, the note is found when there is room.
        with contextlib.suppress(queue.Full):
            self._queue.put_nowait(key)
        self.begin()

    def begin(self) -> None:
        """Start delivering, also the results of programs that ended before."""
        if self._thread is not None:
            return
        with self._guard:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._work, name="wellkept-behind", daemon=True
                )
                self._thread.start()

    def owed(self) -> Iterator[bytes]:
        """Yield the keys of results that are not delivered yet."""
        for note in self._near.notes.keys(self._prefix):
            with contextlib.suppress(ValueError):
                yield bytes.fromhex(note[len(self._prefix) :])

    def flush(self, seconds: float = _EXIT) -> int:
        """Wait until all results are delivered, or one can't be; return how many are left.

        Args:
            seconds: the longest wait.
        """
        if self._thread is not None:
            until = time.monotonic() + seconds
            self._trouble.clear()
            # Ends the pause after an earlier failure.
            self._hurry.set()
            while not self._idle.is_set() and not self._trouble.is_set():
                if time.monotonic() > until:
                    break
                self._idle.wait(0.02)
        with contextlib.suppress(StoreError):
            return sum(1 for _ in self.owed())
        return 0

    def close(self) -> None:
        """Flush, and warn of results that are left for the next program."""
        if self._thread is not None and (left := self.flush()):
            tell(
                f"{left:,} results wait to be delivered to {self._name}: the next program that uses "
                "this stack does it"
            )

    # -- in the thread ----------------------------------------------------------------------------

    def _work(self) -> None:
        done: list[str] = []
        while True:
            try:
                key = self._next(done)
                if self._give(key):
                    done.append(self._prefix + key.hex())
                if len(done) >= _MANY:
                    self._settle(done)
            # An error of the near backend; those of the far one are handled in `_give`.
            except KeptError as error:
                self._pause(error)

    def _next(self, done: list[str]) -> bytes:
        """Return the next key; wait for one if there is none."""
        with contextlib.suppress(queue.Empty):
            return self._queue.get_nowait()
        self._settle(done)
        # Notes of results beyond the bound, and of programs that ended.
        for key in self.owed():
            with contextlib.suppress(queue.Full):
                self._queue.put_nowait(key)
        if self._queue.empty():
            self._idle.set()
        return self._queue.get()

    def _give(self, key: bytes) -> bool:
        """Deliver one result; return whether it needs no further attempt."""
        while True:
            try:
                self._deliver(key)
            except DecodeError:
                # The near backend's copy is damaged, and the result will be computed again.
                return True
            except StoreError as error:
                self._pause(error)
            except Exception as error:  # noqa: BLE001  one result must not stop the delivery of all others
                tell(
                    f"a result can't be delivered to {self._name}: {type(error).__name__}: {error}"
                )
                return True
            else:
                self._told = False
                return True

    def _pause(self, error: KeptError) -> None:
        if not self._told:
            self._told = True
            tell(f"{self._name} does not accept results; they will be delivered later: {error}")
        self._trouble.set()
        self._hurry.wait(_PAUSE)
        self._hurry.clear()

    def _settle(self, done: list[str]) -> None:
        if done:
            self._near.notes.delete_many(done)
            done.clear()


_all: Instances[Behind] = Instances(in_child=Behind._forked)
