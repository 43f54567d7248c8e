"""Who holds which leases now, as far as a place tells: for people who look, never for who computes."""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from wellkept._process import host_name, is_running
from wellkept.errors import KeptError
from wellkept.stores.lease_records import IndexRecords, ItemRecords
from wellkept.stores.leases import RangeLeases, RecordLeases

# Seconds after a deadline, of clocks that may differ.
_STALE = 60.0


class Holder(NamedTuple):
    """One lease, and who holds it."""

    key: str
    """The key, or as many of its first digits as the place has."""
    host: str
    pid: int | None
    command: str
    """The command line of the process, where it is one of this host that this user may look at."""
    since: float | None
    """When it was taken, where the place says so: seconds since the epoch, by the owner's clock."""
    stale: bool = False
    """Whether its owner is dead, or has not renewed it for long: whoever wants it next takes it over."""


def holders(locks: Any) -> list[Holder]:
    """Return the leases that are held in a table of leases.

    Of kernel locks that is what Linux tells of this user's processes; elsewhere, and of what a server
    holds for its clients, nothing is known.

    Args:
        locks: the `locks` of a backend that is not made of others.

    Raises:
        StoreError: a medium can't be read.
    """
    if isinstance(locks, RangeLeases):
        return list(_of_the_kernel(locks.path))
    if isinstance(locks, RecordLeases):
        return list(_of_records(locks.records))
    return []


_LOCK = re.compile(r"lock:\s+\d+: (?:OFDLCK|POSIX)\s+ADVISORY\s+WRITE\s+\S+\s+\S+\s+(\d+)\s+(\d+)")
_KEYS = 1 << 62
"""Offsets of keys are below: they are the first 62 bits."""


def _of_the_kernel(path: Path) -> Iterator[Holder]:
    # Empty but on Linux.
    wanted = str(path.resolve())
    for process in Path("/proc").glob("[0-9]*"):
        for text in _open_files(process, wanted):
            for start, _ in _LOCK.findall(text):
                if int(start) < _KEYS:
                    key = format(int(start) << 2, "016x")[:15]
                    yield Holder(key, "", int(process.name), command(int(process.name)), None)


def _open_files(process: Path, wanted: str) -> Iterator[str]:
    """Return what the kernel says of a process's descriptors of one file."""
    with contextlib.suppress(OSError):
        for entry in os.scandir(process / "fd"):
            with contextlib.suppress(OSError):
                if str(Path(entry.path).readlink()) == wanted:
                    yield (process / "fdinfo" / entry.name).read_text("ascii", "replace")


def command(pid: int) -> str:
    """Return the command line of a process of this host; nothing where it is not to be had."""
    try:
        found = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return ""
    return found.rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace")[:200]


def _of_records(records: Any) -> Iterator[Holder]:
    for key, owner, token, deadline in _rows(records):
        host, pid, *_ = [*owner.rsplit("|", 3), ""]
        number = int(pid) if pid.isdigit() else None
        dead = number is not None and host == host_name() and not is_running(number)
        stale = dead or deadline + _STALE < time.time()
        yield Holder(key, host, number, "", token / 1e9, stale)


def _rows(records: Any) -> Iterator[tuple[str, str, int, float]]:
    if isinstance(records, IndexRecords):
        sql = "SELECT key, owner, token, deadline FROM leases"
        for key, owner, token, deadline in records.database.rows(sql):
            yield bytes(key).hex(), str(owner), int(token), float(deadline)
    elif isinstance(records, ItemRecords):
        for name in list(records.items.keys("leases/")):
            with contextlib.suppress(KeptError, ValueError, TypeError, LookupError):
                owner, token, _, deadline = json.loads(records.items.get(name))
                if re.fullmatch(r"leases/[0-9a-f]{64}", name):
                    yield name.removeprefix("leases/"), str(owner), int(token), float(deadline)
