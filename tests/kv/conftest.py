"""Every medium that named state is tested on, each empty."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import wellkept
from wellkept.kv import ExecutionStore, ExecutionStoreService

MEDIA = [
    *("memory", "sqlite", "files", "file", "postgresql", "mariadb", "redis"),
    pytest.param("s3", marks=pytest.mark.long),
]
# Any sequence of verbs is tried on each medium; what single tests show is shown on some, and on all in the
# long ones.
FEW = [
    *("memory", "sqlite", "files", "redis"),
    *(
        pytest.param(name, marks=pytest.mark.long)
        for name in ("file", "postgresql", "mariadb", "s3")
    ),
]
SHARED = FEW[1:]  # by several processes


@pytest.fixture(params=FEW)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a cache is that named state is on."""
    return place_of(request, request.param, tmp_path)


@pytest.fixture(params=SHARED)
def shared_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The same, of those that other processes reach."""
    return place_of(request, request.param, tmp_path)


def place_of(request: pytest.FixtureRequest, medium: str, path: Path) -> str:
    if medium == "memory":
        return "memory:"
    if medium == "sqlite":
        return str(path / "cache")
    if medium == "files":
        return f"files:{path}/files"
    if medium == "file":
        return f"sqlite:///{path}/items.sqlite"
    if medium == "s3":
        environment = request.getfixturevalue("monkeypatch")  # which other processes have too
        environment.setenv("AWS_ENDPOINT_URL", request.getfixturevalue("s3_url"))
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            environment.setenv(name, "test")
        environment.setenv("AWS_REGION", "us-east-1")
        return f"s3://{request.getfixturevalue('s3_bucket')}/wellkept"
    found: str = request.getfixturevalue(f"{medium}_url")
    return found


class Stores:
    """The stores of one medium, whose clock is moved."""

    def __init__(self, url: str) -> None:
        self.cache = wellkept.open(url)

    def __call__(self, name: str = "jobs", scope: Any = None, **options: Any) -> ExecutionStore:
        return wellkept.store(name, scope, cache=self.cache, **options)

    def service(self, scope: Any = None) -> ExecutionStoreService:
        return ExecutionStoreService(dataset_id=scope, cache=self.cache)

    def later(self, seconds: float) -> None:
        self.service().entries.ahead += seconds


@pytest.fixture
def stores(url: str) -> Iterator[Stores]:
    made = Stores(url)
    yield made
    # What sweeps in the background would go on, in the time that the test set, in the next one's Redis.
    made.service().entries.ahead = 0.0


@pytest.fixture
def store(stores: Stores) -> ExecutionStore:
    return stores()
