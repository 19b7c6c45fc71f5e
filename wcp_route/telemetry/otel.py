"""Decisions as OpenTelemetry spans and metrics; needs the extra: `pip install 'wcp-attest[otel]'`.

Each decision makes one span `wcp.route`, a child of the current span, one count and one duration. The names under
`wcp.*` are this project's own. The SDK decides where the spans are sent; without an SDK they cost next to nothing.

| | name | attributes |
|---|---|---|
| span | `wcp.route` | `wcp.decision`, `wcp.deny_code`, `wcp.rule_id`, `wcp.attestation.valid`, … |
| counter | `wcp.route.decisions` | `wcp.decision`, `wcp.deny_code`, `wcp.env` |
| histogram, seconds | `wcp.route.duration` | `wcp.decision`, `wcp.env` |
| gauges | as given, `wcp.receipts.height`, `wcp.banlist.age`, … | none |

The GenAI conventions (`gen_ai.*`) are in development and may change; they are written only when asked for.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Final, Literal

from wcp_attest.base.errors import ConfigError
from wcp_route.domain.events import clean, one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation
    from opentelemetry.trace import TracerProvider
    from opentelemetry.util.types import AttributeValue

    from wcp_route.domain.decision import RouteDecision

SCOPE: Final = "wcp_route"

_log = logging.getLogger("wcp_route")


class OpenTelemetry:
    """A sink that records a span and metrics of each decision.

    Args:
        tracer_provider: makes the spans; the process's own provider when not given.
        meter_provider: makes the metrics; the process's own provider when not given.
        gauges: further values by name, read when metrics are collected: `{"wcp.receipts.height": lambda: …}`.
        gen_ai: `development` adds the GenAI attributes of an `execute_tool` span.

    Raises:
        ConfigError: OpenTelemetry is not installed.
    """

    def __init__(
        self,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        gauges: Mapping[str, Callable[[], float]] | None = None,
        gen_ai: Literal["off", "development"] = "off",
    ) -> None:
        try:
            from opentelemetry import metrics, trace
        except ImportError:
            raise ConfigError("OpenTelemetry is not installed; run pip install 'wcp-attest[otel]'") from None
        self._trace = trace
        self._gen_ai = gen_ai == "development"
        self._tracer = trace.get_tracer(SCOPE, tracer_provider=tracer_provider)
        meter = metrics.get_meter(SCOPE, meter_provider=meter_provider)
        self._count = meter.create_counter("wcp.route.decisions", unit="{decision}", description="Decisions by code")
        self._duration = meter.create_histogram("wcp.route.duration", unit="s", description="How long a decision took")
        for name, read in (gauges or {}).items():
            meter.create_observable_gauge(name, callbacks=[partial(_observe, read)])

    def emit(self, decision: RouteDecision, elapsed_ns: int, /) -> None:
        """Record a decision; the exporters of the SDK do their work in threads of their own.

        Args:
            decision: what was decided.
            elapsed_ns: how long it took, nanoseconds.
        """
        said: dict[str, AttributeValue] = {"wcp.decision": decision.outcome, "wcp.env": decision.env or ""}
        try:
            # 1. A span; with the GenAI names when they are asked for.
            start, name, attributes = decision.decided_at_ms * 1_000_000, "wcp.route", _attributes(decision)
            if self._gen_ai and not decision.denied:
                name = f"execute_tool {clean(decision.capability_id)}"
                attributes |= {
                    "gen_ai.operation.name": "execute_tool",
                    "gen_ai.tool.name": clean(decision.capability_id),
                    "gen_ai.tool.call.id": clean(decision.correlation_id),
                }
            kind = self._trace.SpanKind.INTERNAL
            span = self._tracer.start_span(name, kind=kind, start_time=start, attributes=attributes)
            if decision.denied:  # a denial is an answer, not an error of the router; the event has its code
                span.add_event("evt.os.task.denied", {"wcp.deny_code": str(attributes["wcp.deny_code"])}, start)
            span.end(start + elapsed_ns)
            # 2. The metrics.
            self._duration.record(elapsed_ns / 1e9, said)
            self._count.add(1, said | {"wcp.deny_code": "" if decision.code is None else decision.code.value})
        except Exception as error:  # noqa: BLE001  # an exporter is foreign code; its trouble is not the caller's
            _log.error("a decision could not be traced: %s", one_line(error))


def is_set_up() -> bool:
    """Tell whether this process has a provider of spans, as `opentelemetry-instrument` gives it one."""
    try:
        from opentelemetry import trace
    except ImportError:
        return False
    return not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


def current_traceparent() -> str:
    """Return the W3C trace context of the current span, for `Telemetry(traceparent=…)`; empty when there is none."""
    try:
        from opentelemetry import trace
    except ImportError:
        return ""
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return ""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"


def _attributes(decision: RouteDecision) -> dict[str, AttributeValue]:
    attributes: dict[str, AttributeValue] = {
        "wcp.decision": decision.outcome,
        "wcp.decision_id": decision.decision_id,
        "wcp.deny_code": "" if decision.code is None else decision.code.value,
        "wcp.rule_id": clean(decision.matched_rule_id),
        "wcp.capability_id": clean(decision.capability_id),
        "wcp.correlation_id": clean(decision.correlation_id),
        "wcp.tenant_id": clean(decision.tenant_id),
        "wcp.env": decision.env or "",
        "wcp.data_label": decision.data_label or "",
        "wcp.qos_class": decision.qos_class or "",
        "wcp.dry_run": decision.dry_run,
        "wcp.worker_id": clean(decision.worker_id),
        "wcp.attestation.checked": decision.worker_attestation_checked,
    }
    if decision.worker_attestation_valid is not None:
        attributes["wcp.attestation.valid"] = decision.worker_attestation_valid
    if decision.blast_score is not None:
        attributes["wcp.blast_score"] = decision.blast_score
    return attributes


def _observe(read: Callable[[], float], _: CallbackOptions) -> Iterator[Observation]:
    from opentelemetry.metrics import Observation

    try:
        value = read()
    except Exception as error:  # noqa: BLE001  # a gauge is foreign code
        _log.error("a gauge could not be read: %s", one_line(error))
        return
    yield Observation(value)
