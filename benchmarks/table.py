"""What was measured, as a table: rich on a terminal, markdown elsewhere, and as JSON."""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import median
from typing import Any

from works import Limit, Row

START, END = "<!-- table -->", "<!-- /table -->"
COLUMNS = ("work", "wellkept", "others", "wellkept / reference", "must", "further", "met")


class Outcome:
    """One row's samples, and what they say about the limits."""

    def __init__(self, row: Row) -> None:
        self.row = row
        self.samples: dict[str, list[float]] = {}
        self.notes: dict[str, str] = dict(row.absent)
        self.failed: dict[str, str] = {}
        self.unsound: set[str] = set()

    def median(self, entrant: str) -> float | None:
        samples = self.samples.get(entrant)
        return median(samples) if samples and entrant not in self.failed else None

    def reference(self, limit: Limit) -> tuple[str, float | None]:
        """Which number a limit compares with, and that number."""
        if limit.reference is None:
            return "", 1.0
        if limit.reference != "best peer":
            name = limit.reference
            return name, None if name in self.unsound else self.median(name)
        peers = {
            name: value
            for name in self.row.entrants
            if name not in (self.row.kept, *self.unsound) and (value := self.median(name))
        }
        if not peers:
            return "best peer", None
        best = min(peers, key=peers.__getitem__)
        return f"best peer, {best}", peers[best]

    def verdicts(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for limit in self.row.limits:
            name, against = self.reference(limit)
            own = self.median(self.row.kept)
            ratio = own / against if own is not None and against else None
            found.append(
                {
                    "reference": name or None,
                    "ratio": ratio if name else None,
                    "value": own,
                    "must": limit.must,
                    "further": limit.further,
                    "met": ratio is not None and ratio <= limit.must,
                    "further_met": limit.further is not None
                    and ratio is not None
                    and ratio <= limit.further,
                }
            )
        return found

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.row.name,
            "title": self.row.title,
            "unit": self.row.unit,
            "entrants": {
                name: {"median": self.median(name), "samples": samples}
                for name, samples in self.samples.items()
            },
            "notes": self.notes,
            "failed": self.failed,
            "no_reference": sorted(self.unsound),
            "verdicts": self.verdicts(),
        }


def amount(value: float | None, unit: str) -> str:
    """A number as a reader wants it: 7.9 us, 13 ms, 64 MB."""
    if value is None:
        return "-"
    if unit == "B":
        return f"{value / 1e6:.3g} MB" if value < 999.5e6 else f"{value / 1e9:.2f} GB"
    for scale, name in ((1e-3, "us"), (1.0, "ms")):
        if value < scale * 0.9995:
            shown = value / scale * 1000
            return f"{shown:.{0 if shown >= 9.95 else 1 if shown >= 0.95 else 2}f} {name}"
    return f"{value:.2f} s"


class _Footnotes:
    def __init__(self) -> None:
        self.texts: list[str] = []

    def mark(self, text: str) -> str:
        if text not in self.texts:
            self.texts.append(text)
        return f" [{self.texts.index(text) + 1}]"


def _others(outcome: Outcome, footnotes: _Footnotes) -> list[str]:
    row, cells = outcome.row, []
    names = [name for name in row.entrants if name != row.kept]
    for name in [*names, *(name for name in row.absent if name not in names)]:
        text = amount(outcome.median(name), row.unit)
        if name in outcome.unsound:
            text = f"({text})"
        note = outcome.failed.get(name) or outcome.notes.get(name)
        cells.append(f"{name} {text}" + (footnotes.mark(f"{name}: {note}") if note else ""))
    return cells


def _limit(value: float | None, limit: Limit, unit: str) -> str:
    if value is None:
        return "-"
    return f"<= {value:g}" if limit.reference else f"<= {amount(value, unit)}"


def _lines(outcome: Outcome, footnotes: _Footnotes) -> list[list[str]]:
    """The cells of a row; a cell is a list of lines, one a limit."""
    row, verdicts = outcome.row, outcome.verdicts()
    own = outcome.failed.get(row.kept)
    note = own or outcome.notes.get(row.kept)
    kept = "FAILED" if own else amount(outcome.median(row.kept), row.unit)
    return [
        [row.title],
        [kept + (footnotes.mark(f"{row.kept}: {note}") if note else "")],
        _others(outcome, footnotes),
        [
            f"{v['ratio']:.{2 if v['ratio'] < 10 else 0}f} x {v['reference']}"
            if v["ratio"] is not None
            else "-"
            for v in verdicts
        ],
        [_limit(limit.must, limit, row.unit) for limit in row.limits],
        [_limit(limit.further, limit, row.unit) for limit in row.limits],
        ["further" if v["further_met"] else "yes" if v["met"] else "NO" for v in verdicts],
    ]


def markdown(outcomes: list[Outcome], about: dict[str, Any]) -> str:
    footnotes = _Footnotes()
    rows = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    for outcome in outcomes:
        cells = [
            (", " if at == 2 else "<br>").join(line.replace("|", "\\|") for line in lines)
            for at, lines in enumerate(_lines(outcome, footnotes))
        ]
        rows.append("| " + " | ".join(cells) + " |")
    notes = [f"[{at}] {text}" for at, text in enumerate(footnotes.texts, 1)]
    return "\n\n".join(["\n".join(rows), *notes, _about(about)]) + "\n"


def _about(about: dict[str, Any]) -> str:
    libraries = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    quick = " A quick run: few rounds, and 50,000 calls in place of the million." * about["quick"]
    return (
        f"Medians of {about['rounds']} rounds, {about['date']}, Python {about['python']}, "
        f"{about['cpu']}, {about['cores']} cores; {libraries}.{quick}"
    )


def show(outcomes: list[Outcome], about: dict[str, Any]) -> None:
    if not sys.stdout.isatty():
        sys.stdout.write(markdown(outcomes, about))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    footnotes, console = _Footnotes(), Console()
    table = Table(show_lines=True)
    for name in COLUMNS:
        table.add_column(name)
    colours = {"NO": "bold red", "yes": "green", "further": "bold green"}
    for outcome in outcomes:
        *cells, met = _lines(outcome, footnotes)
        verdict = Text("\n").join(Text(word, style=colours[word]) for word in met)
        table.add_row(*(Text("\n".join(lines)) for lines in cells), verdict)
    console.print(table)
    for at, text in enumerate(footnotes.texts, 1):
        console.print(Text(f"[{at}] {text}"))
    console.print(Text(_about(about)))


def update_markdown(path: Path, outcomes: list[Outcome], about: dict[str, Any]) -> None:
    """Put the table between the marks of a page."""
    page = path.read_text(encoding="utf-8")
    if START not in page or END not in page:
        raise SystemExit(f"{path} has no block {START} ... {END} to put the table in")
    head, rest = page.split(START, 1)
    tail = rest.split(END, 1)[1]
    path.write_text(
        f"{head}{START}\n{markdown(outcomes, about)}{END}{tail}",
        encoding="utf-8",
    )
