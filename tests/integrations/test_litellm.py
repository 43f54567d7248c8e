"""The caches of LiteLLM's and DSPy's responses."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

import wellkept

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # or it asks the network for one
litellm = pytest.importorskip("litellm")


@pytest.fixture
def cache(tmp_path: Path) -> Any:
    with wellkept.open(tmp_path / "cache") as found:
        yield found


@pytest.fixture
def kept(cache: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    from wellkept.integrations.litellm import KeptCache

    monkeypatch.setattr(litellm, "cache", litellm.Cache(type="local"))
    litellm.cache.cache = KeptCache(cache)
    return litellm.cache.cache


def ask(question: str, answer: str, **options: Any) -> Any:
    messages = [{"role": "user", "content": question}]
    return litellm.completion(
        "gpt-4o", messages=messages, mock_response=answer, caching=True, **options
    )


def test_a_response_is_kept(kept: Any, cache: Any) -> None:
    # What LiteLLM imports for a cached completion, and does not require.
    pytest.importorskip("fastapi")
    pytest.importorskip("soundfile")
    first = ask("a", "one")
    assert ask("a", "two").choices[0].message.content == "one"
    assert ask("a", "two").id == first.id
    assert ask("b", "two").choices[0].message.content == "two"
    assert len(wellkept.store("litellm", cache=cache)) == 2
    kept.flush_cache()
    assert ask("a", "three").choices[0].message.content == "three"


def test_the_verbs(kept: Any, cache: Any) -> None:
    async def go() -> None:
        await kept.async_set_cache_pipeline([("a", {"n": 1}), ("b" * 2000, {"n": 2})], ttl=60)
        await kept.batch_cache_write("c", {"n": 3}, ttl=None)
        assert await kept.async_get_cache("a", messages=[]) == {"n": 1}
        assert await kept.async_get_cache("b" * 2000) == {"n": 2}
        kept._store.service.entries.ahead = 61.0
        assert [kept.get_cache(key) for key in ("a", "b" * 2000, "c")] == [None, None, {"n": 3}]
        kept._store.service.entries.ahead = 0.0
        await kept.delete_cache_keys(["c", "none"])
        assert kept.get_cache("c") is None
        assert (await kept.test_connection())["status"] == "success"
        await kept.disconnect()

    asyncio.run(go())
    with pytest.raises(wellkept.EncodeError, match="not JSON"):
        kept.set_cache("a", {"n": (1, 2)})
    wellkept.store("litellm", cache=cache)["pickled"] = {1, 2}
    with pytest.raises(wellkept.DecodeError, match="not JSON"):
        kept.get_cache("pickled")


def test_dspy_asks_once(cache: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    dspy = pytest.importorskip("dspy")
    from wellkept.integrations.dspy import configure_cache

    monkeypatch.setitem(vars(dspy), "cache", None)
    asked = []

    @dspy.clients.cache.request_cache()
    def answer(**request: Any) -> str:
        asked.append(request)
        return request["prompt"].upper()

    for _ in range(2):
        configure_cache(cache)  # as in another process
        assert answer(prompt="a") == "A"
        assert answer(prompt="a") == "A"
    assert len(asked) == 1
    (key,) = wellkept.store("dspy", cache=cache)
    assert key in dspy.cache
    dspy.cache.disk_cache.delete(key)
    configure_cache(cache, enable_memory_cache=False)
    with pytest.warns(wellkept.KeptWarning, match="not cached"):
        dspy.cache.put({"prompt": "b"}, (i for i in "ab"))
    assert answer(prompt="a") == "A"
    assert len(asked) == 2
