"""What a call depends on beside its arguments and code."""

from __future__ import annotations

import os
import pickle
import time
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

import wellkept
from wellkept import keep
from wellkept.hashing import file_digest


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A file that was last changed a while ago."""
    return write(tmp_path / "x.csv", "1\n")


def write(path: Path, text: str, ago: float = 60.0) -> Path:
    path.write_text(text)
    then = time.time_ns() - int(ago * 1e9)
    os.utime(path, ns=(then, then))
    return path


def counted(*depends: Any, **options: Any) -> Any:
    @keep(depends=depends, **options)
    def f(n: int) -> int:
        return n

    return f


def computed(f: Any) -> bool:
    """Whether a call has to be computed."""
    before = f.stats().computed
    f(1)
    return bool(f.stats().computed > before)


def test_a_file_counts_by_its_content(table: Path) -> None:
    f = counted(wellkept.file(table))
    assert computed(f)
    assert not computed(f)
    write(table, "2\n")
    assert computed(f)
    write(table, "1\n")  # as it was
    assert not computed(f)
    os.utime(table)
    assert not computed(f)


def test_a_variable_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    f = counted(wellkept.env("MODE"))
    monkeypatch.delenv("MODE", raising=False)
    assert computed(f)
    monkeypatch.setenv("MODE", "")
    assert computed(f)
    monkeypatch.setenv("MODE", "fast")
    assert computed(f)
    assert not computed(f)
    assert "fast" not in repr(f.call(1).arguments)  # it may be a secret


def test_the_version_of_a_package_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    f = counted(wellkept.package("numpy"))
    assert computed(f)
    assert not computed(f)
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.1")
    assert computed(counted(wellkept.package("numpy")))
    assert f.call(1).arguments["@package numpy"].shown


def test_what_a_token_says_counts() -> None:
    said = ["a"]
    f = counted(wellkept.token(lambda: said[0]))
    assert computed(f)
    assert not computed(f)
    said[0] = "b"
    assert computed(f)


def test_who_calls_a_kept_function_depends_on_what_it_depends_on(table: Path) -> None:
    @keep(depends=[wellkept.file(table)])
    def rows() -> int:
        return int(table.read_text())

    @keep
    def doubled() -> int:
        return 2 * rows()

    class Report:
        def rows(self) -> int:
            return doubled()

        @keep(ignore="self")
        def of(self) -> int:
            return self.rows()

    report = Report()
    assert [doubled(), doubled(), report.of()] == [2, 2, 2]
    assert doubled.stats().hits == 2
    write(table, "7\n")
    assert [doubled(), report.of()] == [14, 14]


def test_two_of_one_name_both_count() -> None:
    said = [1, 1]
    f = counted(wellkept.token(lambda: said[0]), wellkept.token(lambda: said[1]))
    assert computed(f)
    for at in (0, 1):
        said[at] = 2
        assert computed(f)
    assert not computed(f)
    assert f.cache.verify().ok  # each record gives its key


RATE = 2


def helper(n: int) -> int:
    return n * RATE


def test_the_code_of_a_function_that_no_name_reaches_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    f = counted(helper)
    assert computed(f)
    assert not computed(f)
    monkeypatch.setitem(globals(), "RATE", 3)
    assert computed(f)


def test_a_kept_function_counts_by_what_it_says_of_itself() -> None:
    first, second = (keep(version=n)(helper) for n in (1, 2))
    f = counted(first)
    assert computed(f)
    assert not computed(f)
    assert computed(counted(second))


def test_what_cannot_be_told_is_computed_not_kept(tmp_path: Path) -> None:
    f = counted(wellkept.file(tmp_path / "none.csv"))
    with pytest.warns(wellkept.KeptWarning, match=r"none\.csv.*No such file"):
        assert f(1) == 1
    with pytest.raises(wellkept.Undigestible, match="No such file"):
        f.key(1)
    with pytest.raises(wellkept.Undigestible, match="is a directory"):
        counted(wellkept.file(tmp_path)).key(1)
    with pytest.raises(wellkept.Undigestible, match="ZeroDivisionError"):
        counted(wellkept.token(lambda: 1 / 0)).key(1)


def test_a_package_that_is_not_installed_is_an_error() -> None:
    with pytest.raises(wellkept.ConfigError, match=r"sklearn.*comes from scikit-learn"):
        counted(wellkept.package("sklearn"))(1)
    with pytest.raises(wellkept.ConfigError, match="no such distribution"):
        counted(wellkept.package("no-such-thing"))(1)


@pytest.mark.parametrize("wrong", ["x.csv", "numpy", ["x.csv"], 3, [None], [b"x"]])
def test_wrong_dependencies(wrong: Any) -> None:
    kind = {"x.csv": "file", "numpy": "package"}.get(wrong, "") if isinstance(wrong, str) else ""
    with pytest.raises(wellkept.ConfigError, match=f"depends=.*{kind}"):
        keep(depends=wrong)
    for function in (wellkept.env, wellkept.package, wellkept.token):
        with pytest.raises(wellkept.ConfigError):
            function("" if wrong == "x.csv" else 3)  # type: ignore[arg-type]  # what is wrong


class TestFile:
    def test_an_argument_counts_by_its_content(self, table: Path, tmp_path: Path) -> None:
        @keep
        def lines(source: wellkept.File) -> int:
            return len(Path(source).read_text().splitlines())

        assert lines(wellkept.File(table)) == 1
        copy = write(tmp_path / "copy.csv", "1\n")
        assert lines(wellkept.File(copy)) == 1
        assert lines.stats().hits == 1
        write(table, "1\n2\n")
        assert lines(wellkept.File(table)) == 2

    def test_an_unchanged_file_is_not_read_again(
        self, table: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        os.utime(table, (1, 1))
        monkeypatch.setattr(file_digest, "TICK", -(10**18))  # however soon after it was written
        found = wellkept.digest(wellkept.File(table))
        monkeypatch.setattr(file_digest, "blake3", None)
        assert wellkept.digest(wellkept.File(table)) == found

    def test_a_file_written_a_moment_ago_is_read_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "new"
        stamps = []
        real = file_digest._stamp

        def coarse(path: str) -> Any:  # a clock that does not tell two writes apart
            inode, size, changed, status = real(path)
            tick = 10**9
            stamps.append((inode, size, changed // tick * tick, status // tick * tick))
            return stamps[0] if stamps[0][2:] == stamps[-1][2:] else stamps[-1]

        monkeypatch.setattr(file_digest, "_stamp", coarse)
        path.write_text("a")
        first = wellkept.digest(wellkept.File(path))
        path.write_text("b")  # same size, same inode, same tick
        assert wellkept.digest(wellkept.File(path)) != first

    def test_the_digest_of_a_large_file_lasts(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(file_digest, "TICK", -(10**18))
        path = tmp_path / "large"
        path.write_bytes(bytes(file_digest._LARGE))
        f = counted(wellkept.file(path))
        key = f.key(1)
        f.cache.flush()
        file_digest._known.clear()  # as another process begins
        read: list[None] = []
        monkeypatch.setattr(file_digest, "blake3", _spy(blake3, read))
        assert f.key(1) == key
        assert not read
        path.write_bytes(bytes(file_digest._LARGE - 1) + b"x")
        assert f.key(1) != key
        assert read

    def test_it_is_a_path(self, table: Path) -> None:
        found = wellkept.File(table)
        assert pickle.loads(pickle.dumps(found)) == found
        assert wellkept.File(bytes(table)) == found
        with pytest.raises(wellkept.ConfigError, match="takes a path"):
            wellkept.File(3)  # type: ignore[arg-type]  # what is wrong
        assert Path(found).read_text() == "1\n"
        assert repr(found) == f"wellkept.File({str(table)!r})"


def _spy(real: Any, read: list[None]) -> Any:
    """BLAKE3 that says when a file is read; names are still hashed."""

    class Spy:
        AUTO = real.AUTO

        def __new__(cls, *data: Any, **how: Any) -> Any:
            if not data:
                read.append(None)
            return real(*data, **how)

    return Spy
