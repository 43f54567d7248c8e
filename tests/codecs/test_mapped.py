"""Arrays come back memory-mapped: no copy, no read, writable, and many at once."""

import dataclasses
import mmap
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wellkept
from wellkept import keep

N = 100_000


@dataclasses.dataclass
class Model:
    weights: Any
    name: str = "m"


def root(array: Any) -> Any:
    """What holds the memory of an array in the end."""
    while True:
        if isinstance(array, memoryview):
            array = array.obj
        elif (base := getattr(array, "base", None)) is not None:
            array = base
        else:
            return array


def mapped(array: Any) -> bool:
    address = array.__array_interface__["data"][0]
    for line in Path("/proc/self/maps").read_text().splitlines():
        low, high = (int(part, 16) for part in line.split()[0].split("-"))
        if low <= address < high:
            return "/blobs/" in line
    return False


@keep
def arrays(n: int) -> dict[str, Any]:
    return {"a": np.full(N, float(n)), "deep": [{"b": np.arange(N)}, np.zeros(3)]}


@keep
def model(n: int) -> Model:
    return Model(np.full((300, 300), n))


@keep
def frame(n: int) -> Any:
    import pandas as pd

    return pd.DataFrame({"x": np.full(N, float(n)), "y": np.arange(N, dtype=float)})


@keep
def estimator(n: int) -> Any:
    from sklearn.neighbors import KNeighborsClassifier

    x = np.arange(40_000.0).reshape(-1, 4)
    return KNeighborsClassifier(n, algorithm="brute").fit(x, np.arange(len(x)) % 3)


linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/maps")


@pytest.fixture(params=["256 MB", 0], ids=["tier", "no tier"], autouse=True)
def cache(request: pytest.FixtureRequest) -> Any:
    with wellkept.open("here", memory=request.param) as made, wellkept.use(made):
        yield made


def check(array: Any, expected: Any) -> None:
    assert isinstance(root(array), mmap.mmap)
    assert mapped(array)
    assert array.flags.writeable
    assert (array == expected).all()


@linux
def test_in_dicts_and_lists() -> None:
    arrays(1)
    got = arrays(1)
    check(got["a"], np.full(N, 1.0))
    check(got["deep"][0]["b"], np.arange(N))
    got["a"][:] = 9
    check(arrays(1)["a"], np.full(N, 1.0))


@linux
def test_in_dataclasses() -> None:
    model(1)
    check(model(1).weights, 1)


@linux
def test_in_frames() -> None:
    computed = frame(1)
    got = frame(1)
    assert got.equals(computed)
    assert mapped(got["x"].to_numpy())
    got.loc[0, "x"] = 5.0
    assert frame(1).equals(computed)


@linux
def test_in_estimators() -> None:
    computed = estimator(3)
    got = estimator(3)
    check(got._fit_X, computed._fit_X)
    assert (got.predict(got._fit_X[:50]) == computed.predict(computed._fit_X[:50])).all()
    got.set_params(n_neighbors=1)


@linux
def test_readonly_maps() -> None:
    with wellkept.open("there", readonly=True) as cache, wellkept.use(cache):
        arrays(1)
        got = arrays(1)["a"]
        assert mapped(got)
        assert not got.flags.writeable
        with pytest.raises(ValueError, match="read-only"):
            got[0] = 1


def test_empty_and_small_arrays() -> None:
    @keep
    def f() -> Any:
        return [np.empty(0), np.zeros(3), np.array(2.0)]

    f()
    got = f()
    assert [array.tolist() for array in got] == [[], [0.0] * 3, 2.0]
    got[1][0] = 5
    assert f()[1][0] == 0


def test_a_result_outlives_its_cache_and_its_file(cache: wellkept.Cache) -> None:
    arrays(1)
    got = arrays(1)
    cache.close()
    for blob in Path("here/blobs").rglob("*"):
        if blob.is_file():
            blob.unlink()
    assert (got["a"] == 1).all()


MANY = """
import resource, numpy as np
from wellkept import keep
resource.setrlimit(resource.RLIMIT_NOFILE, (300, 300))

@keep
def block(n):
    return np.full(9_000, float(n))

for n in range(500):
    block(n)
held = [block(i % 500) for i in range(2000)]
assert block.stats().hits == 2000, block.stats()
assert all((array == i % 500).all() and array.flags.writeable for i, array in enumerate(held))
open("still", "w").close()
print("ok")
"""


def test_many_arrays_at_once_do_not_run_out_of_descriptors() -> None:
    Path("many.py").write_text(textwrap.dedent(MANY))
    done = subprocess.run(
        [sys.executable, "-W", "error", "many.py"],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "ok\n"


@linux
def test_descriptors_are_given_back() -> None:
    arrays(1)
    arrays(1)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(50):
        arrays(1)
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 2
