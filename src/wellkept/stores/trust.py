"""Who else could have written what a store reads: kept values can run code when they are loaded."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from wellkept.errors import StoreError, UntrustedSource
from wellkept.stores.parts import Parts

__all__ = ["private_file", "refuse_untrusted"]


def refuse_untrusted(path: Path) -> None:
    """Refuse a file or directory that others can write to, as an SSH client does its keys.

    Raises:
        UntrustedSource: others can.
        OSError: there is no such file.
    """
    if not hasattr(os, "getuid"):
        return
    found = path.stat()
    mode = stat.S_IMODE(found.st_mode)
    if mode & 0o022 or found.st_uid not in (os.getuid(), 0):
        raise UntrustedSource(
            f"others can write to {path} (mode {mode:04o}, owner {found.st_uid}), and kept values "
            "can run code: `chmod go-w` it, or open it with trust=True"
        )


def private_file(path: Path, trust: bool) -> None:
    """Make an empty file, and its directory, that others can't write to; one that is there is left.

    Raises:
        UntrustedSource: others can write to either, and they are not trusted.
        StoreError: it can't be made.
    """
    backend = path.parent
    try:
        if not backend.is_dir():
            backend.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists() and os.access(backend, os.W_OK):
            # Linked, not opened: closing any descriptor of a file drops SQLite's locks on it.
            with (
                Parts(backend, 0o600).writing(memoryview(b"")) as part,
                contextlib.suppress(OSError),
            ):
                path.hardlink_to(part)
        if not trust:
            refuse_untrusted(backend)
            if path.exists():
                refuse_untrusted(path)
    except OSError as error:
        raise StoreError(f"can't use {path} as a store: {error}") from error
