"""Spans and metrics with the real SDK, and no cost without it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.route.state_worlds import START_MS, a_decision
from wcp_route.domain.codes import Code
from wcp_route.telemetry.otel import OpenTelemetry, current_traceparent

ROOT = Path(__file__).parents[2]


class Bench:
    """An SDK that keeps everything in memory."""

    def __init__(self) -> None:
        self.spans = InMemorySpanExporter()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self.spans))
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider(metric_readers=[self.reader])

    def sink(self, **options: Any) -> OpenTelemetry:
        return OpenTelemetry(tracer_provider=self.tracers, meter_provider=self.meters, **options)

    def points(self) -> dict[str, list[Any]]:
        data = self.reader.get_metrics_data()
        assert data is not None
        return {
            metric.name: list(metric.data.data_points)
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }


def test_a_decision_is_a_span_with_our_attributes() -> None:
    bench = Bench()
    bench.sink().emit(a_decision(), 250_000)
    (span,) = bench.spans.get_finished_spans()
    assert span.name == "wcp.route"
    assert span.start_time == (START_MS + 1) * 1_000_000
    assert span.end_time == span.start_time + 250_000
    said = dict(span.attributes or {})
    assert said["wcp.decision"] == "DISPATCH"
    assert said["wcp.rule_id"] == "rule-7"
    assert said["wcp.attestation.valid"] is True
    assert not any(name.startswith("gen_ai.") for name in said)


def test_a_denial_names_its_code() -> None:
    bench = Bench()
    bench.sink().emit(a_decision(code=Code.WORKER_TAMPERED), 1)
    (span,) = bench.spans.get_finished_spans()
    assert (span.attributes or {})["wcp.deny_code"] == "DENY_WORKER_TAMPERED"
    assert [event.name for event in span.events] == ["evt.os.task.denied"]


def test_decisions_are_counted_by_code_and_timed() -> None:
    bench = Bench()
    sink = bench.sink()
    for code in (None, None, Code.WORKER_TAMPERED):
        sink.emit(a_decision(code=code), 2_000_000)
    points = bench.points()
    counts = {point.attributes["wcp.deny_code"]: point.value for point in points["wcp.route.decisions"]}
    assert counts == {"": 2, "DENY_WORKER_TAMPERED": 1}
    assert sum(point.sum for point in points["wcp.route.duration"]) == pytest.approx(0.006)


def test_gauges_are_read_when_asked_for_and_may_fail() -> None:
    bench = Bench()
    bench.sink(gauges={"wcp.receipts.height": lambda: 7, "wcp.banlist.age": lambda: 1 // 0})
    points = bench.points()
    assert [point.value for point in points["wcp.receipts.height"]] == [7]
    assert not points.get("wcp.banlist.age")


def test_genai_names_only_when_asked_for_and_only_on_a_dispatch() -> None:
    bench = Bench()
    sink = bench.sink(gen_ai="development")
    sink.emit(a_decision(), 1)
    sink.emit(a_decision(code=Code.WORKER_TAMPERED), 1)
    dispatched, denied = bench.spans.get_finished_spans()
    assert dispatched.name == "execute_tool cap.doc.summarize"
    assert (dispatched.attributes or {})["gen_ai.operation.name"] == "execute_tool"
    assert (dispatched.attributes or {})["gen_ai.tool.call.id"] == "corr-1"
    assert denied.name == "wcp.route"


def test_the_span_is_a_child_and_the_context_can_go_along() -> None:
    bench = Bench()
    assert current_traceparent() == ""
    with bench.tracers.get_tracer("test").start_as_current_span("outer") as outer:
        bench.sink().emit(a_decision(), 1)
        context = outer.get_span_context()
        assert current_traceparent() == f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
    inner = bench.spans.get_finished_spans()[0]
    assert inner.parent is not None
    assert inner.parent.span_id == context.span_id


def test_without_opentelemetry_nothing_is_imported_and_the_sink_says_what_to_install() -> None:
    code = """
import sys
sys.modules["opentelemetry"] = None
import wcp_route.domain.events, wcp_route.telemetry.cloudevents, wcp_route.telemetry.otel as otel
from wcp_attest.errors import ConfigError
assert otel.current_traceparent() == ""
try:
    otel.OpenTelemetry()
except ConfigError as problem:
    assert "wcp-attest[otel]" in str(problem)
else:
    raise SystemExit("no error")
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_events_cost_no_import_of_opentelemetry() -> None:
    code = (
        "import sys, wcp_route.domain.events, wcp_route.telemetry.cloudevents\n"
        "assert not [name for name in sys.modules if name.startswith(('opentelemetry', 'pydantic', 'sqlite3'))]"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
