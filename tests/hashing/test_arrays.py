"""Arrays: dtype, shape and content count; layout, padding and what lies under masks do not."""

from __future__ import annotations

import copy
import itertools
import pickle
import subprocess
import sys
from typing import Any

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given

from wellkept.errors import Undigestible
from wellkept.hashing import digest, digest_bytes
from wellkept.hashing.encoding import reference_digest


class Tagged(np.ndarray):
    pass


def tagged(**held: Any) -> Any:
    array = np.arange(3).view(Tagged)
    array.__dict__.update(held)
    return array


ROWS = np.dtype([("a", "i4"), ("b", "f8")])
ALIGNED = np.dtype([("a", "i4"), ("b", "f8")], align=True)
TEXTS = np.dtypes.StringDType()
MISSING = np.dtypes.StringDType(na_object=np.nan)


def seeded(kind: Any, draws: int = 0) -> Any:
    made = kind(1)
    for _ in range(draws):
        made.random()
    return made


NUMBERS = list("?bBhHiIqQefdgFDG")
DISTINCT: list[Any] = [
    *(np.array([1, 0, 1], dtype) for dtype in [*NUMBERS, "O"]),
    *(np.array([1, 0, 1], dtype) for dtype in (">i4", ">f8", "S1", "S2", "U1", "U2")),
    *(np.array([1, 0], f"M8[{unit}]") for unit in ("D", "s", "ms", "us", "ns")),
    *(np.array([1, 0], f"m8[{unit}]") for unit in ("D", "s", "ns")),
    np.array([1, 0, 1], "U1").astype(TEXTS),
    np.array(["1", "0", "1"], MISSING),
    np.array(["1", np.nan, "1"], MISSING),
    np.array([1, 0, 2]),
    np.array([[1, 0, 1]]),
    np.array([[1], [0], [1]]),
    np.zeros((0,)),
    np.zeros((0, 3)),
    np.zeros((3, 0)),
    np.zeros((0,), "i4"),
    np.array(1),
    np.array(1.0),
    np.array([1]),
    np.array(0.0),
    np.array(-0.0),
    np.array([np.nan]),
    np.array(["a", "b"], object),
    np.array(["a", 1, None], object),
    np.array(["a", 1.0, None], object),
    np.array(["a", True, None], object),
    np.array(["ab", "c"] * 100, object),
    np.array(["a", "bc"] * 100, object),
    np.array(["ab\0c"] * 100, object),
    np.array([["ab", "c"]] * 100, object),
    np.zeros(2, ROWS),
    np.zeros(2, [("a", "i4"), ("c", "f8")]),
    np.zeros(2, [("a", "i4"), ("b", "f4")]),
    np.zeros(2, [("b", "f8"), ("a", "i4")]),
    np.zeros(2, [("a", "i4"), ("b", "f8", (2,))]),
    np.zeros(2, [("a", ROWS), ("b", "f8")]),
    np.zeros(2, [("a", "O"), ("b", "f8")]),
    np.rec.array([(0, 0.0), (0, 0.0)], dtype=ROWS),
    np.zeros(1, ROWS)[0],
    np.ma.array([1, 2, 3], mask=[0, 1, 0]),
    np.ma.array([1, 2, 3], mask=[0, 0, 0]),
    np.ma.array([1, 2, 3], mask=[0, 1, 0], fill_value=7),
    np.ma.array([1, 2, 3], mask=[0, 1, 0], hard_mask=True),
    np.ma.masked,
    np.matrix([[1, 0, 1]]),
    tagged(),
    tagged(unit="m"),
    tagged(unit="s"),
    *(np.dtype(text).type(1) for text in NUMBERS),
    np.str_("1"),
    np.bytes_(b"1"),
    np.datetime64(1, "D"),
    np.datetime64(1, "s"),
    np.datetime64("NaT"),
    np.timedelta64(1, "D"),
    np.void(b"1"),
    np.float64(-0.0),
    np.float64("nan"),
    np.dtype("f8"),
    np.dtype(">f8"),
    np.dtype("f4"),
    ROWS,
    ALIGNED,
    TEXTS,
    np.float64,
    np.sin,
    np.cos,
    np.mean,
    np.add.reduce,
    seeded(np.random.default_rng),
    seeded(np.random.default_rng, 1),
    np.random.Generator(np.random.MT19937(1)),
    seeded(np.random.RandomState),
    seeded(np.random.RandomState, 1),
    np.random.SeedSequence(1),
    np.random.PCG64(1),
    np.poly1d([1, 2]),
    *(
        kind(np.array(rows))
        for kind in (
            sp.csr_array, sp.csc_array, sp.coo_array, sp.dok_array, sp.lil_array, sp.dia_array,
            sp.bsr_array, sp.csr_matrix, sp.coo_matrix,
        )
        for rows in ([[1.0, 0], [0, 2]], [[1.0, 0], [2, 0]], [[1, 0], [0, 2]])
    ),
    sp.csr_array((2, 2)),
    sp.csr_array((2, 3)),
]  # fmt: skip


