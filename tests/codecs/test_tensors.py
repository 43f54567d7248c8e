"""Tensors of torch in pickles: exact, out of band, without the memory that they are a view of."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable
from typing import Any

import pytest

import wellkept
from wellkept import digest
from wellkept.codecs import decode, encode

torch = pytest.importorskip("torch")

BIG = 100_000


def trained() -> Any:
    torch.manual_seed(0)
    made = torch.nn.Sequential(torch.nn.Linear(300, 300), torch.nn.BatchNorm1d(300))
    made(torch.ones(2, 300)).sum().backward()
    return made


def tied() -> Any:
    made = torch.nn.Sequential(torch.nn.Linear(300, 300), torch.nn.Linear(300, 300))
    made[1].weight = made[0].weight
    return made


def given(tensor: Any, **more: Any) -> Any:
    for name, value in more.items():
        setattr(tensor, name, value)
    return tensor


MADE: list[Callable[[], Any]] = [
    lambda: torch.arange(float(BIG)),
    lambda: torch.arange(BIG),
    lambda: torch.arange(BIG).bfloat16(),
    lambda: torch.ones(BIG).to(torch.float8_e4m3fn),
    lambda: torch.ones(BIG, dtype=torch.complex64),
    lambda: torch.ones(3) > 2,
    lambda: torch.tensor(3.5),
    lambda: torch.empty(0, 3),
    lambda: torch.arange(60.0).reshape(3, 4, 5).permute(2, 0, 1),
    lambda: torch.ones(2, 3, 40, 500).to(memory_format=torch.channels_last),
    lambda: torch.ones(3, requires_grad=True),
    lambda: torch.nn.Parameter(torch.ones(BIG), requires_grad=False),
    lambda: given(torch.ones(3), note=["x"], grad=torch.ones(3)),
    lambda: torch.ones(3, dtype=torch.complex64).conj(),
    lambda: torch.ones(3, requires_grad=True) * 2,
    lambda: {"a": [torch.ones(BIG)], "b": trained().state_dict()},
    trained,
    tied,
    lambda: torch.optim.Adam(trained().parameters()),
    lambda: torch.nn.LSTM(3, 4),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("make", MADE)
def test_comes_back_exactly(make: Callable[[], Any]) -> None:
    value = make()
    again = decode(encode(value))
    assert type(again) is type(value)
    if isinstance(value, torch.Tensor):
        assert torch.equal(again, value)
        assert again.dtype == value.dtype
        assert again.requires_grad == value.requires_grad
        assert again.is_contiguous() or again.stride() == value.stride()
    if not getattr(value, "grad_fn", None):
        assert digest(again) == digest(value)


def test_large_ones_are_out_of_band_and_slices_alone() -> None:
    whole = torch.arange(float(BIG))
    encoded = encode({"whole": whole, "rows": whole[:10]})
    assert [memoryview(one).nbytes for one in encoded.buffers] == [4 * BIG]
    assert len(encoded.head) < 1000


def test_a_loaded_tensor_may_be_written_to() -> None:
    @wellkept.keep(version=1)
    def ones(n: int) -> Any:
        return torch.ones(n)

    ones(BIG)
    found = ones(BIG)
    found += 1
    assert found[0] == 2
    assert ones(BIG)[0] == 1


def test_one_weight_in_two_places_stays_one() -> None:
    again = decode(encode(tied()))
    assert again[0].weight is again[1].weight


def test_a_trained_network_is_kept_with_its_gradients() -> None:
    ran = []

    @wellkept.keep(version=1)
    def train() -> Any:
        ran.append(1)
        return trained()

    assert digest(train()) == digest(train()) == train.call().result
    assert ran == [1]


def test_what_was_pickled_as_torch_does_is_still_read() -> None:
    value = encode([1])._replace(head=pickle.dumps(torch.ones(3), 5))
    assert torch.equal(decode(value), torch.ones(3))


def test_pickles_of_other_values_are_as_before() -> None:
    value = [threading.Lock, {"a": 1}, range(3)]
    assert encode(value).head == pickle.dumps(value, 5)
