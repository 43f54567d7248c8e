"""Arrays in chunks: exact or refused, computed once chunk by chunk, and nothing hostile is run."""

from __future__ import annotations

import json
import pickle
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from wellkept import digest
from wellkept.codecs import LARGE, decode, decoder, encode
from wellkept.errors import DecodeError, EncodeError
from wellkept.records import Value

da = pytest.importorskip("dask.array")


def doubled(array: Any) -> Any:
    return array * 2


DASK: list[Callable[[], Any]] = [
    lambda: da.arange(100_000, chunks=30_000),
    lambda: da.ones((300, 500), chunks=(100, 300)).T[::2],
    lambda: da.from_array(np.array(["a", "bcd"]), chunks=1),
    lambda: da.from_array(np.zeros(9, [("a", "<i4"), ("b", ">f8")]), chunks=4),
    lambda: da.from_array(np.arange(4).astype("M8[D]"), chunks=3),
    lambda: da.zeros((0, 3), chunks=(1, 2)),
    lambda: da.ones(10, chunks=3).sum(),
    lambda: da.from_array(np.array(5), chunks=()),
    lambda: da.from_array(np.arange(50_000), chunks=(20_000, 0, 5, 29_995)),
]


def dask_frame(partitions: int = 3) -> Any:
    frames = pytest.importorskip("dask.dataframe")
    rows = 40_000
    made = pd.DataFrame(
        {
            "n": range(rows),
            "s": [f"row {n}" for n in range(rows)],
            "kind": pd.Categorical(["a", "b"] * (rows // 2)),
            "t": pd.Timestamp("2020") + pd.to_timedelta(range(rows), unit="s"),
        }
    )
    return frames.from_pandas(made, npartitions=partitions)


FRAMES: list[Callable[[], Any]] = [
    dask_frame,
    lambda: dask_frame(1),
    lambda: dask_frame().clear_divisions(),
    lambda: dask_frame().set_index("t")[["n"]],
    lambda: dask_frame()[dask_frame().n > 20_000],
]


@pytest.mark.parametrize("make", FRAMES)
def test_a_frame_comes_back_exactly(make: Callable[[], Any]) -> None:
    value = make()
    again = decode(encode(value, "chunks"))
    assert type(again) is type(value)
    assert digest(again) == digest(value)
    assert digest(again.compute()) == digest(value.compute())
    assert again.divisions == value.divisions
    assert digest(again._meta) == digest(value._meta)
    assert len(again[again.n < 100]) == len(value[value.n < 100])
    assert digest(again[["n"]]) == digest(value[["n"]])


def frame(lazy: bool = True) -> Any:
    found = xr.Dataset(
        {"t": (("day", "x"), np.arange(60_000.0).reshape(6, 10_000)), "n": 3},
        coords={"day": pd.date_range("2020", periods=6), "lab": ("x", ["a"] * 10_000)},
        attrs={"title": "q", "n": np.float32(3), "empty": np.str_("")},
    )
    found.t.encoding = {"scale_factor": 0.5, "dtype": np.dtype("<i2")}
    return found.chunk({"day": 2}) if lazy else found


XARRAY: list[Callable[[], Any]] = [
    frame,
    lambda: frame(lazy=False),
    lambda: frame().t,
    lambda: frame().t.rename(None).drop_indexes("day"),
    lambda: frame().n,
    lambda: frame().assign({("a", 1): ("x", np.arange(10_000))}),
    xr.Dataset,
]


@pytest.mark.parametrize("make", [*DASK, *XARRAY])
def test_comes_back_exactly(make: Callable[[], Any]) -> None:
    value = make()
    encoded = encode(value, "chunks")
    again = decode(encoded)
    assert type(again) is type(value)
    assert digest(again) == digest(value)
    assert digest(again.compute()) == digest(value.compute())
    assert getattr(again, "chunks", None) == getattr(value, "chunks", None)
    assert type(again.compute()) is type(value.compute())
    assert sum(memoryview(one).nbytes for one in encoded.buffers) in (
        0,
        encoded.size - len(encoded.head),
    )
    assert all(memoryview(one).nbytes for one in encoded.buffers)


@pytest.mark.parametrize(
    "make", [DASK[0], dask_frame, frame, lambda: frame().t, lambda: frame().lab]
)
def test_the_default_codec_turns_to_chunks_where_a_value_is_not_in_memory(
    make: Callable[[], Any],
) -> None:
    value = make()
    assert encode(value).codec == "chunks"
    assert digest(decode(encode(value))) == digest(value)
    assert encode([value]).codec == encode(value.compute()).codec == "pickle"


def test_the_default_codec_takes_what_does_not_fit() -> None:
    value = da.ma.masked_equal(da.arange(9, chunks=3), 4)
    assert encode(value).codec == "pickle"
    assert digest(decode(encode(value))) == digest(value)


def test_small_chunks_share_a_buffer() -> None:
    encoded = encode(da.arange(100_000, chunks=1000), "chunks")
    assert 5 < len(encoded.buffers) < 14
    assert all(LARGE <= memoryview(one).nbytes < 2 * LARGE for one in encoded.buffers[:-1])


def test_a_chunk_that_is_written_to_is_the_callers_own() -> None:
    again = decode(encode(da.arange(100_000, chunks=50_000), "chunks"))
    first = again.blocks[0].compute()
    first[:] = 0
    assert again[7].compute() == 7


def test_computing_holds_few_chunks_and_runs_once() -> None:
    import dask

    ran = []

    def make(block: Any) -> Any:
        ran.append(1)
        return np.full(250_000, len(ran), float)

    array = da.zeros(250_000 * 40, chunks=250_000).map_blocks(make, dtype=float, meta=np.empty(0))
    array = array + array.blocks[0].mean()

    with dask.config.set(scheduler="synchronous"):
        tracemalloc.start()
        encoded = encode(array, "chunks")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert len(ran) == 40
    assert encoded.size > 80_000_000
    assert peak < 16_000_000


def test_a_scheduler_that_may_be_of_other_processes_is_asked_for_one_chunk_at_a_time() -> None:
    import dask

    with ThreadPoolExecutor(1) as pool, dask.config.set(scheduler=pool):
        again = decode(encode(da.arange(3, chunks=2), "chunks"))
        assert digest(da.arange(3, chunks=2)) == digest(again)
        assert again.compute().tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: [da.ones(3)], "not a list"),
        (lambda: np.arange(3), "not a ndarray"),
        (lambda: da.from_array(np.array([{}, 1]), chunks=1), "dtype object"),
        (lambda: da.arange(9, chunks=3)[da.arange(9, chunks=3) > 4], "compute_chunk_sizes"),
        (lambda: da.ma.masked_equal(da.arange(9, chunks=3), 4), "MaskedArray"),
        (lambda: dask_frame().n, "not a Series"),
        (
            lambda: dask_frame().map_partitions(lambda part: part.assign(o=[print] * len(part))),
            "plain data",
        ),
        (lambda: da.arange(4, chunks=2).map_blocks(lambda x: x, dtype="f4"), "of int64"),
        (
            lambda: da.arange(4, chunks=2).map_blocks(lambda x: 1 // 0, dtype=int),
            "ZeroDivisionError",
        ),
        (lambda: frame().assign_attrs(f=print), "plain data"),
        (lambda: frame()[{"x": slice(9)}].stack(z=("day", "x")), "reset_index"),
    ],
)
def test_what_is_refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(EncodeError, match=message):
        encode(make(), "chunks")