def test_all_differ() -> None:
    seen: dict[bytes, Any] = {}
    for value in DISTINCT:
        found = digest_bytes(value)
        assert found not in seen, (value, seen[found])
        seen[found] = value


@pytest.mark.parametrize("value", DISTINCT, ids=lambda v: type(v).__name__)
def test_copies_agree(value: Any) -> None:
    found = digest(value)
    assert digest(value) == found
    assert reference_digest(value) == found.raw
    for many in ([value], [value, 1], [value, value], {"a": value}):
        assert digest_bytes(many) == reference_digest(many)
    if (isinstance(value, Tagged) and value.__dict__) or getattr(value, "hardmask", False):
        return  # numpy's own copies forget these
    assert digest(copy.deepcopy(value)) == found
    assert digest(pickle.loads(pickle.dumps(value, 5))) == found


@given(
    hnp.arrays(
        hnp.scalar_dtypes() | hnp.array_dtypes(max_size=3),
        hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4),
    ),
    st.randoms(use_true_random=False),
)
def test_layout_does_not_count(array: Any, random: Any) -> None:
    found = digest(array)
    assert digest(np.asfortranarray(array)) == found
    axes = list(range(array.ndim))
    random.shuffle(axes)
    moved = array.transpose(axes).copy().transpose(np.argsort(axes))
    assert digest(moved) == found
    spaced = np.zeros([2 * side for side in array.shape], array.dtype)
    view = spaced[tuple(slice(None, None, 2) for _ in array.shape)]
    view[...] = array
    assert digest(view) == found
    backwards = array[::-1].copy()[::-1]
    assert digest(backwards) == found
    readonly = array.copy()
    readonly.flags.writeable = False
    assert digest(readonly) == found


@pytest.mark.parametrize("order", ["C", "F"])
def test_slabs_give_the_bytes_of_the_whole(monkeypatch: pytest.MonkeyPatch, order: Any) -> None:
    from wellkept.hashing import arrays as reducers

    rng = np.random.default_rng(0)
    arrays = [
        rng.random((3, 5, 7)), rng.random((40, 30)), rng.random(200), rng.random((1, 90)),
        rng.random((90, 1)), rng.random((5, 0, 3)), rng.random((2, 3, 4, 5)),
        rng.random((20, 10)).astype("g"), rng.random((20, 10)).astype("M8[s]"),
    ]  # fmt: skip
    whole = [digest(np.ascontiguousarray(array)) for array in arrays]
    monkeypatch.setattr(reducers, "SLAB", 64)
    for array, expected in zip(arrays, whole, strict=True):
        assert digest(np.array(array, order=order)) == expected
        for axes in itertools.permutations(range(array.ndim)):
            turned = array.transpose(axes).copy().transpose(np.argsort(axes))
            assert digest(turned) == expected
        assert digest(np.repeat(array, 2, 0)[::2]) == expected


def test_padding_does_not_count() -> None:
    one, other = np.zeros(3, ALIGNED), np.zeros(3, ALIGNED)
    raw = other.view("u1").reshape(3, ALIGNED.itemsize)
    raw[:, 4:8] = 255
    assert one.tobytes() != other.tobytes()
    assert digest(one) == digest(other) == digest(np.zeros(3, ROWS))
    assert digest(one[0]) == digest(other[0])
    wide = np.frombuffer(b"\xff" * 64, np.longdouble).copy()
    wide[:] = 1.5
    same = np.frombuffer(b"\0" * 64, np.longdouble).copy()
    same[:] = 1.5
    assert digest(wide) == digest(same)
    assert digest(wide[0]) == digest(same[0])
    assert digest(wide) != digest(same + np.longdouble(1e-19))


