"""Many processes on one store: nothing is lost, done twice, or told out of order."""

from __future__ import annotations

import ast
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from tests.kv.conftest import place_of
from tests.thorough import often

import wellkept

ROOT = Path(__file__).parents[2]
MANY = often(100, 1000)


# One process imports the library and forks the others, which is a tenth of starting each. What a store needs
# is imported when one is used, so one is, and the driver of a server when a cache there is opened, which does
# not ask the server yet.
DRIVER = """
import os, sys, tempfile, wellkept
with tempfile.TemporaryDirectory() as made, wellkept.open(made + "/c") as cache:
    wellkept.store("s", cache=cache)["k"] = 1
count, source, url, *more = sys.argv[1:]
if url.startswith("s3:"):
    import obstore.store
elif url.startswith(("postgresql:", "mariadb:", "redis:")):
    wellkept.open(url).close()
ready, said_ready = os.pipe()
begin, said_begin = os.pipe()
outs = []
for number in range(int(count)):
    out, into = os.pipe()
    if (child := os.fork()) == 0:
        code = 1
        try:
            os.close(said_begin)
            os.dup2(into, 1)
            sys.argv = ["", url, *more, str(number)]
            store = wellkept.store("s", cache=url)
            os.write(said_ready, b"x")
            os.close(said_ready)
            os.read(begin, 1)
            exec(source)
            sys.stdout.flush()
            code = 0
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(code)
    os.close(into)
    outs.append((child, out))
os.close(said_ready)
while os.read(ready, 1) and (count := int(count) - 1):
    pass
os.close(said_begin)
for child, out in outs:
    print(repr(open(out).read()))
    assert os.waitpid(child, 0)[1] == 0
"""


def processes(count: int, source: str, *args: str, patience: float = 110) -> list[str]:
    """What so many processes print that begin together, in at most `patience` seconds."""
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, str(count), source, *args],
        stdout=subprocess.PIPE,
        text=True,
        timeout=patience,
        check=True,
    )
    return [ast.literal_eval(line).strip() for line in done.stdout.splitlines()]


def test_increments_of_8_processes(tmp_path: Path) -> None:
    increments(str(tmp_path / "cache"), 50)


@pytest.mark.long
@pytest.mark.timeout(620)  # on a busy machine a server commits some tens of changes a second
@pytest.mark.parametrize("medium", ["sqlite", "file", "files", "postgresql", "mariadb", "redis"])
def test_increments_of_8_processes_on_each_medium(
    medium: str, request: Any, tmp_path: Path
) -> None:
    increments(place_of(request, medium, tmp_path), MANY)


@pytest.mark.long
def test_increments_of_8_processes_on_objects(request: Any, tmp_path: Path) -> None:
    increments(place_of(request, "s3", tmp_path), often(6, 20))  # a change takes some requests


def increments(url: str, each: int) -> None:
    processes(8, f"for _ in range({each}): store.increment('n')", url, patience=600)
    store = wellkept.store("s", cache=url)
    assert store["n"] == 8 * each
    seen = [change.value for change in store.watch(since=0, timeout=0)]
    assert seen == list(range(1, 8 * each + 1))


@pytest.mark.parametrize(
    "medium",
    [
        "sqlite",
        *(
            pytest.param(name, marks=pytest.mark.long)
            for name in ("files", "postgresql", "mariadb", "redis", "s3")
        ),
    ],
)
def test_one_of_32_processes_wins(medium: str, request: Any, tmp_path: Path) -> None:
    url = place_of(request, medium, tmp_path)
    said = processes(32, "print(store.set_if_absent('k', sys.argv[2]))", url)
    assert said.count("True") == 1
    assert wellkept.store("s", cache=url)["k"] == str(said.index("True"))


