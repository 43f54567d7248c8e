"""A small kept store, ways to damage it, and what a caller must get from it afterwards.

A damaged copy is opened in a forked child, many copies a child, so that a crash, a hang or an
exception is a complaint of one copy and not the end of the test.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import wellkept
from wellkept import keep
from wellkept.errors import KeptWarning


@keep(version=1)
def blob(i: int) -> dict[str, object]:
    return {"a": bytearray(b"%d," % i) * 40_000, "t": ("x", i)}


@keep(version=1)
def small(i: int) -> list[object]:
    return [i, str(i), {"k": i}]


@keep(version=1)
def text(i: int) -> str:
    return f"line {i}\n" * 12_000


@keep(version=1)
def plain(i: int) -> int:
    return i * i


FUNCTIONS = (blob, small, text, plain)
N = 3


def call_all(numbers: Iterable[int] = range(N)) -> int:
    """Call everything, check it, and say how many bodies ran."""
    before = sum(f.counts.computed for f in FUNCTIONS)
    for i in numbers:
        for function in FUNCTIONS:
            got = function(i)
            assert got == function.__wrapped__(i), f"WRONG {function.__name__}({i}): {got!r:.80}"
    return sum(f.counts.computed for f in FUNCTIONS) - before


def make_store(root: Path) -> None:
    """A closed store that holds it all, with a row that was replaced and one that was forgotten."""
    with wellkept.open(root) as cache, wellkept.use(cache):
        call_all()
        small(100)
        small.forget(100)
        plain.rerun(0)
        small(0)


@dataclass
class Outcome:
    """What became of one damaged copy."""

    name: str
    computed: int = 0
    """Bodies that ran in the first round: results that the damage cost."""
    warned: str = ""
    counted: int = 0
    complaint: str = ""


def judge(name: str, root: Path, while_open: Callable[[Path], None] | None = None) -> Outcome:
    """Open a damaged copy several times: right answers, and soon nothing is computed any more, neither
    what was kept before nor what is new."""
    out = Outcome(name)
    new = (N, N + 1)
    try:
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            cache = wellkept.open(root, memory=0)
            if while_open is not None:
                with wellkept.use(cache):
                    call_all()
                while_open(root)
            with wellkept.use(cache):
                out.computed = call_all()
                call_all(new)
            out.counted = cache.counts["damaged"]
            cache.close()
            rounds = [out.computed]
            while len(rounds) < 5:  # what is damaged may be met late, by a write of a later run
                with wellkept.open(root) as cache, wellkept.use(cache):
                    rounds.append(call_all() + call_all(new))
                if rounds[-1] == 0:
                    break
            else:
                out.complaint = f"computed {rounds}"
        told = [w for w in heard if issubclass(w.category, KeptWarning)]
        out.warned = "; ".join(str(w.message) for w in told)
        others = [str(w.message) for w in heard if not issubclass(w.category, KeptWarning)]
        if others:
            out.complaint = f"other warnings: {others[0]}"
        if out.complaint:
            out.complaint += f" [{out.warned[:200]}]"
    except BaseException as error:  # noqa: BLE001  it is reported
        where = traceback.extract_tb(error.__traceback__)[-1]
        out.complaint = (
            f"{type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})"
        )
    return out


Damage = tuple[str, Callable[[Path], None]]


def flip(path: str, at: int, bit: int) -> Damage:
    def do(root: Path) -> None:
        with Path(root / path).open("r+b") as file:
            file.seek(at)
            byte = file.read(1)[0]
            file.seek(at)
            file.write(bytes([byte ^ (1 << bit)]))

    return f"flip {path} @{at}.{bit}", do


def truncate(path: str, at: int) -> Damage:
    return f"truncate {path} @{at}", lambda root: os.truncate(root / path, at)


def zero(path: str, at: int, n: int = 4096) -> Damage:
    def do(root: Path) -> None:
        size = (root / path).stat().st_size
        with Path(root / path).open("r+b") as file:
            file.seek(at)
            file.write(bytes(min(n, size - at)))

    return f"zero {path} @{at}+{n}", do


def garbage(path: str, at: int, n: int, seed: int) -> Damage:
    def do(root: Path) -> None:
        size = (root / path).stat().st_size
        with Path(root / path).open("r+b") as file:
            file.seek(at)
            file.write(random.Random(seed).randbytes(min(n, size - at)))

    return f"garbage {path} @{at}+{n}", do


def delete(path: str) -> Damage:
    def do(root: Path) -> None:
        found = root / path
        shutil.rmtree(found) if found.is_dir() else found.unlink()

    return f"delete {path}", do


def files(root: Path) -> Iterator[tuple[str, int]]:
    """Every file, relative, with its size."""
    for path in sorted(root.rglob("*")):
        if path.is_file():
            yield str(path.relative_to(root)), path.stat().st_size


def sweep(
    good: Path,
    damages: Iterable[Damage],
    scratch: Path,
    *,
    while_open: bool = False,
    batch: int = 60,
    patience: float = 60.0,
) -> list[Outcome]:
    """Judge a copy of `good` for each damage; a crash or a hang of a child is an outcome too.

    Args:
        while_open: do the damage when the cache has been opened and used.
    """
    todo = list(damages)
    outcomes: list[Outcome] = []
    while todo:
        part, todo = todo[:batch], todo[batch:]
        done = _in_child(good, part, scratch, patience, while_open)
        outcomes += done
        if len(done) < len(part):
            name = part[len(done)][0]
            outcomes.append(Outcome(name, complaint="the process died or hung"))
            todo = part[len(done) + 1 :] + todo
    return outcomes


def _in_child(
    good: Path, part: list[Damage], scratch: Path, patience: float, while_open: bool
) -> list[Outcome]:
    import marshal

    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(r)
            out = os.fdopen(w, "wb")
            for name, do in part:
                root = scratch / "copy"
                shutil.rmtree(root, ignore_errors=True)
                copy(good, root)
                if while_open:
                    got = judge(name, root, do)
                else:
                    do(root)
                    got = judge(name, root)
                marshal.dump((got.name, got.computed, got.warned, got.counted, got.complaint), out)
                out.flush()
            status = 0
        finally:
            os._exit(status)
    os.close(w)
    outcomes = []
    deadline = time.monotonic() + patience
    signal_at_deadline = _Killer(pid, deadline)
    with os.fdopen(r, "rb") as source:
        while True:
            try:
                outcomes.append(Outcome(*marshal.load(source)))
            except EOFError:
                break
            signal_at_deadline.deadline = time.monotonic() + patience
    signal_at_deadline.stop()
    os.waitpid(pid, 0)
    return outcomes


class _Killer:
    def __init__(self, pid: int, deadline: float) -> None:
        import threading

        self.pid, self.deadline, self._done = pid, deadline, threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while not self._done.wait(0.2):
            if time.monotonic() > self.deadline:
                os.kill(self.pid, signal.SIGKILL)
                return

    def stop(self) -> None:
        self._done.set()


def copy(good: Path, to: Path) -> None:
    """A copy of a closed store; blobs are copied too, because damage goes to them."""
    shutil.copytree(good, to)
    for path in to.rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)
    to.chmod(0o700)


def show(outcomes: list[Outcome]) -> str:
    """The complaints, for an assertion's message."""
    bad = [f"{o.name}: {o.complaint}" for o in outcomes if o.complaint]
    return f"{len(bad)} of {len(outcomes)}\n" + "\n".join(bad[:40])
