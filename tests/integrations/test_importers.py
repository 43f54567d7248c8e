"""What other libraries kept, written by them, becomes hits; what is not understood is refused."""

from __future__ import annotations

import importlib
import json
import os
import pickle
import sqlite3
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import wellkept
from wellkept import Kept, keep
from wellkept.cli.app import run
from wellkept.errors import ConfigError, NotKept, StoreError
from wellkept.integrations import importers
from wellkept.integrations.importers import from_diskcache

WORK = """
ran = []

def area(width, height=2, *, unit="m", verbose=False):
    ran.append((width, height, unit))
    return f"{width * height} {unit}2"

def total(*parts, **more):
    ran.append(parts)
    return sum(parts)

def grid(side, order="C"):
    import numpy
    ran.append(side)
    return numpy.arange(side * side, dtype="<f4").reshape((side, side), order=order)

def pair(x):
    ran.append(x)
    return x, 0.5

class Odd:
    def __init__(self, x):
        self.x = x

    def __digest__(self):
        return "ab" * 32

def odd(x):
    ran.append(x)
    return Odd(x)

def mean(values):
    ran.append(1)
    return float(values.mean())

def nested(x):
    ran.append(x)
    return {"rows": [[x, [x, (1, 2)]], {"a": "b" * 300}], "x": x}
"""


def from_joblib(*given: Any, **options: Any) -> Any:
    return importers.from_joblib(*given, **options)


def from_fleche(*given: Any, **options: Any) -> Any:
    return importers.from_fleche(*given, **options)


