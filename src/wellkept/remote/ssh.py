"""`ssh://host/path`: a server process at the other end of a pair of pipes, shared by all threads."""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from wellkept._system import PIPES, enlarge, readv, ready, set_blocking, writev
from wellkept.caches.config import BARE
from wellkept.errors import ConfigError, StoreError
from wellkept.remote.line import Broken, Line, Sink, Unanswered
from wellkept.remote.remote_backend import RemoteBackend
from wellkept.remote.wire import (
    ANSWER,
    CHUNK,
    CHUNK_SIZE,
    END,
    ERROR,
    HEADER,
    REQUEST,
    VERSION,
    Hello,
    Request,
    Send,
    WireError,
    another_version,
    messages,
    pack,
    raised,
    unpack,
)
from wellkept.stores.keyring import Trusts

# Bytes that a login script may write before the banner.
_NOISE = 64 * 1024
# The zero byte is nothing that a login script prints.
_MARK = b"\0kept-wire "
# Characters of the other side's error output that a message shows.
_LAST = 500
# Seconds to connect and begin: more than ssh's own ConnectTimeout, so that its message is the one shown.
_CONNECT = 20.0
T = TypeVar("T")


class _Asked:
    """A request that waits for its answer."""

    __slots__ = ("done", "error", "heard", "sink", "value")

    def __init__(self, sink: Sink | None) -> None:
        self.done = threading.Lock()
        self.done.acquire()
        self.sink = sink
        self.value = b""
        self.error: Exception | None = None
        self.heard = 0
        """How many parts came."""


