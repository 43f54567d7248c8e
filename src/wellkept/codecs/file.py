"""Results that are files of another library's format: one buffer is the file, the head names its loader.

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
    """Return the `format`, `loader` and `takes` of a head.

    Raises:
        DecodeError: these bytes are no such head.
    """
    try:
        found: dict[str, str] = json.loads(bytes(head))
        return {name: str(found[name]) for name in ("format", "loader", "takes")}
    except (ValueError, KeyError, TypeError) as error:
        raise DecodeError(
            f"the head of a result that is a file does not name its loader: {error}"
        ) from error


def read(head: Buffer, file: Path) -> Any:
    """Load a file with the loader that its head names.

    Raises:
        DecodeError: the loader does not exist, or fails.
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
    """Return the result, which is written to a temporary file for its loader.

    Raises:
        DecodeError: the loader does not exist, or fails.
    """
    with tempfile.TemporaryDirectory(prefix="wellkept-file-") as made:
        # Loaders go by the file's ending. The head may come from elsewhere: `name` drops whatever would lead
        # out of the directory.
        file = Path(made) / f"result.{Path(says(head)['format']).name}"
        file.write_bytes(b"".join(buffers))
        return read(head, file)
