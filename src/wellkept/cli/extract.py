"""Commands that take results out of a cache: export writes one to a file, diff compares two."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import shutil
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from wellkept.cli import text
from wellkept.cli.options import find_modules, one_call, opened
from wellkept.cli.parser import ArgOption, CacheOption, JsonOption, WhatArgument, function_names
from wellkept.errors import ConfigError, NotKept
from wellkept.readable import counted, data_size
from wellkept.runs.table import called

# Differences that are listed.
_LISTED = 30


def export(
    what: WhatArgument,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Its suffix says the format.")],
    arg: ArgOption = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
    cache: CacheOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a result to a file: .csv, .parquet, .npy, .json, .pkl, …

    The result is loaded, which may run code.
    """
    if file.exists() and not force:
        raise ConfigError(f"{file} is there already: say --force to overwrite it")
    if not file.parent.is_dir():
        raise ConfigError(f"can't write {file}: there is no directory {file.parent}")
    with opened(cache) as (found, url):
        call = one_call(found, what, arg)
        value = _result(found, call)
    write(value, file, force=force)
    size = file.stat().st_size
    if as_json:
        text.emit({"cache": url, "key": str(call.key), "file": str(file), "bytes": size})
    else:
        print(f"wrote {text.plain(called(call.function, call), 200)} to {file} ({data_size(size)})")


def _result(cache: Any, call: Any) -> Any:
    """The result of a call, which may need modules of this directory.

    Raises:
        NotKept: it is not kept, or the call raised.
        KeptError: it can't be loaded.
    """
    from wellkept.query import Match

    find_modules()
    match = Match(cache, call)
    if call.state == "failed":
        raise NotKept(f"{called(call.function, call)} has no result: it raised {match.error!r}")
    return match.result


# -- formats --------------------------------------------------------------------------------------


def write(value: Any, file: Path, *, force: bool = False) -> None:
    """Write a value in the format of the file's suffix; the file is there whole, or not at all.

    Raises:
        ConfigError: the format is not known, or does not take such a value; the file is there already.
        OSError: it can't be written.
    """
    suffix = file.suffix.lower()
    writer = _WRITERS.get(suffix)
    if writer is None:
        if isinstance(value, Path) and value.is_file():
            writer = shutil.copyfile
        elif isinstance(value, (str, bytes, bytearray)):
            # What is a page, a picture or the like already.
            writer = _text
        else:
            raise ConfigError(
                f"{file}: no format has the suffix {suffix!r}; there are {' '.join(_WRITERS)}, and any for "
                f"text, bytes and files, which a {type(value).__name__} is not"
            )
    aside = file.with_name(f".{file.stem}.{os.getpid()}{suffix}")
    try:
        try:
            writer(value, aside)
        except ImportError as error:
            raise ConfigError(
                f"{suffix} needs {error.name}, which is not installed: pip install {error.name}"
            ) from error
        except (
            TypeError,
            ValueError,
            OverflowError,
            AttributeError,
            pickle.PicklingError,
        ) as error:
            raise ConfigError(
                f"a {type(value).__name__} can't be written as {suffix}: {error}"
            ) from error
        if force:
            aside.replace(file)
        else:
            # A link, unlike a rename, overwrites nothing.
            try:
                os.link(aside, file)
            except FileExistsError:
                raise ConfigError(f"{file} is there already: say --force to overwrite it") from None
            except OSError:
                # A file system without links.
                aside.replace(file)
    finally:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)


def _text(value: Any, file: Path) -> None:
    if isinstance(value, (bytes, bytearray)):
        file.write_bytes(value)
    elif isinstance(value, str):
        file.write_text(value, encoding="utf-8")
    else:
        raise TypeError("it is neither text nor bytes")


def _json(value: Any, file: Path) -> None:
    def plain(part: Any) -> Any:
        # Arrays, their scalars, and columns.
        if hasattr(part, "tolist"):
            return part.tolist()
        raise TypeError(f"JSON has no {type(part).__name__}")

    said = json.dumps(value, default=plain, ensure_ascii=False, allow_nan=False, indent=2)
    file.write_text(f"{said}\n", "utf-8")


def _pickle(value: Any, file: Path) -> None:
    with file.open("wb") as out:
        pickle.dump(value, out)


def _npy(value: Any, file: Path) -> None:
    import numpy

    numpy.save(file, value, allow_pickle=False)


def _npz(value: Any, file: Path) -> None:
    import numpy

    if not isinstance(value, Mapping):
        raise TypeError("it is no dict of arrays")
    numpy.savez(file, allow_pickle=False, **{str(name): one for name, one in value.items()})


