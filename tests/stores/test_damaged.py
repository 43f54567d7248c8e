"""A damaged blob of a store that may only be read: told as damage, and left where it is."""

import numpy as np
import pytest

import wellkept
from wellkept.errors import DamagedValue
from wellkept.stores import Memory, ReadOnly


def test_it_is_damage_and_no_refused_write() -> None:
    store = Memory[bytes]()
    wellkept.keep(cache=wellkept.Cache(store, store), version=1, name="f")(np.zeros)(20_000)
    (blob,) = store.keys("blobs/")
    store.put(blob, b"damaged")
    only = wellkept.Cache(ReadOnly(store), ReadOnly(store))
    (key,) = only.calls.keys()
    with pytest.raises(DamagedValue, match="is not what its name says"):
        only.load(only.calls.get(key).result)  # type: ignore[union-attr]  # it is there
    assert store.get(blob) == b"damaged"
