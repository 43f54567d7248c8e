"""kept under Apache Hamilton beside Hamilton's own stores, in one run.

python benchmarks/dataflows.py            # its rows alone; takes what peers.py takes, such as --quick

`rows` gives them to `peers.py`. Each sample is what a node costs: the time of one execution of the
flow by the number of its nodes. A cold sample has a new directory and a new module each time.
"""

from __future__ import annotations

import importlib.util
import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

from measure import Room, loops_for, quiet_collector, same

if TYPE_CHECKING:
    from works import Row

NODES = 100
ROWS_OF_FRAME = 1_000_000

Sampler = Callable[[], float]
_numbers = itertools.count()

FRAMES = """
import numpy as np
import pandas as pd

def first(size: int) -> pd.DataFrame:
    numbers = np.arange(size)
    return pd.DataFrame({"a": numbers, "b": numbers * 0.5, "c": numbers % 7})

def second(first: pd.DataFrame) -> pd.DataFrame:
    return first.assign(d=first["a"] + first["b"])

def third(second: pd.DataFrame) -> float:
    return float(second["d"].sum())
"""


def chain(nodes: int) -> str:
    """A flow in which each node needs the one before it and one further back."""
    text = ["def n0(x: int) -> int:\n    return x + 1\n"]
    for i in range(1, nodes):
        near, far = i - 1, max(0, i - 3)
        names = [f"n{near}"] if near == far else [f"n{near}", f"n{far}"]
        needs = ", ".join(f"{name}: int" for name in names)
        text.append(
            f"def n{i}({needs}) -> int:\n    return ({' + '.join(names)}) % 1000003 + {i}\n"
        )
    return "\n".join(text)


def module(directory: Path, text: str) -> Any:
    path = directory / f"flow_{next(_numbers)}.py"
    path.write_text(text)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = made
    spec.loader.exec_module(made)
    return made


class Flow:
    """A flow under Hamilton's own stores, or under kept.

    Args:
        text: of its module.
        wanted: the node that is asked for.
        inputs: of the flow.
        nodes: by which the time is divided.
        adapter: whether kept is an adapter of its own, or stores under Hamilton's.
        cold: whether all is computed, or all is kept.
    """

    def __init__(
        self,
        text: str,
        wanted: str,
        inputs: dict[str, int],
        nodes: int,
        *,
        adapter: bool,
        cold: bool,
    ) -> None:
        self.notes: dict[str, str] = {}
        self.unsound: set[str] = set()
        self._text, self._wanted, self._inputs, self._nodes = text, wanted, inputs, nodes
        self._adapter, self._cold = adapter, cold

    def prepare(self, entrant: str, room: Room, quick: bool) -> Sampler:
        expected = self._driver("none", room).execute([self._wanted], inputs=self._inputs)
        made = self._driver(entrant, room)
        loops = 1
        if not self._cold:
            for _ in range(2):
                start = perf_counter_ns()
                made.execute([self._wanted], inputs=self._inputs)
            loops = loops_for(perf_counter_ns() - start)

        def sample() -> float:
            dr = self._driver(entrant, room) if self._cold else made
            with quiet_collector():
                start = perf_counter_ns()
                for _ in range(loops):
                    found = dr.execute([self._wanted], inputs=self._inputs)
                took = perf_counter_ns() - start
            same(found, expected, entrant)
            return took / 1e9 / loops / self._nodes

        return sample

    def _driver(self, entrant: str, room: Room) -> Any:
        from hamilton import driver

        from wellkept.integrations.hamilton import KeptAdapter, with_kept

        directory = room.new()
        builder = driver.Builder().with_modules(module(directory, self._text))
        store = directory / "store"
        if entrant == "hamilton":
            builder = builder.with_cache(path=store)
        elif entrant == "wellkept" and self._adapter:
            builder = builder.with_adapters(KeptAdapter(store))
        elif entrant == "wellkept":
            builder = with_kept(builder, store)
        return builder.build()

    def finish(self) -> None: ...


def rows() -> tuple[Row, ...]:
    """The rows for the table."""
    from works import Limit, Row

    def small(*, adapter: bool, cold: bool) -> Callable[[], Flow]:
        last = f"n{NODES - 1}"
        return lambda: Flow(chain(NODES), last, {"x": 1}, NODES, adapter=adapter, cold=cold)

    def frames() -> Flow:
        return Flow(FRAMES, "third", {"size": ROWS_OF_FRAME}, 3, adapter=True, cold=True)

    def row(name: str, title: str, work: Any, must: float, **more: Any) -> Row:
        limit = Limit(must, must, "hamilton")
        return Row(name, title, work, ("wellkept", "hamilton"), (limit,), **more)

    return (
        row(
            "flow-stores-warm",
            "a kept node of Hamilton's, wellkept's stores",
            small(adapter=False, cold=False),
            0.85,
        ),
        row(
            "flow-stores-cold",
            "a computed node of Hamilton's, wellkept's stores",
            small(adapter=False, cold=True),
            0.35,
        ),
        row(
            "flow-adapter-warm",
            "a kept node of Hamilton's, KeptAdapter",
            small(adapter=True, cold=False),
            0.25,
        ),
        row(
            "flow-adapter-cold",
            "a computed node of Hamilton's, KeptAdapter",
            small(adapter=True, cold=True),
            0.25,
        ),
        row(
            "flow-frames",
            "frames of 1,000,000 rows between nodes, KeptAdapter",
            frames,
            0.05,
            rounds=3,
        ),
    )


if __name__ == "__main__":
    import peers

    peers.ROWS = rows()
    sys.argv[1:1] = ["--json", str(peers.HERE / "out" / "dataflows.json")]  # a later one counts
    sys.exit(peers.main())
