"""What a configuration says of one cache: where it is, or what it is made of."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from wellkept.caches.secrets import redacted

__all__ = ["BARE", "KINDS", "Spec", "no_such", "toml_key", "toml_value"]

BARE = re.compile(r"\w[\w-]*")
"""A bare word is the name of a cache; a path of one word is written `./word`."""

KINDS = ("url", "values", "stack", "pool", "of")
"""What a cache may be; `values` goes with `calls`."""


def no_such(name: str, caches: Mapping[str, Any]) -> str:
    """What to say of a name that no cache has."""
    known = ", ".join(sorted(caches)) or "none"
    return f"no cache is named {name!r}; there are {known} (a path is written './{name}')"


class Spec(NamedTuple):
    """One cache, as it is configured. Exactly one of `KINDS` is said."""

    url: str | None = None
    """A path or URL; `${NAME}` in it is a variable of the environment, put in when it is opened."""
    options: Mapping[str, Any] = {}
    """What the place takes, and `memory`."""
    values: str | None = None
    """The URL of the store of results …"""
    calls: str | None = None
    """… and of the one of call records."""
    stack: tuple[str, ...] = ()
    """Names or URLs of caches, the nearest first."""
    pool: tuple[str, ...] = ()
    of: str | None = None
    """The name or URL of a cache that is seen in another way."""
    write: str | None = None
    """`all` or `first` of a stack; `none`: it is only read from."""
    limit: Mapping[str, Any] | None = None
    """`bytes`, `calls`, `policy`."""

    @property
    def parts(self) -> tuple[str, ...]:
        """The caches that it is made of."""
        return self.stack or self.pool or ((self.of,) if self.of else ())

    @property
    def shown(self) -> str:
        """In a line, without secrets."""
        if self.url is not None:
            said = redacted(self.url)
        elif self.values is not None:
            said = f"values in {redacted(self.values)}, calls in {redacted(self.calls or '')}"
        else:
            kind = "stack" if self.stack else "pool" if self.pool else "view"
            said = f"{kind} of {', '.join(map(redacted, self.parts))}"
        if self.write not in (None, "all"):
            said += f", write = {self.write}"
        if self.limit:
            limits = (f"{name} = {value}" for name, value in self.limit.items())
            said += f", limit {', '.join(limits)}"
        return said

    def table(self) -> dict[str, Any]:
        """As it stands in a file."""
        said: dict[str, Any] = {}
        for name in ("url", "values", "calls", "stack", "pool", "of", "write"):
            value = getattr(self, name)
            if value:
                said[name] = list(value) if isinstance(value, tuple) else value
        if self.limit:
            said["limit"] = dict(self.limit)
        return said | dict(self.options)

    def lines(self) -> Iterator[str]:
        """The lines of a TOML table."""
        for name, value in self.table().items():
            yield f"{toml_key(name)} = {toml_value(value)}"


def toml_key(name: str) -> str:
    """A key, quoted where it must be."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else toml_value(name)


def toml_value(value: Any) -> str:
    """Text, number, truth, list or table in a line of TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(toml_value, value))}]"
    if isinstance(value, Mapping):
        inside = ", ".join(f"{toml_key(name)} = {toml_value(item)}" for name, item in value.items())
        return f"{{ {inside} }}"
    return repr(value)
