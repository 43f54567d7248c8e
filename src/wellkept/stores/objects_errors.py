"""What an object store refuses, in one line each; and nothing secret in any of it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from wellkept.errors import StoreError

__all__ = ["NO_BUCKET", "SILENT", "as_told", "scrubbed"]

NO_BUCKET = re.compile(r"NoSuchBucket|ContainerNotFound|bucket does not exist", re.IGNORECASE)

SILENT = ("no answer in time", "no connection; is the endpoint right and running?")
"""How what is told ends where there was no answer at all."""

_TOLD = (
    (NO_BUCKET, "there is no such bucket; make it, or check its name"),
    (
        re.compile(
            r"Unauthenticated|PermissionDenied|InvalidAccessKeyId|SignatureDoesNotMatch"
            r"|AccessDenied|Permission denied|InvalidToken|ExpiredToken|AuthenticationFailed"
        ),
        "it refuses these credentials; check them and what they permit",
    ),
    (
        re.compile(r"No space left|507 |QuotaExceeded|StorageFull|InsufficientStorage|EDQUOT"),
        "it is full; free room there, or raise its quota",
    ),
    (re.compile(r"timed ?out|TimedOut|deadline", re.IGNORECASE), SILENT[0]),
    (
        re.compile(r"error sending request|kind: Connect|dns error|Connection re(fused|set)"),
        SILENT[1],
    ),
    (re.compile(r"SlowDown|503 |TooManyRequests|429 "), "it is overloaded; try again later"),
)

_SECRET = re.compile(r"key|secret|token|password|sas|credential|account", re.IGNORECASE)


def as_told(what: str, error: BaseException, options: Mapping[str, Any]) -> StoreError:
    """The error of the driver as one of wellkept's."""
    text = f"{type(error).__name__}: {error}"
    for pattern, advice in _TOLD:
        if pattern.search(text):
            return StoreError(f"{what}: {advice}")
    line = _without(str(error), _secrets(options)).partition("\n")[0]
    return StoreError(f"{what}: {line[:300]}")


def scrubbed(error: BaseException, options: Mapping[str, Any]) -> BaseException:
    """The error, or one like it where its text has a secret."""
    text = str(error)
    clean = _without(text, _secrets(options))
    return error if clean == text else StoreError(clean)


def _secrets(options: Mapping[str, Any]) -> list[str]:
    named = [*options.items(), *dict(options.get("config") or {}).items(), *os.environ.items()]
    return [
        value
        for name, value in named
        if isinstance(value, str) and len(value) > 5 and _SECRET.search(name)
    ]


def _without(text: str, secrets: list[str]) -> str:
    for secret in secrets:
        text = text.replace(secret, "…")
    return re.sub(r"(?i)([?&](?:sig|x-amz-[a-z-]+|token)=)[^&\s\"]+", r"\1…", text)
