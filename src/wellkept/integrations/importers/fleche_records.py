"""`wellkept import fleche`: fleche's records name functions and arguments, so their results become hits."""

from __future__ import annotations

import functools
import gzip
import io
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wellkept.codecs.safe_types import Named, Unfinished
from wellkept.errors import ConfigError, NotKept
from wellkept.integrations.importers.taking import (
    Found,
    Given,
    Item,
    Progress,
    Refusal,
    Taken,
    body_of,
    call_of,
    check_function,
    content,
    decompressed,
    names_of,
    read,
    reading,
    take,
    unpickled,
)

if TYPE_CHECKING:
    from wellkept.memo import Kept

try:
    import fleche
    from fleche.call import DigestedCall, FunctionProfile
    from fleche.digest import Digest
    from fleche.storage import destructuring
except ImportError as _missing:
    raise ConfigError("fleche is not installed: pip install fleche") from _missing

_CALLS = "SELECT key, name, module, version, code_digest, result FROM calls"
_ARGUMENTS = "SELECT name, value FROM arguments WHERE call_key = ? ORDER BY position"
_METADATA = "SELECT name, data FROM metadata WHERE call_key = ?"
_LOADS = 100_000  # files for one value: a few of them could name each other without end
# Classes of fleche's that hold digests in the place of values; their objects are only data.
_PARTS = ("DigestedIterable", "DigestedDict")

_DEFAULT, _DICT = object(), object()


def from_fleche(
    path: str | os.PathLike[str],
    function: Kept[..., Any] | None = None,
    *,
    trust: bool = False,
    dry_run: bool = False,
    progress: Progress = None,
) -> Taken:
    """Take over what fleche kept of a function, in a directory that is only read.

    Naming a function says that its results are those of its code today, where fleche did not record the code
    (`hash_code=True`). HDF5 files are read only with `trust`, by fleche, which may write locks beside them.

    Args:
        path: the directory that has `values`, and `calls` or `calls.db`, as fleche's templates make it.
        function: a kept function whose calls are taken; None: all are listed, and none is taken.
        trust: unpickle values of any type, which may run code.
        dry_run: only say what would be done.
        progress: called with how many records were looked at, and of how many.

    Raises:
        ConfigError: it is not a kept function.
        NotKept: fleche kept nothing there, or nothing of the function.
        StoreError: one of the two can't be read or written. What was taken stays.
    """
    root = Path(path).expanduser()
    done = Taken()
    calls = list(_calls(root, done, trust))
    if not calls and not done.items:
        raise NotKept(f"{root} is no cache of fleche: it needs values, and calls or calls.db")
    if function is None:
        for call in calls:
            name = f"{call.module}:{call.name}"
            done.items.append(
                Item(
                    name,
                    "refused",
                    f"it is a result of {name}: say which function that is by --function",
                )
            )
        return done
    check_function(function)
    named = names_of(function)
    own = [call for call in calls if (call.module, call.name) in named or _is_named(call, named)]
    if not own and not done.items:
        raise NotKept(f"fleche kept no call of {function.function_name} in {root}")
    profile = FunctionProfile.of(body_of(function))
    values = _Values(root / "values", trust)

    def each() -> Iterator[Found]:
        for at, call in enumerate(own):
            if progress is not None:
                progress(at, len(own))
            yield _found(call, function, profile, values)

    take(each(), function, done, origin="fleche", dry_run=dry_run)
    return done


def _is_named(call: Any, named: set[tuple[str, str]]) -> bool:
    # Without `hash_module` the record has no module.
    return call.module is None and call.name in {name for _, name in named}


def _found(call: Any, function: Kept[..., Any], profile: Any, values: _Values) -> Found:
    arguments = dict(call.arguments)

    def both() -> tuple[Given, Any]:
        if call.result is None:
            raise Refusal("it has no result: the call did not end")
        if call.code_digest is not None and call.code_digest != profile.code_digest:
            raise Refusal("the code of the function was another one, or Python's version")
        if call.version not in (None, profile.version, function.options.version):
            raise Refusal(f"it is of the version {call.version!r:.40}, which is not today's")
        given = {name: values.load(digest) for name, digest in arguments.items()}
        missing = [
            name for name, of in profile.signature.parameters.items()
            if name not in given and of.kind not in (of.VAR_POSITIONAL, of.VAR_KEYWORD)
        ]  # fmt: skip
        return call_of(function, given, missing), values.load(call.result)

    runtime = call.metadata.get("runtime") if type(call.metadata) is dict else None
    said = runtime if type(runtime) is dict else {}
    shown = ", ".join(f"{name}={values.shown(digest)}" for name, digest in arguments.items())
    created, seconds = said.get("timestop"), said.get("walltime") or 0.0
    return Found(f"{call.name}({shown})", both, created=created, seconds=seconds)


# -- records --------------------------------------------------------------------------------------


def _calls(root: Path, done: Taken, trust: bool) -> Iterator[Any]:
    for name, reader in _records(root):
        try:
            call = read(reader)
            if not _is_call(call):
                raise Refusal("it is no record of a call")  # noqa: TRY301  told below
        except Refusal as refusal:
            done.items.append(Item(name, "refused", f"its record: {refusal}"))
        else:
            yield call
    for file in (root / "calls").glob("*.h5"):
        if trust:
            store = fleche.storage.CallBagOfHoldingH5File(root=root / "calls")
            yield from map(store.load, list(store.list()))
            break
        why = "its records are in HDF5 files, which are read only with trust"
        done.items.append(Item(file.name, "refused", why))


