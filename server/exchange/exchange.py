"""The path of a request, however it came: admit, route, lease, stream, release."""

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial

from starlette.requests import ClientDisconnect

from server.exchange.account import Account
from server.exchange.answer.keep_alive import KeepAlive, waiting_for
from server.exchange.answer.model import named_as_asked, with_asked_name
from server.exchange.arrival import Arrival, Caller, Terms
from server.exchange.cancellation import Cancellable
from server.exchange.destination import Destination
from server.exchange.endpoint import Call, Endpoint
from server.exchange.engine.call import EngineRequest, OpenAnswer
from server.exchange.engine.expert_choice import ExpertChoice, resident_like
from server.exchange.engine.own_prefixes import own_salt
from server.exchange.reply import Reply
from server.resilience.timeouts import deadline
from server.routing.routing import Routed
from server.services import Services
from server.transport.body_limits import LARGE, check_request
from server.transport.disconnect import Disconnect, while_connected


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
        self.account = account or Account(services, arrival.request_id, arrival.path, arrival.peer)
        self._reply = Reply(endpoint, destination, self.account)

    def run(self, disconnect: Disconnect) -> Coroutine[None, None, None]:
        """Answers the request, be it with an error, until its client leaves. What was held is given back by
        then. Raises CancelledError alone."""
        return self._accounted(self._answer, disconnect)

    async def plan(self) -> Routed | None:
        """Routes a request that is answered later, and reserves nothing for it. None: it was answered at
        once, because it needs no expert or because it is refused."""
        try:
            try:
                caller = self._admitted()
                call = await self._read(caller, await self._arrival.body())
                local = await call.local_answer(self._services, None)
                if local is None:
                    return await self._arrival.route(call.request)
                await self._enter(call)
                await self._reply.tell(self.account.counted(local))
            except Exception as error:  # noqa: BLE001  # as ``_refusing``
                await self._reply.fail(error)
            self.account.close(self._reply.status, stayed=True)
            return None
        finally:
            self.account.put_off()

    async def _answer(self) -> None:
        caller = self._admitted()
        raw = await self._arrival.body()
        terms = self._arrival.terms(caller)
        async with deadline(terms.timeouts.timeout_s, self.account.seconds):
            call = await self._read(caller, raw)
            if len(raw) > LARGE:
                await asyncio.sleep(0)  # others have their turn between reading it and writing it again
            await self._enter(call)
            await self._serve(call, caller, terms)

    async def _serve(self, call: Call, caller: Caller, terms: Terms) -> None:
        detach = None if self._arrival.offline else partial(self._detached, caller, terms)
        local = await call.local_answer(self._services, detach)
        if local is not None:
            await self._reply.tell(self.account.counted(local))
            return
        self.account.routing()
        routed = await self._arrival.route(call.request)
        every_s = terms.timeouts.keep_alive_s if call.request.stream else 0
        async with (
            KeepAlive(partial(self._sign_of_life, call), every_s) as waiting,
            await self._open(call, routed, caller, terms) as answer,
        ):
            await waiting.stop()
            self._reply.note_lease(answer.lease)
            self.account.first_bytes()
            await self._pass_on(call, answer)

    def _admitted(self) -> Caller:
        """Finds out whose request it is. Raises Unauthorized."""
        caller = self._arrival.caller()
        admission = self._services.admissions.of(caller.key, offline=self._arrival.offline)
        self.account.known(admission, caller.headers)
        return caller

    async def _read(self, caller: Caller, raw: bytes) -> Call:
        call = await self._endpoint.read(raw, caller)
        self.account.read(call.request)
        check_request(call.request, self._services.settings.server)
        self._arrival.check(caller, call.request)
        return call

    async def _enter(self, call: Call) -> None:
        """Reserves what the request may use of its key's limits. Raises UnknownModel, OverLimit."""
        await self.account.enter(call.request, computes=not self._endpoint.expert_independent)
        await self._reply.note_limits()

    async def _open(self, call: Call, routed: Routed, caller: Caller, terms: Terms) -> OpenAnswer:
        """Opens the answer of the chosen expert. If that one is broken, and nothing has reached the client,
        another answers, which the composition chooses in its place."""
        choice = ExpertChoice(self._services, routed)
        try:
            while True:
                self._announce(choice.routed)
                sent = self._engine_request(call, choice.routed)
                try:
                    return await self._arrival.open(
                        sent, terms, self.account.leased, whole=not call.request.stream
                    )
                except Exception as error:
                    if self._reply.status or not choice.fall_back(error):
                        raise
        finally:
            self.account.remember(choice.routed.route, caller)

    def _announce(self, routed: Routed) -> None:
        self.account.routed(routed.route)
        self._reply.note_route(routed.route)
        if routed.route.decision is not None:
            self._services.tiers.foresee(routed.route.decision.others)

    def _engine_request(self, call: Call, routed: Routed) -> EngineRequest:
        expert, path, keep_s = routed.expert, call.engine_path, call.request.keep_s
        body, headers = call.engine_body(expert), self.account.trace_headers()
        if self._endpoint.expert_independent:  # it computes nothing that is kept
            return EngineRequest(resident_like(expert, self._services), path, body, headers=headers)
        if not self._services.settings.server.share_prefix_cache:
            body["cache_salt"] = own_salt(call.request.asker, body)
        return EngineRequest(expert, path, body, keep_s, headers=headers)

    async def _pass_on(self, call: Call, answer: OpenAnswer) -> None:
        if answer.status >= 400:
            await self._reply.engine_refused(answer.status, answer.head)
        elif call.request.stream:
            events = answer.events(self._services.settings.server.stall_timeout_s)
            events = self.account.tokens.stream(events, keep=call.request.wants_usage)
            named = named_as_asked(events, call.request, answer.sent.expert)
            await self._reply.tell(call.streamed(named, answer.sent))
        else:
            body = with_asked_name(self.account.tokens.whole(answer.head), call.request, answer.sent.expert)
            await self._reply.tell(await call.whole(body, answer.sent))

    async def _sign_of_life(self, call: Call) -> None:
        said = waiting_for(self._services, self.account.story.expert)
        await self._reply.sign_of_life(self._endpoint.sign_of_life(said, call.request))

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
            stayed = await while_connected(self._refusing(work, disconnect), disconnect)
        except ClientDisconnect:
            pass  # while it sent its body
        finally:
            self.account.close(self._reply.status, stayed=stayed)

    async def _refusing(
        self, work: Callable[[], Coroutine[None, None, None]], disconnect: Disconnect
    ) -> None:
        """Does ``work``, and tells the client what it raises."""
        try:
            with Cancellable(self.account.story, disconnect):
                await work()
        except ClientDisconnect:
            raise
        except Exception as error:  # noqa: BLE001  # rendered by the table; an unmapped class is logged as our own failure
            await self._reply.fail(error)
