"""`wellkept import joblib`: results of functions with `joblib.Memory.cache`.

joblib names a result by a hash of the arguments, and writes down beside it how they print. So arguments
are found where they print as literals, or are given as calls; either way they are proven by that hash.
"""

from __future__ import annotations

import ast
import bz2
import gzip
import inspect
import io
import json
import lzma
import os
import textwrap
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wellkept.codecs.envelope import Refused
from wellkept.codecs.safe_types import Named, Unfinished, plain_array
from wellkept.errors import ConfigError, NotKept
from wellkept.integrations.importers.taking import (
    LARGEST,
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
    take,
    unpickled,
)

if TYPE_CHECKING:
    from wellkept.memo import Kept

try:
    import joblib
    from joblib.func_inspect import filter_args, get_func_code, get_func_name
    from joblib.memory import extract_first_line
except ImportError as _missing:
    raise ConfigError("joblib is not installed: pip install 'wellkept[joblib]'") from _missing

_LONGEST = 1_000_000  # letters of an argument; one that is cut is no literal, or has another hash
_VARIADIC = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}


def from_joblib(
    path: str | os.PathLike[str],
    function: Kept[..., Any] | None = None,
    calls: Iterable[tuple[Iterable[Any], Mapping[str, Any]]] = (),
    *,
    trust: bool = False,
    dry_run: bool = False,
    progress: Progress = None,
) -> Taken:
    """Take over what `joblib.Memory` kept of a function, in a directory that is only read.

    Naming a function says that its results are those of its code today. Its own source is compared with what
    joblib has of it; what it calls is not.

    Args:
        path: the location of the `Memory`.
        function: a kept function that was cached there; None: all entries are listed, and none is taken.
        calls: arguments of calls, by position and by name, for results whose arguments don't print as literals.
        trust: load results of any type, which may run code.
        dry_run: only say what would be done.
        progress: called with how many results were looked at, and of how many.

    Raises:
        ConfigError: it is not a kept function, or its source can't be read.
        NotKept: there is nothing of it.
        StoreError: a result can't be written. What was taken stays.
    """
    root = Path(path).expanduser()
    root = root / "joblib" if (root / "joblib").is_dir() else root
    done = Taken()
    if function is None:
        for code in sorted(root.rglob("func_code.py")):
            name = ".".join(code.parent.relative_to(root).parts)
            why = f"it is a result of {name}: say which function that is by --function"
            found = sum(1 for _ in code.parent.glob("*/output.pkl"))
            done.items += [Item(name, "refused", why)] * found
        if not done.items:
            raise NotKept(f"there is nothing of joblib.Memory in {root}")
        return done
    check_function(function)
    places = [root.joinpath(*names) for names in _identities(function)]
    place = next((one for one in places if one.is_dir()), None)
    if place is None:
        raise NotKept(
            f"there is nothing of {function.function_name} in {root}: joblib would have it in {places[0]}"
        )
    results = sorted(place.glob("*/output.pkl"))
    changed = _changed(place, function)
    known = dict(_hashed(function, calls))

    def each() -> Iterator[Found]:
        for at, file in enumerate(results):
            if progress is not None:
                progress(at, len(results))
            yield _found(file, function, known, changed, trust)

    take(each(), function, done, origin="joblib", dry_run=dry_run)
    return done


def _identities(function: Kept[..., Any]) -> Iterator[list[str]]:
    """Yield the directories, below each other, that joblib may have for a function."""
    body = body_of(function)
    for module, _ in sorted(names_of(function)):
        if module in ("__main__", "__mp_main__"):
            # The path as joblib puts it in one name.
            file = str(Path(inspect.getsourcefile(body) or "").absolute()).replace(os.sep, "-")
            module = f"__main__-{file.removesuffix('.py')}"
            yield [*module.split("."), body.__name__]
        else:
            modules, name = get_func_name(body)
            yield [*modules, name]


def _changed(place: Path, function: Kept[..., Any]) -> str:
    """Return why the results are not those of the function's code, if so."""
    try:
        then, _ = extract_first_line(content(place, "func_code.py").decode())
    except (OSError, ValueError, Refusal) as error:
        return f"the source of the function that gave it can't be read: {error}"
    now, _, _ = get_func_code(body_of(function))
    # The function was decorated by joblib then, and is by wellkept now.
    same = _without_decorators(then) == _without_decorators(now)
    return "" if same else "the source of the function was another one"


def _without_decorators(source: str) -> str:
    lines = textwrap.dedent(source).splitlines()
    starts = (at for at, line in enumerate(lines) if line.startswith(("def ", "async def ")))
    return "\n".join(lines[next(starts, 0) :]).rstrip()


