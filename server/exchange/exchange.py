"""The line a request walks that an expert answers: admit, route, lease, stream, release."""

import logging
import time
from collections.abc import Mapping
from dataclasses import replace

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from experts.spec import Expert
from memory_tiers.events import Priority
from server.access.admission import Admission
from server.access.auth import authorization_of
from server.access.owner import owner_of
from server.access.token_estimate import NO_TOKENS, TokenEstimate
from server.config.api_keys import PRIORITIES
from server.error_table import Failure, failure_of, rendering_of, retry_after
from server.errors import BadRequest, GatewayError
from server.exchange.answer_headers import of_lease, of_route
from server.exchange.dialect import Dialect
from server.exchange.engine_call import Begun, begin
from server.exchange.engine_errors import engine_failure
from server.exchange.keep_alive import KeepAlive, comment
from server.exchange.token_counter import TokenCounter
from server.feedback.recorder import Recorded
from server.model_request import ModelRequest
from server.resilience.circuit_breakers import broken_by
from server.resilience.stall_timeout import unstalled
from server.resilience.timeouts import Timeouts, deadline
from server.routing.routing import Route, Routed
from server.services import Services
from server.transport.body_limits import check_request, read_json
from server.transport.disconnect import DISCONNECT, Disconnect, while_connected
from server.transport.request_id import REQUEST_ID
from server.transport.streaming import SSE_HEADERS, send_chunks, send_end, send_part, send_start

FALLBACKS = 2
"""How many other experts are asked when the chosen one is broken."""

log = logging.getLogger("coe.requests")


