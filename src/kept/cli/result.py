"""A kept result, described: without loading it, or loaded and in short."""

from __future__ import annotations

from typing import Any

__all__ = ["describe"]

_LINES, _CHARACTERS, _WIDTH = 30, 8000, 200


def describe(cache: Any, call: Any, *, load: bool) -> dict[str, Any]:
    """Codec, number of blobs, and a text that shows the result: of JSON always, else if loaded.

    Raises:
        DecodeError: it is damaged, or can't be decoded here.
    """
    held = cache.place.fetch(call.key.raw)
    frame = None if held is None else held.frame
    if frame is None:
        return {"codec": None, "blobs": 0, "loaded": False, "text": None}
    shown = None
    if load:
        from kept.codecs import decoder

        payload, buffers = cache.place.load(frame)
        value = decoder(frame.codec)(payload, buffers)
        if call.state == "failed" and isinstance(value, list) and value:
            value = value[0]  # its causes follow
        shown = _text(value)
    elif frame.codec == "file":
        from kept.codecs.filed import says

        said = says(cache.place.load(frame)[0])
        shown = (
            f"a file of the format {said['format']}, read by {said['loader']}; --value does that"
        )
    elif frame.codec == "json":  # nothing runs when JSON is read
        payload, _ = cache.place.load(frame)
        shown = _short(bytes(payload[: 4 * _CHARACTERS]).decode(errors="replace"))
    return {"codec": frame.codec, "blobs": len(frame.blobs), "loaded": load, "text": shown}


def _text(value: Any) -> str:
    from rich.pretty import pretty_repr

    try:
        return _short(pretty_repr(value, max_length=20, max_string=500, max_depth=6))
    except Exception as error:  # noqa: BLE001  a repr may do anything
        return f"<a {type(value).__qualname__}, whose repr fails: {type(error).__name__}>"


def _short(text: str) -> str:
    lines = text[:_CHARACTERS].split("\n")
    whole = len(text) <= _CHARACTERS and len(lines) <= _LINES
    shown = [line if len(line) <= _WIDTH else f"{line[:_WIDTH]}…" for line in lines[:_LINES]]
    return "\n".join(shown if whole else [*shown, "…"])
