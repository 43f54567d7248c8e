"""What a far place is owed: results that the near one has, delivered when the far one takes them.

Only keys wait: the results are in the near place, and a note there says that one is owed. So what a
program could not deliver before it ended, or was killed, the next one delivers, and however many wait,
they take no memory.
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

# Keys that wait in memory; beyond that, only their notes do.
_BOUND = 10_000
# Seconds for which a far place that does not take a result is let be.
_PAUSE = 2.0
# Seconds that the end of a program waits for the last deliveries, if they go on.
_EXIT = 30.0
# Notes that are removed at once.
_MANY = 100


class Behind:
    """Delivers to one far place, in a thread of its own.

    Args:
        near: the place that has the results.
        name: of the place that is owed them, the same in every program.
        deliver: commits a key's result there; raises `StoreError` if it could not.
    """

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
        """A result was kept near; raises nothing but what the near place does."""
        self._near.notes.put(self._prefix + key.hex(), b"1")
        self._idle.clear()
        # Its note is found when there is room.
        with contextlib.suppress(queue.Full):
            self._queue.put_nowait(key)
        self.begin()

    def begin(self) -> None:
        """Deliver what is owed, also by programs that ended before."""
        if self._thread is not None:
            return
        with self._guard:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._work, name="wellkept-behind", daemon=True
                )
                self._thread.start()

    def owed(self) -> Iterator[bytes]:
        """The keys of what is owed."""
        for note in self._near.notes.keys(self._prefix):
            with contextlib.suppress(ValueError):
                yield bytes.fromhex(note[len(self._prefix) :])

    def flush(self, seconds: float = _EXIT) -> int:
        """Wait until all is delivered, or some could not be; how many are left.

        Args:
            seconds: the longest wait.
        """
        if self._thread is not None:
            until = time.monotonic() + seconds
            self._trouble.clear()
            # Once more at once, whatever went wrong before.
            self._hurry.set()
            while not self._idle.is_set() and not self._trouble.is_set():
                if time.monotonic() > until:
                    break
                self._idle.wait(0.02)
        with contextlib.suppress(StoreError):
            return sum(1 for _ in self.owed())
        return 0

    def close(self) -> None:
        """Flush; what is left is told, and delivered by the next program."""
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
            # Of the near place; the far one's are dealt with.
            except KeptError as error:
                self._pause(error)

    def _next(self, done: list[str]) -> bytes:
        """The next key; waits for one."""
        with contextlib.suppress(queue.Empty):
            return self._queue.get_nowait()
        self._settle(done)
        # Notes beyond the bound, and those of others who ended.
        for key in self.owed():
            with contextlib.suppress(queue.Full):
                self._queue.put_nowait(key)
        if self._queue.empty():
            self._idle.set()
        return self._queue.get()

    def _give(self, key: bytes) -> bool:
        """Whether it is owed no more."""
        while True:
            try:
                self._deliver(key)
            except DecodeError:
                # It is damaged here, and will be computed again.
                return True
            except StoreError as error:
                self._pause(error)
            except Exception as error:  # noqa: BLE001  whatever it is, the rest waits for this thread
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
            tell(f"{self._name} does not take results; they are delivered later: {error}")
        self._trouble.set()
        self._hurry.wait(_PAUSE)
        self._hurry.clear()

    def _settle(self, done: list[str]) -> None:
        if done:
            self._near.notes.delete_many(done)
            done.clear()


_all: Instances[Behind] = Instances(in_child=Behind._forked)
