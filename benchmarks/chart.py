"""The main rows as a bar chart: an SVG that follows the reader's light or dark colours.

python benchmarks/chart.py                      # benchmarks/out/peers.json -> docs/benchmarks.svg
python benchmarks/chart.py results.json out.svg
"""

from __future__ import annotations

import json
import sys
from html import escape
from pathlib import Path
from typing import Any

from table import amount

HERE = Path(__file__).parent

# What most readers ask for, and whom they know.
ROWS = {
    "hit-small-memory": "a hit, three small arguments, from memory",
    "hit-small-disk": "the same from disk",
    "hit-array": "a hit with an array of 100 MB as argument",
    "hit-frame": "a hit with a data frame of 1,000,000 rows",
    "hit-nested": "a hit with a dict of 20,000 lists",
    "miss-small": "a miss, beside what the body takes",
    "keep-array": "keeping an array of 100 MB",
    "load-first": "loading it, in a new process",
    "import": "importing the library",
}
PEERS = ("diskcache", "joblib", "cachier", "cachau", "fleche")
WIDTH, LABELS, TIMES, BAR, GAP, TITLE = 760, 110, 90, 13, 26, 20

STYLE = """
text { font: 12px system-ui, sans-serif; fill: #24292f }
.title { font-weight: 600 }
.about { fill: #57606a; font-size: 11px }
.own { fill: #0969da }
.peer { fill: #afb8c1 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  .about { fill: #9198a1 }
  .own { fill: #58a6ff }
  .peer { fill: #484f58 }
}
"""


def bars(row: dict[str, Any]) -> list[tuple[str, float]]:
    """A row's medians: wellkept's, and of each library the best that did the same work."""
    out, best = set(row["failed"]) | set(row["no_reference"]), {}
    for name, found in row["entrants"].items():
        library = name.split()[0]
        if name in out or found["median"] is None or library not in ("wellkept", *PEERS):
            continue
        best[library] = min(best.get(library, found["median"]), found["median"])
    return [(name, best[name]) for name in ("wellkept", *PEERS) if name in best]


def chart(rows: list[dict[str, Any]], about: dict[str, Any]) -> str:
    """The SVG. A row's longest bar is the slowest library; what has no bar can't do the row."""
    by_name = {row["name"]: row for row in rows}
    parts, at = [], 14
    for name, said in ROWS.items():
        found = bars(by_name[name]) if name in by_name else []
        if len(found) < 2 or found[0][0] != "wellkept":
            continue
        at += TITLE
        parts.append(f'<text class="title" x="0" y="{at - 6}">{escape(said)}</text>')
        slowest = max(value for _, value in found)
        for library, value in found:
            wide = max(1.0, (WIDTH - LABELS - TIMES) * max(value, 0) / slowest)
            kind = "own" if library == "wellkept" else "peer"
            middle = at + BAR - 3
            parts += [
                f'<text x="0" y="{middle}">{library}</text>',
                f'<rect class="{kind}" x="{LABELS}" y="{at}" width="{wide:.1f}" height="{BAR - 2}" rx="2"/>',
                f'<text x="{LABELS + wide + 6:.1f}" y="{middle}">{amount(value, by_name[name]["unit"])}</text>',
            ]
            at += BAR + 3
        at += GAP - TITLE
    note = (
        f"Medians of one run, shorter is better; {about['date']}, Python {about['python']}, "
        f"{about['cores']} cores. What has no bar can't do the row."
    )
    at += TITLE
    parts.append(f'<text class="about" x="0" y="{at - 6}">{escape(note)}</text>')
    title = "Times of wellkept beside other libraries"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {at}" width="{WIDTH}" '
        f'height="{at}" role="img" aria-label="{title}">\n<title>{title}</title>\n'
        f"<style>{STYLE}</style>\n" + "\n".join(parts) + "\n</svg>\n"
    )


def main() -> None:
    given = [Path(text) for text in sys.argv[1:]]
    source = given[0] if given else HERE / "out" / "peers.json"
    target = given[1] if len(given) > 1 else HERE.parent / "docs" / "benchmarks.svg"
    found = json.loads(source.read_text())
    target.write_text(chart(found["rows"], found["about"]), encoding="utf-8")


if __name__ == "__main__":
    main()