def _hashed(
    function: Kept[..., Any], calls: Iterable[tuple[Iterable[Any], Mapping[str, Any]]]
) -> Iterator[tuple[str, Given]]:
    for args, kwargs in calls:
        given = tuple(args), dict(kwargs)
        for ignored in {(), function.options.ignore}:
            yield joblib.hash(filter_args(body_of(function), [*ignored], *given)), given


def _found(
    file: Path, function: Kept[..., Any], known: Mapping[str, Given], changed: str, trust: bool
) -> Found:
    name = file.parent.name
    try:
        said = json.loads(content(file.parent, "metadata.json"))
        printed = {str(key): str(text) for key, text in said.get("input_args", {}).items()}
        created, seconds = said.get("time"), said.get("duration", 0.0)
    except (OSError, ValueError, AttributeError, RecursionError, Refusal):
        printed, created, seconds = None, None, 0.0
    order = list(inspect.signature(body_of(function)).parameters)
    texts = sorted(
        (printed or {}).items(),
        key=lambda one: (one[0] not in order, [*order, one[0]].index(one[0])),
    )
    shown = ", ".join(f"{key}={text:.40}" for key, text in texts)

    def both() -> tuple[Given, Any]:
        if changed:
            raise Refusal(changed)
        if name in known:
            given = known[name]
        elif printed is None:
            raise Refusal("its arguments are not written down (metadata.json)")
        else:
            given = _proven(printed, function, name)
        return given, _value(file, trust)

    what = f"{function.function_name}({shown or name})"
    # Without a time of its own, it is as old as its file.
    created = created if type(created) is float else file.lstat().st_mtime
    return Found(what, both, created=created, seconds=seconds)


def _proven(printed: Mapping[str, str], function: Kept[..., Any], name: str) -> Given:
    values = {}
    for key, text in printed.items():
        try:
            values[key] = ast.literal_eval(text[:_LONGEST])
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            raise Refusal(f"its argument {key} is not known: {text:.60} is no literal") from None
    body = body_of(function)
    parameters = inspect.signature(body).parameters
    stars = {one.name: _VARIADIC[one.kind] for one in parameters.values() if one.kind in _VARIADIC}
    given = {key: value for key, value in values.items() if not key.startswith("*")}
    given |= {own: values[star] for own, star in stars.items() if star in values}
    ignored = [key for key in parameters if key not in given and key not in stars]
    ignored_stars = [star for star in stars.values() if star not in values]
    args, kwargs = call_of(function, given, ignored)
    if joblib.hash(filter_args(body, [*ignored, *ignored_stars], args, kwargs)) != name:
        raise Refusal("its arguments are not what they print as: their hash is another one")
    if ignored_stars:
        raise Refusal(f"{' and '.join(ignored_stars)} did not count for joblib")
    return args, kwargs


# -- values ---------------------------------------------------------------------------------------

# How compressed files begin, and what reads them.
_COMPRESSED: dict[bytes, Callable[[Any], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ": lzma.open,
    b"]\x00": lzma.open,
}


def _inflated(data: bytes) -> bytes:
    made = zlib.decompressobj()
    found = made.decompress(data, LARGEST)
    if not made.eof:
        raise Refusal("it is cut short, or becomes more than 1 GiB, which is read only with trust")
    return found


def _value(file: Path, trust: bool) -> Any:
    if trust:
        return joblib.load(file)
    data = content(file.parent, file.name)
    for begin, opened in _COMPRESSED.items():
        if data.startswith(begin):
            data = decompressed(opened(io.BytesIO(data)), False)
            break
    else:
        if data.startswith(b"x"):
            data = _inflated(data)
    return unpickled(data, False, _array)


def _array(module: str, name: str) -> Named | None:
    """Return what stands for joblib's wrapper of an array, whose content follows it in the file."""
    if (module, name) == ("joblib.numpy_pickle", "NumpyArrayWrapper"):
        return Named(_WRAPPER, new=_wrapper)
    return None


def _wrapper() -> Unfinished:
    return Unfinished(object(), _build)


_WRAPPER = object()
_STATE = {"subclass", "shape", "order", "dtype", "allow_mmap", "numpy_array_alignment_bytes"}


def _build(machine: Any, _: Any, state: Any) -> None:
    import numpy

    if type(state) is not dict or not set(state) <= _STATE:
        raise Refused("it holds an array that joblib would not write")
    if state.get("subclass") is not numpy.ndarray:
        raise Refused("it holds an array of a class of its own")
    dtype, shape, order = (state.get(part) for part in ("dtype", "shape", "order"))
    if not isinstance(dtype, numpy.dtype) or dtype.hasobject or order not in ("C", "F"):
        raise Refused("it holds an array of objects")
    if state.get("numpy_array_alignment_bytes") is not None:
        machine.read(machine.number(1))
    # The array takes the place of the wrapper, which nothing else refers to.
    machine.stack[-1] = plain_array(machine, shape, dtype, order == "F", machine.read)
