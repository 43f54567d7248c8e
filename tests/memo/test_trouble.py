"""Nothing that caching does breaks the caller: one warning with the cause, a count, a result."""

import contextlib
import os
import subprocess
import sys
import textwrap
import threading
import warnings
from pathlib import Path
from typing import Any

import pytest

import wellkept
from wellkept import keep

RAN: list[Any] = []


@pytest.fixture
def f() -> Any:
    @keep
    def f(x: Any, config: Any = None) -> Any:
        RAN.append(1)
        return x

    return f


class Holder:
    def __init__(self, stream: Any) -> None:
        self.stream = stream


def test_an_undigestible_argument_is_named_at_the_users_line(f: Any) -> None:
    config = {"input": [Holder(threading.Lock())]}
    with pytest.warns(wellkept.KeptWarning) as caught:
        assert f(1, config) == 1  # here
    (warning,) = caught
    text = str(warning.message)
    assert "f: computed, not kept" in text
    assert 'arguments["config"]["input"][0].stream' in text
    assert warning.filename == __file__
    line = Path(__file__).read_text().splitlines()[warning.lineno - 1]
    assert line.endswith("# here")


def test_one_warning_a_function_and_cause(f: Any) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            f(threading.Lock())
            f(1, iter([]))
    assert len(caught) == 1
    assert f.stats().undigestible == 6
    assert (f.stats().computed, f.stats().hits) == (6, 0)
    assert len(RAN) == 6


@pytest.mark.parametrize("deep", [False, True])
def test_a_generator_that_is_given_is_not_consumed(f: Any, deep: bool) -> None:
    items = (i for i in range(3))
    with pytest.warns(wellkept.KeptWarning):
        f([items] if deep else items)
    assert list(items) == [0, 1, 2]


def test_open_files_sockets_and_locks(f: Any, tmp_path: Path) -> None:
    import socket

    with (tmp_path / "x").open("w+") as file, socket.socket() as sock:
        file.write("abc")
        file.seek(1)
        for thing in (
            file,
            sock,
            threading.Lock(),
            threading.Event(),
            iter([1]),
            zip([1]),
            sys._getframe(),
        ):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                assert f(thing) is thing
        assert file.read() == "bc"
    assert f.stats().undigestible == 7


def test_strict_raises_before_the_body_runs() -> None:
    @keep(strict=True)
    def f(x: Any) -> Any:
        RAN.append(1)
        return x

    with pytest.raises(wellkept.Undigestible, match=r'arguments\["x"\]'):
        f(threading.Lock())
    with pytest.raises(TypeError):
        f(iter([]))
    assert RAN == []
    assert f.stats().undigestible == 2


UNSTORABLE = {
    "a lock": lambda: threading.Lock(),
    "a generator": lambda: (i for i in range(3)),
    "a frame": lambda: sys._getframe(),
    "deep inside": lambda: {"a": [threading.Lock()]},
    "an open file": lambda: Path(__file__).open(),  # noqa: SIM115  the test closes it
    "a file of bytes": lambda: Path(__file__).open("rb"),  # noqa: SIM115  as above
    "a view": lambda: memoryview(b"abc"),
}


@pytest.mark.parametrize("what", UNSTORABLE)
def test_a_result_that_cannot_be_stored_is_returned(what: str) -> None:
    make = UNSTORABLE[what]

    @keep(version=1)
    def f(x: int) -> Any:
        RAN.append(x)
        return make()

    with pytest.warns(wellkept.KeptWarning, match="f: returned, not kept") as caught:
        first = f(1)
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        second = f(1)
    assert type(first) is type(second) is type(make())
    if what == "a generator":
        assert list(first) == list(second) == [0, 1, 2]
    assert RAN == [1, 1]
    assert f.stats().unstorable == 2
    assert not f.contains(1)
    strict = keep(version=1, strict=True)(f.__wrapped__)
    with pytest.raises(wellkept.EncodeError):
        strict(1)
    locks = strict.cache.backend.locks  # a failure in strict mode gives the lease up too
    assert locks.acquire(strict.key(1).raw)
    locks.release(strict.key(1).raw)
    for thing in (first, second):
        getattr(thing, "close", lambda: None)()


