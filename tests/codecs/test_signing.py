"""Signatures: what one key vouches for, no other value, envelope or key does."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wellkept.codecs import Blob, Envelope
from wellkept.codecs.envelope import Key, sign, signed_by

KEY = Key(bytes(range(32)))
DIGEST = b"d" * 32
FRAME = Envelope("pickle", b"payload", (Blob(5, b"n" * 32),))


def keys(*of: Key) -> dict[bytes, Key]:
    return {key.name: key for key in of}


def test_a_signed_frame_travels_and_is_believed() -> None:
    made = sign(KEY, DIGEST, FRAME)
    again = Envelope.unpack(made.pack())
    assert again == made
    assert signed_by(keys(Key.new(), KEY), DIGEST, again) == KEY
    assert sign(KEY, DIGEST, again) == made, "signed anew, not twice"


def test_the_format_is_pinned() -> None:
    made = sign(KEY, DIGEST, FRAME)
    assert KEY.name.hex() == "81cc3dd0311f85ec"
    assert made.signature.hex() == (
        "81cc3dd0311f85ec2af467c5431fb9a4e13c45b62e7c8a68266fbc0f00fd38f014c29cb9ed9b43f0"
    )


@pytest.mark.parametrize(
    "changed",
    [
        {"codec": "cloudpickle"},
        {"payload": b"payloae"},
        {"payload": None},
        {"blobs": ()},
        {"blobs": (Blob(6, b"n" * 32),)},
        {"blobs": (Blob(5, b"m" * 32),)},
        {"signature": b""},
        {"signature": bytes(40)},
    ],
)
def test_anything_else_is_not(changed: Any) -> None:
    made = sign(KEY, DIGEST, FRAME)
    assert signed_by(keys(KEY), DIGEST, made._replace(**changed)) is None


def test_nor_for_another_value_or_by_another_key() -> None:
    made = sign(KEY, DIGEST, FRAME)
    assert signed_by(keys(KEY), b"e" * 32, made) is None
    assert signed_by(keys(Key.new()), DIGEST, made) is None
    assert signed_by({}, DIGEST, made) is None


@given(st.integers(0, 39), st.integers(1, 255))
def test_no_bit_of_it_may_differ(at: int, by: int) -> None:
    made = sign(KEY, DIGEST, FRAME)
    signature = bytearray(made.signature)
    signature[at] ^= by
    assert signed_by(keys(KEY), DIGEST, made._replace(signature=bytes(signature))) is None


def test_a_secret_is_not_shown() -> None:
    assert KEY.secret.hex() not in repr(KEY) + str(KEY) + f"{KEY}"
