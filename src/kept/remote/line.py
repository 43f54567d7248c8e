"""What a client says to a server over one process: connected when needed, again when it broke."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from typing import Any

from kept.errors import StoreError
from kept.remote.channel import Broken, Channel, Unanswered
from kept.stores.silence import Silence

__all__ = ["ONCE", "ProcessLine"]

ONCE = frozenset(("notes.create", "acquire", "gc", "free"))
"""What must not be done twice: whether it was done is not known when the connection breaks."""


class ProcessLine:
    """A server's process, for all threads of this one.

    Args:
        command: see `Channel`.
        where: for messages.
        deadline: see `Channel`.
    """

    def __init__(self, command: Sequence[str], where: str, deadline: float) -> None:
        self.command, self.where, self.deadline = list(command), where, deadline
        self.owner = os.urandom(8).hex()
        self.silence = Silence()
        self.trips = 0
        """How many answers were waited for."""
        self._channel: Channel | None = None
        self._guard = threading.Lock()
        _all.add(self)

    def ask(
        self, verb: str, fields: Any, sink: Callable[[Any], Any] | None = None, *, wait: bool = True
    ) -> Any:
        """The answer to a request; asked once more over a new connection where that is harmless.

        Raises:
            StoreError: there is none.
            KeptError: the server told of it.
        """
        return self._try(
            lambda channel: channel.ask(verb, fields, sink, wait=wait),
            again=verb not in ONCE and sink is None,
            trips=int(wait),
        )

    def send(self, fields: Any, content: memoryview) -> None:
        """Send a blob; raises as `ask`."""
        self._try(lambda channel: channel.send(fields, content), again=True, trips=1)

    def _try(self, do: Callable[[Channel], Any], *, again: bool, trips: int) -> Any:
        self.silence.check()
        began = time.monotonic()
        self.trips += trips
        channel, fresh = self._connected()
        try:
            try:
                return do(channel)
            except Broken:
                # One that broke while it was idle is not worth an error.
                if not again or fresh:
                    raise
            channel, _ = self._connected()
            return do(channel)
        except Unanswered as error:
            self.silence.note(str(error), began)
            if channel.silent:  # another may get through where this one is cut off
                self._drop(channel)
            raise

    def _drop(self, channel: Channel) -> None:
        with self._guard:
            if self._channel is channel:
                self._channel = None
        channel.close(patience=0)

    def _connected(self) -> tuple[Channel, bool]:
        channel = self._channel
        if channel is not None and channel.broken is None:
            return channel, False
        with self._guard:
            if self._channel is not None:
                if self._channel.broken is None:
                    return self._channel, False
                self._channel.close(patience=0.2)
                self._channel = None
            self.silence.check()  # somebody may have tried while we waited
            try:
                made = Channel(self.command, self.where, self.deadline)
                try:
                    made.ask("hello", {"owner": self.owner})
                except StoreError:
                    made.close(patience=0)
                    raise
            except StoreError as error:
                self.silence.note(str(error))
                raise
            self._channel = made
            return made, True

    def close(self) -> None:
        """End the connection; the next use makes a new one."""
        with self._guard:
            channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()
        self.silence.over()

    def _forked(self) -> None:
        self._guard = threading.Lock()
        self.owner = os.urandom(8).hex()
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.leave()


_all: weakref.WeakSet[ProcessLine] = weakref.WeakSet()


def _after_fork() -> None:
    for line in list(_all):
        line._forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
