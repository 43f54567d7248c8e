"""Charts as SVG: bars over time, distributions, a treemap, a waterfall; the style sheet has the colours."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from wellkept.readable import data_size, duration
from wellkept.runs.graph import escaped

Link = Callable[..., str | None]


def _svg(width: float, height: float, label: str, parts: Sequence[str], kind: str) -> str:
    role = "group" if any(part.startswith("<a ") for part in parts) else "img"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="{kind}" viewBox="0 0 {width:g} {height:g}" '
        f'role="{role}" aria-label="{escaped(label)}">{"".join(parts)}</svg>'
    )


def stamp(at: float, step: float = 1) -> str:
    """Return a time in this place's zone, as exact as a step needs it."""
    form = "%Y-%m-%d" if step >= 86400 else "%d %b %H:%M"
    return time.strftime(form, time.localtime(at))


def bars(chart: Mapping[str, Any]) -> str:
    """Hits upwards and computations downwards, a bar each for each step of time."""
    up, down, step = chart["hits"], chart["computed"], chart["step"]
    width, height, middle = 720, 150, 70
    most = [max(side, default=0) or 1 for side in (up, down)]
    wide = width / len(down)
    parts = []
    for i, (hits, computed) in enumerate(zip(up, down, strict=True)):
        at = stamp(chart["begin"] + i * step, step)
        title = f"<title>{at}: {hits:,} hits, {computed:,} computed</title>"
        tall, deep = 62 * hits / most[0], 58 * computed / most[1]
        x = i * wide + 1
        parts.append(
            f'<g>{title}<rect class="ground" x="{x:.1f}" y="0" width="{wide - 2:.1f}" height="130"/>'
            f'<rect class="hit" x="{x:.1f}" y="{middle - tall:.1f}" width="{wide - 2:.1f}" '
            f'height="{tall:.1f}"/><rect class="computed" x="{x:.1f}" y="{middle + 1}" '
            f'width="{wide - 2:.1f}" height="{deep:.1f}"/></g>'
        )
    for i, anchor in ((0, "start"), (len(down) // 2, "middle"), (len(down) - 1, "end")):
        x = {"start": 0, "middle": width / 2, "end": width}[anchor]
        at = stamp(chart["begin"] + i * step, step)
        parts.append(f'<text x="{x:.0f}" y="146" text-anchor="{anchor}">{at}</text>')
    parts.append(f'<line class="axis" x1="0" x2="{width}" y1="{middle}.5" y2="{middle}.5"/>')
    label = f"{sum(up):,} hits and {sum(down):,} computations over time"
    return _svg(width, height, label, parts, "bars")


def spread(found: Mapping[str, Any], size: bool = False) -> str:
    """Return a distribution on a scale of powers."""
    bins, unit = found["bins"], data_size if size else duration
    width, height, most = 320, 84, max(found["bins"]) or 1
    wide, scale = width / len(bins), math.log(found["high"] / found["low"])
    parts = []
    for i, count in enumerate(bins):
        low = found["low"] * math.exp(scale * i / len(bins))
        tall = 62 * math.sqrt(count / most)
        parts.append(
            f'<g><title>from {unit(low)}: {count:,}</title><rect class="computed" x="{i * wide + 0.5:.1f}" '
            f'y="{64 - tall:.1f}" width="{wide - 1:.1f}" height="{tall:.1f}"/></g>'
        )
    parts.append(f'<line class="axis" x1="0" x2="{width}" y1="64.5" y2="64.5"/>')
    parts.append(f'<text x="0" y="79">{unit(found["low"])}</text>')
    parts.append(f'<text x="{width}" y="79" text-anchor="end">{unit(found["high"])}</text>')
    label = f"from {unit(found['low'])} to {unit(found['high'])}, half below {unit(found['half'])}"
    return _svg(width, height, label, parts, "spread")


def treemap(tiles: Sequence[Mapping[str, Any]], link: Link) -> str:
    """Rectangles as large as the bytes of each function (squarified, after Bruls and others 2000)."""
    some = [tile for tile in tiles if tile["bytes"] > 0]
    width, height = 960.0, 330.0
    total = sum(tile["bytes"] for tile in some) or 1
    areas = [tile["bytes"] * width * height / total for tile in some]
    parts = []
    for i, (tile, (x, y, wide, tall)) in enumerate(
        zip(some, _squarified(areas, 0.0, 0.0, width, height), strict=True)
    ):
        said, size = tile["name"].rpartition(":")[2], data_size(tile["bytes"])
        letters = int((wide - 12) / 7)
        text = ""
        if tall > 20 and letters > 3:
            shown = said if len(said) <= letters else f"{said[: letters - 1]}…"
            text = f'<text x="{x + 6:.1f}" y="{y + 16:.1f}">{escaped(shown)}</text>'
        if tall > 36 and letters >= len(size):
            text += f'<text class="small" x="{x + 6:.1f}" y="{y + 31:.1f}">{size}</text>'
        box = (
            f'<rect class="tile t{i % 6}" x="{x + 1:.1f}" y="{y + 1:.1f}" '
            f'width="{max(0.0, wide - 2):.1f}" height="{max(0.0, tall - 2):.1f}"/>'
        )
        title = f"<title>{escaped(tile['name'])}: {size}</title>"
        where = link("function", name=tile["name"]) if ":" in tile["name"] or len(some) else None
        inside = f"{title}{box}{text}"
        parts.append(f'<a href="{escaped(where)}">{inside}</a>' if where else f"<g>{inside}</g>")
    return _svg(width, height, "what takes the room, by function", parts, "treemap")


def _squarified(
    areas: Sequence[float], x: float, y: float, width: float, height: float
) -> list[tuple[float, float, float, float]]:
    found: list[tuple[float, float, float, float]] = []
    at = 0
    while at < len(areas):
        short, end = min(width, height) or 1.0, at + 1
        while end < len(areas) and _worst(areas[at : end + 1], short) <= _worst(
            areas[at:end], short
        ):
            end += 1
        row = areas[at:end]
        thick = sum(row) / short
        place = 0.0
        for area in row:
            long = area / thick if thick else 0.0
            if width >= height:
                found.append((x, y + place, thick, long))
            else:
                found.append((x + place, y, long, thick))
            place += long
        if width >= height:
            x, width = x + thick, width - thick
        else:
            y, height = y + thick, height - thick
        at = end
    return found


def _worst(row: Sequence[float], side: float) -> float:
    total = sum(row) or 1.0
    return max(side**2 * max(row) / total**2, total**2 / (side**2 * (min(row) or 1e-9)))


def waterfall(run: Mapping[str, Any], link: Link) -> str:
    """Return the calls of a run over time, each on a line of its own."""
    rows, span = run["bars"], run["span"] or 1.0
    left, width, line = 250, 960, 20
    height = 24 + line * len(rows)
    scale = (width - left - 70) / span
    parts = []
    for i in range(5):
        at = left + (width - left - 70) * i / 4
        parts.append(f'<line class="grid" x1="{at:.0f}" x2="{at:.0f}" y1="16" y2="{height}"/>')
        parts.append(
            f'<text class="small" x="{at:.0f}" y="11">{duration(span * i / 4) or "0"}</text>'
        )
    for i, bar in enumerate(rows):
        y = 20 + i * line
        x, end = left + bar["begin"] * scale, left + bar["end"] * scale
        label = bar["label"] if len(bar["label"]) < 35 else f"{bar['label'][:34]}…"
        took = (
            duration(bar["end"] - bar["begin"])
            if bar["outcome"] != "hit"
            else f"hit x {bar['count']:,}"
        )
        said = f"{bar['label']}: {bar['outcome']}, {took} {bar['error'] or ''}"
        title = f"<title>{escaped(said)}</title>"
        inside = (
            f'{title}<text x="0" y="{y + 13}">{escaped(label)}</text><rect class="{bar["outcome"]}" '
            f'x="{x:.1f}" y="{y + 2}" width="{max(3.0, end - x):.1f}" height="{line - 5}" rx="2"/>'
            f'<text class="small" x="{max(x + 3, end) + 5:.1f}" y="{y + 13}">{escaped(took)}</text>'
        )
        where = link("call", key=bar["key"]) if bar["key"] else None
        parts.append(f'<a href="{escaped(where)}">{inside}</a>' if where else f"<g>{inside}</g>")
    return _svg(width, height, f"{len(rows)} calls over {duration(span)}", parts, "waterfall")


def cost(line: Sequence[Mapping[str, float]], plan: Mapping[str, Any] | None) -> str:
    """Return what it costs to have again what was thrown away, over the bytes that are free then."""
    width, height = 560, 130
    most, dear = line[-1]["bytes"] or 1, line[-1]["seconds"] or 1
    points = " ".join(
        f"{width * one['bytes'] / most:.1f},{100 - 90 * one['seconds'] / dear:.1f}" for one in line
    )
    parts = [
        f'<polyline class="line" points="{points}"/>',
        f'<line class="axis" x1="0" x2="{width}" y1="100.5" y2="100.5"/>',
        '<text x="0" y="118">0 B</text>',
        f'<text x="{width}" y="118" text-anchor="end">{data_size(most)} free</text>',
        f'<text x="0" y="12">{duration(dear)} to have all again</text>',
    ]
    if plan is not None:
        x = width * min(1.0, plan["bytes"] / most)
        parts.append(f'<line class="here" x1="{x:.1f}" x2="{x:.1f}" y1="4" y2="100"/>')
    return _svg(width, height, f"having all again takes {duration(dear)}", parts, "cost")
