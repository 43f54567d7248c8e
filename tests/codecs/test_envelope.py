"""Envelopes: what they say, and that a damaged one is never taken for another."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wellkept.codecs import Blob, Envelope
from wellkept.errors import DamagedValue, DecodeError
from wellkept.stores.record_format import seal, unseal

ENVELOPES = st.builds(
    Envelope,
    st.sampled_from(["pickle", "cloudpickle", "json", "x"]),
    st.binary(max_size=40),
    st.lists(
        st.builds(Blob, st.integers(0, 2**64 - 1), st.binary(min_size=32, max_size=32)), max_size=3
    ).map(tuple),
    st.sampled_from([b"", bytes(range(40))]),
    st.none(),
)


@given(ENVELOPES)
def test_an_envelope_comes_back(envelope: Envelope) -> None:
    assert Envelope.unpack(envelope.pack()) == envelope
    assert Envelope.unpack(memoryview(envelope.pack()).toreadonly().tobytes()) == envelope


def test_a_payload_may_be_a_blob() -> None:
    envelope = Envelope("pickle", None, (Blob(5, b"n" * 32),))
    assert Envelope.unpack(envelope.pack()) == envelope
    assert Envelope.unpack(envelope.pack()).payload is None


def test_the_layout() -> None:
    packed = Envelope("json", b"{}", (Blob(7, b"n" * 32),)).pack()
    assert packed == b"kv\x01\x00\x04json" + struct.pack("<IQ", 1, 7) + b"n" * 32 + b"{}"


@given(ENVELOPES, st.data())
def test_a_cut_envelope_is_an_error_or_a_shorter_payload(
    envelope: Envelope, data: st.DataObject
) -> None:
    packed = envelope.pack()
    n = data.draw(st.integers(0, len(packed) - 1)) if packed else 0
    try:
        got = Envelope.unpack(packed[:n])
    except DecodeError:
        return
    assert got.codec == envelope.codec
    assert got.blobs == envelope.blobs
    assert got.signature == envelope.signature
    assert envelope.payload is not None
    assert envelope.payload.startswith(bytes(got.payload or b""))


def test_only_what_is_signed_is_of_the_second_version() -> None:
    bare = Envelope("pickle", b"x")
    signed = bare._replace(signature=bytes(range(40)))
    assert bare.pack()[2] == 1
    assert signed.pack() == b"kv\x02\x02\x06pickle" + bytes(4) + bytes(range(40)) + b"x"
    with pytest.raises(DamagedValue):
        Envelope.unpack(signed.pack()[:40])


def test_sealed_a_frame_cut_or_flipped_anywhere_is_an_error() -> None:
    name = b"d" * 32
    sealed = seal(name, Envelope("pickle", b"payload", (Blob(1, b"b" * 32),)).pack())
    for n in range(len(sealed)):
        with pytest.raises(DamagedValue):
            unseal(name, sealed[:n])
        for bit in (1, 128):
            flipped = bytearray(sealed)
            flipped[n] ^= bit
            with pytest.raises(DamagedValue):
                unseal(name, bytes(flipped))
    with pytest.raises(DamagedValue):
        unseal(b"e" * 32, sealed)


def test_a_newer_frame_and_no_frame() -> None:
    packed = bytearray(Envelope("pickle", b"").pack())
    packed[2] = 3
    with pytest.raises(DecodeError, match="newer"):
        Envelope.unpack(bytes(packed))
    for junk in (
        b"",
        b"k",
        b"xx\x01\x00\x00" + bytes(4),
        b"kv\x01\x00\xff",
        b"kv\x01\x00\x00\xff\xff\xff\xff",
    ):
        with pytest.raises(DamagedValue):
            Envelope.unpack(junk)
