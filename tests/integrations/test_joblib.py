"""`joblib.Memory` over a cache of wellkept, in one process and in several."""

import datetime
import pickle
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wellkept
from wellkept.integrations import joblib as kept_joblib
from wellkept.stores import Memory as Held

joblib = pytest.importorskip("joblib")

RAN: list[Any] = []


@pytest.fixture
def memory() -> Any:
    kept_joblib.register()
    RAN.clear()
    return joblib.Memory("./here", backend="wellkept", verbose=0)


def double(x: Any, y: Any = None) -> Any:
    RAN.append(x)
    return x * 2


def slow(x: int) -> np.ndarray[Any, Any]:
    RAN.append(x)
    return np.full(100_000, x)


def test_hits_and_misses(memory: Any) -> None:
    cached = memory.cache(double)
    assert [cached(1), cached(1), cached(2)] == [2, 2, 4]
    assert cached.check_call_in_cache(1)
    assert not cached.check_call_in_cache(3)
    again = joblib.Memory("./here", backend="wellkept", verbose=0).cache(double)
    assert again(2) == 4
    assert RAN == [1, 2]
    arrays = memory.cache(slow)
    arrays(3)[:] = 0
    assert (arrays(3) == 3).all()
    assert cached([np.ones(3), None] * 2)[0].sum() == 3


def test_what_was_pickled_is_equal(memory: Any) -> None:
    cached = memory.cache(double)
    cached(3)
    for one in (memory, cached, cached.call_and_shelve(3)):
        again = pickle.loads(pickle.dumps(one))
        assert joblib.hash(again) == joblib.hash(one)
        assert vars(again.store_backend) == vars(one.store_backend)
    again = pickle.loads(pickle.dumps(cached))
    assert again(3) == 6
    assert again.store_backend.cache is not None
    assert RAN == [3]
    elsewhere = joblib.Memory("./there", backend="wellkept", verbose=0)
    assert vars(elsewhere.store_backend) != vars(memory.store_backend)


def test_kept_lists_them(memory: Any) -> None:
    cached = memory.cache(double, ignore=["y"])
    cached(5, y=1)
    cached(5, y=2)
    assert RAN == [5]
    with wellkept.open("./here") as cache:
        (match,) = cache.query("*:double")
        call = match.call
        assert call.metadata["joblib"]["input_args"] == {"x": "5"}
        assert call.seconds > 0
        assert match.result == 10
        assert cache.verify().ok
    assert Path("here/index.sqlite").is_file()
    assert not Path("here/joblib").exists()


def test_references(memory: Any) -> None:
    shelved = memory.cache(double).call_and_shelve(7)
    assert shelved.get() == 14
    shelved.clear()
    with pytest.raises(KeyError):
        shelved.get()
    assert memory.cache(double)(7) == 14
    assert RAN == [7, 7]


def test_a_changed_function_is_computed_again(home: Path) -> None:
    def run(body: str) -> str:
        (home / "script.py").write_text(
            textwrap.dedent(f"""
                import joblib
                import wellkept.integrations.joblib as store
                store.register()
                memory = joblib.Memory("here", backend="wellkept", verbose=0)
                @memory.cache
                def f(x):
                    print("ran", x)
                    return {body}
                print(f(1), f(2))
            """)
        )
        done = subprocess.run([sys.executable, "script.py"], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert run("x + 1") == "ran 1\nran 2\n2 3\n"
    assert run("x + 1") == "2 3\n"
    assert run("x + 2") == "ran 1\nran 2\n3 4\n"
    assert run("x + 2") == "3 4\n"
    with wellkept.open("here") as cache:
        assert cache.query().count() == 2  # those of the old source went


def test_clearing(memory: Any) -> None:
    cached, arrays = memory.cache(double), memory.cache(slow)

    @wellkept.keep(version=1, cache=wellkept.open("./here"), name="other")
    def other(x: int) -> int:
        return x

    cached(1), cached(2), arrays(1), other(1)
    cached.clear(warn=False)
    assert not cached.check_call_in_cache(1)
    assert arrays.check_call_in_cache(1)
    memory.clear(warn=False)
    assert not arrays.check_call_in_cache(1)
    assert other.contains(1)


def test_limits(memory: Any) -> None:
    arrays = memory.cache(slow)
    for x in range(4):
        arrays(x)
    memory.reduce_size(items_limit=2)
    assert sum(arrays.check_call_in_cache(x) for x in range(4)) == 2
    memory.reduce_size(bytes_limit="1M")
    assert sum(arrays.check_call_in_cache(x) for x in range(4)) == 1
    memory.reduce_size(age_limit=datetime.timedelta(0))
    assert not any(arrays.check_call_in_cache(x) for x in range(4))


def test_a_cache_that_is_open() -> None:
    RAN.clear()
    cache = wellkept.Cache(store := Held(), store)
    cached = joblib.Memory(kept_joblib.KeptStore(cache), verbose=0).cache(double)
    assert [cached(1), cached(1)] == [2, 2]
    assert RAN == [1]
    assert cache.query().count() == 1


def test_what_can_t_be_kept_is_returned(memory: Any) -> None:
    cached = memory.cache(lambda_)
    with pytest.warns(Warning, match="can't keep a result"):
        assert next(cached(3)) == 3


def lambda_(x: int) -> Any:
    return (x for _ in range(1))


def test_a_damaged_result_is_computed_again(memory: Any) -> None:
    arrays = memory.cache(slow)
    arrays(1)
    memory.store_backend.cache.close()
    (blob,) = (path for path in Path("here/blobs").rglob("*") if path.is_file())
    blob.chmod(0o600)
    blob.write_bytes(blob.read_bytes()[:-8] + b"deadbeef")
    fresh = joblib.Memory("./here", backend="wellkept", verbose=0).cache(slow)
    with pytest.warns(Warning, match="damaged|Exception while loading"):
        assert (fresh(1) == 1).all()
    assert RAN == [1, 1]


def test_validation(memory: Any) -> None:
    from joblib import expires_after

    cached = memory.cache(double, cache_validation_callback=expires_after(seconds=0))
    assert [cached(1), cached(1)] == [2, 2]
    assert RAN == [1, 1]


def test_what_is_printed(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept_joblib.register()
    cached = joblib.Memory("./here", backend="wellkept", verbose=2).cache(double)
    cached(1)
    capsys.readouterr()
    cached(1)
    assert "Loading" in capsys.readouterr().out


def write(x: int) -> int:
    with Path("ran").open("a") as file:
        file.write(f"{x}\n")
    return x * 2


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_several_processes(memory: Any, backend: str) -> None:
    cached = memory.cache(write)
    with joblib.Parallel(2, backend=backend) as run:
        assert run(joblib.delayed(cached)(i % 3) for i in range(9)) == [0, 2, 4] * 3
        assert run(joblib.delayed(cached)(i) for i in range(3)) == [0, 2, 4]
    before = Path("ran").read_text()
    assert [cached(i) for i in range(3)] == [0, 2, 4]
    assert Path("ran").read_text() == before
