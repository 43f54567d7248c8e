"""Results that are files of another library's format: one buffer is the file, the head names its loader.

The head begins with a line of JSON: `format`, which is the file's ending, `loader` (`module:name`, a class
whose objects have `load_data`), and `takes`, the name of the argument that takes the file's path. Where the
loader gives back another value than was kept, `exact` names the codec of the value itself: its head follows
the line, and its buffers follow the file.
"""

from __future__ import annotations

import importlib
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wellkept.codecs.paths import OutOfDateError
from wellkept.errors import DecodeError
from wellkept.records import Buffer


class LoaderError(OutOfDateError):
    """The loader of a format does not read its file here; the bytes are what was kept."""

    what = "not readable by the loader of its format"


def says(head: Buffer) -> dict[str, str]:
    """Return the `format`, `loader` and `takes` of a head.

    Raises:
        DecodeError: these bytes are no such head.
    """
    try:
        found: dict[str, str] = json.loads(bytes(head).partition(b"\n")[0])
        return {name: str(found[name]) for name in ("format", "loader", "takes")} | {
            "exact": str(found.get("exact", ""))
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DecodeError(
            f"the head of a result that is a file does not name its loader: {error}"
        ) from error


def read(head: Buffer, file: Path) -> Any:
    """Load a file with the loader that its head names.

    Raises:
        LoaderError: the loader does not exist, or fails.
    """
    said = says(head)
    module, _, name = said["loader"].partition(":")
    try:
        loader: Any = importlib.import_module(module)
        for part in name.split("."):
            loader = getattr(loader, part)
        result, _ = loader(**{said["takes"]: str(file)}).load_data(None)
    except Exception as error:
        raise LoaderError(
            f"{said['loader']} can't read {file}: {type(error).__name__}: {error}"
        ) from error
    return result


def decode(head: Buffer, buffers: Sequence[Buffer], file: Path | None = None) -> Any:
    """Return the exact result, where the head names its codec, or else what the loader makes of the file.

    Args:
        file: a path of the file; None: a temporary file is written for the loader.

    Raises:
        DecodeError: the loader does not exist, or fails.
    """
    said = says(head)
    if said["exact"]:
        # It imports this module by name.
        from wellkept.codecs import decoder

        return decoder(said["exact"])(bytes(head).partition(b"\n")[2], buffers[1:])
    if file is not None:
        return read(head, file)
    with tempfile.TemporaryDirectory(prefix="wellkept-file-") as made:
        # Loaders go by the file's ending. The head may come from elsewhere: `name` drops whatever would lead
        # out of the directory.
        file = Path(made) / f"result.{Path(said['format']).name}"
        file.write_bytes(buffers[0])
        return read(head, file)
