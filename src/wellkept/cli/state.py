"""`wellkept store`: named state, looked at and changed."""

from __future__ import annotations

import base64
import contextlib
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from wellkept.cli import text
from wellkept.cli.options import find_modules, opened, sure
from wellkept.cli.parser import CacheOption, JsonOption, YesOption, group
from wellkept.errors import KeptError
from wellkept.readable import ago, counted, data_size
from wellkept.runs.table import Column, Table

__all__ = ["app"]

app: typer.Typer = group("Show and change named state: keys, values, expiry.")
StoreArgument = Annotated[str, typer.Argument(metavar="STORE", help="The store's name.")]
KeyArgument = Annotated[str, typer.Argument(metavar="KEY")]
ScopeOption = Annotated[
    str | None,
    typer.Option(metavar="SCOPE", help="The scope of the store.", show_default="none"),
]
CollectionOption = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="The collection of the store.", show_default="the usual one"),
]
_NEVER = ("never", "none")


@contextlib.contextmanager
def _store(
    name: str, scope: str | None, collection: str | None, cache: str | None, make: bool = False
) -> Iterator[Any]:
    from wellkept.kv import ExecutionStore

    with opened(cache, make=make) as (found, _):
        yield ExecutionStore.create(name, scope, collection_name=collection, cache=found)


