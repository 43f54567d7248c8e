"""Where in a value the part lies that has no identity: `arguments["config"].stream`."""

from __future__ import annotations

from typing import Any

from .definitions import TAG

__all__ = ["path_of"]

_NAMED = {"dataclass": 3, "attrs": 3, "namedtuple": 3}
"""Tags whose content is a class, its field names joined by commas, then the fields."""


def _shown(key: Any) -> str:
    text = repr(key) if not isinstance(key, str) else '"' + key + '"'
    return text if len(text) <= 60 else text[:57] + "..."


def path_of(label: str, steps: list[tuple[Any, int]]) -> str:
    """The way from the root to a part, as Python would write it.

    Args:
        label: what the root is called.
        steps: (`Shape`, number of the child taken), from the root down.
    """
    text = label
    above = ""  # the tag of the node above, where that is a reduced object
    for shape, number in steps:
        children = shape.children
        if shape.kind == "tagged":
            if children[0].startswith(TAG):
                children, number = children[1:], number - 1
                if children[0] == "function":  # whose source is left out
                    number += 1
            above = children[0]
            if above in _NAMED and number >= _NAMED[above]:
                text += "." + children[2].split(",")[number - _NAMED[above]]
            elif above == "partial" and number == 2:
                text += ".func"
            elif above == "method":
                text += ".__self__"
            elif above == "function" and number == 3:
                text, above = f"{text}.__defaults__", "defaults"
            continue
        if above == "held":  # the tuple of one that tells an empty cell from a full one
            above = ""
            continue
        if shape.kind in ("dict", "mapping"):
            half = len(children) // 2
            if number < half:
                text += f" (key {_shown(children[number])})"
            elif above in _STATES and isinstance(children[number - half], str):
                text += f".{children[number - half]}"
            else:
                text += f"[{_shown(children[number - half])}]"
        elif shape.kind in ("tuple", "list"):
            if above not in _STATES or shape.kind == "list":
                text += f"[{number}]"
        else:
            text += "{…}"
        if above in ("function", "defaults"):
            above = "held"
        elif shape.kind != "tuple" or above not in _STATES:
            above = ""
    if len(text) > _LONGEST:
        text = f"{text[: _LONGEST // 2]} … {text[-_LONGEST // 4 :]}"
    return text


_LONGEST = 400  # characters


_STATES = frozenset(
    {"object", "dataclass", "attrs", "pydantic", "state", "namespace", "exception", "function"}
    | {"k2:object", "k2:pydantic"}
)
"""Tags under which a dict holds attributes."""
