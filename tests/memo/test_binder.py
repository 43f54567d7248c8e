"""The compiled binder agrees with `inspect.Signature.bind` and with Python's own calls."""

import inspect
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wellkept.errors import ConfigError
from wellkept.memo.binder import Binder

SIGNATURES = [
    "", "a", "a, b", "a, b=2", "a, /", "a, b=2, /", "a, /, b", "a=1, /, b=2, *, c=3", "*, a",
    "*, a, b=2", "*args", "a, *args", "a, *args, b", "**kw", "a, **kw", "a, /, **kw",
    "a, *args, b=1, **kw",
    "a, /, b=2, *args, c, d=4, **kw", "a=1, *, b, **kw",
]  # fmt: skip


def made(signature: str) -> Any:
    scope: dict[str, Any] = {}
    exec(f"def f({signature}): return locals()", scope)
    return scope["f"]


@given(
    st.sampled_from(SIGNATURES),
    st.lists(st.integers(0, 9), max_size=4),
    st.dictionaries(
        st.sampled_from(["a", "b", "c", "d", "args", "kw", "x"]), st.integers(), max_size=4
    ),
)
def test_it_binds_as_python_does(signature: str, args: list[int], kwargs: dict[str, int]) -> None:
    function = made(signature)
    binder = Binder(function, (), ())
    try:
        expected = function(*args, **kwargs)
    except TypeError as error:
        with pytest.raises(TypeError) as caught:
            binder.bind(*args, **kwargs)
        assert str(caught.value) == str(error)  # noqa: PT017  of two errors, one by `raises`
        return
    values = binder.bind(*args, **kwargs)
    assert dict(zip(binder.names, values, strict=True)) == expected
    spread, named = binder.spread(values)
    assert function(*spread, **named) == expected
    bound = inspect.signature(function).bind(*args, **kwargs)
    bound.apply_defaults()
    assert dict(zip(binder.names, values, strict=True)) == dict(bound.arguments)
    items = binder.items(values)
    names = [name for name, _ in items]
    assert len(names) == len(set(names))
    given = sum(1 for name in binder.names if name != binder.var_kwargs)
    assert [name.lstrip("*") for name in names[:given]] == [
        name for name in binder.names if name != binder.var_kwargs
    ]
    assert names[given:] == sorted(names[given:], key=lambda name: name.lstrip("*"))


def test_names_are_checked() -> None:
    for ignore, require in ((("z",), ()), ((), ("z",))):
        with pytest.raises(ConfigError, match=r"='z': .* no such parameter; it has a, b"):
            Binder(made("a, b"), ignore, require)
    Binder(made("a, **kw"), ("z",), ("z",))


def test_a_callable_that_does_not_tell_its_signature() -> None:
    binder = Binder(dict, (), ())
    assert binder.spread(binder.bind([(1, 2)], a=3)) == (([(1, 2)],), {"a": 3})
