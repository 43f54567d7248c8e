"""The client's side of a connection to a server, over any transport, with retries where they are harmless."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any, TypeVar

from wellkept._process import Instances
from wellkept.errors import ConfigError, StoreError
from wellkept.remote.wire import Request, Send, WireError, pack, unpack
from wellkept.stores.silence import Silence

T = TypeVar("T")
Sink = Callable[[Any], Any]
"""Called with each part of an answer."""


class Broken(StoreError):  # noqa: N818  says what happened, as wellkept's errors do
    """The connection ended; the request may or may not have been carried out."""

    final = False
    """Whether a second attempt would not help."""


class Unanswered(StoreError):  # noqa: N818  says what happened, as wellkept's errors do
    """No answer came in time."""


class Later(Exception):  # noqa: N818  says what happened, as wellkept's errors do
    """The server did nothing, and wants the request again after some seconds."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


class Line:
    """A server, for all threads of this process.

    Args:
        where: its name in messages; without secrets.
        deadline: seconds without an answer, or without more of it, after which a request has failed.

    Raises:
        ConfigError: the deadline is not between 0 and 86,400 seconds.
    """

    where: str
    deadline: float
    trips: int

    def __init__(self, where: str, deadline: float) -> None:
        if not 0 < deadline < 86400:
            raise ConfigError(f"a deadline is a positive number of seconds, not {deadline!r}")
        self.where, self.deadline = where, deadline
        self.silence: Silence = Silence()
        self.trips = 0
        """How many answers were waited for."""
        self.owner: str = os.urandom(8).hex()
        """This client's name on the server, for its leases and the blobs that it has sent."""
        _all.add(self)

    def ask(self, request: Request, sink: Sink | None = None, *, wait: bool = True) -> Any:
        """Return the answer to a request.

        Args:
            request: what to ask.
            sink: called with each part of an answer that comes in parts.
            wait: whether to wait for the answer; without, None is returned.

        Raises:
            StoreError: no answer came.
            KeptError: the server answered with this error.
        """
        content = pack(request)
        if not wait:
            return self._unheard(request, content)
        # A sink has taken some of the parts by the time that a connection breaks, so those are not asked for
        # again.
        again = not request.once and sink is None
        answer = self._try(lambda first: self._ask(request, content, sink, first), again=again)
        if sink is not None:
            return answer
        try:
            return unpack(answer, request.answer)
        except WireError as error:
            raise WireError(f"{self.where}: {request.verb}: {error}") from error

    def send(self, name: bytes, content: memoryview) -> None:
        """Send a blob; raises as `ask`."""
        request = Send(name, len(content))
        self._try(lambda first: self._send(request, content), again=True)

    def _ask(self, request: Request, content: bytes, sink: Sink | None, first: bool) -> Any:
        """Return the bytes of the answer to one request.

        Args:
            request: what to ask.
            content: the request, packed.
            sink: called with each part of an answer that comes in parts.
            first: whether this is the first attempt; False after a connection that broke.

        Raises:
            Broken: the connection ended.
            Unanswered: no answer came in time.
            Later: the server wants the request again later.
            KeptError: the server answered with this error.
        """
        raise NotImplementedError

    def _send(self, request: Send, content: memoryview) -> None:
        """Send a blob once; raises as `_ask`."""
        raise NotImplementedError

    def _unheard(self, request: Request, content: bytes) -> None:
        """Send a request without waiting for its answer; it is carried out before any later request."""
        raise NotImplementedError

    def _try(self, do: Callable[[bool], T], *, again: bool, trips: int = 1) -> T:
        self.silence.check()
        began = time.monotonic()
        self.trips += trips
        first = True
        while True:
            try:
                done = do(first)
            except Later as later:
                if time.monotonic() - began + later.seconds > self.deadline:
                    raise StoreError(f"{self.where}: too many requests for this token") from None
                time.sleep(later.seconds)
            except Broken as broken:
                # A connection that broke while it was idle is not worth an error. But once only, or a
                # server that breaks each connection would be asked for ever.
                if not again or not first or broken.final:
                    raise
                first = False
            except Unanswered as error:
                self.silence.note(str(error), began)
                raise
            else:
                self.silence.answered = began
                return done

    def _silent(self, what: str) -> Unanswered:
        return Unanswered(
            f"{self.where}: no answer to {what} within {self.deadline:g} s; is it overloaded or cut "
            "off?"
        )

    def close(self) -> None:
        """End the connection; the next use makes a new one."""
        self.silence.over()

    def _forked(self) -> None:
        """Let go of the parent's connection, in a forked child."""
        # A name of its own, or the server would take the child's release of a lease for the parent's.
        self.owner = os.urandom(8).hex()


_all: Instances[Line] = Instances(in_child=lambda line: line._forked())
