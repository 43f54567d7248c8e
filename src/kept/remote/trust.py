"""Which values from elsewhere may be decoded how."""

from __future__ import annotations

from kept.codecs import Frame

__all__ = ["Trusts"]


class Trusts:
    """What is believed of a source.

    Args:
        trust: all of it.
    """

    def __init__(self, trust: bool) -> None:
        self.trust = trust

    def codec(self, digest: bytes, frame: Frame) -> str:
        """The codec by which a value is decoded here."""
        return frame.codec

    def signed(self, digest: bytes, frame: Frame) -> Frame:
        """A frame on its way there."""
        return frame
