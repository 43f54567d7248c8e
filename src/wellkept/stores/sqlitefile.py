"""A cache in a SQLite file that a user names: the embedded store, whose index is that file.

Large values are files in `<file>-files`, where they are mapped, not copied. Values of 100 MB in the
file itself took ten times as long to keep and a thousand times as long to load.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path
from typing import Any

from wellkept.errors import ConfigError, StoreError
from wellkept.stores.byte_store import Medium
from wellkept.stores.embedded import Embedded
from wellkept.stores.filesystem import private_file, refuse_irregular
from wellkept.stores.sqlite import APPLICATION, Sqlite

__all__ = ["open_place"]

_OURS = frozenset({"calls", "functions", "meta", "values"})


def open_place(path: str | os.PathLike[str], **options: Any) -> Embedded | Medium:
    """The place of a cache in a SQLite file.

    Args:
        path: the file; made with mode 0600 when needed. One that holds items, as
            `wellkept.stores.Sqlite` writes them, is used as that.
        options: as of `Embedded`.

    Raises:
        ConfigError: a file of items takes no such option.
        UntrustedSource: others can write to the file or its directory, and it is not trusted.
        StoreError: it can't be used, or is somebody else's database.
    """
    file = Path(path).expanduser().resolve()  # one directory beside it, whatever link leads here
    beside = file.with_name(f"{file.name}-files")
    tables, application = _what(file, ours=beside.is_dir())
    if application == APPLICATION:
        return Medium(Sqlite(file, **_items_options(options)))
    if tables and not tables >= _OURS:
        raise StoreError(f"{file} is a database, but not one that kept made: choose another file")
    private_file(file, bool(options.get("trust")))
    return Embedded(beside, index=file, **options)


def _items_options(options: dict[str, Any]) -> dict[str, Any]:
    if options.get("readonly"):
        raise ConfigError("a SQLite file of items takes no readonly=True; it maps nothing")
    taken: dict[str, Any] = {
        name: options[name] for name in ("trust", "network") if name in options
    }
    return {**taken, "durable": options.get("durability") == "power"}


def _what(file: Path, ours: bool) -> tuple[frozenset[str], int]:
    """The tables of a file, and the application id in its header; of a missing or damaged one, nothing.

    Through SQLite: closing a descriptor of our own would drop the locks of who has it open.
    """
    refuse_irregular(file)
    query = (
        "SELECT group_concat(name, '/'), (SELECT application_id FROM pragma_application_id) "
        "FROM sqlite_master WHERE type = 'table'"
    )
    try:
        with contextlib.closing(
            sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True)
        ) as c:
            names, application = c.execute(query).fetchone()
    except sqlite3.Error as error:
        if error.sqlite_errorname == "SQLITE_NOTADB" and not ours:
            raise StoreError(f"{file} is no SQLite database: choose another file") from error
        return frozenset(), 0  # whoever opens it makes it, or sets it aside
    return frozenset((names or "").split("/")) - {""}, application
