"""What a server counts of its work, as Prometheus reads it."""

from __future__ import annotations

import os
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator

__all__ = ["Metrics"]

_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_HELP = {
    "kept_requests_total": "Requests answered, by namespace, verb and status.",
    "kept_lookups_total": "Keys that were looked for, by namespace and whether they were there.",
    "kept_received_bytes_total": "Bytes of requests, by namespace.",
    "kept_sent_bytes_total": "Bytes of answers, by namespace.",
}


class Metrics:
    """Counts, by namespace."""

    def __init__(self) -> None:
        self._counts: dict[str, dict[tuple[str, str], float]] = {name: {} for name in _HELP}
        self._seconds: dict[tuple[str, str], list[float]] = {}
        self._guard = threading.Lock()
        self._since = time.time()
        self.under_way = 0
        """Requests that are being answered."""

    def count(self, name: str, namespace: str, labels: str = "", by: float = 1) -> None:
        """Add to a count; `labels` as Prometheus writes them."""
        counts = self._counts[name]
        with self._guard:
            counts[namespace, labels] = counts.get((namespace, labels), 0) + by

    def answered(self, namespace: str, verb: str, status: int, seconds: float) -> None:
        """A request was answered."""
        self.count("kept_requests_total", namespace, f',verb="{verb}",status="{status}"')
        with self._guard:
            found = self._seconds.setdefault((namespace, verb), [0.0] * (len(_BOUNDS) + 2))
            found[bisect_left(_BOUNDS, seconds)] += 1
            found[-1] += seconds

    def text(self, shown: Callable[[str], bool]) -> str:
        """All of it, of the namespaces that may be shown."""
        with self._guard:
            lines = [*self._lines(shown)]
        return "\n".join(lines) + "\n"

    def _lines(self, shown: Callable[[str], bool]) -> Iterator[str]:
        for name, counts in self._counts.items():
            yield from (f"# HELP {name} {_HELP[name]}", f"# TYPE {name} counter")
            for (namespace, labels), n in sorted(counts.items()):
                if shown(namespace):
                    yield f'{name}{{namespace="{namespace}"{labels}}} {n:.0f}'
        name = "kept_request_seconds"
        yield from (f"# HELP {name} How long answers took.", f"# TYPE {name} histogram")
        for (namespace, verb), found in sorted(self._seconds.items()):
            if not shown(namespace):
                continue
            labels, sofar = f'namespace="{namespace}",verb="{verb}"', 0.0
            for bound, n in zip((*_BOUNDS, "+Inf"), found, strict=False):
                sofar += n
                yield f'{name}_bucket{{{labels},le="{bound}"}} {sofar:.0f}'
            yield f"{name}_sum{{{labels}}} {found[-1]:.6f}"
            yield f"{name}_count{{{labels}}} {sofar:.0f}"
        for gauge, told, value in (
            ("kept_requests_under_way", "Requests that are being answered.", self.under_way),
            ("kept_start_seconds", "When the server began, since the epoch.", self._since),
            ("kept_memory_bytes", "Resident memory of the server.", _resident()),
        ):
            yield from (f"# HELP {gauge} {told}", f"# TYPE {gauge} gauge", f"{gauge} {value:.0f}")


def _resident() -> int:
    try:
        with open("/proc/self/statm", "rb") as file:  # noqa: PTH123  a file of the kernel
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0