class Channel:
    """A connection to a server's process, which a command starts.

    Args:
        command: the program that runs the server, or connects to it, and its arguments.
        where: the server's name in messages.
        deadline: seconds without an answer, or without more of it, after which a request has failed.

    Raises:
        StoreError: the server does not start, or speaks another version.
    """

    def __init__(self, command: Sequence[str], where: str, deadline: float) -> None:
        self._where, self._deadline = where, deadline
        if not PIPES:
            raise ConfigError(
                f"{where}: a cache over ssh needs pipes that do not block, which this system has not; "
                "use a cache that is served over https://"
            )
        # Error output goes to a file: a pipe that nobody reads would fill, and stop the other side.
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115  as long as the connection lives
        try:
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._complaints,
                bufsize=0,
                # Ctrl-C goes to the whole process group, and must not end the connection of a program that
                # handles it.
                start_new_session=True,
            )
        except OSError as error:
            raise StoreError(
                f"can't connect to {where}: can't run {command[0]}: {error}"
            ) from error
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in, self._out = self._process.stdin.fileno(), self._process.stdout.fileno()
        # A write that blocks could not be given up at the deadline.
        set_blocking(self._in, False)
        # Larger pipes mean fewer switches between the processes for large content. Linux only, and the system
        # may refuse it.
        for pipe in (self._in, self._out):
            enlarge(pipe, 2 * CHUNK_SIZE)
        self._writing = threading.Lock()
        self._asked: dict[int, _Asked] = {}
        self._guard = threading.Lock()
        self._last = 0
        self.broken: Exception | None = None
        self._rest = b""
        self._heard = time.monotonic()
        try:
            self._greet()
        except BaseException:
            self.close()
            raise
        # One thread reads for all, as answers come in any order. It is no `Worker`: it waits in a read that
        # only the other side ends, so a fork could not wait for it. `leave` lets go of the connection in the
        # child.
        self._listener = threading.Thread(target=self._listen, name="wellkept-remote", daemon=True)
        self._listener.start()

    # -- asking -----------------------------------------------------------------------------------

    def ask(
        self, verb: str, content: bytes, sink: Sink | None = None, *, wait: bool = True
    ) -> bytes:
        """Return the bytes of the answer to a request.

        Args:
            verb: of the request.
            content: the request, packed.
            sink: called with each part of an answer that comes in parts, in the thread that reads.
            wait: whether to wait for the answer.

        Raises:
            Broken: the connection ended.
            Unanswered: no answer came in time.
            KeptError: the server answered with this error.
        """
        number, asked = self._number(sink)
        try:
            self._begin(number, verb, content)
            return self._answer(asked, verb) if wait else b""
        finally:
            if wait:
                self._asked.pop(number, None)

    def send(self, request: Send, content: memoryview) -> None:
        """Send a blob in parts; raises as `ask`."""
        number, asked = self._number(None)
        try:
            self._begin(number, request.verb, pack(request))
            for at in range(0, len(content), CHUNK_SIZE):
                part = content[at : at + CHUNK_SIZE]
                # The server has refused it: the rest need not be sent.
                if asked.error is not None:
                    break
                self._send(HEADER.pack(len(part), CHUNK, number), part)
            self._send(HEADER.pack(0, END, number))
            self._answer(asked, "send a blob")
        finally:
            self._asked.pop(number, None)

    def _begin(self, number: int, verb: str, content: bytes) -> None:
        verb_ = verb.encode() + b"\0"
        self._send(HEADER.pack(len(verb_) + len(content), REQUEST, number), verb_, content)

    def _number(self, sink: Sink | None) -> tuple[int, _Asked]:
        asked = _Asked(sink)
        with self._guard:
            if self.broken is not None:
                raise Broken(f"{self._where}: {self.broken}")
            # The number 0 is for errors of the connection itself.
            self._last = (self._last + 1) & 0x7FFFFFFF or 1
            self._asked[self._last] = asked
            return self._last, asked

    def _answer(self, asked: _Asked, verb: str) -> bytes:
        # A server sends an empty part now and then while it works on a slow request, so the deadline is for
        # silence.
        heard = -1
        while not asked.done.acquire(timeout=self._deadline):
            if asked.heard == heard or asked.heard == 0:
                raise Unanswered(
                    f"{self._where}: no answer to {verb} within {self._deadline:g} s; is it "
                    "overloaded or cut off?"
                )
            heard = asked.heard
        if asked.error is not None:
            raise asked.error
        return asked.value

    def _send(self, *parts: Any) -> None:
        """Send all of the parts; if that fails, end the connection, as half a message can't be taken back."""
        with self._writing:
            # It may have broken while this thread waited for its turn, with half of another's message sent.
            if self.broken is not None:
                raise Broken(f"{self._where}: {self.broken}")
            views = [memoryview(part) for part in parts if len(part)]
            try:
                while views:
                    try:
                        done = writev(self._in, views)
                    except BlockingIOError:
                        if not ready(self._in, self._deadline, to_write=True):
                            self._end(
                                StoreError("the server receives nothing more; is it cut off?")
                            )
                            raise Unanswered(
                                f"{self._where}: has received nothing for {self._deadline:g} s; is it "
                                "overloaded or cut off?"
                            ) from None
                        continue
                    while views and done >= len(views[0]):
                        done -= len(views.pop(0))
                    if views:
                        views[0] = views[0][done:]
            except (OSError, ValueError) as error:
                # The listening thread may be about to read the reason that the server gives.
                self._listener.join(0.2)
                self._end(StoreError(self._why("the connection is gone")))
                raise Broken(f"{self._where}: {self.broken}") from error

    # -- listening --------------------------------------------------------------------------------

    def _greet(self) -> None:
        """Skip whatever comes before the banner, such as the output of a login script."""
        deadline = time.monotonic() + max(_CONNECT, self._deadline)
        seen = b""
        while True:
            at = seen.find(_MARK)
            if at >= 0 and (end := seen.find(b"\n", at)) >= 0:
                break
            left = deadline - time.monotonic()
            if left <= 0 or not ready(self._out, left):
                raise Unanswered(
                    f"can't connect to {self._where}: the server does not start in time"
                )
            more = os.read(self._out, 4096)
            if not more or len(seen) > _NOISE:
                raise StoreError(
                    f"can't connect to {self._where}: "
                    + self._why("no `wellkept serve` answers there")
                )
            seen += more
        said = seen[at + len(_MARK) : end].decode("ascii", "replace")
        if said != str(VERSION):
            raise another_version(self._where, said)
        self._rest = seen[end + 1 :]

    def _read(self, room: memoryview) -> int:
        if self._rest:
            some, self._rest = self._rest[: len(room)], self._rest[len(room) :]
            room[: len(some)] = some
            return len(some)
        return int(readv(self._out, [room]))

    def _listen(self) -> None:
        try:
            for kind, number, content in messages(self._read):
                self._hear(kind, number, content)
            why: Exception = StoreError(self._why("the connection ended"))
        except Exception as error:  # noqa: BLE001  any error here ends the connection
            why = StoreError(self._why(str(error)))
        self._end(why)

    def _hear(self, kind: int, number: int, content: Any) -> None:
        asked = self._asked.get(number)
        self._heard = time.monotonic()
        if kind == ERROR and number == 0:
            raise raised(content, "the server ended the connection")
        # The request was given up, or did not wait for its answer.
        if asked is None:
            return
        if kind == CHUNK:
            asked.heard += 1
            if asked.sink is not None and asked.error is None:
                try:
                    asked.sink(content)
                # It belongs to the thread that asked; this one goes on reading for the others.
                except Exception as error:  # noqa: BLE001  raised in the thread that asked
                    asked.error = error
        elif kind in (ANSWER, ERROR):
            if kind == ERROR:
                asked.error = raised(content, self._where)
            else:
                asked.value = bytes(content)
            self._asked.pop(number, None)
            asked.done.release()
        else:
            raise WireError("a server sent a message that is no answer")

    def _end(self, why: Exception) -> None:
        with self._guard:
            if self.broken is None:
                self.broken = why
            waiting, self._asked = list(self._asked.values()), {}
        for asked in waiting:
            if asked.error is None:
                asked.error = Broken(f"{self._where}: {self.broken}")
            with contextlib.suppress(RuntimeError):
                asked.done.release()

    def _why(self, what: str) -> str:
        # The error output is complete once the process has ended.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(0.2)
        with contextlib.suppress(OSError, ValueError):
            size = self._complaints.seek(0, os.SEEK_END)
            self._complaints.seek(max(0, size - 4 * _LAST))
            said = " ".join(self._complaints.read().decode("utf-8", "replace").split())
            if "resolve hostname" in said:
                what = "there is no such host; check its name in the URL or in ~/.ssh/config"
            if said:
                return f"{what}: {said[-_LAST:]}"
        return what

    @property
    def silent(self) -> bool:
        """Return whether nothing at all came for as long as a request may take."""
        return time.monotonic() - self._heard > 0.9 * self._deadline

    def close(self, patience: float = 2.0) -> None:
        """End the connection and the process that was started for it.

        Args:
            patience: seconds that the process has to end by itself.
        """
        self._end(StoreError("the connection was closed"))
        process = self._process
        # The end of its input tells the other side to end.
        with contextlib.suppress(OSError):
            process.stdin.close()  # type: ignore[union-attr]  # it was made with a pipe
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(2.0)
        with contextlib.suppress(OSError):
            process.stdout.close()  # type: ignore[union-attr]  # it was made with a pipe
        with contextlib.suppress(OSError):
            self._complaints.close()

    def leave(self) -> None:
        """Let go of the pipes in a forked child, as the connection is the parent's."""
        self.broken = StoreError("the connection is of another process")
        for pipe in (self._process.stdin, self._process.stdout, self._complaints):
            with contextlib.suppress(OSError, ValueError):
                pipe.close()  # type: ignore[union-attr]  # it was made with pipes
        # It is not a child of this process: with a return code, Popen neither waits for it nor warns.
        self._process.returncode = 0


