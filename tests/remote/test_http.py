"""A cache that another process serves over http."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.remote.webs import WebServed, WebService

import wellkept
from wellkept import keep

PLACES = {
    "default": "./{name}",
    "files": "files:{name}",
    "sqlite": "sqlite:///{name}.db",
    "memory": "memory:",
}


@pytest.fixture(scope="module")
def service() -> Iterator[WebService]:
    places = {name: place.format(name=name) for name, place in PLACES.items()}
    made = WebService({"writer": {"*": "write"}}, served=places)
    yield made
    made.close()


@pytest.mark.parametrize("name", PLACES)
def test_a_miss_a_commit_and_a_hit_of_another_client(service: WebService, name: str) -> None:
    runs = []
    for _ in range(2):
        with service.open("writer", name) as cache:

            @keep(cache=cache, name="f", version=1, strict=True)
            def f(n: int) -> dict[str, object]:
                runs.append(n)
                return {"n": n, "array": np.arange(n)}

            for n in (3, 200_000, 1_000_000):
                found = f(n)
                assert found["n"] == n
                assert isinstance(found["array"], np.ndarray)
                assert np.array_equal(found["array"], np.arange(n))
                found["array"][0] = 7  # nobody else's
            assert f.stats().unavailable == 0
            assert [len(found["array"]) for found in f.map([3, 200_000])] == [3, 200_000]
            assert cache.verify().problems == ()
    assert runs == [3, 200_000, 1_000_000]


def test_by_url_alone(service: WebService) -> None:
    at = service.url.replace("http://", f"http://{service.tokens['writer']}@")
    with wellkept.open(f"{at}/default") as cache:
        f = keep(cache=cache, name="g", version=1, strict=True)(abs)
        assert f(-5) == f(-5) == 5
        assert service.tokens["writer"] not in repr(cache)
        assert service.tokens["writer"] not in repr(cache.backend)


def test_a_bucket_is_served_in_pieces(s3_url: str, s3_bucket: str, home: Path) -> None:
    keys = {"access_key_id": "test", "secret_access_key": "test", "region": "us-east-1"}
    far = wellkept.open(f"s3://{s3_bucket}/wellkept", endpoint=s3_url, **keys)
    with WebServed(far) as host, host.client(memory=0) as cache:
        f = keep(cache=cache, name="f", version=1, strict=True)(lambda: np.arange(2_000_000))
        asked: list[str] = []
        items, get = far.backend.values.items, type(far.backend.values.items).get
        for _ in range(2):
            assert f()[-1] == 1_999_999
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(items), "get", lambda self, key: asked.append(key) or get(self, key))
            assert f()[-1] == 1_999_999
        assert not [key for key in asked if key.startswith("blobs/")]