def test_a_compare_and_set_is_exact_among_threads(url: str) -> None:
    store = wellkept.store("s", cache=wellkept.open(url))
    store["n"] = 0
    won: list[int] = []

    def race() -> None:
        for number in range(20):
            if store.compare_and_set("n", number, number + 1):
                won.append(number)
            while store["n"] <= number:
                time.sleep(0.001)

    threads = [threading.Thread(target=race) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == list(range(20))


@pytest.mark.parametrize("medium", ["sqlite", "redis"])
def test_nothing_older_is_read_than_what_was_seen(
    medium: str, request: Any, tmp_path: Path
) -> None:
    url = place_of(request, medium, tmp_path)
    store = wellkept.store("s", cache=wellkept.open(url))
    store.update({"n": 0, "others": 0})
    wrong: list[tuple[int, int]] = []

    def work() -> None:
        seen = 0
        for _ in range(25):
            seen = max(seen, store.increment("n"))
            for _ in range(5):
                found = store["n"]
                if found < seen:
                    wrong.append((found, seen))
                seen = found

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    source = "for _ in range(80): store.increment('n'); store.increment('others')"
    processes(1, source, url)
    for thread in threads:
        thread.join()
    assert not wrong
    assert (store["n"], store["others"]) == (180, 80)


@pytest.mark.parametrize("medium", ["sqlite", "file", "files", "postgresql", "mariadb", "redis"])
def test_a_watch_sees_what_another_process_does(medium: str, request: Any, tmp_path: Path) -> None:
    url = place_of(request, medium, tmp_path)
    changes = wellkept.store("s", cache=url).watch(timeout=30)
    processes(1, "for n in range(40): store[f'k{n % 7}'] = n", url)
    assert [next(changes).value for _ in range(40)] == list(range(40))


@pytest.mark.long
@pytest.mark.parametrize("medium", ["postgresql", "mariadb", "redis"])
def test_a_watch_sees_each_change_through_a_restart(
    medium: str, request: Any, tmp_path: Path
) -> None:
    url = place_of(request, medium, tmp_path)
    service = request.getfixturevalue(medium)
    changes = often(1000, 10_000)
    seen: list[Any] = []
    begun = threading.Event()

    def watch() -> None:
        for change in wellkept.store("s", cache=wellkept.open(url)).watch(since=0, patience=60):
            seen.append(change.value)
            begun.set()
            if len(seen) == changes:
                return

    watcher = threading.Thread(target=watch)
    watcher.start()
    source = """
from wellkept.errors import StoreError
import time
number = store.get("last", -1)
while number < int(sys.argv[2]):
    try:
        if number < 0:
            done = store.set_if_absent("last", 0)
        else:
            done = store.compare_and_set("last", number, number + 1)
        number = number + 1 if done else store["last"]
    except StoreError:
        while True:  # whether it was done is not known: look
            try:
                number = store.get("last", -1)
                break
            except StoreError:
                time.sleep(0.05)
"""
    writer = threading.Thread(target=processes, args=(1, source, url, str(changes - 1)))
    writer.start()
    assert begun.wait(60)
    service.restart()
    writer.join(110)
    watcher.join(30)
    assert seen == list(range(changes))


@pytest.mark.long
@pytest.mark.parametrize("medium", ["sqlite", "file", "files"])
def test_a_watch_on_files_sees_each_change(medium: str, request: Any, tmp_path: Path) -> None:
    url = place_of(request, medium, tmp_path)
    changes = wellkept.store("s", cache=url).watch(timeout=60)
    each = often(500, 5000)
    source = "for n in range(int(sys.argv[2])): store[sys.argv[3]] = n"
    writer = threading.Thread(target=processes, args=(2, source, url, str(each)))
    writer.start()
    seen = [next(changes) for _ in range(2 * each)]
    writer.join(60)
    for key in "01":
        assert [change.value for change in seen if change.key == key] == list(range(each))


POINTS = {
    "after it was said": "store[str(n)] = n; print(n, flush=True)",
    "in a transaction of many": "store.update({f'{n} {i}': n for i in range(50)}); print(n, flush=True)",
    "while others are deleted": "store[str(n)] = n; store.delete(str(n - 3)); print(n, flush=True)",
}


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize(
    "medium",
    [
        "sqlite",
        *(
            pytest.param(name, marks=pytest.mark.long)
            for name in ("file", "files", "postgresql", "mariadb", "redis", "s3")
        ),
    ],
)
def test_a_killed_writer_loses_nothing_it_was_told(
    medium: str, point: str, request: Any, tmp_path: Path
) -> None:
    url = place_of(request, medium, tmp_path)
    source = "import sys, wellkept\nstore = wellkept.store('s', cache=sys.argv[1])\nn = 0\n"
    source += f"while True:\n    {POINTS[point]}\n    n += 1"
    for _ in range(often(1, 3)):
        wellkept.store("s", cache=url).clear()
        process = subprocess.Popen(
            [sys.executable, "-c", source, url], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        for _ in range(40):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        told = [int(line) for line in process.stdout.read().split("\n") if line.strip()]
        process.wait()
        last = told[-1] if told else 39
        store = wellkept.store("s", cache=wellkept.open(url))
        if point == "in a transaction of many":
            groups: dict[Any, int] = {}
            for value in store.values():
                groups[value] = groups.get(value, 0) + 1
            assert set(groups.values()) == {50}, "half a transaction"
            assert set(range(last + 1)) <= groups.keys()
        else:
            there = set(store)
            first = 0 if point == "after it was said" else last - 1
            assert {str(n) for n in range(first, last + 1)} <= there
            # The writer may have been a step further than its last line says; what it deletes then
            # goes after what it wrote.
            if point == "while others are deleted":
                assert str(last - 2) in there or str(last + 1) in there
        store["afterwards"] = 1
        assert store["afterwards"] == 1
