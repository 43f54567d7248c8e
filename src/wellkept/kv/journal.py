"""A journal of named state among the items of a medium: all it takes is `create`.

Each change is an item `state/log/<number>`, created by exactly one writer, so the numbers are one order
for all. Now and then the whole state is an item `state/snap/<number>`, and the changes before it are
deleted, the oldest first.

Who has read up to a number and finds no next one is up to date if the item of that number is still
there: as long as it is, nothing after it was deleted. The same look tells a writer that the number it
created was free because it is new. If it is gone, the writer slept: before it created the number, so
that its change counts for nothing and is taken back, or afterwards, so that it has counted.

Each change has a token, and the latest of them stand in the state. They tell which it was, and a change
from one that somebody who slept has put in its place and not yet taken back.
"""

from __future__ import annotations

import base64
import json
import secrets
import zlib
from collections.abc import Sequence
from typing import Any

from wellkept.errors import DamagedValue, NewerSchema, StoreError
from wellkept.kv.entry import About, Data, Entry, Logged, Name
from wellkept.kv.memory_state import State
from wellkept.kv.plan import Gone, Op, Put
from wellkept.stores.base import Creates, Store
from wellkept.stores.record_format import seal, unseal

__all__ = ["ItemsJournal"]

_VERSION = 1
_SNAPSHOT = 500  # changes after which the whole is written
_LEFT = 100  # changes before a snapshot that stay


class ItemsJournal:
    """A `Journal` on a medium.

    Args:
        items: a store of bytes that also `Creates`.
        pause: seconds between looks for news, of those who wait for some.
    """

    def __init__(self, items: Store[bytes], pause: float = 0.05) -> None:
        self.pause = pause
        self._items: Any = items
        assert isinstance(items, Creates)

    def read(self, state: State) -> State:
        """The state with all that was written since.

        Raises:
            StoreError: the medium can't be read, or the journal is damaged.
            NewerSchema: a newer wellkept wrote it.
        """
        while True:
            if state.at == 0:
                state = self._loaded(state.history)
            begun, token = state.at, state.token
            while (item := self._items.get(_log(state.at + 1))) is not None:
                ops, by = _unpacked(item, _log(state.at + 1))
                state.make([_op(op) for op in ops])
                state.moved(by)
            # What others are about to take back may be among those just read, and even follow
            # one another; but not where the one before them all is still there.
            if state.at == 0 or self._there(begun, token):
                return state
            state = State(state.history)  # it slept while others went on, and deleted

    def _loaded(self, history: int) -> State:
        while True:
            snapshots = sorted(self._items.keys("state/snap/"))
            if not snapshots:
                return State(history)
            item = self._items.get(snapshots[-1])
            if item is not None:  # or a newer one has just replaced it
                return _state(_unpacked(item, snapshots[-1])[0], history)

    def write(self, state: State, ops: Sequence[Op]) -> bool:
        """Write a change down; False if another one came first.

        Raises:
            StoreError: as `read`; and if it can't be told whether it was written.
        """
        number, token = state.at + 1, secrets.token_urlsafe(6)
        if not self._items.create(_log(number), _packed([_plain(op) for op in ops], token)):
            return False
        if not self._there(state.at, state.token) and not self._counted(
            number, token, state.history
        ):
            self._items.delete(_log(number))
            return False
        if state.at and state.at % _SNAPSHOT == 0:
            self._snapshot(state)
        state.moved(token)
        return True

    def _counted(self, number: int, token: str, history: int) -> bool:
        """Whether the change of a writer that slept since is one of those that all have read."""
        now = self.read(State(history))
        back = now.at - number
        if 0 <= back < len(now.tokens):
            return now.tokens[-1 - back] == token
        if back < 0:  # somebody cleared the medium
            return False
        raise StoreError(
            f"can't tell whether a change of named state was written: this process stood still while "
            f"{back} others were; look what is there, and write again if need be"
        )

    def _snapshot(self, state: State) -> None:
        before = sorted(self._items.keys("state/snap/"))
        if not self._items.create(f"state/snap/{state.at:016d}", _packed(_whole(state))):
            return
        for number in sorted(self._items.keys("state/log/")):
            if number >= _log(state.at - _LEFT):
                break
            self._items.delete(number)
        for snapshot in before[:-1]:  # somebody may be reading the last one
            self._items.delete(snapshot)

    def _there(self, number: int, token: str) -> bool:
        """Whether nothing after a change was deleted; 0 is the beginning."""
        if number == 0:  # the first change is deleted only once there is a snapshot
            return next(iter(self._items.keys("state/snap/")), None) is None
        item = self._items.get(_log(number))
        return item is not None and token in ("", _unpacked(item, _log(number))[1])


