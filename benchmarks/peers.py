"""kept beside its peers, on the same work, interleaved in one run.

python benchmarks/peers.py                     # everything, some minutes
python benchmarks/peers.py --quick             # fewer rounds, a smaller million
python benchmarks/peers.py --rows hit-,import  # the rows whose names contain one of these
python benchmarks/peers.py --check             # exit code 1 if a "must" is not met
"""

from __future__ import annotations

import argparse
import datetime
import json
import logging
import os
import platform
import random
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dataflows
from chart import chart
from libraries import versions
from measure import Room
from table import Outcome, show, update_markdown
from works import ROWS as OF_CALLS
from works import Row

import kv

ROWS = (*OF_CALLS, *dataflows.rows(), *kv.rows())
HERE = Path(__file__).parent
Say = Callable[[str], None]


def cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def measure_row(row: Row, rounds: int, room: Room, quick: bool, say: Say) -> Outcome:
    """Prepare every entrant, then take their samples in turn, round by round."""
    outcome, work, samplers = Outcome(row), row.work(), {}
    for entrant in row.entrants:
        say(f"{row.name}: {entrant}")
        try:
            samplers[entrant] = work.prepare(entrant, room, quick)
        except Exception as error:  # noqa: BLE001 - whatever a library raises becomes its footnote
            outcome.failed[entrant] = _reason(error)
    wanted = max(min(rounds, row.rounds or rounds), row.least)
    for number in range(wanted):
        say(f"{row.name}: round {number + 1} of {wanted}")
        for entrant in random.sample(list(samplers), len(samplers)):
            try:
                outcome.samples.setdefault(entrant, []).append(samplers[entrant]())
            except Exception as error:  # noqa: BLE001 - the same
                outcome.failed[entrant] = _reason(error)
                del samplers[entrant]
    try:
        work.finish()
    except Exception as error:  # noqa: BLE001 - a failed last check is the row's, not the run's
        outcome.failed[row.kept] = f"at the end: {_reason(error)}"
    outcome.notes.update(work.notes)
    outcome.unsound |= work.unsound
    return outcome


def _reason(error: Exception) -> str:
    text = str(error) or "no message"
    if isinstance(error, ModuleNotFoundError):
        return f"not installed ({text})"
    return text if type(error).__name__ == "CannotDoError" else f"{type(error).__name__}: {text}"


def settle(room: Path) -> None:
    """Nothing of this machine's configuration, and nothing left behind in a home directory."""
    home = room / "home"
    home.mkdir(mode=0o700)
    for name in list(os.environ):
        if name.startswith(("WELLKEPT_", "FLECHE_", "CACHIER_", "JOBLIB_", "XDG_")):
            del os.environ[name]
    os.environ["HOME"] = str(home)
    os.chdir(home)
    logging.getLogger("fleche").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"(joblib|cachier|fleche|cachau|diskcache)")


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", default="", help="substrings of row names, with commas between")
    parser.add_argument("--rounds", type=int, help="rounds a row (9; 3 with --quick)")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--check", action="store_true", help="exit code 1 if a must is not met")
    parser.add_argument("--json", type=Path, default=HERE / "out" / "peers.json")
    parser.add_argument("--markdown", type=Path, help="a page whose marked block gets the table")
    parser.add_argument("--list", action="store_true", help="list the rows and stop")
    return parser.parse_args()


def chosen(wanted: str) -> list[Row]:
    parts = [part.strip() for part in wanted.split(",") if part.strip()]
    rows = [row for row in ROWS if not parts or any(part in row.name for part in parts)]
    if not rows:
        raise SystemExit(f"no row's name contains any of {parts}; --list shows them")
    return rows


def measure_all(rows: list[Row], rounds: int, quick: bool) -> list[Outcome]:
    from rich.console import Console
    from rich.progress import Progress

    room, outcomes = Room(), []
    before = Path.cwd(), os.environ.get("HOME")
    settle(room.path)
    try:
        console = Console(stderr=True)
        with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
            task = bar.add_task("", total=len(rows))
            for row in rows:
                start = time.monotonic()
                outcomes.append(
                    measure_row(
                        row, rounds, room, quick, lambda text: bar.update(task, description=text)
                    )
                )
                bar.advance(task)
                if not console.is_terminal:
                    print(
                        f"{row.name}: {time.monotonic() - start:.1f} s", file=sys.stderr, flush=True
                    )
    finally:
        os.chdir(before[0])
        if before[1] is not None:
            os.environ["HOME"] = before[1]
        room.clear()
    return outcomes


def main() -> int:
    chosen_options = options()
    if chosen_options.list:
        for row in ROWS:
            print(f"{row.name:18} {row.title}")
        return 0
    rows = chosen(chosen_options.rows)
    quick = chosen_options.quick
    rounds = chosen_options.rounds or (3 if quick else 9)
    json_path, page = chosen_options.json.resolve(), chosen_options.markdown
    outcomes = measure_all(rows, rounds, quick)
    about: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "python": platform.python_version(),
        "system": platform.platform(),
        "cpu": cpu(),
        "cores": os.cpu_count(),
        "rounds": rounds,
        "quick": quick,
        "versions": versions(),
    }
    json_path.parent.mkdir(parents=True, exist_ok=True)
    rows_json = [outcome.as_json() for outcome in outcomes]
    json_path.write_text(json.dumps({"about": about, "rows": rows_json}, indent=1) + "\n")
    json_path.with_suffix(".svg").write_text(chart(rows_json, about), encoding="utf-8")
    show(outcomes, about)
    if page is not None:
        update_markdown(page.resolve(), outcomes, about)
    broken = [outcome.row.name for outcome in outcomes if outcome.row.kept in outcome.failed]
    unmet = [
        outcome.row.name
        for outcome in outcomes
        if not all(verdict["met"] for verdict in outcome.verdicts())
    ]
    if broken:
        print(f"kept failed in: {', '.join(broken)}", file=sys.stderr)
    if unmet:
        print(f"not met: {', '.join(unmet)}", file=sys.stderr)
    return 1 if broken or (chosen_options.check and unmet) else 0


if __name__ == "__main__":
    sys.exit(main())