def test_a_place_that_is_a_file(f: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("taken").write_text("mine")
    monkeypatch.setenv("WELLKEPT_CACHE", str(Path("taken").resolve()))
    with pytest.warns(wellkept.KeptWarning, match=r"computed without the cache.*taken") as caught:
        assert f(1) == 1
    assert caught[0].filename == __file__
    assert f(1) == 1
    assert len(RAN) == 2
    assert f.stats().unavailable == 2
    assert Path("taken").read_text() == "mine"
    with pytest.raises(wellkept.StoreError, match="taken"):
        f.contains(1)
    strict = keep(strict=True)(f.__wrapped__)
    with pytest.raises(wellkept.StoreError, match="taken"):
        strict(1)
    assert len(RAN) == 2


def test_a_place_that_cannot_be_opened_is_tried_again(f: Any, monkeypatch: Any) -> None:
    active = sys.modules["wellkept.caches.active"]
    Path("taken").write_text("mine")
    monkeypatch.setenv("WELLKEPT_CACHE", str(Path("taken").resolve()))
    with pytest.warns(wellkept.KeptWarning):
        f(1)
    Path("taken").unlink()
    monkeypatch.setattr(active, "_RETRY", 0.0)
    assert [f(1), f(1)] == [1, 1]
    assert len(RAN) == 2


def test_failing_often_keeps_nothing_alive(f: Any, monkeypatch: Any) -> None:
    import traceback

    Path("taken").write_text("mine")
    monkeypatch.setenv("WELLKEPT_CACHE", str(Path("taken").resolve()))
    depths = []
    for _ in range(5):
        try:
            f.contains(1)
        except wellkept.StoreError as error:
            depths.append(len(traceback.extract_tb(error.__traceback__)))
    assert max(depths[1:]) <= max(depths[:2])


def test_a_newer_schema_is_left_alone(f: Any) -> None:
    import sqlite3

    f(1)
    f.cache.close()
    root = Path("cache")
    index = sqlite3.connect(root / "index.sqlite")
    index.execute("PRAGMA user_version = 1000")
    index.execute("UPDATE meta SET value = '1000' WHERE name = 'schema'")
    index.commit()
    index.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    index.close()
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    for _ in range(2):
        with pytest.raises(wellkept.NewerSchema, match=r"newer wellkept.*1000.*upgrade"):
            f(2)
    with pytest.raises(wellkept.NewerSchema):
        wellkept.open(root)
    assert RAN == [1]
    after = {
        p: p.read_bytes() for p in root.rglob("*") if p.is_file() and p.suffix != ".sqlite-shm"
    }
    assert {p: b for p, b in after.items() if b} == {p: b for p, b in before.items() if b}


def test_a_directory_that_others_can_write_to(f: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("open").mkdir()
    Path("open").chmod(0o777)
    with pytest.raises(wellkept.UntrustedSource, match=r"others can write to .*open.*trust=True"):
        wellkept.open("open")
    monkeypatch.setenv("WELLKEPT_CACHE", str(Path("open").resolve()))
    with pytest.warns(wellkept.KeptWarning, match="others can write"):
        assert f(1) == 1
    assert not list(Path("open").iterdir())
    with wellkept.open("open", trust=True) as cache, wellkept.use(cache):
        assert [f(1), f(1)] == [1, 1]
    assert len(RAN) == 2
    Path("open").chmod(0o700)
    with wellkept.open("open") as cache, wellkept.use(cache):
        assert f(1) == 1
    assert len(RAN) == 2


FULL = """
import sys, warnings
import numpy as np
from wellkept import keep
warnings.simplefilter("ignore")
{before}
@keep
def f(n):
    print("ran", n, flush=True)
    return np.full(n, 1.0)

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for n in (10, 300_000, 10, 300_000):
        assert (f(n) == 1.0).all() and len(f(n)) == n
for warning in caught:
    print(type(warning.message).__name__, warning.message, warning.filename.endswith("full.py"))
print(f.stats().unavailable, f.stats().unstorable, f.stats().undigestible)
"""


def child(script: str, **env: str) -> list[str]:
    Path("full.py").write_text(textwrap.dedent(script))
    done = subprocess.run(
        [sys.executable, "full.py"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=os.environ | env,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_file_size_limit() -> None:
    limit = "import resource, signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    limit += "resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))\n"
    out = child(FULL.format(before=limit))
    assert out.count("ran 10") == 1  # the small one is kept
    assert out.count("ran 300000") == 4
    warned = [line for line in out if line.startswith("KeptWarning")]
    assert len(warned) == 1
    assert "computed without the cache: can't write" in warned[0]
    assert warned[0].endswith("True")
    assert out[-1] == "4 0 0"
    assert not list(Path("cache/tmp").iterdir())


@pytest.fixture
def small_disk(tmp_path: Path) -> Any:
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=0700", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a small file system needs root and the right to mount")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_no_space_left(small_disk: Path) -> None:
    out = child(FULL.format(before=""), WELLKEPT_CACHE=str(small_disk / "cache"))
    assert out.count("ran 10") == 1
    assert out.count("ran 300000") == 4
    assert any("No space left" in line for line in out)
    assert out[-1] == "4 0 0"
    assert not list((small_disk / "cache/tmp").iterdir())


def test_no_space_left_at_all(small_disk: Path) -> None:
    with (small_disk / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
        while filler.write(b"x" * 4096):
            pass
    out = child(FULL.format(before=""), WELLKEPT_CACHE=str(small_disk / "cache"))
    assert out.count("ran 10") == 4
    assert out[-1].split()[1:] == ["0", "0"]
    assert len([line for line in out if line.startswith("KeptWarning")]) >= 1


NOBODY = """
import contextlib, importlib, os, pathlib, platformdirs, tempfile, wellkept
root = pathlib.Path(wellkept.__file__).parent
for path in sorted(root.rglob("*.py")):
    module = path.relative_to(root.parent).with_suffix("").parts
    if module[1] not in ("examples", "integrations", "testing", "web") and module[-1] != "__main__":
        with contextlib.suppress(ImportError, wellkept.ConfigError):
            importlib.import_module(".".join(module))
with wellkept.open(tempfile.mkdtemp()) as warm, wellkept.use(warm):  # imports what the user can't read
    keep(lambda n: n)("x" * 100_000), keep(lambda n: n)(iter([]))
if os.getuid() == 0:
    os.setgid(65534), os.setuid(65534)
"""


@pytest.fixture
def public(home: Path) -> Path:
    """The home, open to the user without rights that the child becomes."""
    home.chmod(0o755)
    return home


@pytest.mark.long
def test_a_read_only_directory_serves_what_it_holds(public: Path) -> None:
    out = child(FULL.format(before=""))
    assert out.count("ran 10") == 1
    for path in [Path("cache"), *Path("cache").rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = NOBODY + "import wellkept\nwellkept.use('./cache').__enter__()\n"
    script = FULL.format(before=before).replace(
        "(10, 300_000, 10, 300_000)", "(10, 20, 300_000, 20)"
    )
    out = child(script, PYTHONDONTWRITEBYTECODE="1")
    assert out.count("ran 10") == 0
    assert out.count("ran 300000") == 0
    assert out.count("ran 20") == 4
    assert len([line for line in out if line.startswith("KeptWarning")]) == 1
    for path in [Path("cache"), *Path("cache").rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)


@pytest.mark.long
def test_an_unwritable_home(public: Path) -> None:
    Path("nothing").mkdir()
    Path("nothing").chmod(0o555)
    env = {"HOME": str(public / "nothing"), "XDG_CACHE_HOME": "", "WELLKEPT_CACHE": ""}
    out = child(FULL.format(before=NOBODY), PYTHONDONTWRITEBYTECODE="1", **env)
    assert out.count("ran 10") == 4
    warned = [line for line in out if line.startswith("KeptWarning")]
    assert len(warned) == 1
    assert "nothing" in warned[0]
    assert not list(Path("nothing").iterdir())


def test_a_damaged_value_is_told_at_the_users_line(f: Any) -> None:
    f("x" * 200_000)
    for blob in Path("cache/blobs").rglob("*"):
        if blob.is_file():
            blob.unlink()
    sys.modules["wellkept.caches.active"].reset()
    with pytest.warns(wellkept.KeptWarning, match="damaged") as caught:
        assert f("x" * 200_000) == "x" * 200_000
    assert caught[0].filename == __file__
    assert f.stats().damaged == 1
    assert len(RAN) == 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert f("x" * 200_000) == "x" * 200_000
    assert len(RAN) == 2