class ProcessLine(Line):
    """A server's process at the other end of a pair of pipes.

    Args:
        command: see `Channel`.
        where: the server's name in messages.
        deadline: see `Line`.
    """

    def __init__(self, command: Sequence[str], where: str, deadline: float) -> None:
        super().__init__(where, deadline)
        self.command: list[str] = list(command)
        self._channel: Channel | None = None
        self._guard = threading.Lock()

    def _ask(self, request: Request, content: bytes, sink: Sink | None, first: bool) -> bytes:
        return self._over(lambda channel: channel.ask(request.verb, content, sink))

    def _send(self, request: Send, content: memoryview) -> None:
        self._over(lambda channel: channel.send(request, content))

    def _unheard(self, request: Request, content: bytes) -> None:
        def do(first: bool) -> bytes:
            return self._over(lambda channel: channel.ask(request.verb, content, wait=False))

        self._try(do, again=not request.once, trips=0)

    def _over(self, do: Callable[[Channel], T]) -> T:
        channel, fresh = self._connected()
        try:
            return do(channel)
        except Broken as broken:
            # A connection that was just made and breaks at once would do so again.
            broken.final = fresh
            raise
        except Unanswered:
            # Nothing at all comes, so this connection may be cut off without a sign; a new one may get through.
            if channel.silent:
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
            # Another thread may have tried in vain while this one waited.
            self.silence.check()
            try:
                made = Channel(self.command, self.where, self.deadline)
                try:
                    unpack(made.ask("hello", pack(Hello(self.owner))), None)
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
        super().close()

    def _forked(self) -> None:
        super()._forked()
        self._guard = threading.Lock()
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.leave()


