"""Whether a file has changed since a module was loaded from it, and the source of modules without a file.

A file can be edited between the import of its module and the moment at which it is read for an
identity. What runs is what counts, so a text may stand for a module only if the file has not changed
since before the module was read. Nothing in Python notes when that was. Two bounds are known: when
the process began, and when the module was looked for, which a finder notes that never finds
anything. The change time of a file can't be set by a program, and is compared with them.
"""

from __future__ import annotations

import marshal
import os
import sys
import time
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from types import CodeType
from typing import Any

from wellkept._lookups import LOOKED
from wellkept._process import at_fork
from wellkept._system import since_boot
from wellkept.hashing.names import Bounded

Space = Mapping[str, Any]
Stamp = tuple[int, int, int, int]

# Nanoseconds by which the clock of a file system may be behind.
_COARSE = 10_000_000
# nanoseconds: no interpreter has read a module sooner after it began.
_INITIAL = 20_000_000
_known: Bounded[int, tuple[Any, Stamp, bool]] = Bounded(10_000)
_tokens: dict[int, tuple[Space, Any, Stamp | None, str]] = {}


# -- when the process began ---------------------------------------------------------------------


def _stat_of(process: object) -> tuple[int, int]:
    """Return the parent of a process, and when it began, in nanoseconds of the wall clock."""
    with open(f"/proc/{process}/stat", "rb") as file:  # noqa: PTH123  before any Path is needed
        fields = file.read().rpartition(b")")[2].split()
    second, boot = since_boot()
    return int(fields[1]), boot + int(fields[19]) * (1_000_000_000 // second)


def _same_program(one: object, other: object) -> bool:
    """Return whether a process may be a fork of another: their command lines agree."""
    try:
        texts = [Path(f"/proc/{each}/cmdline").read_bytes() for each in (one, other)]
        return texts[0] == texts[1] and bool(texts[0])
    except OSError:
        return False


@lru_cache(maxsize=1)
def _began() -> int:
    """Return when the first process began that can have loaded modules for this one.

    A forked process has the modules of its parent, so its own beginning says nothing.
    """
    now = time.time_ns()
    try:
        process: int = os.getpid()
        parent, found = _stat_of(process)
        while parent > 0 and _same_program(process, parent):
            process = parent
            parent, found = _stat_of(process)
    except (OSError, ValueError, IndexError, AttributeError):
        # No such file system: the time that was computed has passed at least.
        return now - time.process_time_ns()
    return found if 0 < found <= now else now - time.process_time_ns()


at_fork(before=_began)


# -- whether a file is what was loaded ----------------------------------------------------------


def stamp(file: str) -> Stamp | None:
    """Return what changes with a file; None: there is none."""
    try:
        found = os.stat(file)  # noqa: PTH116  many are asked for
    except (OSError, ValueError):
        return None
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino


def is_current(space: Space) -> bool:
    """Return whether the text of a module's file is surely what the module was loaded from.

    Args:
        space: the module's globals.
    """
    file = _file_of(space)
    if file is None:
        return False
    now = stamp(file)
    if now is None:
        # No file: a loader that gives the source is believed, one that gives none is not asked.
        return bool(lines(str(space["__file__"]), space))
    spec = space.get("__spec__")
    key = id(space)
    found = _known.get(key)
    if found is None or found[0] is not spec or found[1] != now:
        found = _known[key] = spec, now, _proven(space, spec, file, now)
    return found[2]


def token(space: Space) -> str:
    """Return what stands for the text of a module that is not in its file any more: like no other.

    It stays the same for as long as the module is not loaded again, and no other process has it.
    """
    file, spec = _file_of(space), space.get("__spec__")
    now = None if file is None else stamp(file)
    found = _tokens.get(id(space))
    if found is None or found[1] is not spec or found[2] != now:
        # The namespace is held, since its address identifies it.
        found = _tokens[id(space)] = (space, spec, now, os.urandom(16).hex())
    return found[3]


def _file_of(space: Space) -> str | None:
    """Return where a module was loaded from: its file, or the archive that has it."""
    file = space.get("__file__")
    if not isinstance(file, str):
        return None
    archive = getattr(space.get("__loader__"), "archive", None)
    return archive if isinstance(archive, str) and file.startswith(archive) else file


def _proven(space: Space, spec: Any, file: str, now: Stamp) -> bool:
    changed = max(now[0], now[1]) if os.name == "nt" else now[1]
    name = spec.name if spec is not None else space.get("__name__")
    module = sys.modules.get(name) if isinstance(name, str) else None
    own = module is not None and vars(module) is space
    bound = LOOKED[name] - _COARSE if own and name in LOOKED else _began() + _INITIAL
    if changed >= bound or any(moved >= bound for moved in _moved(os.path.dirname(file))):  # noqa: PTH120  as above
        return False
    return spec is None or _compiled_from(spec, file, now)


def _moved(directory: str) -> list[int]:
    """Return when links on the path to a file were made and directories renamed, as far as that shows."""
    found = []
    while True:
        try:
            each = os.lstat(directory)
        except OSError:
            break
        # A new entry changes both times of a directory, another name for it only one.
        if (each.st_mode & 0o170000) == 0o120000 or each.st_ctime_ns != each.st_mtime_ns:
            found.append(each.st_ctime_ns)
        above = os.path.dirname(directory)  # noqa: PTH120  as above
        if above == directory or not above:
            break
        directory = above
    return found


def _compiled_from(spec: Any, file: str, now: Stamp) -> bool:
    """Return whether the byte code that a module may have been loaded from was compiled from its source."""
    archive = getattr(spec.loader, "archive", None)
    if isinstance(archive, str):
        try:
            compiled = spec.loader.get_data(f"{spec.origin}c")
        except OSError:
            return True
        return _same_code(compiled, spec.loader.get_source(spec.name), spec.origin)
    cached: Any = getattr(spec, "cached", None)
    written = stamp(cached) if isinstance(cached, str) and cached != file else None
    if written is None or (written[0] > now[0] and written[1] > now[1]):
        return True
    # Python takes byte code for a file's if the size and the second of the last change agree. So
    # it can be that of a text before; it is compared where it is not younger than the text.
    try:
        compiled = Path(cached).read_bytes()
        with open(file, "rb") as source:  # noqa: PTH123  as above
            text = source.read()
    except OSError:
        return True
    flags = int.from_bytes(compiled[4:8], "little")
    if not flags and (
        compiled[8:12] != (now[0] // 1_000_000_000 & 0xFFFFFFFF).to_bytes(4, "little")
        or compiled[12:16] != (now[2] & 0xFFFFFFFF).to_bytes(4, "little")
    ):
        # Python did not take this byte code: it is of another text or time.
        return True
    return _same_code(compiled, text, file)


def _same_code(compiled: bytes, text: Any, file: str) -> bool:
    try:
        code = compile(text, file, "exec", dont_inherit=True)
        return bool(marshal.loads(compiled[16:]) == code)
    except (ValueError, SyntaxError, EOFError, TypeError, RecursionError):
        return False


# -- texts --------------------------------------------------------------------------------------


def lines(file: str, space: Space | None = None) -> list[str]:
    """Return the lines of a file as it is now, also of one that only a loader can read.

    Args:
        space: the globals of the module, which name its loader.
    """
    # Loaded on first use: it imports a tokenizer, which most processes do not need.
    import linecache

    linecache.checkcache(file)
    return linecache.getlines(file, None if space is None else _plain(space))


def _plain(space: Space) -> dict[str, Any]:
    return {name: space.get(name) for name in ("__name__", "__loader__", "__spec__")}


def code_of(spec: Any) -> CodeType | None:
    """Return the code of a whole module that has no source, as its loader has it; None: it has none."""
    get_code = getattr(getattr(spec, "loader", None), "get_code", None)
    if get_code is None:
        return None
    try:
        code = get_code(spec.name)
    except Exception:  # noqa: BLE001  a loader may be anybody's
        return None
    return code if isinstance(code, CodeType) else None
