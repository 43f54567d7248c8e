"""Notes when modules are looked for, from the moment at which the library is imported."""

from __future__ import annotations

import sys
import time

LOOKED: dict[str, int] = {}
"""Names of modules, and nanoseconds of the wall clock."""


class _Watch:
    """A finder that finds nothing, and notes when modules are looked for."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        # A module that is loaded again counts from now on as what is read now.
        if target is not None:
            LOOKED[name] = time.time_ns()
        elif name not in sys.modules:
            # Of a module that was removed and is looked for again, both may still be in use.
            LOOKED.setdefault(name, time.time_ns())


_WATCH = _Watch()


def watch() -> None:
    """Begin to note when modules are looked for."""
    if not any(finder is _WATCH for finder in sys.meta_path):
        sys.meta_path.insert(0, _WATCH)
