"""Rows of an index as they were found, which may be anything: checked in every part, or refused.

A hit relies on sealed bodies and heads alone. What stands beside them (names, arguments, times) is
for people and queries, and here it is checked too: the function, code and arguments of a call must
give its key.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from wellkept.codecs import Envelope
from wellkept.errors import DamagedValue
from wellkept.hashing.keys import call_key
from wellkept.records import Argument, Call, Digest
from wellkept.stores.body import BODY_SIZE, STATES, Body, rowid, unseal
from wellkept.stores.database import Database
from wellkept.stores.tables import read_arguments

__all__ = ["CallRow", "ValueRow", "scan"]

_KEYED = ("deep:", "deep2:", "code:", "version:")  # codes that keys carry; `none` is another
_PAGE = 500  # rows a statement: no row is larger than about 64 KiB


@dataclass(frozen=True, slots=True)
class CallRow:
    """A row of `calls` with the rows of `functions` and `uses` that belong to it, as found."""

    id: Any
    key: Any
    body: Any
    value: Any
    result: Any
    name: Any
    code: Any
    arguments: Any
    created: Any
    seconds: Any
    size: Any
    expires: Any
    metadata: Any
    uses: Any
    used: Any

    # As blobs, because a driver refuses a whole page of rows for one text that is not UTF-8.
    QUERY = """SELECT c.id, c.key, c.body, c.value, c.result, CAST(f.name AS BLOB),
CAST(f.code AS BLOB), CAST(c.arguments AS BLOB), c.created, c.seconds, c.size, c.expires,
CAST(c.metadata AS BLOB), u.uses, u.used
FROM calls c LEFT JOIN functions f ON f.id = c.function LEFT JOIN uses u ON u.id = c.id"""

    def read(self) -> tuple[Call, Envelope | None]:
        """The record, and the envelope of a result that stands in the same row.

        Raises:
            DamagedValue: the row is not what was written.
            DecodeError: a newer version of wellkept wrote it.
        """
        body, envelope = self.sealed()
        for name, found, meant in (
            ("result", self.result, rowid(body.result)),
            ("created", self.created, body.created),
            ("seconds", self.seconds, body.seconds),
            ("size", self.size, body.size),
            ("expires", self.expires, None if math.isinf(body.expires) else body.expires),
        ):
            if found != meant:
                raise DamagedValue(f"its column {name} says {found!r:.40}, and it was {meant!r}")
        function, code = _text("function", self.name), _text("code", self.code)
        arguments = _arguments(_text("arguments", self.arguments))
        names = ((name, argument.digest.raw) for name, argument in arguments.items())
        if (code == "none" or code.startswith(_KEYED)) and (
            call_key(function, code, names) != self.key
        ):
            raise DamagedValue("its function, code and arguments do not give its key")
        call = Call(
            key=Digest.of(self.key),
            function=function,
            code=code,
            arguments=arguments,
            result=Digest.of(body.result),
            state=STATES[body.state],
            created=body.created,
            seconds=body.seconds,
            size=body.size,
            expires=self.expires,
            uses=self.uses if type(self.uses) is int else 0,
            used=float(self.used) if type(self.used) in (int, float) else None,
            metadata=_metadata(self.metadata),
        )
        return call, envelope

    def sealed(self) -> tuple[Body, Envelope | None]:
        """What a hit relies on; raises as `read` does."""
        content = _unseal(self.id, self.key, self.body)
        try:
            body = Body.unpack(content)
        except struct.error as error:
            raise DamagedValue("its body is cut short") from error
        if body.state >= len(STATES):
            raise DamagedValue(f"it has no state that there is: {body.state}")
        times = (body.created, body.seconds, 0.0 if math.isinf(body.expires) else body.expires)
        if not all(map(math.isfinite, times)):
            raise DamagedValue("its times are no numbers")
        return body, Envelope.unpack(content[BODY_SIZE:]) if len(content) > BODY_SIZE else None


@dataclass(frozen=True, slots=True)
class ValueRow:
    """A row of `values`, as found."""

    id: Any
    digest: Any
    head: Any
    size: Any

    QUERY = 'SELECT c.id, c.digest, c.head, c.size FROM "values" c'

    def read(self) -> Envelope:
        """The envelope.

        Raises:
            DamagedValue: the row is not what was written.
            DecodeError: a newer version of wellkept wrote it.
        """
        # By its seal; one that was put by hand, or before schema 4, by its digest.
        sealed = self.head if type(self.head) is bytes else b""
        by = sealed if self.id == rowid(sealed) else self.digest
        envelope = Envelope.unpack(_unseal(self.id, self.digest, self.head, by))
        if type(self.size) is not int or self.size < 0:
            raise DamagedValue(f"its size is {self.size!r:.40}")
        return envelope


Rows = Iterator[tuple[Any, ...]]


def scan(database: Database, query: str, where: str = "1") -> Rows:
    """The rows of a query on a table `c`, in the order of their ids, a page a statement.

    Nothing is locked and no transaction is begun, so others work on between two pages.

    Raises:
        sqlite3.Error: the table can't be read further.
    """
    statement = f"{query} WHERE c.id > ? AND {where} ORDER BY c.id LIMIT {_PAGE}"
    first = statement.replace("c.id > ?", "c.id >= ?")
    last: Any = None
    while True:
        with database.lock:
            c = database.connection
            rows = c.execute(*((first, (-(2**63),)) if last is None else (statement, (last,))))
            page = rows.fetchall()
        yield from page
        if len(page) < _PAGE or type(page[-1][0]) is not int or page[-1][0] == last:
            return
        last = page[-1][0]


def _unseal(id_: Any, name: Any, sealed: Any, by: Any = None) -> bytes:
    if type(name) is not bytes or len(name) != 32:
        raise DamagedValue("its digest is no digest")
    if id_ != rowid(name if by is None else by):
        raise DamagedValue("it stands in the place of another")
    if type(sealed) is not bytes:
        raise DamagedValue("its seal is not there")
    try:
        return unseal(name, sealed)
    except DamagedValue:
        raise DamagedValue("its seal does not match") from None


def _text(what: Literal["function", "code", "arguments"], found: Any) -> str:
    try:
        if isinstance(found, bytes):
            return found.decode()
    except UnicodeDecodeError:
        pass
    raise DamagedValue(f"its {what} can't be read")


def _arguments(text: str) -> Mapping[str, Argument]:
    try:
        arguments = read_arguments(text)
    except Exception as error:  # anything may stand there, and fail in any way
        raise DamagedValue("its arguments can't be read") from error
    if not all(type(name) is str for name in arguments):
        raise DamagedValue("its arguments can't be read")
    return arguments


def _metadata(found: Any) -> dict[str, Any]:
    if found is None:
        return {}
    try:
        metadata = json.loads(found)
    except (ValueError, TypeError, RecursionError) as error:
        raise DamagedValue("its metadata can't be read") from error
    if not isinstance(metadata, dict):
        raise DamagedValue("its metadata can't be read")
    return metadata
