"""What every store promises, as a suite that a store of anybody's can be held to."""

from __future__ import annotations

import os
import pickle
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar, Protocol

import pytest

from wellkept._system import fork
from wellkept.errors import DecodeError, StoreError
from wellkept.stores.base import Creates
from wellkept.testing import items


class Accessor(Protocol):
    """Reads and writes a store's medium by other means than the store, so that the two can be
    compared: a store that loses what it is given, and never misses it, agrees only with itself.
    """

    def read(self, key: str) -> Any:
        """The item that is in the medium under a key, or None."""
        ...

    def write(self, key: str, item: Any) -> None:
        """Put an item there."""
        ...

    def keys(self) -> Iterable[str]:
        """Every key that is there."""
        ...

    def damage(self, key: str) -> bool:
        """Change the bytes of the item under a key; False where the medium has no bytes."""
        ...


def in_threads(count: int, work: Callable[[int], None]) -> None:
    """Run `work(0)` to `work(count - 1)`, each in a thread of its own; raise what one raised."""
    errors: list[BaseException] = []

    def run(me: int) -> None:
        try:
            work(me)
        except BaseException as error:  # noqa: BLE001  it is raised below, where pytest sees it
            errors.append(error)

    threads = [threading.Thread(target=run, args=(me,)) for me in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def in_fork(do: Callable[[], None]) -> int:
    """Run `do()` in a forked child; its exit status, which is 1 where it raised."""
    if fork is None:
        pytest.skip("this system does not fork")
    pid = fork()
    if pid == 0:
        status = 1
        try:
            do()
            status = 0
        except BaseException as error:  # noqa: BLE001  the parent sees the status
            os.write(2, f"in the forked process: {error!r}\n".encode())
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


class StoreContract:
    """The suite. Subclass it in a test module and say how your store is made::

        from wellkept.testing import StoreContract

        class TestShelf(StoreContract):
            kind = "bytes"

            def make(self, place):
                return Shelf(place / "shelf.db")

    Then `pytest` runs every promise against `Shelf`. What it claims beyond the four verbs is said
    in class attributes, and tested; what it does not claim is skipped, with the reason.
    """

    kind: ClassVar[str] = "bytes"
    """What the store holds: `"bytes"`, `"value"` or `"call"`."""
    keeps: ClassVar[bool] = True
    """False for a store that keeps nothing, and says so."""
    persistent: ClassVar[bool] = True
    """Whether a store that is made again at the same place holds the same, while the first is open
    and after it was closed, in this process and in others."""
    pickles: ClassVar[bool] = False
    """Whether a pickled store opens the same place."""
    forks: ClassVar[bool] = True
    """Whether a forked process can use the store; one that can't has to be refused with `StoreError`."""
    large: ClassVar[int] = 3_000_000
    """Bytes of the largest item that is tried."""

    # -- what a subclass says ---------------------------------------------------------------------

    def make(self, place: Path) -> Any:
        """Your store, in an empty directory; called again, the same store opened a second time."""
        raise NotImplementedError("say how your store is made: def make(self, place)")

    def close(self, store: Any) -> None:
        """Let go of a store that `make` made. By default its `close`, if it has one."""
        if hasattr(store, "close"):
            store.close()

    def accessor(self, store: Any, backend: Path) -> Accessor | None:
        """A way around the store, to its medium; None: there is none."""
        return None

    def item(self, key: str, n: int, size: int = 100) -> Any:
        """The n-th item to be kept under a key, of about `size` bytes; 0 is as empty as it gets."""
        if self.kind == "call":
            return items.call(key, n, size)
        if self.kind == "value":
            return items.value(n, size)
        return items.payload(n, size)

    def prepare(self, store: Any, item: Any) -> None:
        """Put what an item relies on: a store of calls may want their results to be there."""

    # -- what the tests stand on ------------------------------------------------------------------

    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[Any]:
        """The store under test, empty."""
        made = self.make(tmp_path)
        yield made
        self.close(made)

    @pytest.fixture
    def keeping(self, store: Any) -> Any:
        """The store, if it keeps anything."""
        if not self.keeps:
            pytest.skip("this store says that it keeps nothing")
        return store

    def put(self, store: Any, key: str, n: int, size: int = 100) -> Any:
        """Keep the n-th item under a key; the item."""
        item = self.item(key, n, size)
        self.prepare(store, item)
        store.put(key, item)
        return item

    def check(self, store: Any, key: str, item: Any) -> None:
        """The store has this item under this key."""
        found = store.get(key)
        assert found is not None, f"nothing under {key}, where an item was put"
        assert items.same(found, item), f"another item under {key} than was put"

    # -- the four verbs ---------------------------------------------------------------------------

    def test_a_key_that_is_missing_is_none(self, store: Any) -> None:
        assert store.get(items.key(1)) is None

    def test_nothing_is_in_a_new_store(self, store: Any) -> None:
        assert list(store.keys()) == []
        assert list(store.keys("ab")) == []

    def test_what_was_put_is_got(self, keeping: Any) -> None:
        kept = {key: self.put(keeping, key, n) for n, key in enumerate(map(items.key, range(20)))}
        for key, item in kept.items():
            self.check(keeping, key, item)
            self.check(keeping, key, item)

    @pytest.mark.parametrize("size", [0, 1, 1000, 64 * 1024 - 1, 64 * 1024, 64 * 1024 + 1])
    def test_any_size(self, keeping: Any, size: int) -> None:
        self.check(keeping, items.key(1), self.put(keeping, items.key(1), 7, size))

    def test_a_large_item(self, keeping: Any) -> None:
        self.check(keeping, items.key(1), self.put(keeping, items.key(1), 7, self.large))

    def test_a_put_replaces(self, keeping: Any) -> None:
        key, other = items.key(1), items.key(2)
        beside = self.put(keeping, other, 2)
        for n, size in ((1, 100), (2, 200_000), (3, 0), (4, 100)):
            self.check(keeping, key, self.put(keeping, key, n, size))
        self.check(keeping, other, beside)
        assert sorted(keeping.keys()) == sorted((key, other))

    def test_putting_the_same_again_changes_nothing(self, keeping: Any) -> None:
        item = self.put(keeping, items.key(1), 1)
        keeping.put(items.key(1), item)
        self.check(keeping, items.key(1), item)
        assert list(keeping.keys()) == [items.key(1)]

    def test_a_delete_forgets_one(self, keeping: Any) -> None:
        self.put(keeping, items.key(1), 1)
        kept = self.put(keeping, items.key(2), 2)
        keeping.delete(items.key(1))
        assert keeping.get(items.key(1)) is None
        self.check(keeping, items.key(2), kept)
        assert list(keeping.keys()) == [items.key(2)]
        self.check(keeping, items.key(1), self.put(keeping, items.key(1), 3))

    def test_deleting_what_is_missing_is_no_error(self, store: Any) -> None:
        store.delete(items.key(1))
        store.delete(items.key(1))
        assert store.get(items.key(1)) is None

    def test_keys_are_listed_once_each(self, keeping: Any) -> None:
        keys = [items.key(n) for n in range(40)]
        for n, key in enumerate(keys):
            self.put(keeping, key, n)
            self.put(keeping, key, n + 1)
        assert sorted(keeping.keys()) == sorted(keys)
        assert all(type(key) is str or isinstance(key, str) for key in keeping.keys())  # noqa: SIM118  a store is no dict

    def test_keys_by_prefix(self, keeping: Any) -> None:
        stem = items.key(0)
        keys = [items.key(n) for n in range(30)]
        # Neighbours: they share ever more digits with one key.
        keys += [
            stem[:n] + ("0" if stem[n] != "0" else "1") + items.key(99)[n + 1 :] for n in range(15)
        ]
        keys += ["0" * 64, "f" * 64, "7" + "f" * 63, "8" + "0" * 63]
        for n, key in enumerate(keys):
            self.put(keeping, key, n)
        for prefix in ["", *"0123456789abcdef", *(stem[:n] for n in range(2, 17)), stem[:40], stem]:
            wanted = sorted(key for key in keys if key.startswith(prefix))
            assert sorted(keeping.keys(prefix)) == wanted, f"keys({prefix!r})"

    def test_listing_while_changing(self, keeping: Any) -> None:
        keys = {items.key(n) for n in range(30)}
        for n, key in enumerate(sorted(keys)):
            self.put(keeping, key, n)
        seen = set()
        for n, key in enumerate(keeping.keys()):
            seen.add(key)
            keeping.delete(key)
            self.put(keeping, items.key(100 + n), n)
        assert keys <= seen

    # -- more than one at a time ------------------------------------------------------------------

    def test_threads(self, keeping: Any) -> None:
        shared = items.key(1000)
        candidates = [self.item(shared, n, size) for n, size in enumerate((10, 1000, 70_000, 0))]
        for item in candidates:
            self.prepare(keeping, item)
        keeping.put(shared, candidates[0])

        def work(me: int) -> None:
            for n in range(12):
                key = items.key(me * 100 + n)
                self.check(keeping, key, self.put(keeping, key, n))
                keeping.put(shared, candidates[(me + n) % 4])
                found = keeping.get(shared)
                assert any(items.same(found, item) for item in candidates), "a mixture was read"
                if n % 3 == 0:
                    keeping.delete(key)
                    assert keeping.get(key) is None

        in_threads(8, work)
        assert len(list(keeping.keys())) == 8 * 8 + 1

    def test_create_keeps_only_what_is_absent(self, keeping: Any) -> None:
        if not _creates(keeping):
            pytest.skip("this store does not claim to create")
        key = items.key(1)
        item, other = self.item(key, 1), self.item(key, 2)
        self.prepare(keeping, item)
        self.prepare(keeping, other)
        assert keeping.create(key, item) is True
        assert keeping.create(key, other) is False
        assert keeping.create(key, item) is False, "it was there already, though it is the same"
        self.check(keeping, key, item)
        keeping.delete(key)
        assert keeping.create(key, other) is True
        self.check(keeping, key, other)

    def test_one_of_many_creates(self, keeping: Any) -> None:
        if not _creates(keeping):
            pytest.skip("this store does not claim to create")
        for n in range(20):
            key = items.key(n)
            won: list[int] = []
            candidates = [self.item(key, m) for m in range(8)]
            for item in candidates:
                self.prepare(keeping, item)
            start = threading.Barrier(8)

            def work(
                me: int,
                key: str = key,
                won: list[int] = won,
                candidates: list[Any] = candidates,
                start: threading.Barrier = start,
            ) -> None:
                start.wait(30)
                if keeping.create(key, candidates[me]):
                    won.append(me)

            in_threads(8, work)
            assert len(won) == 1
            self.check(keeping, key, candidates[won[0]])

    # -- again, elsewhere -------------------------------------------------------------------------

    def test_opened_again(self, keeping: Any, tmp_path: Path) -> None:
        if not self.persistent:
            pytest.skip("this store does not outlive its object")
        small, large = items.key(1), items.key(2)
        kept = {small: self.put(keeping, small, 1), large: self.put(keeping, large, 2, 200_000)}
        self.close(keeping)
        again = self.make(tmp_path)
        try:
            for key, item in kept.items():
                self.check(again, key, item)
            assert sorted(again.keys()) == sorted(kept)
        finally:
            self.close(again)

    def test_opened_twice(self, keeping: Any, tmp_path: Path) -> None:
        if not self.persistent:
            pytest.skip("this store does not outlive its object")
        other = self.make(tmp_path)
        try:
            for n in range(5):
                key = items.key(n)
                self.check(other, key, self.put(keeping, key, n))
                self.check(keeping, key, self.put(other, key, n + 1))
                keeping.delete(key)
                assert other.get(key) is None
        finally:
            self.close(other)

    def test_another_process(self, keeping: Any, tmp_path: Path) -> None:
        if not self.persistent:
            pytest.skip("this store does not outlive its object")
        if not hasattr(os, "fork"):
            pytest.skip("there is no fork here")
        mine = self.put(keeping, items.key(1), 1)
        if not self.forks:

            def refused() -> None:
                with pytest.raises(StoreError):
                    keeping.get(items.key(1))

            assert in_fork(refused) == 0, "it is not refused in a forked process; see the output"
            self.check(keeping, items.key(1), mine)
            return

        def child() -> None:
            # The inherited one must do.
            self.check(keeping, items.key(1), mine)
            self.put(keeping, items.key(2), 2)
            fresh = self.make(tmp_path)
            self.put(fresh, items.key(3), 3, 200_000)
            fresh.delete(items.key(1))
            self.close(fresh)

        assert in_fork(child) == 0, "it failed in a forked process; see the output"
        assert keeping.get(items.key(1)) is None
        self.check(keeping, items.key(2), self.item(items.key(2), 2))
        self.check(keeping, items.key(3), self.item(items.key(3), 3, 200_000))

    def test_a_pickled_store_opens_the_same_place(self, keeping: Any) -> None:
        if not self.pickles:
            pytest.skip("this store does not claim to pickle")
        item = self.put(keeping, items.key(1), 1)
        again = pickle.loads(pickle.dumps(keeping))  # noqa: S301  what was pickled just now
        try:
            self.check(again, items.key(1), item)
        finally:
            self.close(again)

    # -- the way around ---------------------------------------------------------------------------

    def test_what_is_put_is_in_the_medium(self, keeping: Any, tmp_path: Path) -> None:
        around = self._around(keeping, tmp_path)
        for n, size in ((1, 100), (2, 200_000)):
            key = items.key(n)
            item = self.put(keeping, key, n, size)
            assert items.same(around.read(key), item), "the medium holds something else"
        assert sorted(around.keys()) == sorted((items.key(1), items.key(2)))
        keeping.delete(items.key(1))
        assert around.read(items.key(1)) is None
        assert list(around.keys()) == [items.key(2)]

    def test_what_is_in_the_medium_is_got(self, keeping: Any, tmp_path: Path) -> None:
        around = self._around(keeping, tmp_path)
        for n, size in ((1, 100), (2, 200_000)):
            key = items.key(n)
            item = self.item(key, n, size)
            self.prepare(keeping, item)
            around.write(key, item)
            self.check(keeping, key, item)
        assert sorted(keeping.keys()) == sorted((items.key(1), items.key(2)))

    @pytest.mark.parametrize("size", [100, 200_000])
    def test_damage_is_never_served(self, keeping: Any, tmp_path: Path, size: int) -> None:
        around = self._around(keeping, tmp_path)
        key, other = items.key(1), items.key(2)
        item, beside = self.put(keeping, key, 1, size), self.put(keeping, other, 2, size)
        if not around.damage(key):
            pytest.skip("this medium has no bytes to damage")
        try:
            found = keeping.get(key)
        except DecodeError:
            found = None
        assert found is None or items.same(found, item), "damaged bytes were served"
        self.check(keeping, other, beside)
        keeping.put(key, item)
        self.check(keeping, key, item)

    def _around(self, store: Any, backend: Path) -> Accessor:
        found = self.accessor(store, backend)
        if found is None:
            pytest.skip("there is no way around this store")
        return found

    # -- nothing at all ---------------------------------------------------------------------------

    def test_a_store_that_keeps_nothing(self, store: Any) -> None:
        if self.keeps:
            pytest.skip("this store keeps what it is given")
        key = items.key(1)
        self.put(store, key, 1)
        assert store.get(key) is None
        assert list(store.keys()) == []
        if _creates(store):
            assert store.create(key, self.item(key, 1)) is True
            assert store.create(key, self.item(key, 1)) is True
            assert store.get(key) is None


def _creates(store: Any) -> bool:
    return isinstance(store, Creates)