class Exchange(Response):
    """One request being answered. It owns the response from the first header to the last byte."""

    def __init__(self, request: Request, dialect: Dialect) -> None:
        self.services: Services = request.app.state.services
        self.request = request
        self.dialect = dialect
        self.token_counter = TokenCounter()
        self.admission: Admission | None = None  # until its key is known
        self.model = ""
        self.status = 0  # not zero once headers are out
        self.expert = ""
        self.began = time.monotonic()
        self.headers_in = request.headers
        self.request_id: str = request.scope[REQUEST_ID]  # the connection puts it into the headers
        self.headers_out: dict[str, str] = {}
        self.recorded: Recorded | None = None
        self.disconnect: Disconnect = request.scope[DISCONNECT]
        self.background = None  # read by FastAPI

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        stayed = False
        try:
            raw = await self._admit(send)
            stayed = raw is None or await while_connected(self._answer(raw, send), self.disconnect)
        except ClientDisconnect:
            pass  # while it sent its body
        finally:
            self._record(str(self.status) if stayed else "client_left")

    async def _admit(self, send: Send) -> bytes | None:
        """The body; None: it was refused."""
        try:
            key = self.services.keys.check(authorization_of(self.headers_in))
            self.admission = self.services.admissions.of(key)
            return await read_json(self.request, self.services.settings.server)
        except GatewayError as error:
            await self._fail(send, error)
            return None

    async def _answer(self, raw: bytes, send: Send) -> None:
        try:
            patience = Timeouts.of(self.headers_in, self.services.settings.server)
            async with deadline(patience.timeout_s, time.monotonic() - self.began):
                await self._line(raw, send, patience.keep_alive_s)
        except Exception as error:  # rendered by the table; an unmapped class is logged as our own failure
            row = rendering_of(error)
            if row.status == 500:
                log.exception("request %s failed", self.request_id)
            elif row.message is not None:
                log.warning("request %s: %s", self.request_id, error)
            await self._fail(send, error)

    async def _line(self, raw: bytes, send: Send, keep_alive_s: float) -> None:
        assert self.admission is not None
        request = replace(await self.dialect.read(raw), asker=self.admission.key.name)
        self.model = request.model
        check_request(request, self.services.settings.server)
        priority = await self._enter(request)
        here = await self.dialect.here(request, self.services)
        if isinstance(here, bytes):
            await self._send(send, 200, self.token_counter.whole(here))
            return
        if here is not None:
            await self._start_stream(send)
            await send_chunks(send, here)
            await send_end(send)
            return
        routed = await self.services.route(request, self.headers_in.get("x-coe-category"))
        async with (
            KeepAlive(lambda: self._comment(send), keep_alive_s if request.stream else 0) as waiting,
            await self._begin(request, routed, priority) as begun,
        ):
            await waiting.stop()
            self.headers_out |= of_lease(begun.lease)
            self.services.metrics.first_bytes(self.expert, time.monotonic() - self.began)
            await self._pass_on(send, request, begun)

    async def _enter(self, request: ModelRequest) -> Priority:
        """Reserves what it may use of its key's limits. Raises BadRequest, UnknownModel, OverLimit."""
        assert self.admission is not None
        priority = self.admission.priority(_priority(self.headers_in))
        need = (
            NO_TOKENS
            if self.dialect.any_of_family
            else await TokenEstimate.of(request, self.services.workers)
        )
        self.admission.enter(self.services.catalog.name_of(request.model), need)
        self.headers_out |= self.dialect.limit_headers(self.admission.remaining())
        return priority

    async def _begin(self, request: ModelRequest, routed: Routed, priority: Priority) -> Begun:
        """With the expert that was chosen. If it is broken, and nothing has reached the client, with another,
        which a composition chooses in its place."""
        broken, left = frozenset[str](), FALLBACKS
        try:
            while True:
                self._chosen(routed.route)
                try:
                    return await self._begin_with(request, routed.expert, priority)
                except Exception as error:
                    broken |= broken_by(error, routed.expert, self.services.experts)
                    if routed.expert.name not in broken or not left or self.status:
                        raise
                    instead = self.services.instead(routed, broken)
                    if instead is None:
                        raise
                routed, left = instead, left - 1
        finally:
            self._remember(routed.route)

    async def _begin_with(self, request: ModelRequest, expert: Expert, priority: Priority) -> Begun:
        return await begin(
            self.services.tiers,
            self.services.breakers,
            self._leased(expert),
            self.dialect.engine_path,
            self.dialect.engine_body(request, expert),
            whole=not request.stream,
            fail_fast=self.headers_in.get("x-coe-fail-fast", "").lower() in ("1", "true"),
            priority=priority,
        )

    def _chosen(self, route: Route) -> None:
        """Says so before the expert is there."""
        self.expert = route.expert
        self.headers_out |= of_route(route)
        if route.decision is not None:
            self.services.tiers.foresee(route.decision.others)

    def _remember(self, route: Route) -> None:
        """As feedback is about it."""
        if route.decision is not None and self.services.feedback is not None:
            assert self.admission is not None
            owner = owner_of(self.admission.key, self.headers_in)
            self.recorded = self.services.feedback.decided(self.request_id, owner, route.composition, route)

    async def _pass_on(self, send: Send, request: ModelRequest, begun: Begun) -> None:
        status = begun.answer.status
        if status >= 500:
            log.error("request %s: the engine answered %d", self.request_id, status)
        if status >= 400:
            await self._refuse(send, engine_failure(status, begun.head))
        elif request.stream:
            await self._stream(send, begun, keep_usage=request.wants_usage)
        else:
            await self._send(send, status, await self.dialect.whole(self.token_counter.whole(begun.head)))

    def _leased(self, expert: Expert) -> Expert:
        """``expert``, or who answers like it without being brought to the device."""
        if not self.dialect.any_of_family:
            return expert
        resident = [
            status.expert
            for status in self.services.tiers.status()
            if status.family == expert.family and status.tier == "device"
        ]
        return expert if expert.name in resident or not resident else self.services.experts[resident[0]]

    async def _stream(self, send: Send, begun: Begun, *, keep_usage: bool) -> None:
        await self._start_stream(send)
        events, limit_s = begun.events(), self.services.settings.server.stall_timeout_s
        if limit_s:
            events = unstalled(events, limit_s)
        await send_chunks(send, self.dialect.stream(self.token_counter.stream(events, keep=keep_usage)))
        await send_end(send)

    async def _start_stream(self, send: Send) -> None:
        """Sends the headers, unless they are out."""
        if not self.status:
            await send_start(send, 200, {**self.headers_out, **SSE_HEADERS})
            self.status = 200

    async def _comment(self, send: Send) -> None:
        """To a client that waits for its stream to begin."""
        await self._start_stream(send)
        await send_part(send, comment(self.services, self.expert))

    async def _send(self, send: Send, status: int, body: bytes) -> None:
        headers = {"content-type": "application/json", "content-length": str(len(body))}
        await send_start(send, status, {**self.headers_out, **headers})
        self.status = status
        await send_end(send, body)

    async def _fail(self, send: Send, error: Exception) -> None:
        if not self.status:
            self.headers_out |= retry_after(error)
            if self.admission is not None:
                self.headers_out |= self.dialect.limit_headers(self.admission.remaining())
        await self._refuse(send, failure_of(error))

    async def _refuse(self, send: Send, failure: Failure) -> None:
        if self.status:  # headers are out: the stream says it and ends
            self.status = failure.status
            await send_end(send, self.dialect.error_event(failure))
        else:
            await self._send(send, failure.status, self.dialect.error_body(failure))

    def _record(self, outcome: str) -> None:
        seconds = time.monotonic() - self.began
        if self.admission is not None:
            self.admission.settle(self.expert, self.token_counter.spent, failed=self.status >= 400)
        self.services.metrics.request_done(self.expert, outcome, seconds)
        if self.recorded is not None:
            self.recorded.ended(outcome)
        log.info(
            "%s model=%.100r expert=%s outcome=%s seconds=%.3f key=%s peer=%.50r",
            self.request_id,
            self.model,
            self.expert or "-",
            outcome,
            seconds,
            "-" if self.admission is None else self.admission.key.name,
            self.request.client.host if self.request.client else "-",
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