# -- zarr -----------------------------------------------------------------------------------------


@pytest.fixture
def zarr() -> Any:
    return pytest.importorskip("zarr")


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("path", ["", "a/b"])
def test_zarr_comes_back_exactly(zarr: Any, home: Path, version: int, path: str) -> None:
    group = zarr.open_group(str(home / "z"), mode="w", path=path, zarr_format=version)
    group.attrs["unit"] = "m"
    numbers = group.create_array("n", data=np.arange(100_000), chunks=(777,))
    group.create_group("h").create_array("s", data=np.arange(6).reshape(2, 3), chunks=(1, 2))
    for value in (group, numbers, group["h"]):
        again = decode(encode(value, "chunks"))
        assert type(again) is type(value)
        assert again.path == value.path
        assert again.metadata == value.metadata
        assert digest(again) == digest(value)
    again = decode(encode(group, "chunks"))
    assert again["n"][5:9].tolist() == [5, 6, 7, 8]
    assert again["n"].chunks == (777,)
    assert again["h/s"][:].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert sorted(again) == ["h", "n"]
    with pytest.raises(ValueError, match="read-only"):
        again["n"][0] = 1


@pytest.mark.parametrize("version", [2, 3])
def test_a_zarr_group_shows_what_it_showed(zarr: Any, version: int) -> None:
    store = zarr.storage.MemoryStore()
    group = zarr.open_group(store, zarr_format=version)
    group.create_group("h").create_array("n", data=np.full(3, np.nan))
    known = zarr.consolidate_metadata(store, zarr_format=version)
    group.create_array("late", data=np.arange(3))
    for value, inside in ((group, ["h", "late"]), (known, ["h"]), (known["h"], ["n"])):
        assert sorted(decode(encode(value, "chunks"))) == sorted(value) == inside


