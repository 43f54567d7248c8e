"""Keys and stores as documents, under the names that FiftyOne gives their fields."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any, Self

from wellkept.errors import ConfigError

__all__ = ["KeyDocument", "KeyPolicy", "StoreDocument", "policy_of", "utc"]


class KeyPolicy(str, Enum):  # noqa: UP042  as FiftyOne's is: `str()` of it tells
    """What may become of a key without being told."""

    PERSIST = "persist"
    """It stays until it is deleted."""
    EVICT = "evict"
    """It may be removed: by `clear_cache`, when its TTL has passed, when its store is full."""
    HELD = "held"
    """It stays until it is deleted or its TTL has passed: a lock, or a job."""


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass
class KeyDocument:
    """A key of a store, and what is known of it. Times are in UTC, and say so."""

    store_name: str
    key: str
    value: Any
    _id: Any = None
    dataset_id: Any = None
    """The scope."""
    created_at: datetime = field(default_factory=_now)
    updated_at: datetime | None = None
    expires_at: datetime | None = None
    policy: KeyPolicy = KeyPolicy.PERSIST
    revision: int | None = None
    """That of its last change."""

    @staticmethod
    def get_expiration(ttl: float | None) -> datetime | None:
        """When a key with this TTL, in seconds, would expire if it were set now."""
        return None if ttl is None else _now() + timedelta(seconds=ttl)

    @classmethod
    def from_dict(cls, doc: dict[str, Any]) -> Self:
        """From what `to_mongo_dict` gives.

        Raises:
            ConfigError: it has an unknown policy.
        """
        known = dict(doc)
        policy = known.pop("policy", None)
        if policy is None:
            policy = KeyPolicy.EVICT if known.get("expires_at") else KeyPolicy.PERSIST
        return cls(**known, policy=policy_of(policy))

    def to_mongo_dict(self, exclude_id: bool = True) -> dict[str, Any]:
        """As a plain dict, with the policy as text."""
        data = {each.name: getattr(self, each.name) for each in fields(self)}
        data["policy"] = self.policy.value
        if exclude_id:
            del data["_id"]
        return data


@dataclass
class StoreDocument(KeyDocument):
    """A store itself. Its `key` is a name that FiftyOne reserves; here a user's key may have it."""

    key: str = "__store__"
    value: dict[str, Any] | None = None

    @property
    def metadata(self) -> dict[str, Any]:
        """What the store was made with."""
        return self.value or {}


def policy_of(policy: Any) -> KeyPolicy:
    """A policy by its name.

    Raises:
        ConfigError: there is no such policy.
    """
    try:
        return KeyPolicy(policy)
    except ValueError:
        raise ConfigError(f"a policy is 'persist', 'evict' or 'held', not {policy!r:.80}") from None


def utc(seconds: float | None) -> datetime | None:
    """A time since the epoch as a date."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
