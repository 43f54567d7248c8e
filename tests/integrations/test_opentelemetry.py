"""Counters and spans, as the real SDK of OpenTelemetry collects them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("opentelemetry.sdk")
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import wellkept
from wellkept.integrations.opentelemetry import instrument, uninstrument


class Collected:
    def __init__(self) -> None:
        self.exporter, self.reader = InMemorySpanExporter(), InMemoryMetricReader()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        instrument(self.tracers, MeterProvider([self.reader]))

    def spans(self) -> list[Any]:
        return list(self.exporter.get_finished_spans())

    def counters(self) -> dict[str, float]:
        found = self.reader.get_metrics_data()
        scopes = [s for resource in found.resource_metrics for s in resource.scope_metrics]
        return {
            metric.name: sum(point.value for point in metric.data.data_points)
            for scope in scopes
            for metric in scope.metrics
        }


@pytest.fixture
def collected() -> Iterator[Collected]:
    yield Collected()
    uninstrument()


def test_hits_are_counted_and_bodies_are_spans(collected: Collected, tmp_path: Path) -> None:
    tracer = collected.tracers.get_tracer("mine")

    @wellkept.keep(cache=tmp_path, name="inner", version=1)
    def inner() -> int:
        with tracer.start_as_current_span("request"):
            return 1

    @wellkept.keep(cache=tmp_path, name="outer", version=1, ignore_globals=["tracer", "inner"])
    def outer(x: int) -> float:
        return inner() / x

    outer(1)
    outer(1)
    with pytest.raises(ZeroDivisionError):
        outer(0)
    spans = collected.spans()
    names = [span.name for span in spans]
    assert names == ["request", "compute inner", "compute outer", "compute outer"]
    request, within, above, failed = spans
    assert request.parent.span_id == within.context.span_id
    assert within.parent.span_id == above.context.span_id
    assert above.attributes["wellkept.key"] == outer.key(1)
    assert failed.status.description == "ZeroDivisionError"
    counted = collected.counters()
    saved = counted.pop("wellkept.saved")
    assert counted == {"wellkept.hits": 2, "wellkept.computations": 3}
    assert saved > 0
    assert trace.get_current_span() is trace.INVALID_SPAN


def test_coroutines_have_spans_side_by_side(collected: Collected, tmp_path: Path) -> None:
    @wellkept.keep(cache=tmp_path, name="f", version=1)
    async def f(x: int) -> int:
        await asyncio.sleep(0)
        return x

    async def both() -> None:
        await asyncio.gather(f(1), f(2))

    asyncio.run(both())
    assert [span.parent for span in collected.spans()] == [None, None]


def test_it_ends(collected: Collected, tmp_path: Path) -> None:
    instrument(collected.tracers)
    uninstrument()
    uninstrument()
    wellkept.keep(cache=tmp_path, name="g", version=1)(int)(1)
    assert collected.spans() == []
