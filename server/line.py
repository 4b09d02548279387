"""The line a request walks that an expert answers: admit, route, lease, stream, release."""

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from experts.engine import Answer
from experts.errors import EngineLost, EngineUnavailable
from experts.spec import Expert
from memory_tiers.events import Priority
from memory_tiers.manager import Lease, TierManager
from server.admission import Admission
from server.auth import authorization_of
from server.dialect import Dialect
from server.errors import BadRequest, GatewayError, engine_failure, failure_of, rendering_of, retry_after
from server.feedback import Recorded
from server.key import PRIORITIES
from server.limits import read_body
from server.need import NOTHING, Need
from server.openai import ModelRequest
from server.routing import Route
from server.services import Services
from server.streaming import SSE, send_chunks, send_end, send_start, while_connected
from server.tally import Tally

PATIENCE_S = (0.1, 0.4, 1.0, 2.0, 4.0)
"""Pauses before trying again work that an engine lost before anything of it reached the client."""

log = logging.getLogger("coe.requests")


@dataclass(slots=True)
class Begun:
    """An answer whose first bytes are here, and its lease. Leaving it gives both back."""

    lease: Lease
    answer: Answer
    head: bytes
    rest: AsyncIterator[bytes]

    async def events(self) -> AsyncIterator[bytes]:
        """All of it."""
        if self.head:
            yield self.head
        async for chunk in self.rest:
            yield chunk

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self.answer.close()
        finally:
            self.lease.release()


async def begin(
    tiers: TierManager,
    expert: str,
    path: str,
    body: Mapping[str, Any],
    *,
    whole: bool,
    fail_fast: bool,
    priority: Priority,
) -> Begun:
    """Leases ``expert`` and waits for the first bytes of its answer to ``path``, or for all if ``whole``.

    Nothing has reached the client yet, so an engine that goes away meanwhile costs time and no answer: the
    work is done again after its restart. Raises LeaseRejected, EngineError.
    """
    for pause in (*PATIENCE_S, None):
        lease = await tiers.lease(expert, fail_fast=fail_fast, priority=priority)
        try:
            return await _open(lease, path, body, whole)
        except (EngineUnavailable, EngineLost):
            lease.release()
            if pause is None:
                raise
        except BaseException:
            lease.release()
            raise
        await asyncio.sleep(pause)
    raise AssertionError("unreachable: the last attempt returns or raises")


async def _open(lease: Lease, path: str, body: Mapping[str, Any], whole: bool) -> Begun:
    answer = await lease.engine.request(lease.expert, path, body)
    try:
        chunks = answer.chunks()
        if whole or answer.status >= 400:
            head = b"".join([chunk async for chunk in chunks])
        else:
            head = await anext(chunks, b"")
        if answer.status >= 500 and not await lease.engine.alive():
            raise EngineUnavailable(f"The engine of {lease.expert!r} answered {answer.status} and is gone.")
    except BaseException:
        await answer.close()
        raise
    return Begun(lease, answer, head, chunks)


