"""Results that are files of a format: one buffer is the file, and the head says who reads it.

The head is JSON: `format`, which is the file's ending, `loader` (`module:name`, a class whose objects
have `load_data`), and `takes`, the name of the argument that takes the file's path.
"""

from __future__ import annotations

import importlib
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wellkept.errors import DecodeError
from wellkept.records import Buffer


def says(head: Buffer) -> dict[str, str]:
    """Return what a head says.

    Raises:
        DecodeError: it is no such head.
    """
    try:
        found: dict[str, str] = json.loads(bytes(head))
        return {name: str(found[name]) for name in ("format", "loader", "takes")}
    except (ValueError, KeyError, TypeError) as error:
        raise DecodeError(
            f"the head of a file of a format does not say who reads it: {error}"
        ) from error


def read(head: Buffer, file: Path) -> Any:
    """Return what the loader that a head names makes of a file.

    Raises:
        DecodeError: the loader is not there, or fails.
    """
    said = says(head)
    module, _, name = said["loader"].partition(":")
    try:
        loader: Any = importlib.import_module(module)
        for part in name.split("."):
            loader = getattr(loader, part)
        result, _ = loader(**{said["takes"]: str(file)}).load_data(None)
    except Exception as error:
        raise DecodeError(
            f"{said['loader']} can't read {file}: {type(error).__name__}: {error}"
        ) from error
    return result


def decode(head: Buffer, buffers: Sequence[Buffer]) -> Any:
    """Return the result, by way of a file that is there while it is read.

    Raises:
        DecodeError: see `read`.
    """
    with tempfile.TemporaryDirectory(prefix="wellkept-file-") as made:
        file = Path(made) / f"result.{Path(says(head)['format']).name}"
        file.write_bytes(b"".join(buffers))
        return read(head, file)