@app.command()
def ls(
    store: Annotated[
        str | None, typer.Argument(metavar="STORE", help="List this store's keys.")
    ] = None,
    prefix: Annotated[str, typer.Option(metavar="TEXT", help="Keys that begin with it.")] = "",
    scope: ScopeOption = None,
    collection: CollectionOption = None,
    cache: CacheOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the stores of all scopes, or the keys of one."""
    from wellkept.kv import ExecutionStoreService

    if store is not None:
        with _store(store, scope, collection, cache) as found:
            rows = [(key, found.get_metadata(key)) for key in found.keys(prefix)]
        _print_keys(store, [row for row in rows if row[1] is not None], as_json)
        return
    with opened(cache) as (backend, url):
        service = ExecutionStoreService(collection_name=collection, cache=backend)
        stores = [
            {
                "store": document.store_name,
                "scope": document.dataset_id,
                "keys": ExecutionStoreService(
                    dataset_id=document.dataset_id, collection_name=collection, cache=backend
                ).count_keys(document.store_name),
                "metadata": document.metadata,
            }
            for document in service.list_stores_global()
            if scope is None or document.dataset_id == scope
        ]
    if as_json:
        text.emit({"cache": url, "stores": stores})
        return
    columns: list[Column] = [
        ("keys", lambda row: f"{row['keys']:,}"),
        ("scope", lambda row: row["scope"] or "-"),
        ("store", lambda row: row["store"]),
    ]
    text.show(Table(stores, columns, "store"))


def _print_keys(store: str, found: list[tuple[str, dict[str, Any]]], as_json: bool) -> None:
    rows = [{"key": key} | _plain(about) for key, about in found]
    if as_json:
        text.emit({"store": store, "keys": rows})
        return
    changed = {key: ago(about["updated_at"].timestamp()) for key, about in found}
    columns: list[Column] = [
        ("revision", lambda row: f"{row['revision']:,}"),
        ("changed", lambda row: changed[row["key"]]),
        ("expires in", lambda row: "-" if row["ttl"] is None else text.duration(row["ttl"])),
        ("policy", lambda row: row["policy"]),
        ("key", lambda row: row["key"]),
    ]
    drop = ("policy", "revision")
    text.show(Table(rows, columns, "key", drop=drop, right=("changed", "expires in")))


def _plain(about: dict[str, Any]) -> dict[str, Any]:
    dates = ("created_at", "updated_at", "expires_at")
    said = {name: about[name] and about[name].isoformat() for name in dates}
    return said | {
        "policy": about["policy"].value,
        "revision": about["revision"],
        "ttl": about["ttl"],
    }


@app.command()
def get(
    store: StoreArgument,
    key: KeyArgument,
    load: Annotated[
        bool, typer.Option("--load", help="Decode what is not JSON, which may run code.")
    ] = False,
    scope: ScopeOption = None,
    collection: CollectionOption = None,
    cache: CacheOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a key's value: JSON, or a line that says what it is."""
    from wellkept.errors import NotKept

    if load:
        find_modules()
    with _store(store, scope, collection, cache) as found:
        entry = found.service.entries.get(found.service.name(store), key)
        if entry is None:
            raise NotKept(f"the store {store!r} has no key {key!r}")
        if as_json:
            value = found.get(key) if load or isinstance(entry.data, str) else None
            shown = value if _is_json(value) else repr(value)
            text.emit(
                {"store": store, "key": key, "json": isinstance(entry.data, str), "value": shown}
            )
        elif isinstance(entry.data, str):
            print(text.plain(entry.data, 1 << 30))
        elif load:
            print(text.plain(repr(found.get(key)), 1 << 30))
        else:
            print(f"<{data_size(len(entry.data))} that are not JSON; --load decodes them>")


@app.command("set")
def put(
    store: StoreArgument,
    key: KeyArgument,
    value: Annotated[str, typer.Argument(metavar="VALUE", help="JSON; what is none is text.")],
    as_text: Annotated[bool, typer.Option("--text", help="Take it as text.")] = False,
    ttl: Annotated[
        str | None, typer.Option(metavar="SPAN", help="After which it is gone: 30s, '12 h'.")
    ] = None,
    policy: Annotated[
        str, typer.Option(metavar="POLICY", help="persist, evict or held.")
    ] = "persist",
    if_absent: Annotated[
        bool, typer.Option("--if-absent", help="Only if it is not there; else the exit code is 1.")
    ] = False,
    scope: ScopeOption = None,
    collection: CollectionOption = None,
    cache: CacheOption = None,
    as_json: JsonOption = False,
) -> None:
    """Set a key."""
    content: Any = value
    if not as_text:
        with contextlib.suppress(ValueError, RecursionError):
            content = json.loads(value)
    with _store(store, scope, collection, cache, make=True) as found:
        if not if_absent:
            found.set(key, content, ttl, policy)
        elif not found.set_if_absent(key, content, ttl, policy):
            raise KeptError(f"the store {store!r} has a key {key!r} already")
    if as_json:
        text.emit({"store": store, "key": key})


@app.command()
def rm(
    store: StoreArgument,
    keys: Annotated[list[str] | None, typer.Argument(metavar="KEY")] = None,
    evictable: Annotated[
        bool, typer.Option("--evictable", help="All keys that may be evicted.")
    ] = False,
    whole: Annotated[bool, typer.Option("--store", help="The store with all its keys.")] = False,
    yes: YesOption = False,
    scope: ScopeOption = None,
    collection: CollectionOption = None,
    cache: CacheOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete keys, what may be evicted, or a whole store."""
    from wellkept.errors import ConfigError, NotKept

    if sum((bool(keys), evictable, whole)) != 1:
        raise ConfigError("say what to delete: keys, --evictable or --store")
    if whole or evictable:
        sure(f"delete {'the store' if whole else 'all evictable keys of the store'} {store}", yes)
    with _store(store, scope, collection, cache) as found:
        if whole:
            gone = found.service.delete_store(store)
            if gone is None:
                raise NotKept(f"there is no store {store!r} in this scope")
            said = f"deleted the store {text.plain(store)}"
        elif evictable:
            gone = found.service.clear_cache(store)
            said = f"deleted {counted(gone, 'key')}"
        else:
            missing = [key for key in keys or () if not found.delete(key)]
            gone, said = len(keys or ()) - len(missing), ""
            if missing:
                raise NotKept(f"the store {store!r} has no key {', '.join(map(repr, missing))}")
    if as_json:
        text.emit({"store": store, "deleted": gone})
    elif said:
        print(said)


@app.command()
def ttl(
    store: StoreArgument,
    key: KeyArgument,
    span: Annotated[
        str | None, typer.Argument(metavar="SPAN", help="30s, '12 h'; or never.")
    ] = None,
    scope: ScopeOption = None,
    collection: CollectionOption = None,
    cache: CacheOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say when a key expires, or change that."""
    from wellkept.errors import NotKept

    with _store(store, scope, collection, cache) as found:
        if span is not None:
            found.update_ttl(key, None if span in _NEVER else span)
        about = found.get_metadata(key)
    if about is None:
        raise NotKept(f"the store {store!r} has no key {key!r}")
    if as_json:
        text.emit({"store": store, "key": key, "ttl": about["ttl"]})
        return
    print("never" if about["ttl"] is None else f"in {text.duration(about['ttl'])}")


@app.command()
def watch(
    store: StoreArgument,
    prefix: Annotated[str, typer.Option(metavar="TEXT", help="Keys that begin with it.")] = "",
    since: Annotated[
        int | None, typer.Option(metavar="REVISION", help="From the change after it on.")
    ] = None,
    timeout: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="End when nothing changes for so long.")
    ] = None,
    scope: ScopeOption = None,
    collection: CollectionOption = None,
    cache: CacheOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write changes as they happen, a line each."""
    with _store(store, scope, collection, cache, make=True) as found:
        for change in found.watch(prefix, since, timeout=timeout):
            if as_json:
                shown = change.value if _is_json(change.value) else repr(change.value)
                said = {"revision": change.revision, "kind": change.kind, "key": change.key}
                print(json.dumps(said | {"at": change.at.isoformat(), "value": shown}), flush=True)
            else:
                value = "" if change.value is None else f" {change.value!r:.200}"
                line = f"{change.revision} {change.kind} {change.key}{value}"
                print(text.plain(line).replace("\n", "\\n"), flush=True)


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return False
    return True


@app.command("export")
def export(
    store: StoreArgument,
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", show_default="standard output")
    ] = None,
    scope: ScopeOption = None,
    collection: CollectionOption = None,
    cache: CacheOption = None,
) -> None:
    """Write a store as lines of JSON: a key each, with its value, policy and expiry."""
    from wellkept.kv.plan import each_entry

    with (
        _store(store, scope, collection, cache) as found,
        file.open("w", encoding="utf-8") if file else contextlib.nullcontext(sys.stdout) as out,
    ):
        ahead = time.time() - found.service.entries.now()
        for entry in each_entry(found.service.entries, found.service.name(store)):
            said: dict[str, Any] = {"key": entry.key, "policy": entry.policy}
            if entry.expires is not None:
                said["expires"] = entry.expires + ahead
            if isinstance(entry.data, str):
                said["value"] = json.loads(entry.data)
            else:
                said["frame"] = base64.b64encode(entry.data).decode()
            print(json.dumps(said), file=out)


@app.command("import")
def import_(
    store: StoreArgument,
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", show_default="standard input")
    ] = None,
    trust: Annotated[
        bool, typer.Option("--trust", help="Take values that run code when they are read.")
    ] = False,
    scope: ScopeOption = None,
    collection: CollectionOption = None,
    cache: CacheOption = None,
    as_json: JsonOption = False,
) -> None:
    """Set the keys that `wellkept store export` wrote; what has expired since is left out."""
    from wellkept.errors import ConfigError, UntrustedSource
    from wellkept.kv.entry import Step, check_key, dump
    from wellkept.kv.service import policy_of

    steps: list[Step] = []
    with file.open(encoding="utf-8") if file else contextlib.nullcontext(sys.stdin) as source:
        for number, line in enumerate(source, 1):
            try:
                said = json.loads(line)
                key, policy, expires = check_key(said["key"]), said["policy"], said.get("expires")
                data = base64.b64decode(said["frame"]) if "frame" in said else dump(said["value"])
                left = None if expires is None else float(expires) - time.time()
            except (ValueError, KeyError, TypeError) as error:
                raise ConfigError(
                    f"line {number} is none of an exported store: {error!r}"
                ) from error
            if "frame" in said and not trust:
                raise UntrustedSource(
                    f"line {number}: {key!r} is not JSON, and reading it may run code: use --trust "
                    "if you know where the file comes from"
                )
            if left is None or left > 0:
                steps.append(Step(key, data, left, policy_of(policy).value))
    with _store(store, scope, collection, cache, make=True) as found:
        for at in range(0, len(steps), 500):
            found.service.entries.apply(found.service.name(store), steps[at : at + 500])
    if as_json:
        text.emit({"store": store, "keys": len(steps)})
        return
    print(f"set {counted(len(steps), 'key')}")
