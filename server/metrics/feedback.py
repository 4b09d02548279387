"""Prometheus series of the feedback loop."""

from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge

Reason = Literal["queue_full", "busy", "ended"]

KEPT = "Decisions, and clients' feedback on them, that were written"
DROPPED = (
    "Decisions and feedback that were not written: queue_full, busy (another process held the file), ended "
    "(the disk is full, or the file broke)"
)
RECORDING = "1 while decisions are recorded; 0 where that is off or has ended"


class FeedbackMetrics:
    """There from the start with 0, also where nothing is recorded. May be told from several threads."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.kept = Counter("coe_feedback_kept", KEPT, ["kind"], registry=registry)
        self._dropped = Counter("coe_feedback_dropped", DROPPED, ["reason"], registry=registry)
        self.recording = Gauge("coe_feedback_recording", RECORDING, registry=registry)
        for kind in ("decision", "feedback"):
            self.kept.labels(kind)
        for reason in ("queue_full", "busy", "ended"):
            self._dropped.labels(reason)

    def dropped(self, reason: Reason, count: int = 1) -> None:
        self._dropped.labels(reason).inc(count)