class Exchange(Response):
    """One request being answered. It owns the response from the first header to the last byte."""

    def __init__(self, request: Request, dialect: Dialect) -> None:
        self.services: Services = request.app.state.services
        self.request = request
        self.dialect = dialect
        self.tally = Tally()
        self.admission: Admission | None = None  # until its key is known
        self.model = ""
        self.status = 0  # not zero once headers are out
        self.expert = ""
        self.began = time.monotonic()
        self.headers_out = {"x-request-id": request.headers.get("x-request-id") or uuid.uuid4().hex}
        self.recorded: Recorded | None = None
        self.background = None  # read by FastAPI

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        stayed = False
        try:
            raw = await self._admit(send)
            stayed = raw is None or await while_connected(self._answer(raw, send), receive)
        except ClientDisconnect:
            pass  # while it sent its body
        finally:
            self._record(str(self.status) if stayed else "client_left")

    async def _admit(self, send: Send) -> bytes | None:
        """The body; None: it was refused."""
        try:
            key = self.services.keys.check(authorization_of(self.request.headers))
            self.admission = self.services.admissions.of(key)
            return await read_body(self.request, self.services.settings.server.max_body)
        except GatewayError as error:
            await self._fail(send, error)
            return None

    async def _answer(self, raw: bytes, send: Send) -> None:
        try:
            await self._line(raw, send)
        except Exception as error:  # rendered by the table; an unmapped class is logged as our own failure
            if rendering_of(error).status == 500:
                log.exception("request %s failed", self.headers_out["x-request-id"])
            await self._fail(send, error)

    async def _line(self, raw: bytes, send: Send) -> None:
        request = await self.dialect.read(raw)
        self.model = request.model
        priority = self._enter(request)
        here = await self.dialect.here(request, self.services)
        if here is not None:
            await self._send(send, 200, self.tally.whole(here))
            return
        headers = self.request.headers
        routed = await self.services.route(request, headers.get("x-coe-category"))
        route, self.expert = routed.route, routed.expert.name
        body = self.dialect.engine_body(request, routed.expert)
        if route.decision is not None:
            self.services.tiers.foresee(route.decision.others)
            if self.services.feedback is not None:
                request_id, key = self.headers_out["x-request-id"], authorization_of(headers)
                self.recorded = self.services.feedback.decided(request_id, key, route.composition, route)
        async with await begin(
            self.services.tiers,
            self._leased(routed.expert),
            self.dialect.engine_path,
            body,
            whole=not request.stream,
            fail_fast=headers.get("x-coe-fail-fast", "").lower() in ("1", "true"),
            priority=priority,
        ) as begun:
            self.headers_out |= _decision_headers(route, begun.lease)
            self.services.metrics.first_bytes(route.expert, time.monotonic() - self.began)
            status = begun.answer.status
            if status >= 400:
                await self._send(send, status, self.dialect.error_body(engine_failure(status, begun.head)))
            elif request.stream:
                await self._stream(send, begun, keep_usage=request.wants_usage)
            else:
                await self._send(send, status, await self.dialect.whole(self.tally.whole(begun.head)))

    def _enter(self, request: ModelRequest) -> Priority:
        """Reserves what it may use of its key's limits. Raises BadRequest, UnknownModel, OverLimit."""
        assert self.admission is not None
        priority = self.admission.priority(_priority(self.request.headers))
        need = NOTHING if self.dialect.any_of_family else Need.of(request)
        self.admission.enter(self.services.catalog.name_of(request.model), need)
        self.headers_out |= self.admission.headers()
        return priority

    def _leased(self, expert: Expert) -> str:
        """``expert``, or who answers like it without being brought to the device."""
        if not self.dialect.any_of_family:
            return expert.name
        resident = [
            status.expert
            for status in self.services.tiers.status()
            if status.family == expert.family and status.tier == "device"
        ]
        return expert.name if expert.name in resident or not resident else resident[0]

    async def _stream(self, send: Send, begun: Begun, *, keep_usage: bool) -> None:
        self.status = begun.answer.status
        headers = {**self.headers_out, "content-type": SSE, "cache-control": "no-cache"}
        await send_start(send, self.status, headers)
        events = self.tally.stream(begun.events(), keep=keep_usage)
        await send_chunks(send, self.dialect.stream(events))
        await send_end(send)

    async def _send(self, send: Send, status: int, body: bytes) -> None:
        self.status = status
        headers = {"content-type": "application/json", "content-length": str(len(body))}
        await send_start(send, status, {**self.headers_out, **headers})
        await send_end(send, body)

    async def _fail(self, send: Send, error: Exception) -> None:
        failure = failure_of(error)
        if self.status:  # headers are out: the stream says it and ends
            self.status = failure.status
            await send_end(send, self.dialect.error_event(failure))
            return
        self.headers_out |= retry_after(error)
        if self.admission is not None:
            self.headers_out |= self.admission.headers()
        await self._send(send, failure.status, self.dialect.error_body(failure))

    def _record(self, outcome: str) -> None:
        seconds = time.monotonic() - self.began
        if self.admission is not None:
            self.admission.settle(self.expert, self.tally.spent, failed=self.status >= 400)
        self.services.metrics.request_done(self.expert, outcome, seconds)
        if self.recorded is not None:
            self.recorded.ended(outcome)
        log.info(
            "%s model=%.100r expert=%s outcome=%s seconds=%.3f",
            self.headers_out["x-request-id"],
            self.model,
            self.expert or "-",
            outcome,
            seconds,
        )


def _priority(headers: Mapping[str, str]) -> Priority | None:
    """None: the client does not say. Raises BadRequest."""
    given = headers.get("x-coe-priority")
    if given is None:
        return None
    for priority in PRIORITIES:
        if given.lower() == priority:
            return priority
    raise BadRequest(f"x-coe-priority is {given[:100]!r}; it may be {', '.join(PRIORITIES)}.")


def _decision_headers(route: Route, lease: Lease) -> dict[str, str]:
    headers = {
        "x-coe-expert": route.expert,
        "x-coe-routed-by": route.by,
        "x-coe-tier": lease.tier,
        "x-coe-queue-ms": f"{lease.queue_seconds * 1e3:.1f}",
        "x-coe-swap-ms": f"{lease.swap_seconds * 1e3:.1f}",
    }
    if route.decision is not None:
        headers["x-coe-category"] = route.decision.category
        headers["x-coe-confidence"] = f"{route.decision.confidence:.3f}"
        if route.decision.cluster != route.decision.category:
            headers["x-coe-cluster"] = route.decision.cluster
        if route.decision.uncertain:
            headers["x-coe-uncertain"] = "true"
    return headers
