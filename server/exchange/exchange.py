"""The path of a request, however it came: admit, route, lease, stream, release."""

import logging
from collections.abc import Callable, Coroutine
from functools import partial

from starlette.requests import ClientDisconnect

from server.access.token_estimate import NO_TOKENS, TokenEstimate
from server.error_table import Failure, failure_of, rendering_of, retry_after
from server.exchange.account import Account
from server.exchange.answer_headers import of_lease, of_route
from server.exchange.arrival import Arrival, Caller, Terms
from server.exchange.destination import Destination, StreamedAnswer, Wording
from server.exchange.endpoint import Call, Endpoint
from server.exchange.engine_call import EngineRequest, OpenAnswer
from server.exchange.engine_errors import engine_failure
from server.exchange.expert_choice import ExpertChoice, resident_like
from server.exchange.keep_alive import KeepAlive, comment
from server.exchange.own_prefixes import with_own_prefixes
from server.resilience.stall_timeout import unstalled
from server.resilience.timeouts import deadline
from server.routing.routing import Routed
from server.services import Services
from server.transport.body_limits import check_request
from server.transport.disconnect import Disconnect, while_connected

log = logging.getLogger("coe.requests")


class Exchange:
    """One request being answered."""

    def __init__(
        self,
        services: Services,
        endpoint: Endpoint,
        arrival: Arrival,
        destination: Destination,
        account: Account | None = None,
    ) -> None:
        """``account``: one that was handed over; None: the request has just come."""
        self._services = services
        self._endpoint = endpoint
        self._arrival = arrival
        self._destination = destination
        self.account = account or Account(services, arrival.request_id, arrival.peer)
        self._headers = {**endpoint.headers(arrival.request_id)}
        self._streamed: StreamedAnswer | None = None
        self._told = False  # the client has the last event of its stream

    async def run(self, disconnect: Disconnect) -> None:
        """Answers the request, be it with an error, until its client leaves. What was held is given back by
        then. Raises CancelledError alone."""
        await self._accounted(self._answer, disconnect)

    async def plan(self) -> Routed | None:
        """The route of a request that is answered later; nothing is reserved for it. None: it was answered at
        once, because it needs no expert or because it is refused."""
        try:
            caller, raw = await self._received()
            call = await self._read(caller, raw)
            local = await call.local_answer(self._services, None)
            if local is None:
                return await self._arrival.route(call.request)
            await self._enter(call)
            await self._tell(local)
        except Exception as error:
            await self._fail(error)
        self.account.close(self._destination.status, stayed=True)
        return None

    async def _answer(self) -> None:
        caller, raw = await self._received()
        terms = self._arrival.terms(caller)
        async with deadline(terms.timeouts.timeout_s, self.account.seconds):
            call = await self._read(caller, raw)
            await self._enter(call)
            await self._serve(call, caller, terms)

    async def _serve(self, call: Call, caller: Caller, terms: Terms) -> None:
        detach = None if self._arrival.offline else partial(self._detached, caller, terms)
        local = await call.local_answer(self._services, detach)
        if local is not None:
            await self._tell(local)
            return
        routed = await self._arrival.route(call.request)
        every_s = terms.timeouts.keep_alive_s if call.request.stream else 0
        async with (
            KeepAlive(self._comment, every_s) as waiting,
            await self._open(call, routed, caller, terms) as answer,
        ):
            await waiting.stop()
            self._headers |= of_lease(answer.lease)
            self.account.first_bytes()
            await self._pass_on(call, answer)

    async def _received(self) -> tuple[Caller, bytes]:
        caller = self._arrival.caller()
        self.account.admission = self._services.admissions.of(caller.key, offline=self._arrival.offline)
        return caller, await self._arrival.body()

    async def _read(self, caller: Caller, raw: bytes) -> Call:
        call = await self._endpoint.read(raw, caller)
        self.account.model = call.request.model
        check_request(call.request, self._services.settings.server)
        self._arrival.check(caller, call.request)
        return call

    async def _enter(self, call: Call) -> None:
        """Reserves what the request may use of its key's limits. Raises UnknownModel, OverLimit."""
        admission = self.account.admission
        assert admission is not None, "its key is known"
        if self._endpoint.expert_independent:
            estimate = NO_TOKENS
        else:
            estimate = await TokenEstimate.of(call.request, self._services.workers)
        admission.enter(self._services.catalog.name_of(call.request.model), estimate)
        self._headers |= self._endpoint.limit_headers(admission.remaining())

    async def _open(self, call: Call, routed: Routed, caller: Caller, terms: Terms) -> OpenAnswer:
        """Opens the answer of the chosen expert. If that one is broken, and nothing has reached the client,
        another answers, which the composition chooses in its place."""
        choice = ExpertChoice(self._services, routed)
        try:
            while True:
                self._announce(choice.routed)
                sent = self._engine_request(call, choice.routed)
                try:
                    return await self._arrival.open(sent, terms, whole=not call.request.stream)
                except Exception as error:
                    if self._destination.status or not choice.fall_back(error):
                        raise
        finally:
            self.account.remember(choice.routed.route, caller)

    def _announce(self, routed: Routed) -> None:
        """Says which expert answers before it is there."""
        self.account.expert = routed.route.expert
        self._headers |= of_route(routed.route)
        if routed.route.decision is not None:
            self._services.tiers.foresee(routed.route.decision.others)

    def _engine_request(self, call: Call, routed: Routed) -> EngineRequest:
        endpoint, expert = self._endpoint, routed.expert
        body = call.engine_body(expert)
        if endpoint.expert_independent:  # it computes nothing that is kept
            return EngineRequest(resident_like(expert, self._services), endpoint.engine_path, body)
        if not self._services.settings.server.share_prefix_cache:
            body = with_own_prefixes(body, call.request.asker)
        return EngineRequest(expert, endpoint.engine_path, body)

    async def _pass_on(self, call: Call, answer: OpenAnswer) -> None:
        status = answer.status
        if status >= 500:
            log.error("request %s: the engine answered %d", self.account.request_id, status)
        if status >= 400:
            await self._refuse(engine_failure(status, answer.head))
        elif call.request.stream:
            events, limit_s = answer.events(), self._services.settings.server.stall_timeout_s
            if limit_s:
                events = unstalled(events, limit_s)
            events = self.account.tokens.stream(events, keep=call.request.wants_usage)
            await self._tell(call.streamed(events, answer.sent))
        else:
            body = await call.whole(self.account.tokens.whole(answer.head), answer.sent)
            await self._destination.whole(status, body, self._headers)

    async def _tell(self, answer: bytes | StreamedAnswer) -> None:
        if isinstance(answer, bytes):
            await self._destination.whole(200, self.account.tokens.whole(answer), self._headers)
            return
        self._streamed = answer
        await self._destination.start_stream(self._headers)
        async for chunk in answer.events():
            if chunk:
                await self._destination.part(chunk)
                self._told = answer.is_last(chunk)
        await self._destination.end()

    async def _comment(self) -> None:
        """Tells a client that waits for its stream to begin that it is not forgotten."""
        await self._destination.start_stream(self._headers)
        await self._destination.part(comment(self._services, self.account.expert))

    async def _detached(self, caller: Caller, terms: Terms, call: Call, destination: Destination) -> None:
        """Answers ``call`` to ``destination`` when its client was answered and waits no more. It was let in
        once and is counted once: the account is handed over."""
        other = Exchange(
            self._services, self._endpoint, self._arrival, destination, self.account.handed_over()
        )

        async def answer() -> None:
            async with deadline(terms.timeouts.timeout_s, other.account.seconds):
                await other._serve(call, caller, terms)

        await other._accounted(answer, Disconnect())

    async def _accounted(
        self, work: Callable[[], Coroutine[None, None, None]], disconnect: Disconnect
    ) -> None:
        stayed = False
        try:
            stayed = await while_connected(self._refusing(work), disconnect)
        except ClientDisconnect:
            pass  # while it sent its body
        finally:
            self.account.close(self._destination.status, stayed=stayed)

    async def _refusing(self, work: Callable[[], Coroutine[None, None, None]]) -> None:
        """Does ``work``, and tells the client what it raises."""
        try:
            await work()
        except ClientDisconnect:
            raise
        except Exception as error:  # rendered by the table; an unmapped class is logged as our own failure
            await self._fail(error)

    async def _fail(self, error: Exception) -> None:
        row = rendering_of(error)
        if row.status == 500:
            log.error("request %s failed", self.account.request_id, exc_info=error)
        elif row.message is not None:
            log.warning("request %s: %s", self.account.request_id, error)
        if self._told:
            await self._destination.end()
            return
        if not self._destination.status:
            self._headers |= retry_after(error)
            if self.account.admission is not None:
                self._headers |= self._endpoint.limit_headers(self.account.admission.remaining())
        await self._refuse(failure_of(error))

    async def _refuse(self, failure: Failure) -> None:
        endpoint, id, streamed = self._endpoint, self.account.request_id, self._streamed
        wording = Wording(
            body=lambda failure: endpoint.error_body(failure, id),
            event=streamed.error_event if streamed else lambda failure: endpoint.error_event(failure, id),
            streamed=streamed,
        )
        await self._destination.fail(failure, wording, self._headers)
