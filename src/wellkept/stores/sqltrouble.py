"""What drivers say in their ways, as one line that says what to do."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

__all__ = ["Trouble", "trouble"]


class Trouble(NamedTuple):
    """An error of a driver, understood."""

    text: str
    undone: bool = False
    """It was rolled back for another's sake, and can be tried again."""
    no_table: bool = False
    timeout: bool = False
    """The server, or the way to it, does not answer."""


# By SQLSTATE (PostgreSQL), number (MariaDB) or a driver's words: the first that fits.
_KNOWN: tuple[tuple[str, str, str], ...] = (
    (
        r"28P01|28000|1045\b|1698\b|password authentication failed|no password supplied",
        "the user or the password is wrong",
        "",
    ),
    (
        r"3D000|1049\b|database \S+ does not exist|Unknown database",
        "there is no such database: make it, or name another in the URL",
        "",
    ),
    (
        r"resolve host|getaddrinfo|Name or service not known|name resolution|nodename nor servname",
        "the host is not known: look at the URL",
        "",
    ),
    (
        r"53300|1040\b|1203\b|too many (clients|connections)",
        "the server has no connection left",
        "",
    ),
    (
        r"Connection refused|Errno 111\b",
        "no server answers there: start it, or look at host and port in the URL",
        "",
    ),
    (
        r"no answer for|timed out|timeout expired|connection timeout",
        "the server does not answer in time",
        "timeout",
    ),
    (
        r"57014|1969\b|3024\b|statement timeout|max_statement_time",
        "the server took too long over it: it is overloaded, or `timeout` is too short",
        "",
    ),
    (r"40P01|40001|55P03|1213\b|1205\b|deadlock", "others write the same items", "undone"),
    (
        r"1153\b|max_allowed_packet|got a packet bigger|Got packet bigger",
        "the item is larger than the server's max_allowed_packet: raise that, up to 1 GiB, or keep "
        "values elsewhere, with wellkept.Cache(calls=…, values=…)",
        "",
    ),
    (
        r"25006|1290\b|1792\b|1836\b|read-only|readonly database",
        "the database is read-only",
        "",
    ),
    (
        r"42501|1142\b|1044\b|1227\b|permission denied",
        "the user has no right to do that: GRANT it, or have the tables made by one who has",
        "",
    ),
    (
        r"53100|1114\b|1021\b|disk is full|No space left|No room",
        "the server's disk, or the table, is full: free room there, or `wellkept gc` and `wellkept evict`",
        "",
    ),
    (
        r"42P01|1146\b|no such table",
        "the table is not there",
        "no_table",
    ),
    (
        r"42703|1054\b|1005\b.*errno: 150|no such column|has no column",
        "a table of that name is there that kept did not make: choose another `table`",
        "",
    ),
    (r"unable to open database file", "its directory is not there or can't be written to", ""),
    (r"database is locked", "another process holds the file for too long", ""),
    (r"not a database|malformed", "the file is no SQLite database, or a damaged one", ""),
    (r"54000|too big|invalid memory alloc", "the item is larger than a row can be", ""),
    (
        r"2006\b|2013\b|57P0\d|08\d\d\d|server closed the connection|connection (is )?(closed|lost)"
        r"|Broken pipe|reset by peer|not currently accepting|starting up|shutting down",
        "the server went away",
        "",
    ),
)


def trouble(error: BaseException, driver: type[BaseException]) -> Trouble:
    """What an error of a driver, of SQLAlchemy or of the network is about."""
    origin: Any = getattr(error, "orig", None) or error
    said = " ".join(str(origin).split())
    code = getattr(origin, "sqlstate", None) or (
        origin.args[0] if origin.args and isinstance(origin.args[0], int) else ""
    )
    for pattern, text, kind in _KNOWN:
        if re.search(f"(?i){pattern}", f"{code} {said}"):
            return Trouble(
                f"{text} ({said[:200]})",
                undone=kind == "undone",
                no_table=kind == "no_table",
                timeout=kind == "timeout",
            )
    if isinstance(error, (driver, OSError)) or said:
        return Trouble(f"{type(origin).__name__}: {said[:300]}")
    return Trouble(type(origin).__name__)
