"""The file that says which epoch a token belongs to."""

import os
from pathlib import Path
from typing import Any, cast

import pytest

import wellkept
from wellkept._system import KIND
from wellkept.interrupts import settle
from wellkept.stores.epoch import Epochs

A, B, C, D = ((n, 2**64 - n) for n in range(1, 5))


@pytest.fixture
def epochs(tmp_path: Path) -> Epochs:
    return Epochs(tmp_path / "epoch")


def other(epochs: Epochs) -> Epochs:
    return Epochs(epochs._path)


def test_additions_stay_in_an_epoch_and_all_else_begins_one(epochs: Epochs) -> None:
    assert epochs.of(A) is None
    first = epochs.commit(A, B, True)
    assert (first.epoch, first.now) == (None, B)  # what came before the first is not known
    second = other(epochs).commit(B, C, True)
    assert (second.epoch, second.now) == (B, B)
    assert epochs.of(C) == other(epochs).of(C) == B
    third = epochs.commit(C, D, False)
    assert (third.epoch, third.now) == (B, D)
    assert other(epochs).of(D) == D


def test_a_commit_that_was_not_noted_begins_one(epochs: Epochs) -> None:
    epochs.commit(A, B, True)
    # Somebody else's commit led from B to C.
    assert other(epochs).of(C) is None
    assert other(epochs).commit(C, D, True).now == D


def test_a_damaged_file_says_nothing(epochs: Epochs) -> None:
    epochs.commit(A, B, True)
    whole = epochs._path.read_bytes()
    for at in range(len(whole)):
        content = bytearray(whole)
        content[at] ^= 1
        epochs._path.write_bytes(content)
        assert other(epochs).of(B) is None
    for size in range(len(whole)):
        epochs._path.write_bytes(whole[:size])
        assert other(epochs).of(B) is None
    assert epochs.commit(C, D, True).now == D
    assert other(epochs).of(D) == D


def test_a_file_that_is_removed_is_made_again(epochs: Epochs) -> None:
    epochs.commit(A, B, True)
    epochs._path.unlink()
    epochs.look()
    assert other(epochs).of(B) is None
    epochs.commit(B, C, True)
    assert other(epochs).of(C) == C


@pytest.mark.parametrize("kind", ["link", "pipe", "directory"])
def test_what_is_no_file_says_nothing_and_stops_nobody(
    kind: str, epochs: Epochs, tmp_path: Path
) -> None:
    if kind == "link":
        epochs._path.symlink_to(tmp_path / "elsewhere")
    elif kind == "pipe":
        os.mkfifo(epochs._path)
    else:
        epochs._path.mkdir()
    assert epochs.commit(A, B, True).now == B
    assert epochs.of(B) is None
    assert not epochs.wait()
    epochs.over()
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="open files are not listed here")
def test_a_closed_cache_holds_no_file(tmp_path: Path) -> None:
    def files() -> list[str]:
        found = (os.path.realpath(link) for link in Path("/proc/self/fd").iterdir())
        # A test that failed may have left another cache open.
        return [name for name in found if name.startswith(os.path.realpath(tmp_path))]

    with wellkept.open(tmp_path / "cache") as cache:
        wellkept.keep(cache=cache)(abs)(-1)
        assert any(name.endswith("/epoch") for name in files())
    assert not [name for name in files() if name.endswith("/epoch")]


@pytest.mark.skipif(
    KIND == "posix", reason="these locks do not tell two owners in one process apart"
)
def test_who_writes_takes_turns_and_waits_for_none_that_does_not_end(epochs: Epochs) -> None:
    second = other(epochs)
    assert epochs.wait()
    assert not second.wait()
    epochs.over()
    # Not so soon after it waited in vain, or each write would wait for a process that is stopped.
    assert not second.wait()
    second._vain = 0.0
    assert second.wait()
    second.close()
    assert epochs.wait()


@pytest.mark.skipif(
    KIND == "posix", reason="these locks do not tell two owners in one process apart"
)
def test_turns_are_taken_where_others_write(tmp_path: Path) -> None:
    with wellkept.open(tmp_path / "cache") as cache, wellkept.open(tmp_path / "cache") as second:
        databases = [cast(Any, each.backend).database for each in (cache, second)]
        mine, theirs = (wellkept.keep(cache=each)(abs) for each in (cache, second))
        for n in (-1, -2):
            mine(n)
        assert not databases[0].crowded
        theirs(-3)
        mine(-4)
        assert databases[0].crowded
        # Somebody has the turn and does not go on.
        assert databases[1].epochs.wait()
        mine(-5)
        assert mine.contains(-5)
        databases[1].epochs.over()
        # And this one has let go of it.
        mine(-6)
        assert databases[1].epochs.wait()
        databases[1].epochs.over()
        # So is one that was interrupted before it could.
        databases[0].epochs._vain = 0.0
        assert databases[0].epochs.wait()
        settle()
        assert databases[1].epochs.wait()
        databases[1].epochs.over()
        # Until nobody else has written for a while.
        left = databases[0].crowded
        for n in range(left):
            mine(n)
        assert left
        assert not databases[0].crowded
