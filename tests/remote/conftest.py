"""What serves a cache in this process: over a stream, as over ssh, and over http."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.remote.hosts import Served
from tests.remote.webs import WebServed


@pytest.fixture(params=["stdio", "http"])
def serve(request: pytest.FixtureRequest) -> Any:
    """A class: given a directory and a right, it serves what is there."""
    return {"stdio": Served, "http": WebServed}[request.param]


@pytest.fixture
def host(serve: Any, home: Path) -> Iterator[Any]:
    """Serves a directory."""
    with serve(home / "far") as made:
        yield made
