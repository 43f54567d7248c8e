"""What is refused because nobody vouches for it."""

from __future__ import annotations

from wellkept.errors import DecodeError, UntrustedSource

__all__ = ["Refused"]


class Refused(DecodeError, UntrustedSource):  # noqa: N818  says what happened, as wellkept's errors do
    """A value from elsewhere is neither signed by a key that is trusted here nor of plain types."""

    what = "not trusted"
    """What is said of it."""

    def __init__(self, why: str) -> None:
        super().__init__(
            f"a value from elsewhere is not signed by a key that is trusted here, and {why}, which "
            "is no plain type: share a key (`wellkept keys`), register its dataclass "
            "(`wellkept.register_plain`), or open that place with trust=True"
        )
