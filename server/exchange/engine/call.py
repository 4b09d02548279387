"""Calls of an engine, up to an answer's first bytes, over an engine's restart if need be."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NamedTuple, Self

from experts.engines.engine import NO_HEADERS, EngineResponse
from experts.errors import EngineLost, EngineUnavailable
from experts.spec import Expert
from memory_tiers.events import Priority
from memory_tiers.lease import Lease
from memory_tiers.residency import Residency
from server.exchange.engine.conversation import conversation_of
from server.resilience.circuit_breakers import Attempts, Outcomes
from server.resilience.stall_timeout import unstalled

RETRY_PAUSES_S = (0.1, 0.4, 1.0, 2.0, 4.0)
"""Pauses in seconds before work that an engine lost is tried again, if none of its answer has reached the
client."""


class EngineRequest(NamedTuple):
    """A request to an engine in the name of ``expert``: ``body`` at ``path``. ``keep_s``: asked for in the
    place of the expert's ``ttl_s``; ``waited_s``: how long it waited for its lease, once it has that;
    ``headers``: of its trace."""

    expert: Expert
    path: str
    body: Mapping[str, Any]
    keep_s: float | None = None
    waited_s: float = 0.0
    headers: Mapping[str, str] = NO_HEADERS

    def after(self, waited_s: float) -> "EngineRequest":
        """Returns the request once it has its lease: ``_replace`` takes five times as long."""
        return EngineRequest(self.expert, self.path, self.body, self.keep_s, waited_s, self.headers)


@dataclass(slots=True)
class OpenAnswer:
    """Answer to ``sent`` whose first bytes, ``head``, have arrived, with its lease. Leaving it closes the
    answer and releases the lease."""

    sent: EngineRequest
    lease: Lease
    answer: EngineResponse
    head: bytes
    rest: AsyncIterator[bytes]
    attempt: Outcomes

    @property
    def status(self) -> int:
        return self.answer.status

    def events(self, stall_timeout_s: float) -> AsyncIterator[bytes]:
        """Iterates over the whole answer. Raises EngineStalled if no bytes come for so long; 0: never."""
        return unstalled(self.head, self.rest, stall_timeout_s)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None and self.answer.status < 400:
            self.attempt.ended()
        else:
            self.attempt.over(error)
        try:
            await self.answer.close()
        finally:
            self.lease.release()


async def open_answer(
    tiers: Residency,
    breakers: Attempts,
    sent: EngineRequest,
    leased: Callable[[Lease], None],
    *,
    whole: bool,
    fail_fast: bool,
    priority: Priority,
) -> OpenAnswer:
    """Leases the expert of ``sent`` and waits for the first bytes of its answer, or for all if ``whole``.
    ``leased``: told of each lease.

    Nothing has reached the client yet, so an engine that goes away meanwhile costs time and no answer: the
    work is done again after its restart. Raises BreakerOpen, LeaseRejected, EngineError.
    """
    for pause in (*RETRY_PAUSES_S, None):
        attempt = breakers.enter(sent.expert)
        try:
            conversation = conversation_of(sent.body) if tiers.has_several(sent.expert.family) else ""
            lease = await tiers.lease(
                sent.expert.name,
                fail_fast=fail_fast,
                priority=priority,
                conversation=conversation,
                keep_s=sent.keep_s,
            )
            leased(lease)
            return await _open(lease, attempt, sent, whole)
        except (EngineUnavailable, EngineLost) as error:
            attempt.over(error)
            if pause is None:
                raise
        except BaseException as error:
            attempt.over(error)
            raise
        await asyncio.sleep(pause)
    raise AssertionError("unreachable: the last attempt returns or raises")


async def _open(lease: Lease, attempt: Outcomes, sent: EngineRequest, whole: bool) -> OpenAnswer:
    """Opens an answer. Releases the lease if it raises."""
    try:
        answer = await lease.engine.request(lease.expert, sent.path, sent.body, sent.headers)
        try:
            head, rest = await first_bytes(answer, whole)
            if answer.status >= 500 and not await lease.engine.alive():
                raise EngineUnavailable(
                    f"The engine of {lease.expert!r} answered {answer.status} and is gone."
                )
        except BaseException:
            await answer.close()
            raise
    except BaseException:
        lease.release()
        raise
    attempt.answered(answer.status)
    return OpenAnswer(sent.after(lease.queue_seconds), lease, answer, head, rest, attempt)


async def first_bytes(answer: EngineResponse, whole: bool) -> tuple[bytes, AsyncIterator[bytes]]:
    """Waits for the first bytes of an answer, or for all of it if it is asked for ``whole`` or refused, and
    returns them with the rest. Raises what the answer does."""
    if whole or answer.status >= 400:
        return await answer.whole(), NOTHING
    chunks = answer.chunks()
    return await anext(chunks, b""), chunks


class _Nothing:
    """Iterates over no bytes."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        raise StopAsyncIteration


NOTHING = _Nothing()
"""The rest of a whole answer."""
