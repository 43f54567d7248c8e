"""Results as HDF5 files: opened by h5py, hits, what HDF5 can't hold, damage, and files of earlier releases."""

from __future__ import annotations

import itertools
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.stores.agreement import check_agreement

import wellkept
from wellkept import keep
from wellkept.codecs.envelope import Key
from wellkept.errors import ConfigError, KeptWarning, StoreError, UntrustedSource
from wellkept.stores.base import Creates, Many, Maps, Paths, Stamps
from wellkept.stores.hdf5_files import Hdf5
from wellkept.testing import StoreContract

h5py = pytest.importorskip("h5py", reason="h5py is not installed")
pytest.importorskip("bagofholding", reason="bagofholding is not installed")

BLOB = "blobs/" + "ab" * 32
HDF5 = b"\x89HDF\r\n\x1a\n" + b"what follows the signature"


class TestHdf5(StoreContract):
    pickles = True

    def make(self, place: Path) -> Hdf5:
        return Hdf5(place / "store")


def test_it_agrees_with_a_dict(tmp_path: Path) -> None:
    count = itertools.count()
    check_agreement(lambda: Hdf5(tmp_path / str(next(count))), replaces=False, examples=30)


def test_it_has_these_abilities(tmp_path: Path) -> None:
    for ability in (Creates, Many, Maps, Paths, Stamps):
        assert isinstance(Hdf5(tmp_path / "store"), ability)


def files(root: Path) -> list[Path]:
    return sorted((root / "blobs").glob("*/*"))


@pytest.mark.parametrize("size", [3, 100_000])
def test_a_result_is_a_file_that_h5py_opens(home: Path, size: int) -> None:
    @keep(name="f", version=1)
    def f(n: int) -> Any:
        runs.append(n)
        return {"data": np.arange(float(n)), "n": n}

    runs: list[int] = []
    for _ in range(2):
        with wellkept.open(f"hdf5:{home / 'c'}", memory=0) as cache, wellkept.use(cache):
            assert (f(size)["data"] == np.arange(float(size))).all()
            assert f(size)["n"] == size
            assert f.stats().unstorable == 0
            assert cache.verify().ok
            assert cache.gc(grace=0) == (0, 0)
    assert runs == [size]
    (file,) = files(home / "c")
    assert file.suffix == ".h5"
    assert file.read_bytes()[:8] == HDF5[:8]
    found: list[Any] = []
    with h5py.File(file) as opened:
        opened.visititems(
            lambda name, part: found.append(part[()]) if getattr(part, "shape", None) else None
        )
        assert any(np.array_equal(each, np.arange(float(size))) for each in found if size > 0)


def test_what_hdf5_can_not_hold_is_a_hit_too(home: Path) -> None:
    runs = []

    @keep(name="f", version=1)
    def f(n: int) -> Any:
        runs.append(n)
        return np.array(7), bytes(n)  # an array without dimensions

    for _ in range(2):
        with wellkept.open(f"hdf5:{home / 'c'}", memory=0) as cache, wellkept.use(cache):
            scalar, rest = f(100_000)
            assert (scalar.shape, scalar[()], len(rest)) == ((), 7, 100_000)
            assert cache.verify().ok
    assert runs == [100_000]
    assert not [path for path in files(home / "c") if path.suffix]


def test_a_result_of_many_parts_is_encoded_as_elsewhere(home: Path) -> None:
    """A file of ten thousand groups takes seconds to write."""
    f = keep(name="f", version=1)(lambda n: [{"numbers": list(range(n))}])
    for _ in range(2):
        with wellkept.open(f"hdf5:{home / 'c'}", memory=0) as cache, wellkept.use(cache):
            assert [f(n)[0]["numbers"][-1] for n in (900, 50_000)] == [899, 49_999]
    assert len([path for path in files(home / "c") if path.suffix]) == 1


def test_the_codec_of_a_function_counts(home: Path) -> None:
    with wellkept.open(f"hdf5:{home / 'c'}") as cache:
        f = keep(cache=cache, version=1, codec="json")(lambda n: [n])
        assert f(1) == f(1) == [1]
        assert cache.values.get(str(f.call(1).result)).codec == "json"  # type: ignore[union-attr]  # kept above
    assert files(home / "c") == []


def test_failures_and_generators_are_kept(home: Path) -> None:
    runs = []

    @keep(name="f", version=1, errors=(ValueError,))
    def f(n: int) -> Any:
        runs.append(n)
        raise ValueError(n)

    @keep(name="g", version=1)
    def g(n: int) -> Any:
        runs.append(n)
        yield from range(n)

    for _ in range(2):
        with wellkept.open(f"hdf5:{home / 'c'}", memory=0) as cache, wellkept.use(cache):
            with pytest.raises(ValueError, match="3"):
                f(3)
            assert list(g(4)) == [0, 1, 2, 3]
    assert runs == [3, 4]