def _frame(value: Any) -> Any:
    """A table of Arrow, of what is one or looks like one.

    Raises:
        TypeError: it does not.
    """
    pyarrow: Any = import_module("pyarrow")
    if isinstance(value, pyarrow.Table):
        return value
    if hasattr(value, "to_arrow"):
        return value.to_arrow()
    if "pandas" in sys.modules and isinstance(value, sys.modules["pandas"].DataFrame):
        return pyarrow.Table.from_pandas(value)
    if hasattr(value, "__arrow_c_stream__"):
        return pyarrow.table(value)
    if isinstance(value, Mapping):
        return pyarrow.table(dict(value))
    if isinstance(value, (list, tuple)) and value and all(isinstance(r, Mapping) for r in value):
        return pyarrow.Table.from_pylist(list(value))
    raise TypeError("it is no table: no data frame, dict of columns, or list of dicts")


def _parquet(value: Any, file: Path) -> None:
    import_module("pyarrow.parquet").write_table(_frame(value), file)


def _feather(value: Any, file: Path) -> None:
    import_module("pyarrow.feather").write_feather(_frame(value), str(file))


def _csv(value: Any, file: Path) -> None:
    import csv

    rows = _rows(value)
    with file.open("w", newline="", encoding="utf-8") as out:
        delimiter = "\t" if file.suffix.lower() == ".tsv" else ","
        csv.writer(out, delimiter=delimiter, lineterminator="\n").writerows(rows)


def _rows(value: Any) -> list[Any]:
    """The lines of a table, its titles first where it has some."""
    if isinstance(value, Mapping):
        columns = [list(column) for column in value.values()]
        return [list(value), *zip(*columns, strict=True)]
    if hasattr(value, "columns") or hasattr(value, "__arrow_c_stream__"):
        if "pandas" in sys.modules and isinstance(value, sys.modules["pandas"].DataFrame):
            if not isinstance(value.index, sys.modules["pandas"].RangeIndex):
                value = value.reset_index()
            return [list(value.columns), *value.itertuples(index=False, name=None)]
        return _rows(_frame(value).to_pydict())
    if hasattr(value, "tolist") and hasattr(value, "ndim"):
        if value.ndim not in (1, 2):
            raise TypeError(f"it has {value.ndim} dimensions, and CSV has 1 or 2")
        value = value.tolist()
    if not isinstance(value, (list, tuple)):
        raise TypeError("it is no table: no data frame, list, array, or dict of columns")
    if value and all(isinstance(row, Mapping) for row in value):
        titles = list(dict.fromkeys(name for row in value for name in row))
        return [titles, *([row.get(name) for name in titles] for row in value)]
    return [list(row) if isinstance(row, (list, tuple)) else [row] for row in value]


_WRITERS: dict[str, Callable[[Any, Path], Any]] = {
    ".csv": _csv,
    ".tsv": _csv,
    ".parquet": _parquet,
    ".feather": _feather,
    ".json": _json,
    ".npy": _npy,
    ".npz": _npz,
    ".pkl": _pickle,
    ".pickle": _pickle,
    ".txt": _text,
}


# -- differences ----------------------------------------------------------------------------------


def diff(
    what: WhatArgument,
    other: Annotated[
        str | None,
        typer.Argument(
            metavar="KEY|FUNCTION",
            help="What it is compared with; by default the result before it, of the same arguments "
            "and other code.",
            autocompletion=function_names,
        ),
    ] = None,
    arg: ArgOption = None,
    cache: CacheOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show how two results differ.

    The exit code is 1 if they do. Both are loaded, which may run code.
    """
    from wellkept.runs.nearest import result_changes

    with opened(cache) as (found, url):
        left = one_call(found, what, arg)
        right = _before(found, left) if other is None else one_call(found, other, arg)
        if other is None:
            left, right = right, left
        same = left.result == right.result
        changes = [] if same else result_changes(_result(found, left), _result(found, right))
    if as_json:
        said = {"same": same, "left": str(left.key), "right": str(right.key)}
        text.emit({"cache": url} | said | {"differences": [one._asdict() for one in changes]})
    else:
        for sign, call in (("-", left), ("+", right)):
            print(text.plain(f"{sign} {call.key[:12]}  {called(call.function, call)}", 200))
        many = counted(len(changes), "difference") if changes else "equal but stored differently"
        print("the results are the same" if same else many)
        for one in changes[:_LISTED]:
            print(text.line(f"  {one}", 400))
        if len(changes) > _LISTED:
            print(f"  {len(changes) - _LISTED:,} more; --json lists all")
    if not same:
        raise typer.Exit(1)


def _before(cache: Any, call: Any) -> Any:
    """The call before it of the same arguments, which other code computed."""
    given = {name: one.digest for name, one in call.arguments.items() if name != "@class"}
    alike = cache.query(function=call.function, **({"arguments": given} if given else {}))
    for one in alike.where(until=call.created).order_by("-created").calls():
        names = {name for name in one.arguments if name != "@class"}
        if one.key != call.key and one.function == call.function and names == given.keys():
            return one
    raise NotKept(
        f"no result of other code is kept beside {called(call.function, call)}: name the other, too"
    )
