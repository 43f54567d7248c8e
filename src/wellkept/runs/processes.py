"""Who records: this process, and whether another one that did still lives."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wellkept.hashing import buffer_digest
from wellkept.stores.leases import began, host_name

__all__ = ["environment", "is_alive", "owner", "package", "user"]

_NO_PACKAGES = sys.stdlib_module_names | {"__main__", "__mp_main__"}


def owner() -> dict[str, Any]:
    """This process, so that another one can tell whether it lives."""
    pid = os.getpid()
    return {
        "host": host_name(),
        "pid": pid,
        "begun": began(pid),
        "boot": _boot(),
        "user": user(),
    }


def is_alive(who: Mapping[str, Any]) -> bool | None:
    """Whether a process lives; None: it is one of another host, and there is no telling."""
    if who.get("host") != host_name():
        return None
    if who.get("boot") != _boot():
        return False
    begun = who.get("begun")
    return bool(begun) and began(int(who.get("pid", 0))) == begun


@functools.cache
def _boot() -> str:
    """What differs after a restart of the machine."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    return ""


@functools.cache
def user() -> str:
    """The user's name; their number where there is none."""
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # no name, no variable that says one
        return str(os.getuid()) if hasattr(os, "getuid") else "?"


@functools.cache
def environment() -> tuple[str, bytes]:
    """What is the same for all calls of this process, as a note, and the short name of it."""
    import platform  # with the first call that is kept

    facts = {
        "host": platform.node(),
        "user": user(),
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "executable": sys.executable,
        "wellkept": getattr(sys.modules["wellkept"], "__version__", "?"),  # which imports this room
    }
    text = json.dumps(facts, sort_keys=True).encode()
    return buffer_digest(text).hex()[:12], text


def package(module: Any) -> str:
    """The distribution that a function comes from, as a member of a JSON object after a comma:
    `,"package":"pkg 1.2"`; nothing for a script, and for a module that has no version.
    """
    top = module.partition(".")[0] if type(module) is str else "__main__"
    return "" if top in _NO_PACKAGES else _package(top)


@functools.cache
def _package(top: str) -> str:
    version = getattr(sys.modules.get(top), "__version__", None)
    if not isinstance(version, str):
        from importlib import metadata  # few need it: most packages say their version themselves

        try:
            version = metadata.version(top)
        except (metadata.PackageNotFoundError, ValueError):
            return ""
    return f',"package":{json.dumps(f"{top} {version}")}'