class Ssh(RemoteBackend):
    """A cache on another host, served by `wellkept serve --stdio`, which the system's `ssh` runs there.

    Args:
        url: `ssh://[user@]host[:port]/path`, or `/~/path` for one in the home directory there. With
            `?cache=NAME` it is the cache of that name in the configuration there, as it is seen from the
            path, or from the home directory (`ssh://host/?cache=team`).
        command: the command that runs wellkept on that host.
        ssh: the ssh program, with options: `("ssh", "-F", "config")`.
        compress: whether `ssh` compresses.
        deadline: seconds without an answer after which a request has failed.
        trust: decode values from that host, signed or not.

    Raises:
        ConfigError: the URL or an option is wrong.
    """

    def __init__(
        self,
        url: str,
        *,
        command: str = "wellkept",
        ssh: str | Sequence[str] = "ssh",
        compress: bool = False,
        deadline: float = 30.0,
        trust: bool = False,
    ) -> None:
        user, host, port, path, name = _parts(url)
        words = shlex.split(ssh) if isinstance(ssh, str) else list(ssh)
        # BatchMode: a question for a password would wait for ever. ServerAlive: a dead connection is noticed
        # after a minute, even if nothing is asked.
        words += ["-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=15"]
        words += ["-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=4"]
        words += ["-C"] if compress else []
        words += ["-p", str(port)] if port else []
        words += ["-l", user] if user else []
        if name and path:
            # A shell sees `~` where it is not quoted.
            home, inside = ("~/", path[2:]) if path.startswith("~/") else ("", path)
            command = f"cd {home}{shlex.quote(inside)} && {command}"
        words += ["--", host, f"{command} serve --stdio {shlex.quote(name or path)}"]
        at = f"{user}@" if user else ""
        where = f"ssh://{at}{host}{f':{port}' if port else ''}/{path.lstrip('/')}"
        where += f"?cache={name}" if name else ""
        super().__init__(ProcessLine(words, where, deadline), Trusts(trust))

    def __repr__(self) -> str:
        return f"Ssh({self.line.where!r})"


class Piped(RemoteBackend):
    """A cache that a command serves over its standard input and output."""

    def __init__(self, command: Sequence[str], *, deadline: float = 30.0, trust: bool = False):
        where = f"`{' '.join(command)[:60]}`"
        super().__init__(ProcessLine(command, where, deadline), Trusts(trust))


def _parts(url: str) -> tuple[str | None, str, int | None, str, str]:
    """Return user, host, port, path and named cache of an ssh URL.

    Raises:
        ConfigError: it is no such URL.
    """
    try:
        parts: Any = urlsplit(url)
        user, host, port = parts.username, parts.hostname, parts.port
        password = parts.password
    except ValueError:
        raise ConfigError("not an ssh URL: its host or port can't be read") from None
    if password is not None:
        raise ConfigError("an ssh URL has no password: ssh takes the user's keys")
    name = unquote(parts.query.removeprefix("cache="))
    named = parts.query.startswith("cache=") and BARE.fullmatch(name)
    if parts.fragment or (parts.query and not named):
        raise ConfigError(
            "an ssh URL has no query but ?cache=NAME, the name of a cache in the configuration there; "
            "options are arguments of their own"
        )
    user = unquote(user) if user else None
    # A host such as `-oProxyCommand=…` would be an option of ssh, and ssh's configuration may hand names to a
    # shell.
    for word in (host or "", user or ""):
        if word.startswith("-") or any(c.isspace() or c in "\"'`$;&|<>\\" for c in word):
            raise ConfigError(
                "not an ssh URL: its host or user has characters that are not allowed"
            )
    path = unquote(parts.path)
    if not host or (path in ("", "/") and not name):
        raise ConfigError(
            "an ssh URL names a host and a path: ssh://host/path, or ssh://host/?cache=NAME"
        )
    if "\0" in path or "\n" in path:
        raise ConfigError("not an ssh URL: its path has line breaks or zero bytes")
    return user, host, port, "" if path == "/" else path[path.startswith("/~") :], name
