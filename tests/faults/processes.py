"""Python processes of the tests' own, spoken to by lines."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path


class Child:
    """A Python process that runs `source`. It prints lines; `expect` waits for them."""

    def __init__(self, source: str, *args: object, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(source), *map(str, args)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
        )
        self.pid = self.process.pid
        self._buffer = b""

    def line(self, patience: float = 60.0) -> str:
        """The next line."""
        assert self.process.stdout is not None
        deadline = time.monotonic() + patience
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._buffer:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise TimeoutError(f"no line in {patience} s, only {self._buffer!r}")
                got = os.read(self.process.stdout.fileno(), 65536)
                if not got:
                    raise EOFError(f"it ended: {self.errors()}")
                self._buffer += got
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.decode()

    def expect(self, text: str, patience: float = 60.0) -> None:
        got = self.line(patience)
        assert got == text, f"{got!r}, and not {text!r}"

    def say(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text.encode() + b"\n")
        self.process.stdin.flush()

    def kill(self, number: int = signal.SIGKILL) -> None:
        os.kill(self.pid, number)
        if number == signal.SIGKILL:
            self.process.wait()

    def end(self, patience: float = 60.0) -> None:
        """Wait for a good end."""
        try:
            status = self.process.wait(patience)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        assert status == 0, self.errors()

    def errors(self) -> str:
        self.process.wait(10)
        assert self.process.stderr is not None
        return self.process.stderr.read().decode()

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.kill(signal.SIGCONT)
            self.kill()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()


def note(log: Path, text: str) -> None:
    """Add a line to a log that several processes write."""
    fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(fd, text.encode() + b"\n")
    finally:
        os.close(fd)


def notes(log: Path) -> list[str]:
    """The lines of such a log."""
    return log.read_text().split() if log.exists() else []
