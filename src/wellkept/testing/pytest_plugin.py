"""The pytest plugin: each test has an empty cache of its own, which is removed after it.

pytest loads it in every session of an environment where wellkept is installed, so it imports nothing of
wellkept that the tests do not, and writes nothing for a test that caches nothing.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Generator
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from wellkept.caches import Cache

MODES = {
    "fresh": "an empty cache for each test (the default)",
    "off": "nothing is kept, each call computes",
    "read": "the configured caches, which are only read from",
    "real": "the configured caches",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("wellkept").addoption(
        "--wellkept",
        choices=list(MODES),
        default="fresh",
        help=f"what kept functions use in tests: {'; '.join(f'{k}: {v}' for k, v in MODES.items())}",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", f"wellkept(mode): {', '.join(MODES)}; in this test, whatever --wellkept says"
    )
    config.pluginmanager.register(Tests(config), "wellkept-tests")


class Tests:
    """One session, or one process of pytest-xdist."""

    def __init__(self, config: pytest.Config) -> None:
        self._mode = config.getoption("--wellkept")
        self._said = os.environ.get("WELLKEPT_CACHE")
        self._outer = os.environ.get("WELLKEPT_TESTS")
        self._root: str | None = None
        self._number = count()
        # Modules of tests may call kept functions while they are imported.
        self._enter(self._mode)

    def _enter(self, mode: str) -> str | None:
        """Say where caches are from now on; return the directory, if it is one."""
        place = None
        if mode == "fresh":
            self._root = self._root or tempfile.mkdtemp(prefix="wellkept-tests-")
            place = str(Path(self._root, str(next(self._number))))
        # By the environment, so that it holds for processes that a test starts too.
        _set("WELLKEPT_TESTS", None if mode == "real" else place or mode)
        _set("WELLKEPT_CACHE", self._said if mode in ("read", "real") else None)
        _forget()
        return place

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, Any, None]:
        place = self._enter(_mode(item) or self._mode)
        yield
        _forget()
        if place is not None:
            shutil.rmtree(place, ignore_errors=True)

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            _mode(item)  # a wrong one is told before any test runs

    def pytest_fixture_setup(self, fixturedef: Any) -> None:
        made = fixturedef.func
        if type(made).__module__.startswith("wellkept.memo.") and made.generates:
            from wellkept.errors import ConfigError

            raise ConfigError(
                f"the fixture {fixturedef.argname} yields, and a hit would skip what it sets up and "
                "tears down: put @keep on a function of what is expensive, and call that in the fixture"
            )

    # A process of pytest-xdist may be ended before it comes to be unconfigured.
    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self) -> None:
        self._leave()

    def pytest_unconfigure(self) -> None:
        self._leave()

    def _leave(self) -> None:
        _set("WELLKEPT_CACHE", self._said)
        _set("WELLKEPT_TESTS", self._outer)
        _forget()
        if self._root is not None:
            shutil.rmtree(self._root, ignore_errors=True)


def _mode(item: pytest.Item) -> str | None:
    marker = item.get_closest_marker("wellkept")
    if marker is None:
        return None
    if len(marker.args) != 1 or marker.kwargs or marker.args[0] not in MODES:
        raise pytest.UsageError(
            f"{item.nodeid}: @pytest.mark.wellkept takes one of {', '.join(MODES)}"
        )
    return str(marker.args[0])


def _set(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value


def _forget() -> None:
    """Have the next call look at the environment; what `set_cache` says stays."""
    if (active := sys.modules.get("wellkept.caches.active")) is not None:
        said = active.set_cache(None)
        active.reset()
        active.set_cache(said)


@pytest.fixture
def wellkept_cache() -> Cache:
    """The active cache of the test: by default an empty one, which is removed after it."""
    from wellkept.caches import active

    return active()


@pytest.fixture
def assert_faithful() -> Callable[..., None]:
    """`wellkept.testing.assert_faithful`."""
    from wellkept.testing import assert_faithful

    return assert_faithful


@pytest.fixture
def assert_invalidates() -> Callable[..., None]:
    """`wellkept.testing.assert_invalidates`."""
    from wellkept.testing import assert_invalidates

    return assert_invalidates
