"""Recorder of decisions and of clients' feedback: a bounded queue, and a thread that writes.

No request waits for it or fails by it. What does not fit into the queue is dropped and counted. Where the
file cannot be written any more, recording ends, and the gateway goes on.
"""

import asyncio
import logging
import queue
import random
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Protocol

from router.data.redaction import Redaction, shortened
from server.config.feedback import DAY_S, FeedbackConfig
from server.errors import FeedbackUnavailable
from server.feedback.records import Decided, Ended, FeedbackKey, Said
from server.feedback.store import FeedbackStore
from server.metrics.feedback import FeedbackMetrics, Reason
from server.routing.routing import Route
from server.storage.errors import DatabaseBusy, DatabaseError
from server.storage.retention_clock import RetentionClock

log = logging.getLogger("coe.feedback")

MOST_WAITING = 1000
"""Decisions, outcomes and feedback in the queue."""
_BATCH = 200
"""Items written at once."""
_TRIM_EVERY_S = 600.0
"""Seconds between deletions while nothing is recorded; else each batch is followed by one."""


@dataclass(frozen=True, slots=True)
class _Item:
    """Item of the queue. ``known``: whether a decision of the request is kept; None if that cannot be
    said."""

    what: Decided | Ended | Said
    known: Future[bool | None] | None = None


class Kept(Protocol):
    """A decision that is kept, until its request has ended."""

    def ended(self, outcome: str) -> None:
        """Records how its request ended. ``outcome``: HTTP status, or client_left."""
        ...


class Decisions(Protocol):
    """Records decisions: ``Feedback``, in this process or in another."""

    def decided(self, request_id: str, owner: str, composition: str, route: Route) -> Kept | None:
        """Records a decision and returns its record, to be told the end; None: it is not kept."""
        ...


