"""What is kept of other code than now: of functions of many items, of methods; and what is accepted of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.caches.places import KINDS, new

import wellkept
from wellkept import keep
from wellkept.memo.reviewing import review
from wellkept.memo.verify import bless, verify


@pytest.fixture(params=KINDS)
def cache(request: pytest.FixtureRequest, home: Any) -> Iterator[wellkept.Cache]:
    with new(request.param) as made:
        yield made


def defined(cache: wellkept.Cache, source: str, name: str) -> Any:
    scope: dict[str, Any] = {"__name__": "lab", "keep": keep, "cache": cache}
    exec(source, scope)
    return scope[name]


def many(cache: wellkept.Cache, sum_: str) -> Any:
    source = (
        f"@keep(cache=cache, name='lab:many', each='xs')\ndef f(xs): return [{sum_} for x in xs]"
    )
    return defined(cache, source, "f")


def test_of_many_items(cache: wellkept.Cache) -> None:
    many(cache, "x + 1")([1, 2])
    f = many(cache, "1 + x")
    (former,) = review(f).former
    assert (former.calls, former.there, former.change.kind) == (2, 0, "code")
    assert verify(f, sample=1.0, code=former.code).tally("same") == 2
    assert bless(f).calls == 2
    assert f([1, 2]) == [2, 3]
    assert (f.stats().hits, f.stats().computed) == (2, 0)
    (former,) = review(f).former
    assert (former.calls, former.there) == (2, 2)
    worse = many(cache, "x + 2")
    assert len(verify(worse, sample=1.0, code=former.code).drifted) == 2


def test_of_a_method_whose_class_changed(cache: wellkept.Cache) -> None:
    def model(by: str) -> Any:
        return defined(
            cache,
            "class Model:\n"
            f"    def by(self): return {by}\n"
            "    @keep(cache=cache, name='lab:apply')\n"
            "    def apply(self, x): return x * self.by()\n",
            "Model",
        )

    model("2")().apply(4)
    made = model("len('ab')")
    (former,) = review(made.apply).former
    assert former.calls == 1
    assert [part["name"] for part in former.change.data["parts"]] == ["lab:Model.by"]
    assert bless(made.apply, code=former.code).calls == 1
    assert made().apply(4) == 8
    assert made.apply.stats().hits == 1


def test_replicates_stay_apart(cache: wellkept.Cache) -> None:
    def f(body: str) -> Any:
        return defined(cache, f"@keep(cache=cache, name='lab:r')\ndef f(x): return {body}", "f")

    f("x + 1").replicate(2)(1)
    now = f("1 + x")
    assert bless(now).calls == 1
    assert now.replicate(2).contains(1)
    assert not now.contains(1)
    with pytest.raises(wellkept.ConfigError):
        review(len)  # type: ignore[arg-type]  # as said
