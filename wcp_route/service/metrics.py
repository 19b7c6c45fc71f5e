"""Counters for Prometheus. No label takes a value that a caller chose."""

from __future__ import annotations


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
