"""Dask's collections and zarr's arrays as arguments: by content, or by graph; never by name or place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from wellkept import Undigestible, digest

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")


def one() -> int:
    return 1


def test_a_dask_array_goes_by_its_content() -> None:
    array = da.arange(10, chunks=4)
    assert digest(array) == digest(da.from_array(np.arange(10), chunks=4, name=False))
    assert digest(array) == digest(array * da.ones(10, dtype=array.dtype, chunks=4))


@pytest.mark.parametrize(
    "other",
    [
        lambda: da.arange(10, chunks=5),
        lambda: da.arange(10, chunks=4, dtype="i4"),
        lambda: da.from_array(np.arange(10) + 1, chunks=4),
        lambda: da.ma.masked_equal(da.arange(10, chunks=4), 3),
        lambda: da.arange(10, chunks=4).reshape(1, 10),
    ],
)
def test_another_array_has_another_digest(other: Callable[[], Any]) -> None:
    assert digest(other()) != digest(da.arange(10, chunks=4))


def test_a_name_that_a_program_gave_is_not_believed() -> None:
    first, second = (da.from_array(np.full(4, n), chunks=2, name="same") for n in (1, 2))
    assert digest(first) != digest(second)
    xarray = [xr.DataArray(array) for array in (first, second)]
    assert digest(xarray[0]) != digest(xarray[1])
    lazy = [dask.delayed(abs)(n, dask_key_name="same") for n in (1, 2)]
    assert digest(lazy[0]) != digest(lazy[1])


def test_what_a_dask_collection_has_beside_its_chunks_counts() -> None:
    array, noted = da.ones(4, chunks=2), da.ones(4, chunks=2)
    noted.note = "m"
    masked = da.Array(array.dask, array.name, array.chunks, meta=np.ma.masked_array(np.empty(0)))
    assert len({digest(array), digest(noted), digest(masked)}) == 3
    array.compute(), array.numblocks, array.size
    assert digest(array) == digest(da.ones(4, chunks=2))
    pairs = [dask.delayed(divmod, nout=n)(7, 2, dask_key_name="same") for n in (2, 3)]
    assert digest(pairs[0]) != digest(pairs[1])
    leaves = [dask.delayed(abs, name="same", pure=pure) for pure in (True, False)]
    assert digest(leaves[0]) != digest(leaves[1])


def test_what_changes_in_a_file_counts(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(4))
    array = da.from_delayed(dask.delayed(np.load)(tmp_path / "a.npy"), (4,), int)
    before = digest(array)
    np.save(tmp_path / "a.npy", np.arange(4) + 1)
    assert digest(array) != before


def test_an_array_that_can_not_be_computed_is_refused() -> None:
    with pytest.raises(Undigestible, match="ZeroDivisionError"):
        digest(da.arange(4, chunks=2).map_blocks(lambda x: 1 // 0, dtype=int))


def test_other_collections_go_by_their_graph() -> None:
    pure = dask.delayed(abs, pure=True)
    assert digest(pure(-1)) == digest(pure(-1))
    assert digest(pure(-1)) != digest(pure(-2))
    bag = pytest.importorskip("dask.bag")
    assert digest(bag.from_sequence([1, 2])) == digest(bag.from_sequence([1, 2]))
    assert digest(bag.from_sequence([1, 2])) != digest(bag.from_sequence([1, 3]))
    with pytest.raises(Undigestible):
        digest(dask.delayed(lambda: 1)(object()))


def test_a_dask_frame_goes_by_its_partitions() -> None:
    pd, dd = pytest.importorskip("pandas"), pytest.importorskip("dask.dataframe")
    frame = pd.DataFrame({"a": [1, 2, 3]})
    assert digest(dd.from_pandas(frame, npartitions=2)) == digest(
        dd.from_pandas(frame, npartitions=2)
    )
    assert digest(dd.from_pandas(frame, npartitions=2)) != digest(
        dd.from_pandas(frame, npartitions=1)
    )
    assert digest(dd.from_pandas(frame, npartitions=2)) != digest(
        dd.from_pandas(frame + 1, npartitions=2)
    )
    # What it says of its columns need not be so.
    said = [
        dd.from_pandas(frame, npartitions=2).map_partitions(lambda part: part, meta={"a": kind})
        for kind in ("i8", "f8")
    ]
    assert digest(said[0]) != digest(said[1])
    noted = dd.from_pandas(frame, npartitions=2)
    noted.note = "m"
    assert digest(noted) != digest(dd.from_pandas(frame, npartitions=2))


def test_zarr_goes_by_what_its_store_holds(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    data = np.arange(10)
    here = zarr.create_array(str(tmp_path / "a"), data=data, chunks=(4,))
    there = zarr.create_array(zarr.storage.MemoryStore(), data=data, chunks=(4,))
    assert digest(here) == digest(there) == digest(zarr.open_array(str(tmp_path / "a")))
    group = zarr.open_group(str(tmp_path), mode="a")
    before = digest(here), digest(group), digest(here.store), digest(here._async_array)
    here[3] = 7
    assert not {*before} & {
        digest(here),
        digest(group),
        digest(here.store),
        digest(here._async_array),
    }
    here[3] = 3
    assert digest(here) == digest(there)
    here.attrs["a"] = 1
    assert digest(here) != digest(there)


def test_what_a_zarr_array_showed_when_it_was_opened_counts() -> None:
    zarr = pytest.importorskip("zarr")
    first = zarr.create_array(zarr.storage.MemoryStore(), data=np.arange(4), chunks=(2,))
    second = zarr.open_array(first.store)
    assert digest(first) == digest(second)
    first.attrs["a"] = 1
    assert dict(second.attrs) == {}
    assert digest(first) != digest(second)
