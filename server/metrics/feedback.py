"""Prometheus series of the feedback loop."""

from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge

Reason = Literal["queue_full", "busy", "ended"]


class FeedbackMetrics:
    """There from the start with 0, also where nothing is recorded. May be told from several threads."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.kept = Counter("coe_feedback_kept", "Kept in the feedback file", ["kind"], registry=registry)
        self._dropped = Counter("coe_feedback_dropped", "Not kept, and why", ["reason"], registry=registry)
        self.recording = Gauge("coe_feedback_recording", "1 while decisions are recorded", registry=registry)
        for kind in ("decision", "feedback"):
            self.kept.labels(kind)
        for reason in ("queue_full", "busy", "ended"):
            self._dropped.labels(reason)

    def dropped(self, reason: Reason, count: int = 1) -> None:
        self._dropped.labels(reason).inc(count)