def test_what_lies_under_a_mask_does_not_count() -> None:
    one = np.ma.array([1.0, 2.0, 3.0], mask=[0, 1, 0])
    other = np.ma.array([1.0, 9.0, 3.0], mask=[0, 1, 0])
    assert digest(one) == digest(other)
    assert digest(one) != digest(np.ma.array([1.0, 2.0, 3.0], mask=[0, 0, 1]))
    rows = np.ma.array(np.zeros(2, ROWS), mask=[(True, False), (False, False)])
    changed = rows.copy()
    changed.data["a"][0] = 5
    assert digest(rows) == digest(changed)
    changed.data["b"][0] = 5
    assert digest(rows) != digest(changed)
    assert digest(np.ma.array([1])) == digest(np.ma.array([1], mask=[False]))
    assert one._fill_value is None  # nothing was written by looking


class Text(str):
    __slots__ = ()


def test_joined_texts_are_told_apart() -> None:
    def many(*items: Any) -> Any:
        return np.array([*items, *["x"] * 100], object)

    found = [
        many("a\0b", "c"), many("a", "b\0c"), many("a", "b", "c"), many("a\0b\0c"), many("ab", "c"),
        many("a", Text("b"), "c"), many(Text("a"), "b", "c"), many("a", np.str_("b"), "c"),
        many("a", b"b", "c"), many("a", None, "c"), many("", "", ""), many("", ""),
    ]  # fmt: skip
    assert len({digest(array) for array in found}) == len(found)
    few = [array[:70].copy() for array in found], [array[:30].copy() for array in found]
    for arrays in few:
        assert len({digest(array) for array in arrays}) == len(found)


def test_arrays_of_objects_go_by_their_elements() -> None:
    nested = np.empty(2, object)
    nested[:] = [[1, {"a": 2}], np.arange(3)]
    again = copy.deepcopy(nested)
    assert digest(nested) == digest(again)
    again[0][1]["a"] = 3
    assert digest(nested) != digest(again)
    nested[0] = (i for i in [])
    with pytest.raises(Undigestible, match="generator"):
        digest(nested)
    loop = np.empty(1, object)
    loop[0] = loop
    assert digest(loop) == digest(loop.copy())


def test_an_array_is_hashed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from wellkept.hashing import arrays as reducers

    calls = []
    real = reducers.array_digest
    monkeypatch.setattr(reducers, "array_digest", lambda *args: calls.append(1) or real(*args))
    shared = np.arange(10)
    rows = [[shared, i] for i in range(3000)]
    value = {"rows": rows, "more": [rows, np.arange(11)]}
    assert digest_bytes(value) == reference_digest(value)
    assert len(calls) == 4  # each of the two by each of the walks


def test_memory_maps_go_by_their_content(tmp_path: Any) -> None:
    for name in "ab":
        np.arange(10.0).tofile(tmp_path / name)
    one, other = (np.memmap(tmp_path / name, mode="r") for name in "ab")
    assert digest(one) == digest(other) != digest(np.asarray(one))


def test_sparse_matrices_in_canonical_form() -> None:
    row, column, data = [0, 0, 1], [1, 1, 0], [1.0, 2.0, 3.0]
    twice = sp.coo_array((data, (row, column)), (2, 2))
    once = sp.coo_array(([3.0, 3.0], ([1, 0], [0, 1])), (2, 2))
    before = twice.nnz
    assert digest(twice) == digest(once)
    assert twice.nnz == before
    unsorted = sp.csr_array(([2.0, 1.0], [1, 0], [0, 2, 2]), (2, 2))
    ordered = sp.csr_array(([1.0, 2.0], [0, 1], [0, 2, 2]), (2, 2))
    assert digest(unsorted) == digest(ordered)
    assert not unsorted.has_sorted_indices
    wide = ordered.copy()
    wide.indices, wide.indptr = wide.indices.astype("i8"), wide.indptr.astype("i8")
    assert digest(wide) == digest(ordered)


def test_ufuncs_that_are_not_found_by_name_are_refused() -> None:
    with pytest.raises(Undigestible):
        digest(np.frompyfunc(len, 1, 1))


MEMORY = """
import resource, sys
import numpy as np
from wellkept.hashing import digest_bytes
n = 11_000
base = np.zeros((n, n))  # 968 MB
base += 1.0
digest_bytes(np.ones((3000, 3000)).T)  # threads and slabs are there
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
before = peak()
for array in (base, base.T, base[::2], base[:, 1:], base.reshape(1, -1), base.T[::3, 5:]):
    digest_bytes(array)
    print(peak() - before, flush=True)
"""


@pytest.mark.long
def test_a_gigabyte_costs_less_than_64_mb_more() -> None:
    done = subprocess.run(
        [sys.executable, "-c", MEMORY], capture_output=True, text=True, timeout=110, check=True
    )
    assert max(map(int, done.stdout.split())) < 64
