"""Times, sizes and facts as people read them, as text and in notebooks."""

from __future__ import annotations

import html
import time
from collections.abc import Mapping


def plain(text: str) -> str:
    """Text without what could do something to a terminal."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def ago(then: float | None) -> str:
    """`3 min ago`."""
    if then is None:
        return "never"
    seconds = max(0.0, time.time() - then)
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length * (2 if unit != "min" else 1):
            return f"{seconds // length:,.0f} {unit} ago"
    return f"{seconds:.0f} s ago"


def data_size(count: float) -> str:
    """`1.2 MB`, in powers of 1000."""
    i = 0
    while count >= 999.5 and i < len(_UNITS) - 1:
        count /= 1000
        i += 1
    return f"{count:.0f} {_UNITS[i]}" if i == 0 or count >= 99.5 else f"{count:.1f} {_UNITS[i]}"


def counted(count: int, one: str, many: str = "") -> str:
    """`1 call`, `1,000 calls`.

    Args:
        many: the plural, if it is not `one` with an s.
    """
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def duration(seconds: float | None) -> str:
    """`12 us`, `3.4 ms`, `5.6 s`, `12 min`, `3.4 h`."""
    if seconds is None:
        return ""
    for limit, scale, unit in (
        (1e-3, 1e6, "us"),
        (1.0, 1e3, "ms"),
        (100.0, 1.0, "s"),
        (6000.0, 1 / 60, "min"),
        (float("inf"), 1 / 3600, "h"),
    ):
        if seconds < limit:
            count = seconds * scale
            return f"{count:.0f} {unit}" if count >= 99.5 or not count else f"{count:.2g} {unit}"
    return "?"


_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def when(then: float | None) -> str:
    """`2026-07-30 12:00:00, 3 min ago`."""
    if then is None:
        return "never"
    return f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(then))}, {ago(then)}"


def facts(title: str, about: Mapping[str, object]) -> str:
    """Return a table for a notebook: a title, and facts by name; those that are None or "" are left out."""
    cell = '<td style="text-align:left">'
    rows = "".join(
        f"<tr>{cell}{html.escape(name)}</td>{cell}{html.escape(plain(str(said)))}</td></tr>"
        for name, said in about.items()
        if said is not None and said != ""
    )
    head = f'<tr><th colspan="2" style="text-align:left">{html.escape(plain(title))}</th></tr>'
    return f"<table>{head}{rows}</table>"
