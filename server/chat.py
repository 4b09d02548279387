"""The line a chat request walks: admit, route, lease, stream, release."""

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, get_args

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from experts.engine import Answer
from experts.errors import EngineLost, EngineUnavailable
from memory_tiers.events import Priority
from memory_tiers.manager import Lease, TierManager
from server.errors import BadRequest, error_body, error_event, rendering_of, translated
from server.feedback import Recorded
from server.limits import read_body
from server.openai import engine_body, parse_chat
from server.routing import Route
from server.services import Services
from server.streaming import SSE, send_chunks, send_end, send_start, while_connected

ENGINE_PATH = "/v1/chat/completions"
PATIENCE_S = (0.1, 0.4, 1.0, 2.0, 4.0)
"""Pauses before trying again work that an engine lost before anything of it reached the client."""
PRIORITIES: tuple[Priority, ...] = get_args(Priority)

log = logging.getLogger("coe.requests")


async def chat_completions(request: Request) -> Response:
    """``POST /v1/chat/completions``."""
    services: Services = request.app.state.services
    services.keys.check(request.headers.get("authorization"))  # admit
    body = await read_body(request, services.settings.server.max_body)
    return Exchange(services, body, request.headers)


@dataclass(slots=True)
class Begun:
    """An answer whose first bytes are here, and its lease. Leaving it gives both back."""

    lease: Lease
    answer: Answer
    head: bytes
    rest: AsyncIterator[bytes]

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
    body: Mapping[str, Any],
    *,
    whole: bool,
    fail_fast: bool,
    priority: Priority,
) -> Begun:
    """Leases ``expert`` and waits for the first bytes of its answer, or for all of them if ``whole``.

    Nothing has reached the client yet, so an engine that goes away meanwhile costs time and no answer: the
    work is done again after its restart. Raises LeaseRejected, EngineError.
    """
    for pause in (*PATIENCE_S, None):
        lease = await tiers.lease(expert, fail_fast=fail_fast, priority=priority)
        try:
            return await _open(lease, body, whole)
        except (EngineUnavailable, EngineLost):
            lease.release()
            if pause is None:
                raise
        except BaseException:
            lease.release()
            raise
        await asyncio.sleep(pause)
    raise AssertionError("unreachable: the last attempt returns or raises")


async def _open(lease: Lease, body: Mapping[str, Any], whole: bool) -> Begun:
    answer = await lease.engine.request(lease.expert, ENGINE_PATH, body)
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
    """One chat request being answered. It owns the response from the first header to the last byte."""

    def __init__(self, services: Services, sent_body: bytes, sent_headers: Mapping[str, str]) -> None:
        self.services = services
        self.sent_body = sent_body
        self.sent_headers = sent_headers
        self.model = ""
        self.status = 0  # not zero once headers are out
        self.expert = ""
        self.began = time.monotonic()
        self.headers_out = {"x-request-id": sent_headers.get("x-request-id") or uuid.uuid4().hex}
        self.recorded: Recorded | None = None
        self.background = None  # read by FastAPI

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        stayed = False
        try:
            stayed = await while_connected(self._answer(send), receive)
        finally:
            self._record(str(self.status) if stayed else "client_left")

    async def _answer(self, send: Send) -> None:
        try:
            await self._line(send)
        except Exception as error:  # rendered by the table; an unmapped class is logged as our own failure
            if rendering_of(error).status == 500:
                log.exception("request %s failed", self.headers_out["x-request-id"])
            await self._fail(send, error)

    async def _line(self, send: Send) -> None:
        chat = parse_chat(self.sent_body)
        self.model = chat.model
        priority = _priority(self.sent_headers)
        routed = await self.services.route(chat)
        route, self.expert = routed.route, routed.expert.name
        body = engine_body(chat, routed.expert)
        if route.decision is not None:
            self.services.tiers.foresee(route.decision.others)
            if self.services.feedback is not None:
                request_id, key = self.headers_out["x-request-id"], self.sent_headers.get("authorization")
                self.recorded = self.services.feedback.decided(request_id, key, chat.model, route)
        fail_fast = self.sent_headers.get("x-coe-fail-fast", "").lower() in ("1", "true")
        whole = not chat.stream
        async with await begin(
            self.services.tiers, route.expert, body, whole=whole, fail_fast=fail_fast, priority=priority
        ) as begun:
            self.headers_out |= _decision_headers(route, begun.lease)
            self.services.metrics.first_bytes(route.expert, time.monotonic() - self.began)
            if begun.answer.status >= 400:
                await self._send(send, begun.answer.status, translated(begun.answer.status, begun.head))
            elif whole:
                await self._send(send, begun.answer.status, begun.head)
            else:
                await self._stream(send, begun)

    async def _stream(self, send: Send, begun: Begun) -> None:
        self.status = begun.answer.status
        headers = {**self.headers_out, "content-type": SSE, "cache-control": "no-cache"}
        await send_start(send, self.status, headers)
        await send_chunks(send, begun.head, begun.rest)
        await send_end(send)

    async def _send(self, send: Send, status: int, body: bytes) -> None:
        self.status = status
        headers = {"content-type": "application/json", "content-length": str(len(body))}
        await send_start(send, status, {**self.headers_out, **headers})
        await send_end(send, body)

    async def _fail(self, send: Send, error: Exception) -> None:
        if self.status:  # headers are out: the stream says it and ends
            self.status = rendering_of(error).status
            await send_end(send, error_event(error))
            return
        retry_after_s = getattr(error, "retry_after_s", None)
        if retry_after_s is not None:
            self.headers_out["retry-after"] = str(max(1, round(retry_after_s)))
        await self._send(send, rendering_of(error).status, error_body(error))

    def _record(self, outcome: str) -> None:
        seconds = time.monotonic() - self.began
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


def _priority(headers: Mapping[str, str]) -> Priority:
    """Raises BadRequest."""
    given = headers.get("x-coe-priority", "normal").lower()
    for priority in PRIORITIES:
        if given == priority:
            return priority
    raise BadRequest(f"x-coe-priority is {given[:100]!r}; it may be {', '.join(PRIORITIES)}.")


def _decision_headers(route: Route, lease: Lease) -> dict[str, str]:
    headers = {
        "x-coe-expert": route.expert,
        "x-coe-tier": lease.tier,
        "x-coe-queue-ms": f"{lease.queue_seconds * 1e3:.1f}",
        "x-coe-swap-ms": f"{lease.swap_seconds * 1e3:.1f}",
    }
    if route.decision is not None:
        headers["x-coe-category"] = route.decision.category
        headers["x-coe-confidence"] = f"{route.decision.confidence:.3f}"
    return headers