def _log(number: int) -> str:
    return f"state/log/{number:016d}"


def _packed(content: Any, token: str = "") -> bytes:
    text = json.dumps({"version": _VERSION, "is": content, "token": token}, separators=(",", ":"))
    return seal(b"", zlib.compress(text.encode(), 1))


def _unpacked(item: bytes, key: str) -> tuple[Any, str]:
    try:
        found = json.loads(zlib.decompress(unseal(b"", bytes(item))))
        version, content, token = found["version"], found["is"], found.get("token", "")
    except (DamagedValue, zlib.error, ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"the journal of named state is damaged at {key}: restore that item from a backup, or "
            "delete all under state/ to begin anew"
        ) from error
    if version > _VERSION:
        raise NewerSchema(
            f"a newer wellkept wrote the named state (format {version}; this one knows {_VERSION}): "
            "upgrade wellkept, or choose another place"
        )
    return content, token


def _plain(op: Op) -> list[Any]:
    if isinstance(op, Put):
        key, data, *rest = op.entry
        return ["put", op.name, key, _text(data), *rest, op.kind]
    if isinstance(op, Gone):
        return ["gone", *op]
    return ["about", *op]


def _op(plain: Sequence[Any]) -> Op:
    kind, name, *rest = plain
    if kind == "put":
        key, data, *more = rest
        return Put(Name(*name), Entry(key, _data(data), *more[:-1]), more[-1])
    return Gone(Name(*name), *rest) if kind == "gone" else About(Name(*name), *rest)


def _whole(state: State) -> dict[str, Any]:
    names = {name: number for number, name in enumerate(state.tables)}
    return {
        "at": state.at,
        "revision": state.revision,
        "floor": state.floor,
        "tokens": list(state.tokens),
        "names": list(names),
        "stores": [table.about for table in state.tables.values()],
        "entries": [
            [[key, _text(data), *rest] for key, data, *rest in table.entries.values()]
            for table in state.tables.values()
        ],
        "log": [
            [names[name], revision, kind, key, _text(data), at]
            for name, (revision, kind, key, data, at) in state.log
        ],
    }


def _state(whole: dict[str, Any], history: int) -> State:
    state = State(history)
    names = [Name(*name) for name in whole["names"]]
    for name, about, entries in zip(names, whole["stores"], whole["entries"], strict=True):
        state.make([About(Name(*about[0]), *about[1:])] if about else [About(name)])
        state.make([Put(name, Entry(e[0], _data(e[1]), *e[2:]), "set") for e in entries])
    state.log.clear()
    for number, revision, kind, key, data, at in whole["log"]:
        known = None if data is None else _data(data)
        state.log.append((names[number], Logged(revision, kind, key, known, at)))
    state.tokens.extend(whole.get("tokens", ()))
    state.at, state.revision, state.floor = whole["at"], whole["revision"], whole["floor"]
    return state


def _text(data: Data | None) -> Any:
    return {"base64": base64.b64encode(data).decode()} if isinstance(data, bytes) else data


def _data(data: Any) -> Data:
    if isinstance(data, dict):
        return base64.b64decode(data["base64"])
    return str(data)
