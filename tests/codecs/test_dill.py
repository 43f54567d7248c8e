"""dill: what only it can hold, and large arrays beside it."""

import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest

from wellkept import digest
from wellkept.codecs import check, decode, decoder, encode
from wellkept.errors import ConfigError, DecodeError, EncodeError


def make_class() -> Any:
    class Local:
        def __init__(self, x: int) -> None:
            self.x = x

        def double(self) -> int:
            return 2 * self.x

    return Local


@pytest.mark.parametrize(
    "value", [None, 1, "x", [1, (2, 3)], {"a": {1, 2}}, np.arange(5), pd.DataFrame({"a": [1.5]})]
)
def test_values_come_back_exactly(value: Any) -> None:
    kept = encode(value, "dill")
    assert kept.codec == "dill"
    assert digest(decode(kept)) == digest(value)


def test_functions_and_local_classes() -> None:
    n = 3
    assert decode(encode(lambda x: x + n, "dill"))(1) == 4
    assert decode(encode(make_class()(4), "dill")).double() == 8


def test_large_arrays_are_buffers() -> None:
    data = np.arange(100_000)
    kept = encode({"data": data, "f": lambda x: x, "odd": data[::2][:5]}, "dill")
    assert [memoryview(buffer).nbytes for buffer in kept.buffers] == [data.nbytes]
    assert len(kept.head) < 10_000
    again = decode(kept)["data"]
    assert np.shares_memory(again, data), "it was copied on the way"
    assert (again == data).all()


def test_what_dill_can_t() -> None:
    with pytest.raises(EncodeError, match="dill can't encode a generator"):
        encode((n for n in ()), "dill")


@pytest.mark.parametrize("payload", [b"", b"not a pickle", b"\x80\x05cno_such_module\nx\n."])
def test_what_is_no_value(payload: bytes) -> None:
    with pytest.raises(DecodeError):
        decoder("dill")(payload, ())


def test_without_dill(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = encode(1, "dill")
    monkeypatch.setitem(sys.modules, "dill", None)
    for attempt in (lambda: encode(1, "dill"), lambda: check("dill")):
        with pytest.raises(ConfigError, match=r"pip install 'wellkept\[dill\]'"):
            attempt()
    with pytest.raises(DecodeError, match=r"pip install 'wellkept\[dill\]'"):
        decode(kept)


@pytest.mark.parametrize("name", ["", "no such", "PICKLE", "wellkept.codecs.dill"])
def test_no_such_codec(name: str) -> None:
    for attempt in (lambda: encode(1, name), lambda: check(name)):
        with pytest.raises(ConfigError, match="there is no codec"):
            attempt()
    with pytest.raises(DecodeError, match="not installed here"):
        decoder(name)
