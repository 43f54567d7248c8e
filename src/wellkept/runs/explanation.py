"""Why a call is a hit or a miss: as text, as data, as HTML."""

from __future__ import annotations

import html
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from wellkept.runs.table import duration

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["Cause", "Explanation", "Line", "ago", "data_size", "html_of", "rich_of", "text_of"]

_REASONS = 3  # why all of a module counts, in a text
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


class Line(NamedTuple):
    """A line of a text."""

    title: str
    text: str
    style: str = ""
    """`good`, `bad`, `added`, `removed`, `dim` or nothing."""


class Cause(NamedTuple):
    """One reason why a call is, or was, not served from what is kept."""

    kind: str
    """`never called`, `arguments`, `code`, `version`, `dependency`, `expired`, `evicted`, `damaged`,
    `hidden`, `unreachable`, `undigestible`, `required`, `unstorable`, `unavailable`, `declined`,
    `raised`, `read-only` or `void`."""
    text: str
    """A sentence."""
    lines: tuple[Line, ...] = ()
    """What there is to show beside it."""
    data: Mapping[str, Any] = {}
    """The same as plain data."""

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return {"kind": self.kind, "text": self.text, **self.data}


class Explanation:
    """What would become of a call now, and why. Prints as text.

    Attributes:
        call: the call as one writes it.
        function, code, key: the identity of the function and of its code, and what names the call; None
            of a call that has none.
        outcome: `hit`, `stale` (served while it is computed again), `miss`, or `unkept` (it is
            computed each time).
        causes: why it is a miss, the decisive one first.
        computed: why what is kept was once computed, where that was asked for: what told the call from
            those that were kept before it.
        kept: what is kept of it, where something is: `layer`, `created`, `seconds`, `size`, `expires`, …
        layers: each place that was looked at: its `name` and `state`.
        widened: modules of which all counts, as something in them is not understood, and why.
    """

    def __init__(
        self,
        *,
        call: str,
        function: str,
        outcome: str,
        code: str | None = None,
        key: str | None = None,
        causes: tuple[Cause, ...] = (),
        computed: tuple[Cause, ...] = (),
        kept: Mapping[str, Any] | None = None,
        layers: tuple[Mapping[str, Any], ...] = (),
        widened: Mapping[str, Sequence[str]] = {},
    ) -> None:
        self.call, self.function, self.outcome = call, function, outcome
        self.code, self.key = code, key
        self.causes, self.computed = causes, computed
        self.kept = None if kept is None else dict(kept)
        self.layers = [dict(layer) for layer in layers]
        self.widened = {name: list(why) for name, why in widened.items()}

    @property
    def hit(self) -> bool:
        """Whether the call would be served from what is kept."""
        return self.outcome in ("hit", "stale")

    @property
    def cause(self) -> str | None:
        """The kind of the decisive cause of a miss; None of a hit."""
        return None if self.hit or not self.causes else self.causes[0].kind

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for JSON. Times are seconds since the epoch, durations seconds, sizes bytes."""
        return {
            "call": self.call,
            "function": self.function,
            "code": self.code,
            "key": self.key,
            "outcome": self.outcome,
            "kept": self.kept,
            "causes": [cause.to_dict() for cause in self.causes],
            "computed": [cause.to_dict() for cause in self.computed],
            "layers": self.layers,
            "widened": self.widened,
        }

    def lines(self) -> Iterator[Line]:
        """The text, line by line."""
        said = {"unkept": "computed each time", "stale": "a hit, out of date"}
        words = said.get(self.outcome, f"a {self.outcome}")
        yield Line("", f"{self.call}: {words}", "good" if self.hit else "bad")
        for cause in self.causes:
            yield Line("why", cause.text)
            yield from cause.lines
        if self.kept is not None:
            yield from _kept_lines(self.kept)
        for cause in self.computed:
            yield Line("computed as", cause.text)
            yield from cause.lines
        for name, reasons in self.widened.items():
            for why in reasons[:_REASONS]:
                yield Line("counts too", f"all of {name}: {why}", "dim")
        if self.key is not None:
            yield Line("key", self.key, "dim")
        if len(self.layers) > 1:
            for layer in self.layers:
                yield Line("layer", f"{layer['name']}: {layer['state']}")

    def __str__(self) -> str:
        return text_of(self.lines())

    __repr__ = __str__

    def __rich__(self) -> Text:
        return rich_of(self.lines())

    def _repr_html_(self) -> str:
        return html_of(self.lines())


def _kept_lines(kept: Mapping[str, Any]) -> Iterator[Line]:
    where = kept["layer"] + (", and in memory" if kept.get("memory") else "")
    yield Line("kept in", where)
    took = f", in {duration(kept['seconds'])}"
    yield Line("computed", f"{_moment(kept['created'])}, {ago(kept['created'])}{took}")
    what = {"failed": "an exception, ", "items": "the items of a generator, "}.get(
        kept["state"], ""
    )
    blobs = f", {kept['blobs']} blob{'s' if kept['blobs'] > 1 else ''}" if kept.get("blobs") else ""
    yield Line("result", f"{what}{data_size(kept['size'])} as {kept['codec'] or '?'}{blobs}")
    if kept["expires"] is None:
        yield Line("expires", "never")
    else:
        late = kept["expires"] <= time.time()
        word = "did, " if late else "in "
        far = ago(kept["expires"]) if late else duration(kept["expires"] - time.time())
        yield Line("expires", f"{word}{far} ({_moment(kept['expires'])})")
    if kept["uses"]:
        yield Line("used", f"{kept['uses']:,} x, last {ago(kept['last_used'])}")


# -- lines as text ------------------------------------------------------------------------------------


def text_of(lines: Iterator[Line]) -> str:
    """Plain text."""
    return "\n".join(_joined(line).rstrip() for line in lines)


def rich_of(lines: Iterator[Line]) -> Text:
    """Text with colours."""
    from rich.text import Text  # only in terminals

    colours = {"good": "bold green", "bad": "bold red", "added": "green", "removed": "red"}
    made = Text()
    for line in lines:
        made.append(_joined(line).rstrip() + "\n", style=colours.get(line.style, line.style))
    made.rstrip()
    return made


def html_of(lines: Iterator[Line]) -> str:
    """A table, for notebooks."""
    rows = []
    for line in lines:
        text = html.escape(line.text)
        if line.style in ("good", "bad") and not line.title:
            rows.append(f'<tr><th colspan="2" style="text-align:left">{text}</th></tr>')
            continue
        colour = {"added": "green", "removed": "firebrick"}.get(line.style)
        style = "text-align:left;white-space:pre-wrap" + (f";color:{colour}" if colour else "")
        head = f'<td style="text-align:left">{html.escape(line.title)}</td>'
        rows.append(f'<tr>{head}<td style="{style}">{text}</td></tr>')
    return f"<table>{''.join(rows)}</table>"


def _joined(line: Line) -> str:
    if not line.title and line.style in ("good", "bad"):
        return plain(line.text)
    return f"  {line.title:<13} {plain(line.text)}"


def plain(text: str) -> str:
    """Text that can't do anything to a terminal."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _moment(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


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
