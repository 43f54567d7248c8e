"""One cache for the tests that only look at it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.web.sites import Client, filled, hostile, served

import wellkept


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """A client of the pages of a cache with something on each."""
    with (
        tempfile.TemporaryDirectory(prefix="wellkept-ui-") as made,
        filled(wellkept.open(Path(made) / "cache", memory=0)) as cache,
        served(cache) as found,
    ):
        yield found


@pytest.fixture(scope="module")
def attacked() -> Iterator[Client]:
    """A client of the pages of a cache that tries to be markup."""
    with (
        tempfile.TemporaryDirectory(prefix="wellkept-ui-") as made,
        hostile(wellkept.open(Path(made) / "cache", memory=0)) as cache,
        served(cache) as found,
    ):
        yield found