def _records(root: Path) -> Iterator[tuple[str, Callable[[], Any]]]:
    if (root / "calls.db").is_file():
        with reading(root / "calls.db", "calls", "arguments", "metadata") as c:
            for key, *row in c.execute(_CALLS).fetchall():
                arguments = list(c.execute(_ARGUMENTS, (key,)))
                metadata = list(c.execute(_METADATA, (key,)))
                yield f"{key!s:.64}", functools.partial(_of_row, row, arguments, metadata)
    for file in sorted(_files(root / "calls")):
        yield file.name, functools.partial(_of_file, file)


def _is_call(call: Any) -> bool:
    return (
        type(call) is DigestedCall
        and type(call.arguments) is dict
        and type(call.name) is str
        and type(call.module) in (str, type(None))
    )


def _of_row(row: list[Any], arguments: Any, metadata: Any) -> Any:
    name, module, version, code, result = row
    return DigestedCall(
        name=name,
        arguments=dict(arguments),
        result=result,
        metadata={of: json.loads(data) for of, data in metadata},
        module=module,
        version=None if version is None else json.loads(version),
        code_digest=code,
    )


def _of_file(file: Path) -> Any:
    return unpickled(_content(file.parent, file.name, False), False, _record)


def _files(root: Path) -> Iterator[Path]:
    if root.is_dir():
        for file in root.iterdir():
            if len(file.name) == 64 and file.is_file():
                yield file


# -- values ---------------------------------------------------------------------------------------


class _Values:
    """The values of a directory, by digest; what was taken apart is put together."""

    def __init__(self, root: Path, trust: bool) -> None:
        self._root, self._trust = root, trust
        self._loads = 0

    def shown(self, digest: Any) -> str:
        """Return a value as text, where it is at hand."""
        try:
            return f"{self.load(digest)!r:.40}"
        except Exception:  # noqa: BLE001  only shown
            return f"{digest!s:.12}"

    def load(self, digest: Any, depth: int = 0) -> Any:
        """Return a value.

        Raises:
            Refusal: it is gone, or another one.
        """
        name = str(digest)
        self._loads = self._loads + 1 if depth else 0
        if depth > 100 or self._loads > _LOADS:
            raise Refusal("it has too many parts, or they are nested too deep")
        if (self._root / name).is_file():
            data = _content(self._root, name, self._trust)
            found = unpickled(data, self._trust, _record)
        elif self._trust and self._root.is_dir():
            found = fleche.storage.ValueBagOfHoldingH5File(root=self._root).get(Digest(digest))
        elif any(self._root.glob("*/*.h5")) or any(self._root.glob("*.h5")):
            raise Refusal("its values are in HDF5 files, which are read only with trust")
        else:
            raise Refusal("a value is gone: fleche keeps none that it could not write")
        made = self._mended(found, depth)
        if not depth and fleche.digest.digest(made) != digest:
            raise Refusal("a value is damaged: its digest is another one")
        return made

    def _mended(self, found: Any, depth: int) -> Any:
        def of(part: Any) -> Any:
            return self.load(part, depth + 1) if type(part) is Digest else part

        if type(found) is destructuring.DigestedIterable and type(found.items) in (list, tuple):
            return type(found.items)(map(of, found.items))
        if type(found) is destructuring.DigestedDict and type(found.items) is dict:
            return {of(key): of(value) for key, value in found.items.items()}
        if isinstance(found, destructuring.DigestedFields):
            made = object.__new__(found.cls)
            for name, part in found.fields.items():
                object.__setattr__(made, name, of(part))
            return made
        return found


def _content(root: Path, name: str, trust: bool) -> bytes:
    data = content(root, name, trust)
    if data.startswith(b"\x1f\x8b"):
        data = decompressed(gzip.GzipFile(fileobj=io.BytesIO(data)), trust)
    # A signature, of hexadecimal digits, may follow the dot that ends a pickle.
    return data[: data.rfind(b".") + 1]


def _record(module: str, name: str) -> Named | None:
    """Return what stands for the names of fleche's that records and parts of values hold."""
    if (module, name) == ("fleche.digest", "Digest"):
        return Named(Digest, new=_digest, takes=True)
    if (module, name) == ("collections", "defaultdict"):
        # Of metadata; what it would make is never made.
        return Named(_DEFAULT, call=lambda _, *given: {})
    if (module, name) in (("builtins", "dict"), ("dill._dill", "_load_type")):
        return Named(_DICT, call=lambda _, *given: None)
    if (module, name) == ("fleche.call", "DigestedCall"):
        return Named(DigestedCall, new=lambda: Unfinished(DigestedCall("", {}), _fields))
    if module == "fleche.storage.destructuring" and name in _PARTS:
        kind = getattr(destructuring, name)
        return Named(kind, new=lambda: Unfinished(kind(None), _fields))
    return None


def _digest(text: Any) -> Any:
    if type(text) is not str:
        raise Refusal("it holds a digest that is no text")
    return Digest(text)


def _fields(_: Any, made: Any, state: Any) -> None:
    if type(state) is not dict or not set(state) <= set(vars(made)):
        raise Refusal("it holds a record that fleche would not write")
    vars(made).update(state)