class Evil:
    """Its pickle makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    (tmp_path / "importer_work.py").write_text(WORK)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield importlib.import_module("importer_work")
    del sys.modules["importer_work"]


def kept(function: Any, tmp_path: Path, **options: Any) -> Kept[..., Any]:
    return keep(cache=wellkept.open(tmp_path / "cache"), **options)(function)


def counts(done: Any) -> tuple[int, int, int]:
    return done.count("taken"), done.count("same"), sum(done.refused.values())


# -- diskcache ------------------------------------------------------------------------------------


def test_memoized_results_of_diskcache_are_hits(work: Any, tmp_path: Path) -> None:
    diskcache = pytest.importorskip("diskcache")
    for shards in (None, 2):
        place = tmp_path / f"there{shards}"
        cache = diskcache.FanoutCache(place, shards) if shards else diskcache.Cache(place)
        memoized = cache.memoize()(work.area)
        memoized(1)
        memoized(2, 3, unit="cm", verbose=True)
        memoized(4, unit="a" * 40000)
        cache.memoize(expire=1000)(work.pair)(3)
        cache["other"] = 1
        cache.close()
        area = kept(work.area, tmp_path / str(shards))
        assert counts(from_diskcache(place, area, dry_run=True)) == (3, 0, 0)
        assert not area.contains(1)
        done = from_diskcache(place, area)
        assert counts(done) == (3, 0, 0)
        assert "importer_work.area(2, 3, None, 'unit', 'cm'" in done.items[1].what
        work.ran.clear()
        assert area(2, 3, unit="cm", verbose=True) == "6 cm2"
        assert area(height=2, width=1) == "2 m2"
        assert area(4, 2, unit="a" * 40000).startswith("8 aaa")
        assert work.ran == []
        assert area.call(1).metadata["imported"] == {"from": "diskcache"}
        assert counts(from_diskcache(place, area)) == (0, 3, 0)


def test_what_expires_in_diskcache_expires_here(work: Any, tmp_path: Path) -> None:
    diskcache = pytest.importorskip("diskcache")
    with diskcache.Cache(tmp_path / "there") as cache:
        cache.memoize(expire=1000)(work.area)(1)
        cache.memoize(expire=0.001)(work.area)(2)
        cache.memoize()(work.area)(3)
    area = kept(work.area, tmp_path)
    done = from_diskcache(tmp_path / "there", area)
    assert done.refused == {"it has expired": 1}
    expires = area.call(1).expires
    assert expires is not None
    assert 900 < expires - time.time() < 1001
    assert area.call(3).expires is None
    # A shorter life of the function here counts from when the result was computed there.
    with sqlite3.connect(tmp_path / "there/cache.db") as index:
        index.execute("UPDATE Cache SET store_time = store_time - 500")
    short = kept(work.area, tmp_path / "short", ttl=600)
    from_diskcache(tmp_path / "there", short)
    expires = short.call(3).expires
    assert expires is not None
    assert expires - time.time() < 101
    assert counts(from_diskcache(tmp_path / "there", kept(work.area, tmp_path / "x", ttl=400))) == (
        (0, 0, 3)
    )


def test_arguments_that_diskcache_does_not_tell_apart_are_refused(
    work: Any, tmp_path: Path
) -> None:
    diskcache = pytest.importorskip("diskcache")
    with diskcache.Cache(tmp_path / "there") as cache:
        cache.memoize(typed=True)(work.area)(1)
        # By position, or by name: the key says the same.
        cache[("importer_work.total", None, "a", 1, None)] = 5
        cache[("importer_work.total", None, "a", None)] = 6
        cache[("importer_work.total", 1, 2, None)] = 3
        cache[("importer_work.total", 1)] = 3
    done = from_diskcache(tmp_path / "there", kept(work.total, tmp_path))
    assert counts(done) == (2, 0, 1), done.items
    assert counts(from_diskcache(tmp_path / "there", kept(work.area, tmp_path))) == (0, 0, 1)


def test_ignored_arguments_of_diskcache(work: Any, tmp_path: Path) -> None:
    diskcache = pytest.importorskip("diskcache")
    with diskcache.Cache(tmp_path / "there") as cache:
        memoized = cache.memoize(ignore={0, "verbose"})(work.area)
        memoized(1, 5, verbose=True)
    # Without it 5 would be the width.
    plain = kept(work.area, tmp_path)
    assert counts(from_diskcache(tmp_path / "there", plain, ignore=[0, "verbose"])) == (0, 0, 1)
    area = kept(work.area, tmp_path, ignore=("width", "verbose"))
    with pytest.raises(ConfigError, match="ignore="):
        from_diskcache(tmp_path / "there", area)
    assert counts(from_diskcache(tmp_path / "there", area, ignore=[0, "verbose"])) == (1, 0, 0)
    assert area(7, 5) == "5 m2"
    assert not area.contains(5)


def test_stampede_is_said(work: Any, tmp_path: Path) -> None:
    diskcache = pytest.importorskip("diskcache")
    with diskcache.Cache(tmp_path / "one") as cache:
        diskcache.memoize_stampede(cache, expire=1000)(work.area)(1)
    with diskcache.Cache(tmp_path / "two") as cache:
        cache.memoize()(work.pair)(1)
    area, pair = kept(work.area, tmp_path), kept(work.pair, tmp_path)
    assert counts(from_diskcache(tmp_path / "one", area)) == (0, 0, 1)
    assert counts(from_diskcache(tmp_path / "two", pair)) == (0, 0, 1)
    assert counts(from_diskcache(tmp_path / "one", area, stampede=True)) == (1, 0, 0)
    assert counts(from_diskcache(tmp_path / "two", pair, stampede=False)) == (1, 0, 0)
    assert (area(1), pair(1)) == ("2 m2", (1, 0.5))


def test_nothing_of_diskcache_is_run(work: Any, tmp_path: Path) -> None:
    diskcache = pytest.importorskip("diskcache")
    from wellkept.integrations.diskcache import Cache

    with diskcache.Cache(tmp_path / "there") as cache:
        cache[("importer_work.area", 1, None)] = Evil(tmp_path / "evil")
        cache[("importer_work.area", Evil(tmp_path / "evil"), None)] = 1
        cache["importer_work.area"] = Evil(tmp_path / "evil")
        cache.memoize()(work.odd)(1)
        cache.memoize()(work.area)(7, unit="a" * 40000)
        place = sorted((tmp_path / "there").rglob("*.val"))[0]
        outside = tmp_path / "secret"
        outside.write_bytes(place.read_bytes())
        (tmp_path / "there/link.val").symlink_to(outside)
    for name in ("../secret", str(outside), "link.val"):
        with sqlite3.connect(tmp_path / "there/cache.db") as index:
            index.execute("UPDATE Cache SET filename = ? WHERE filename IS NOT NULL", (name,))
        area = kept(work.area, tmp_path)
        done = from_diskcache(tmp_path / "there", area)
        assert counts(done) == (0, 0, 3), done.items
        assert "its file is outside of the directory" in done.refused
    with Cache(tmp_path / "here") as into:
        assert counts(from_diskcache(tmp_path / "there", into=into))[0] == 0
    assert not (tmp_path / "evil").exists()
    odd = kept(work.odd, tmp_path)
    (why,) = from_diskcache(tmp_path / "there", odd).refused
    assert "importer_work.Odd" in why
    assert counts(from_diskcache(tmp_path / "there", odd, trust=True)) == (1, 0, 0)
    assert odd(1).x == 1


def test_all_entries_of_diskcache_go_to_what_takes_its_place(work: Any, tmp_path: Path) -> None:
    diskcache = pytest.importorskip("diskcache")
    from wellkept.integrations.diskcache import Cache

    values = {"a": 1, "b": [1, (2,)], "c": b"x" * 40000, "d": "line\n" * 9000, 1: 1.5, b"f": None}
    with diskcache.Cache(tmp_path / "there") as cache:
        for key, value in values.items():
            cache[key] = value
        cache.set((1, "soon"), 1, expire=1000, tag="t")
        cache.memoize()(work.area)(1)
        cache["odd"] = work.Odd(1)
        cache[("f", None, diskcache.core.ENOVAL)] = None
        cache.set("gone", 1, expire=0.001)
    with Cache(tmp_path / "here") as into:
        assert counts(from_diskcache(tmp_path / "there", into=into, dry_run=True)) == (8, 0, 3)
        assert len(into) == 0
        assert counts(from_diskcache(tmp_path / "there", into=into)) == (8, 0, 3)
        assert {key: into[key] for key in values} == values
        _, expires, tag = into.get((1, "soon"), expire_time=True, tag=True)
        assert 900 < expires - time.time() < 1001
        assert tag == "t"
        into["a"] = 2
        assert counts(from_diskcache(tmp_path / "there", into=into)) == (0, 8, 3)
        assert into["a"] == 2
        with pytest.raises(ConfigError, match="either"):
            from_diskcache(tmp_path / "there")
        with pytest.raises(NotKept, match="no cache of diskcache"):
            from_diskcache(tmp_path, into=into)
        (tmp_path / "broken").mkdir()
        (tmp_path / "broken/cache.db").write_bytes(b"no database" * 100)
        with pytest.raises(StoreError, match="can't read"):
            from_diskcache(tmp_path / "broken", into=into)


# -- joblib ---------------------------------------------------------------------------------------


def test_results_of_joblib_whose_arguments_are_literals_are_hits(work: Any, tmp_path: Path) -> None:
    joblib = pytest.importorskip("joblib")
    memory = joblib.Memory(str(tmp_path / "there"), verbose=0)
    memory.cache(work.area)(1)
    memory.cache(work.area)(2, unit="cm", height=[5])
    memory.cache(work.area)(float("nan"))
    memory.cache(work.total)(1, 2, x="y")
    memory.cache(work.total)()
    area, total = kept(work.area, tmp_path), kept(work.total, tmp_path)
    done = from_joblib(tmp_path / "there", area, dry_run=True)
    assert counts(done) == (2, 0, 1)
    assert not area.contains(1)
    assert done.refused == {"its argument width is not known: nan is no literal": 1}
    assert counts(from_joblib(tmp_path / "there/joblib", area)) == (2, 0, 1)
    assert counts(from_joblib(tmp_path / "there", total)) == (2, 0, 0)
    work.ran.clear()
    assert area(1, 2) == "2 m2"
    assert len(area(2, [5], unit="cm")) > 3
    assert total(1, 2, x="y") == 3
    assert total() == 0
    assert work.ran == []
    assert area.call(1).seconds > 0
    assert counts(from_joblib(tmp_path / "there", area)) == (0, 2, 1)
    listed = from_joblib(tmp_path / "there")
    assert counts(listed) == (0, 0, 5)
    assert any("importer_work.total" in why for why in listed.refused)
    with pytest.raises(NotKept, match="joblib would have it in"):
        from_joblib(tmp_path / "there", kept(work.pair, tmp_path))


def test_arguments_of_joblib_are_proven_by_their_hash(work: Any, tmp_path: Path) -> None:
    joblib = pytest.importorskip("joblib")
    numpy = pytest.importorskip("numpy")
    memory = joblib.Memory(str(tmp_path / "there"), verbose=0)
    values = numpy.arange(5000.0)
    memory.cache(work.mean)(values)
    mean = kept(work.mean, tmp_path)
    assert counts(from_joblib(tmp_path / "there", mean)) == (0, 0, 1)
    others = [((values + 1,), {}), ((), {"values": values})]
    assert counts(from_joblib(tmp_path / "there", mean, others)) == (1, 0, 0)
    assert mean.contains(values)
    assert not mean.contains(values + 1)
    # What the arguments print as may be anything.
    memory.cache(work.area)(1)
    (about,) = (tmp_path / "there/joblib/importer_work/area").glob("*/metadata.json")
    said = json.loads(about.read_text())
    about.write_text(json.dumps(said | {"input_args": said["input_args"] | {"width": "3"}}))
    area = kept(work.area, tmp_path)
    (why,) = from_joblib(tmp_path / "there", area).refused
    assert "their hash is another one" in why
    about.write_text("[]")
    assert counts(from_joblib(tmp_path / "there", area)) == (0, 0, 1)


def test_arguments_that_joblib_ignores(work: Any, tmp_path: Path) -> None:
    joblib = pytest.importorskip("joblib")
    memory = joblib.Memory(str(tmp_path / "there"), verbose=0)
    memory.cache(work.area, ignore=["verbose"])(1, verbose=True)
    (why,) = from_joblib(tmp_path / "there", kept(work.area, tmp_path)).refused
    assert "has to ignore it too" in why
    area = kept(work.area, tmp_path, ignore="verbose")
    assert counts(from_joblib(tmp_path / "there", area)) == (1, 0, 0)
    assert area.contains(1, verbose=object())


@pytest.mark.parametrize("compress", [False, 3, ("gzip", 1), ("bz2", 1), ("lzma", 1), ("xz", 1)])
def test_arrays_of_joblib(work: Any, tmp_path: Path, compress: Any) -> None:
    joblib = pytest.importorskip("joblib")
    numpy = pytest.importorskip("numpy")
    memory = joblib.Memory(str(tmp_path / "there"), verbose=0)
    memory.cache(work.grid)(5)
    memory.cache(work.grid)(6, order="F")
    # Which compression it is the file says.
    for file in (tmp_path / "there").rglob("output.pkl"):
        joblib.dump([joblib.load(file), {"again": joblib.load(file)}], file, compress=compress)
    grid = kept(work.grid, tmp_path)
    assert counts(from_joblib(tmp_path / "there", grid)) == (2, 0, 0)
    for result, expected in ((grid(5), work.grid(5)), (grid(6, "F"), work.grid(6, "F"))):
        for found in (result[0], result[1]["again"]):
            assert numpy.array_equal(found, expected)
            assert found.dtype == expected.dtype
            assert found.flags.f_contiguous == expected.flags.f_contiguous


def test_results_of_former_code_are_not_taken_from_joblib(work: Any, tmp_path: Path) -> None:
    joblib = pytest.importorskip("joblib")
    joblib.Memory(str(tmp_path / "there"), verbose=0).cache(work.area)(1)
    changed = WORK.replace("width * height", "width + height")
    (tmp_path / "importer_work.py").write_text(changed)
    os.utime(tmp_path / "importer_work.py", (1, 1))
    again = importlib.reload(work)
    done = from_joblib(tmp_path / "there", kept(again.area, tmp_path))
    assert done.refused == {"the source of the function was another one": 1}


def test_nothing_of_joblib_is_run(work: Any, tmp_path: Path) -> None:
    joblib = pytest.importorskip("joblib")
    memory = joblib.Memory(str(tmp_path / "there"), verbose=0)
    for width in range(5):
        memory.cache(work.area)(width)
    files = sorted((tmp_path / "there").rglob("output.pkl"))
    files[0].write_bytes(pickle.dumps(Evil(tmp_path / "evil"), 4))
    files[1].write_bytes(pickle.dumps(Evil(tmp_path / "evil"), 0))
    files[2].write_bytes(b"x" + files[2].read_bytes())
    files[3].write_bytes(files[3].read_bytes()[:-3])
    area = kept(work.area, tmp_path)
    assert counts(from_joblib(tmp_path / "there", area)) == (1, 0, 4)
    assert not (tmp_path / "evil").exists()
    memory.cache(work.odd)(1)
    odd = kept(work.odd, tmp_path)
    (why,) = from_joblib(tmp_path / "there", odd).refused
    assert "importer_work.Odd" in why
    assert counts(from_joblib(tmp_path / "there", odd, trust=True)) == (1, 0, 0)
    assert odd(1).x == 1


# -- fleche ---------------------------------------------------------------------------------------


def fleche_cache(root: Path, kind: str) -> Any:
    pytest.importorskip("fleche")
    from fleche.config import cache_from_config

    more = {"values": "pickle"} if kind == "sql" else {}
    return cache_from_config({"template": kind, "root": str(root)} | more)


@pytest.mark.parametrize("kind", ["pickle", "cloudpickle", "dill", "sql"])
def test_calls_of_fleche_are_hits(work: Any, tmp_path: Path, kind: str) -> None:
    fleche = pytest.importorskip("fleche")
    with fleche.cache(fleche_cache(tmp_path / "there", kind)):
        fleche.fleche(work.area)(1)
        fleche.fleche(work.area)(2, 3, unit="cm")
        fleche.fleche(ignore=["verbose"])(work.area)(5, verbose=True)
        fleche.fleche(work.nested)("a")
    area, nested = kept(work.area, tmp_path), kept(work.nested, tmp_path)
    assert counts(from_fleche(tmp_path / "there", area, dry_run=True)) == (2, 0, 1)
    assert not area.contains(1)
    done = from_fleche(tmp_path / "there", area)
    assert counts(done) == (2, 0, 1)
    assert any(item.what.startswith("area(width=2, height=3, unit='cm'") for item in done.items)
    ignoring = kept(work.area, tmp_path / "ignoring", ignore="verbose")
    assert counts(from_fleche(tmp_path / "there", ignoring)) == (3, 0, 0)
    assert counts(from_fleche(tmp_path / "there", nested)) == (1, 0, 0)
    work.ran.clear()
    assert area(2, 3, unit="cm") == "6 cm2"
    assert nested("a") == {"rows": [["a", ["a", (1, 2)]], {"a": "b" * 300}], "x": "a"}
    assert work.ran == []
    assert counts(from_fleche(tmp_path / "there", area)) == (0, 2, 1)
    assert counts(from_fleche(tmp_path / "there")) == (0, 0, 4)
    with pytest.raises(NotKept, match="no call"):
        from_fleche(tmp_path / "there", kept(work.pair, tmp_path))
    with pytest.raises(NotKept, match="no cache of fleche"):
        from_fleche(tmp_path / "cache", area)


def test_hdf5_files_of_fleche_are_trusted_or_refused(work: Any, tmp_path: Path) -> None:
    fleche = pytest.importorskip("fleche")
    pytest.importorskip("bagofholding")
    with fleche.cache(fleche_cache(tmp_path / "there", "bagofholding_hdf")):
        fleche.fleche(work.nested)("a")
    nested = kept(work.nested, tmp_path)
    (why,) = from_fleche(tmp_path / "there", nested).refused
    assert "HDF5" in why
    assert counts(from_fleche(tmp_path / "there", nested, trust=True)) == (1, 0, 0)
    assert nested("a")["x"] == "a"
    assert len(work.ran) == 1


def test_other_versions_and_other_code_are_not_taken_from_fleche(work: Any, tmp_path: Path) -> None:
    fleche = pytest.importorskip("fleche")
    with fleche.cache(fleche_cache(tmp_path / "there", "pickle")):
        fleche.fleche(version=3)(work.area)(1)
        del work.area.__version__
        fleche.fleche(hash_code=True)(work.pair)(2)
    assert counts(from_fleche(tmp_path / "there", kept(work.area, tmp_path))) == (0, 0, 1)
    three = kept(work.area, tmp_path / "three", version=3)
    assert counts(from_fleche(tmp_path / "there", three)) == (1, 0, 0)
    assert counts(from_fleche(tmp_path / "there", kept(work.pair, tmp_path))) == (1, 0, 0)
    changed = WORK.replace("0.5", "0.75")
    (tmp_path / "importer_work.py").write_text(changed)
    os.utime(tmp_path / "importer_work.py", (1, 1))
    again = importlib.reload(work)
    done = from_fleche(tmp_path / "there", kept(again.pair, tmp_path))
    assert done.refused == {"the code of the function was another one, or Python's version": 1}


def test_nothing_of_fleche_is_run(work: Any, tmp_path: Path) -> None:
    fleche = pytest.importorskip("fleche")
    there = tmp_path / "there"
    with fleche.cache(fleche_cache(there, "pickle")):
        for width in range(3):
            fleche.fleche(work.area)(width)
        fleche.fleche(work.odd)(1)
    first = pickle.loads(next((there / "calls").iterdir()).read_bytes())
    results = {fleche.digest.digest(f"{width * 2} m2"): width for width in range(3)}
    for digest, width in results.items():
        if width == 0:
            (there / "values" / digest).write_bytes(pickle.dumps(Evil(tmp_path / "evil")))
        if width == 1:
            (there / "values" / digest).write_bytes(pickle.dumps("another result"))
    (there / "calls" / ("0" * 64)).write_bytes(pickle.dumps(Evil(tmp_path / "evil")))
    first.result = "../../secret"
    (tmp_path / "secret").write_bytes(pickle.dumps("secret"))
    (there / "calls" / ("1" * 64)).write_bytes(pickle.dumps(first))
    area = kept(work.area, tmp_path)
    done = from_fleche(there, area)
    assert done.count("taken") == 1, done.items
    assert not (tmp_path / "evil").exists()
    odd = kept(work.odd, tmp_path)
    assert any("importer_work.Odd" in why for why in from_fleche(there, odd).refused)
    assert from_fleche(there, odd, trust=True).count("taken") == 1
    assert odd(1).x == 1
    assert not (tmp_path / "evil").exists()


def test_a_broken_row_of_fleche_is_refused_alone(work: Any, tmp_path: Path) -> None:
    fleche = pytest.importorskip("fleche")
    with fleche.cache(fleche_cache(tmp_path / "there", "sql")):
        fleche.fleche(work.area)(1)
        fleche.fleche(work.area)(2)
    with sqlite3.connect(tmp_path / "there/calls.db") as index:
        index.execute(
            "UPDATE metadata SET data = ? WHERE call_key = (SELECT MIN(key) FROM calls)",
            ("[" * 100_000,),
        )
    done = from_fleche(tmp_path / "there", kept(work.area, tmp_path))
    assert counts(done) == (1, 0, 1)
    assert "its record" in next(iter(done.refused))


# -- all of them ----------------------------------------------------------------------------------


def test_which_functions_results_are_taken_for(work: Any, tmp_path: Path) -> None:
    diskcache = pytest.importorskip("diskcache")
    with diskcache.Cache(tmp_path / "there") as cache:
        cache.memoize()(work.area)(1)
        cache.memoize()(work.area)(2)

    def factory(n: int) -> Any:
        def times(x: int) -> int:
            return n * x

        return times

    for function in (factory(3), lambda x: x):
        with pytest.raises(ConfigError, match="encloses variables"):
            from_diskcache(tmp_path / "there", kept(function, tmp_path))
    with pytest.raises(ConfigError, match="with @keep"):
        from_diskcache(tmp_path / "there", work.area)
    some = kept(work.area, tmp_path, when=lambda result: result != "2 m2")
    assert counts(from_diskcache(tmp_path / "there", some)) == (1, 0, 1)
    assert not some.contains(1)


def test_files_that_are_none_and_numbers_that_are_sizes(work: Any, tmp_path: Path) -> None:
    diskcache = pytest.importorskip("diskcache")
    joblib = pytest.importorskip("joblib")
    with diskcache.Cache(tmp_path / "there") as cache:
        cache.memoize()(work.area)(1)
        cache.memoize()(work.area)(2)
    area = kept(work.area, tmp_path)
    huge = 10**13
    with sqlite3.connect(tmp_path / "there/cache.db") as index:
        index.execute("UPDATE Cache SET mode = 4, value = ? WHERE rowid = 1", (huge,))
        index.execute("UPDATE Cache SET key = ? WHERE rowid = 2", (huge,))
    assert counts(from_diskcache(tmp_path / "there", area)) == (0, 0, 2)
    for wrong in ("mode = 'x'", "expire_time = 'x'", "expire_time = 9e999", "filename = 7"):
        with sqlite3.connect(tmp_path / "there/cache.db") as index:
            index.execute(f"UPDATE Cache SET {wrong}")
        assert counts(from_diskcache(tmp_path / "there", area)) == (0, 0, 2)
    with sqlite3.connect(tmp_path / "there/cache.db") as index:
        index.execute("DROP TABLE Cache")
        index.execute("CREATE VIEW Cache AS SELECT 1")
    with pytest.raises(StoreError, match="no table Cache"):
        from_diskcache(tmp_path / "there", area)

    memory = joblib.Memory(str(tmp_path / "memory"), verbose=0)
    for width in range(4):
        memory.cache(work.area)(width)
    pipe, link, deep, keep_it = sorted((tmp_path / "memory").rglob("output.pkl"))
    (tmp_path / "outside").write_bytes(link.read_bytes())
    for file in (pipe, link):
        file.unlink()
    os.mkfifo(pipe)
    link.symlink_to(tmp_path / "outside")
    deep.with_name("metadata.json").write_text("[" * 100_000)
    done = from_joblib(tmp_path / "memory", area)
    assert counts(done) == (1, 0, 3)
    assert keep_it.is_file()
    assert "its file is outside of the directory" in done.refused
    (tmp_path / "memory/joblib/importer_work/area/func_code.py").unlink()
    os.mkfifo(tmp_path / "memory/joblib/importer_work/area/func_code.py")
    assert counts(from_joblib(tmp_path / "memory", area)) == (0, 0, 4)


def test_a_file_that_is_too_large_is_not_read(work: Any, tmp_path: Path) -> None:
    joblib = pytest.importorskip("joblib")
    joblib.Memory(str(tmp_path / "memory"), verbose=0).cache(work.area)(1)
    (file,) = (tmp_path / "memory").rglob("output.pkl")
    os.truncate(file, (1 << 30) + 1)
    done = from_joblib(tmp_path / "memory", kept(work.area, tmp_path))
    assert done.refused == {"its file has more than 1 GiB, which is read only with trust": 1}


# -- the command ----------------------------------------------------------------------------------


def test_the_command(work: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    joblib = pytest.importorskip("joblib")
    joblib.Memory(str(tmp_path / "there"), verbose=0).cache(work.area)(1)
    joblib.Memory(str(tmp_path / "there"), verbose=0).cache(work.area)(float("inf"))
    text = WORK.replace("def area", "from wellkept import keep\n\n@keep\ndef area")
    (tmp_path / "importer_work.py").write_text(text)
    os.utime(tmp_path / "importer_work.py", (1, 1))
    again = importlib.reload(work)
    where = ["import", "joblib", "there", "--cache", str(tmp_path / "cache")]

    def said(*more: str) -> str:
        assert run([*where, *more]) == 0
        return capsys.readouterr().out

    assert "refused 2: it is a result of importer_work.area: say which function" in said()
    assert not (tmp_path / "cache").exists()
    function = ("--function", "importer_work:area")
    dry = said(*function, "--dry-run")
    assert dry.startswith(
        "importer_work:area(width=1, height=2, unit='m', verbose=False)\nwould take 1 entry"
    )
    assert "refused 1: its argument width is not known: inf is no literal" in dry
    found = json.loads(said(*function, "--json"))
    assert (found["taken"], found["same"], len(found["items"])) == (1, 0, 2)
    assert "took 0 entries; 1 was there already" in said(*function)
    with wellkept.use(wellkept.open(tmp_path / "cache")):
        assert again.area.contains(1)
    assert run(["import", "joblib", "nowhere"]) == 1
    assert "nothing of joblib.Memory" in capsys.readouterr().err


def test_the_command_for_diskcache(
    work: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    diskcache = pytest.importorskip("diskcache")
    with diskcache.Cache(tmp_path / "there") as cache:
        cache["a"], cache["b"] = 1, [2]
        cache.memoize()(work.area)(1)
    where = ["import", "diskcache", "there", "--into", "here"]
    assert run([*where, "--dry-run"]) == 0
    assert capsys.readouterr().out.startswith("'a'\n'b'\n('importer_work")
    assert not (tmp_path / "here").exists()
    assert run(where) == 0
    assert capsys.readouterr().out == "took 3 entries: here\n"
    assert run([*where, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["same"] == 3
    assert run([*where, "--function", "importer_work:area"]) == 2
    assert "either --function" in capsys.readouterr().err
