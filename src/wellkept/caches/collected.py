"""What `meta` may say in a configuration or of a function, and what is never recorded."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from wellkept.errors import ConfigError

__all__ = ["COLLECTORS", "RESERVED", "checked_names", "is_secret"]

COLLECTORS = ("environment", "git", "packages", "tags")

RESERVED = frozenset(
    {"started", "cpu", "system", "memory", "env", "package", "parent", "run", "node", "carries"}
)
"""Names that stand in a call's metadata anyway."""

_SECRET = re.compile(r"(?i)token|secret|passw|key|credential|auth|private|cookie")


def is_secret(name: str) -> bool:
    """Whether the name of a variable looks like that of a secret."""
    return _SECRET.search(name) is not None


def checked_names(name: str, said: Any, where: str) -> None:
    """Check what is said of a collector.

    Raises:
        ConfigError: it is not what it may be, or names a secret.
    """
    if name == "git":
        if said is not True:
            raise ConfigError(f"{where} git is only switched on: true, not {said!r}")
        return
    if name == "tags":
        scalar = (str, int, float, bool, type(None))
        if not isinstance(said, Mapping) or not all(
            isinstance(key, str) and isinstance(value, scalar) for key, value in said.items()
        ):
            raise ConfigError(f"{where} tags are names with text, numbers or truths, not {said!r}")
        try:
            json.dumps(dict(said), allow_nan=False)
        except ValueError as error:
            raise ConfigError(f"{where} a tag can't be kept: {error}") from error
        return
    if name == "packages" and said is True:
        return
    if not isinstance(said, (list, tuple)) or not all(isinstance(item, str) for item in said):
        what = "variables" if name == "environment" else "distributions"
        raise ConfigError(f"{where} {name} takes a list of names of {what}, not {said!r}")
    if name == "environment":
        for variable in said:
            if is_secret(variable):
                raise ConfigError(
                    f"{where} {variable} is not recorded: its name looks like that of a secret"
                )