def test_values_alone_are_hdf5_files_where_calls_are_elsewhere(home: Path) -> None:
    store = Hdf5(home / "values")
    with wellkept.Cache(values=store, calls=f"files:{home / 'calls'}", memory=0) as cache:
        f = keep(cache=cache, version=1)(lambda n: np.ones(n))
        assert f(5).sum() == f(5).sum() == 5
        assert f.stats().hits == 1
    (file,) = files(home / "values")
    assert h5py.is_hdf5(file)


def test_what_is_forgotten_is_collected(home: Path) -> None:
    with wellkept.open(f"hdf5:{home / 'c'}") as cache:
        f = keep(cache=cache, version=1)(lambda n: np.ones(n))
        f(5), f(6)
        f.forget(5)
        assert cache.gc(grace=0).items == 1
        assert f(6).sum() == 6
        assert f.stats().hits == 1
    assert len(files(home / "c")) == 1


@pytest.mark.parametrize("damage", ["cut", "changed", "gone"])
def test_a_damaged_file_is_computed_again(home: Path, damage: str) -> None:
    runs = []

    @keep(name="f", version=1)
    def f(n: int) -> Any:
        runs.append(n)
        return np.arange(n)

    with wellkept.open(f"hdf5:{home / 'c'}", memory=0) as cache, wellkept.use(cache):
        f(1000)
    (file,) = files(home / "c")
    content = file.read_bytes()
    file.unlink()
    if damage != "gone":
        file.write_bytes(content[:-8] + b"x" * 8 if damage == "changed" else content[:100])
    with wellkept.open(f"hdf5:{home / 'c'}", memory=0) as cache, wellkept.use(cache):
        assert not cache.verify().ok
        with pytest.warns(KeptWarning):
            assert (f(1000) == np.arange(1000)).all()
        assert (f(1000) == np.arange(1000)).all()
        assert cache.verify().ok
    assert runs == [1000, 1000]


def test_an_item_is_filed_as_what_it_is(tmp_path: Path) -> None:
    store = Hdf5(tmp_path / "c")
    for item in (b"plain", HDF5, b"plain again", HDF5 + b"!"):
        store.put(BLOB, item)
        assert store.get(BLOB) == item
        assert store.map(BLOB) == item
        assert list(store.keys()) == list(store.keys(BLOB)) == [BLOB]
        (file,) = files(tmp_path / "c")
        assert store.path(BLOB) == file
        assert (file.suffix == ".h5") == item.startswith(HDF5)
        assert not store.create(BLOB, b"other")
        assert not store.create(BLOB, HDF5 + b"other")
    store.delete(BLOB)
    assert store.get(BLOB) is store.path(BLOB) is None
    assert store.create(BLOB, HDF5)
    store.delete_many([BLOB])
    assert list(store.keys()) == []


@pytest.mark.filterwarnings("ignore::wellkept.KeptWarning")
def test_what_nobody_trusted_has_signed_is_computed_again(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decoding HDF5 can run code, so plain data is no exception here."""
    monkeypatch.setenv("WELLKEPT_KEYS", str(home / "keys"))
    runs = []

    @keep(name="f", version=1)
    def f(n: int) -> Any:
        runs.append(n)
        return [n]

    def call() -> None:
        with (
            wellkept.open(f"hdf5:{home / 'c'}", memory=0, signed=True) as cache,
            wellkept.use(cache),
        ):
            assert f(1) == [1]

    for expected in ([1], [1, 1]):  # each with a key of its own
        (home / "keys").write_text(f"{Key.new().secret.hex()} 2026-01-01 mine\n")
        (home / "keys").chmod(0o600)
        call()
        call()
        assert runs == expected


def test_a_file_of_an_earlier_release_is_refused(home: Path) -> None:
    path = home / "items.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("calls/ab/" + "ab" * 32, data=np.frombuffer(b"item", "u1"))
    content = path.read_bytes()
    with pytest.raises(StoreError, match=r"earlier releases.*transfer hdf5:.*DIRECTORY"):
        wellkept.open(f"hdf5:{path}")
    assert path.read_bytes() == content
    path.write_bytes(b"something else")
    with pytest.raises(StoreError, match="not a directory"):
        wellkept.open(f"hdf5:{path}")
    assert path.read_bytes() == b"something else"


def test_others_may_not_write_to_it(tmp_path: Path) -> None:
    Hdf5(tmp_path / "c").put("a", b"1")
    (tmp_path / "c").chmod(0o777)
    with pytest.raises(UntrustedSource, match="trust=True"):
        Hdf5(tmp_path / "c")
    assert Hdf5(tmp_path / "c", trust=True).get("a") == b"1"


def test_without_h5py(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ConfigError, match=r"pip install 'wellkept\[hdf5\]'"):
        Hdf5(tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_importing_it_imports_no_driver() -> None:
    code = "import sys, wellkept.stores.hdf5_files; assert not {'h5py', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_it_travels(tmp_path: Path) -> None:
    store = Hdf5(tmp_path / "c", durable=True, trust=True)
    store.put(BLOB, HDF5)
    again = pickle.loads(pickle.dumps(store))
    assert type(again) is Hdf5
    assert (again.root, again.durable, again.trust) == (tmp_path / "c", True, True)
    assert again.get(BLOB) == HDF5