def test_a_zarr_array_whose_metadata_changed_is_refused(zarr: Any) -> None:
    value = zarr.create_array({}, data=np.arange(9), chunks=(3,))
    zarr.open_array(value.store).resize((2,))
    with pytest.raises(EncodeError, match="changed after this was opened"):
        encode(value, "chunks")


def test_zarr_shards_are_read_in_part(zarr: Any) -> None:
    value = zarr.create_array({}, data=np.arange(100_000), chunks=(100,), shards=(20_000,))
    again = decode(encode(value, "chunks"))
    assert again[30_150:30_153].tolist() == [30_150, 30_151, 30_152]


def test_xarray_over_zarr(zarr: Any, home: Path) -> None:
    frame(lazy=False).to_zarr(home / "z", encoding={"t": {"chunks": (2, 5000)}}, consolidated=False)
    value = xr.open_zarr(home / "z", consolidated=False)
    again = decode(encode(value, "chunks"))
    assert again.t.encoding["compressors"] == value.t.encoding["compressors"] != ()
    assert digest(again) == digest(value)
    assert again.equals(value)


def test_zarr_codecs_that_may_run_code_are_refused(zarr: Any) -> None:
    value = zarr.create_array(
        {},
        data=np.arange(9),
        chunks=(3,),
        zarr_format=2,
        filters=[__import__("numcodecs").Pickle()],
    )
    with pytest.raises(EncodeError, match="'pickle'"):
        encode(value, "chunks")
    plain = encode(zarr.create_array({}, data=np.arange(9), chunks=(3,), zarr_format=2), "chunks")
    forged = plain.head.replace(b'"zstd"', b'"blob"')
    with pytest.raises(DecodeError, match="'blob'"):
        decode(plain._replace(head=forged))
    keys = [".zarray", *pickle.loads(plain.head)["keys"][1:]]
    with pytest.raises(DecodeError, match="metadata among its chunks"):
        decode(altered(plain, keys=keys, documents={}))


def test_zarr_codecs_are_found_whatever_the_arrays_are_called(zarr: Any) -> None:
    from wellkept.codecs.zarr_store import check

    group = zarr.create_group({})
    for name in ("attributes", "codecs", "metadata"):
        group.create_array(name, data=np.arange(9))
    whole = zarr.consolidate_metadata(group.store)
    assert sorted(decode(encode(whole, "chunks"))) == ["attributes", "codecs", "metadata"]
    for name in whole:
        said = group.metadata.to_dict() | {
            "consolidated_metadata": {"metadata": {name: {"codecs": [{"name": "blob"}]}}}
        }
        with pytest.raises(EncodeError, match="'blob'"):
            check({"zarr.json": json.dumps(said).encode()})


# -- hostile bytes --------------------------------------------------------------------------------


class Runs:
    def __reduce__(self) -> Any:
        return exec, ("ran.append(1)",)


def altered(value: Value, **parts: Any) -> Value:
    return value._replace(head=pickle.dumps(pickle.loads(value.head) | parts, 5))


@pytest.mark.parametrize(
    "parts",
    [
        {"chunks": ((10**9,),)},
        {"chunks": ((1, 2, 3),)},
        {"chunks": ((1,) * 1000,) * 9},
        {"chunks": (("a",),)},
        {"dtype": "|O"},
        {"first": -1},
        {"first": 2},
        {"kind": "os.system"},
        {"sizes": b"123"},
        {"digests": b""},
        {"inline": b""},
        {"version": 2},
        {"extra": Runs()},
    ],
)
def test_bytes_that_lie(parts: dict[str, Any]) -> None:
    value = altered(encode(da.arange(3, chunks=2), "chunks"), **parts)
    with pytest.raises((DecodeError, ValueError)):
        decode(value).compute()


def test_an_unsigned_value_does_not_pass_for_another() -> None:
    real, other = (
        encode(da.arange(3, chunks=2), "chunks"),
        encode(da.arange(1, 4, chunks=2), "chunks"),
    )
    forged = altered(other, digests=pickle.loads(real.head)["digests"])
    found = decoder("plain chunks")(forged.head, ())
    assert digest(found) == digest(da.arange(1, 4, chunks=2)) != digest(da.arange(3, chunks=2))
