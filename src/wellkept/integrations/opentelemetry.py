"""OpenTelemetry: counters of hits and computations, and a span around each body that runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from wellkept.errors import ConfigError
from wellkept.runs.listeners import LISTENERS, listen, unlisten

try:
    from opentelemetry import context, metrics, trace
    from opentelemetry.trace import Status, StatusCode
except ImportError as _missing:
    raise ConfigError(
        "OpenTelemetry is not installed: pip install 'wellkept[opentelemetry]'"
    ) from _missing

__all__ = ["instrument", "uninstrument"]


class _Telemetry:
    def __init__(self, tracers: Any, meters: Any) -> None:
        self._tracer = trace.get_tracer("wellkept", tracer_provider=tracers)
        meter = metrics.get_meter("wellkept", meter_provider=meters)
        self._hits = meter.create_counter("wellkept.hits", "1", "Results served from a cache.")
        self._saved = meter.create_counter("wellkept.saved", "s", "Seconds that hits saved.")
        self._computed = meter.create_counter("wellkept.computations", "1", "Bodies that ran.")

    def hit(self, function: str, key: str, saved: float) -> None:
        """See `wellkept.runs.listeners.Listener`."""
        about = {"wellkept.function": function}
        self._hits.add(1, about)
        self._saved.add(saved, about)

    def begin(self, function: str, key: str) -> Callable[[BaseException | None], None]:
        """See `wellkept.runs.listeners.Listener`. What the body calls becomes a child of the span."""
        about = {"wellkept.function": function}
        span = self._tracer.start_span(
            f"compute {function}", attributes={**about, "wellkept.key": key}
        )
        token = context.attach(trace.set_span_in_context(span))

        def end(error: BaseException | None) -> None:
            context.detach(token)
            failed = error is not None
            self._computed.add(1, {**about, "error": failed})
            if error is not None:
                span.record_exception(error)
                span.set_status(Status(StatusCode.ERROR, type(error).__qualname__))
            span.end()

        return end


def instrument(tracer_provider: Any = None, meter_provider: Any = None) -> None:
    """Report to OpenTelemetry from now on; a second call replaces the first.

    Args:
        tracer_provider, meter_provider: where to; by default the global ones.
    """
    uninstrument()
    listen(_Telemetry(tracer_provider, meter_provider))


def uninstrument() -> None:
    """Report nothing more."""
    for listener in [one for one in LISTENERS if isinstance(one, _Telemetry)]:
        unlisten(listener)