class Feedback:
    """Records in a thread. ``decided`` and ``ended`` return at once; ``close`` waits until all that was
    recorded is written."""

    def __init__(
        self,
        config: FeedbackConfig,
        store: FeedbackStore,
        metrics: FeedbackMetrics,
        *,
        clock: RetentionClock | None = None,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """Owns ``store`` from now on. ``draw``: a number from 0 up to 1, for the sample."""
        self._config = config
        self._store = store
        self._metrics = metrics
        self._clock = clock or RetentionClock()
        self._draw = draw
        self._redaction = Redaction(config.redact)
        self._waiting: queue.Queue[_Item | None] = queue.Queue(MOST_WAITING)
        self._ended = False
        self._writer = threading.Thread(target=self._write_all, name="feedback", daemon=True)
        metrics.recording.set(1)
        self._writer.start()

    def __repr__(self) -> str:
        ended = " ended" if self._ended else ""
        return f"<Feedback to {self._store.file}{ended}, {self._waiting.qsize()} waiting>"

    def decided(self, request_id: str, owner: str, composition: str, route: Route) -> "Recorded | None":
        """Records a decision and returns its record, to be told the end; None: it is not kept. ``owner``: see
        ``owner_of``. ``route`` has a decision."""
        decision = route.decision
        assert decision is not None
        if self._draw() >= self._config.sample:
            return None
        key = self._key(request_id, owner)
        what = Decided(
            key,
            at=self._clock(),
            composition=composition,
            category=decision.category,
            cluster=decision.cluster,
            confidence=decision.confidence,
            uncertain=decision.uncertain,
            expert=decision.expert,
            prompt=shortened(route.prompt),
        )
        return Recorded(self, key) if self._put(_Item(what)) else None

    def ended(self, key: FeedbackKey, outcome: str) -> None:
        """Records how a request ended. ``outcome``: HTTP status, or client_left."""
        self._put(_Item(Ended(key, outcome)))

    async def said(self, request_id: str, owner: str, score: float | None, correction: str | None) -> bool:
        """Records a client's feedback. Says whether a decision of this owner's request is kept, and so is
        this. Raises FeedbackUnavailable."""
        known: Future[bool | None] = Future()
        said = Said(self._key(request_id, owner), score, correction)
        answer = await asyncio.wrap_future(known) if self._put(_Item(said, known)) else None
        if answer is None:
            raise FeedbackUnavailable(
                "No feedback can be kept now; the gateway's log says why. Try again later."
            )
        return answer

    def close(self) -> None:
        self._waiting.put(None)
        self._writer.join()
        self._store.close()

    def _key(self, request_id: str, owner: str) -> FeedbackKey:
        return FeedbackKey(request_id, self._store.client_of(owner))

    def _put(self, item: _Item) -> bool:
        try:
            self._waiting.put_nowait(item)
        except queue.Full:
            self._metrics.dropped("queue_full")
            return False
        return True

    def _write_all(self) -> None:
        """Runs the thread. It empties the queue to its end, also when nothing can be written any more."""
        goes_on = True
        while goes_on:
            items, goes_on = self._next()
            self._write(items)
            self._trim()

    def _next(self) -> tuple[list[_Item], bool]:
        """Returns the next items, and whether more may come. There are none if it is time to trim."""
        items: list[_Item] = []
        try:
            item = self._waiting.get(timeout=_TRIM_EVERY_S)
            while item is not None:
                items.append(item)
                if len(items) == _BATCH:
                    return items, True
                item = self._waiting.get_nowait()
        except queue.Empty:
            return items, True
        return items, False

    def _write(self, items: Sequence[_Item]) -> None:
        if self._ended:
            self._lose(items, "ended")
            return
        try:
            whats = [self._redacted(item.what) for item in items]
            known = self._store.write(whats, text=self._config.prompts == "text")
        except DatabaseBusy as error:
            log.warning("%d not recorded: %s", len(items), error)
            self._lose(items, "busy")
        except Exception as error:  # noqa: BLE001  # nobody would notice the death of a thread
            self._end(error)
            self._lose(items, "ended")
        else:
            for item, was_known in zip(items, known, strict=True):
                self._kept(item, was_known)

    def _trim(self) -> None:
        if self._ended:
            return
        try:
            self._store.trim(self._clock.before(self._config.keep_days * DAY_S), self._config.max_bytes)
        except DatabaseBusy as error:
            log.warning("nothing is deleted now: %s", error)
        except Exception as error:  # noqa: BLE001  # nobody would notice the death of a thread
            self._end(error)

    def _redacted(self, what: Decided | Ended | Said) -> Decided | Ended | Said:
        return replace(what, prompt=self._redaction(what.prompt)) if isinstance(what, Decided) else what

    def _kept(self, item: _Item, was_known: bool) -> None:
        match item.what:
            case Decided():
                self._metrics.kept.labels("decision").inc()
            case Said() if was_known:
                self._metrics.kept.labels("feedback").inc()
        _tell(item, was_known)

    def _lose(self, items: Sequence[_Item], reason: Reason) -> None:
        self._metrics.dropped(reason, len(items))
        for item in items:
            _tell(item, None)

    def _end(self, error: Exception) -> None:
        self._ended = True
        self._metrics.recording.set(0)
        failure = None if isinstance(error, DatabaseError) else error
        log.error("feedback ends here, nothing more is recorded: %s", error, exc_info=failure)


def _tell(item: _Item, known: bool | None) -> None:
    if item.known is not None and item.known.set_running_or_notify_cancel():  # else its client has left
        item.known.set_result(known)


@dataclass(frozen=True, slots=True)
class Recorded:
    """A decision that is kept, until its request has ended."""

    feedback: Feedback
    key: FeedbackKey

    def ended(self, outcome: str) -> None:
        """Records how its request ended. ``outcome``: HTTP status, or client_left."""
        self.feedback.ended(self.key, outcome)


@asynccontextmanager
async def recording(
    config: FeedbackConfig | None, metrics: FeedbackMetrics
) -> AsyncIterator[Feedback | None]:
    """Records meanwhile; None if feedback is off. Leaving waits until all is written. Raises DatabaseError at
    the start alone."""
    if config is None:
        yield None
        return
    store = await asyncio.to_thread(FeedbackStore.open, config.file, create=True)
    feedback = Feedback(config, store, metrics)
    log.info(
        "decisions are kept in %s, prompts as %s, for %d days", config.file, config.prompts, config.keep_days
    )
    try:
        yield feedback
    finally:
        await asyncio.to_thread(feedback.close)
