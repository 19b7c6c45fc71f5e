"""Counters for Prometheus. No label takes a value that a caller chose."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wcp_route.domain.decision import RouteDecision


class Metrics:
    """What `/metrics` shows."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        self.registry = CollectorRegistry()
        self.decisions = Counter(
            "wcp_decisions", "Decisions by outcome and code.", ["outcome", "code"], registry=self.registry
        )
        self.seconds = Histogram(
            "wcp_decision_seconds",
            "Time from request to durable receipt.",
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 10),
            registry=self.registry,
        )
        self.pending = Gauge("wcp_approvals_pending", "Holds that wait for a human.", registry=self.registry)
        self.ready = Gauge("wcp_ready", "1 when nothing is missing.", registry=self.registry)
        self.reloads = Counter("wcp_reloads", "Reloads by result.", ["result"], registry=self.registry)

    def decided(self, decision: RouteDecision, seconds: float) -> None:
        """Count a decision."""
        code = "" if decision.reason is None else str(decision.reason.code)
        self.decisions.labels(decision.outcome, code).inc()
        self.seconds.observe(seconds)

    def render(self) -> bytes:
        """Return the text format."""
        from prometheus_client import generate_latest

        return generate_latest(self.registry)
