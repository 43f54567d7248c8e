"""Who else could have written what a store reads: kept values can run code when they are loaded."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from kept.errors import UntrustedSource

__all__ = ["refuse_untrusted"]


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
