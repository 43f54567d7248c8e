"""Which values from elsewhere may be decoded how, and whose mark goes on those that are sent."""

from __future__ import annotations

from kept.codecs import Frame
from kept.codecs.paths import PATHS, PLAIN_PATHS
from kept.codecs.signing import sign, signed_by
from kept.codecs.untrusted import Refused
from kept.remote.keyring import Keyring

__all__ = ["Trusts"]

_HARMLESS = frozenset(("arrow", "json", "npy", "plain"))
"""Codecs that run nothing, whatever the bytes are."""


class Trusts:
    """What is believed of a source.

    Args:
        trust: all of it, signed or not.
        keys: whose signatures are believed, and with which values that go there are signed; by
            default those that the user has.
    """

    def __init__(self, trust: bool = False, keys: Keyring | None = None) -> None:
        self.trust = trust
        self._keys = Keyring() if keys is None else keys

    def codec(self, digest: bytes, frame: Frame) -> str:
        """The codec by which a value with this digest is decoded here.

        Raises:
            Refused: it is of a codec that could run anything, and nobody vouches for it.
            UntrustedSource: others can read the keys.
            StoreError: they can't be read.
        """
        if self.trust or frame.codec in _HARMLESS:
            return frame.codec
        if frame.signature and signed_by(self._keys.trusted(), digest, frame) is not None:
            return frame.codec
        if frame.codec == "pickle":
            return "plain"
        if frame.codec == PATHS:
            return PLAIN_PATHS
        raise Refused(f"it is encoded with {frame.codec[:40]!r}")

    def signed(self, digest: bytes, frame: Frame) -> Frame:
        """A frame on its way there, signed if there is a key; raises as `codec`, but for `Refused`."""
        key = self._keys.signing()
        return frame if key is None else sign(key, digest, frame)
