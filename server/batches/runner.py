"""Requests of a batch: each is answered as one online is, but into the batch's files.

No HTTP to ourselves: the same exchange answers, with a route that is known beforehand, behind all requests
that clients wait for, and of its key's limits only the models and the day's tokens hold.
"""

import asyncio
import time
import uuid
from collections.abc import Callable, Mapping

from memory_tiers.errors import LeaseRejected, ManagerBroken
from memory_tiers.lease import Lease
from server.access.admission import check_model
from server.batches.output_file import AnsweredRequest
from server.batches.records import Tokens
from server.error_table import Failure
from server.errors import BadRequest, BreakerOpen, Unauthorized
from server.exchange.answer.token_counter import TokenCounter
from server.exchange.arrival import Caller, Terms
from server.exchange.destination import Wording
from server.exchange.endpoint import Endpoint
from server.exchange.engine.call import EngineRequest, OpenAnswer, open_answer
from server.exchange.exchange import Exchange
from server.model_request import ModelRequest
from server.resilience.timeouts import Timeouts
from server.routing.routing import Route, Routed
from server.services import NodeServices
from server.transport.disconnect import Disconnect

PAUSE_S = 1.0
"""Seconds before a request asks again that was rejected for reasons that are not its own."""
MENDING_S = 120.0
"""Seconds that a request waits for an expert or engine whose breaker is open."""
_TERMS = Terms(Timeouts(timeout_s=None, keep_alive_s=0), priority="low", fail_fast=False)


class BatchRunner:
    """Answers requests to one endpoint for one owner. A failure is an answer too: nothing is raised but
    cancellation."""

    def __init__(self, services: NodeServices, endpoint: Endpoint, owner: str, key: str) -> None:
        """``key``: its name."""
        self._services = services
        self._endpoint = endpoint
        self._owner = owner
        self._key = key

    async def route(self, body: bytes) -> str | AnsweredRequest:
        """Names the expert that shall answer, or gives the answer where none is needed or none can."""
        exchange, collected = self._exchange(body, None)
        routed = await exchange.plan()
        return collected.answer(exchange) if routed is None else routed.expert.name

    async def answer(self, body: bytes, expert: str) -> AnsweredRequest:
        """Answers a request. ``expert``: as ``route`` named it."""
        exchange, collected = self._exchange(body, expert)
        exchange.account.story.expert = expert  # also if it is refused before it is asked
        await exchange.run(Disconnect())
        return collected.answer(exchange)

    def _exchange(self, body: bytes, expert: str | None) -> "tuple[Exchange, Collected]":
        collected = Collected()
        arrival = BatchArrival(self._services, body, self._owner, self._key, expert)
        return Exchange(self._services, self._endpoint, arrival, collected), collected


class BatchArrival:
    """Implements ``server.exchange.arrival.Arrival``."""

    offline = True
    path = "/v1/batches"
    peer = "-"

    def __init__(self, services: NodeServices, body: bytes, owner: str, key: str, expert: str | None) -> None:
        """``key``: its name. ``expert``: the one that was routed to; None: it is not routed yet."""
        self.request_id = uuid.uuid4().hex
        self._services = services
        self._body = body
        self._owner = owner
        self._key = key
        self._expert = expert

    def caller(self) -> Caller:
        key = self._services.keys.named(self._key)
        if key is None:
            raise Unauthorized("The API key that this batch was made with is not known any more.")
        return Caller(self.request_id, key, {}, self._owner, self._services.catalog.aliases)

    async def body(self) -> bytes:
        return self._body

    def terms(self, caller: Caller) -> Terms:
        return _TERMS

    def check(self, caller: Caller, request: ModelRequest) -> None:
        if request.stream:
            raise BadRequest("A batch cannot stream: leave out 'stream'.", "stream")
        check_model(caller.key, caller.aliases.names_of(request.sent_model))

    async def route(self, request: ModelRequest) -> Routed:
        """Returns the route to the chosen expert, or to another where a reload has removed that."""
        expert = self._services.experts.get(self._expert or "")
        if expert is None:
            expert = (await self._services.route(request)).expert
        return Routed(Route(expert.name, {}), expert)

    async def open(
        self, sent: EngineRequest, terms: Terms, leased: Callable[[Lease], None], *, whole: bool
    ) -> OpenAnswer:
        """Asks again while the expert cannot be asked for reasons that are not the request's own."""
        tiers, breakers, mended = self._services.tiers, self._services.breakers, time.monotonic() + MENDING_S
        while True:
            try:
                return await open_answer(
                    tiers,
                    breakers,
                    sent,
                    leased,
                    whole=whole,
                    fail_fast=terms.fail_fast,
                    priority=terms.priority,
                )
            except BreakerOpen:
                if time.monotonic() >= mended:
                    raise
            except (LeaseRejected, ManagerBroken) as error:
                if isinstance(error, LeaseRejected) and error.reason != "queue_full":
                    raise
            await asyncio.sleep(PAUSE_S)


class Collected:
    """Implements ``server.exchange.destination.Destination``: a whole answer, for a line of a file."""

    def __init__(self) -> None:
        self.status = 0
        self._body = b""

    async def whole(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.status, self._body = status, body

    async def start_stream(self, headers: Mapping[str, str]) -> None:
        raise AssertionError("streams were refused")

    async def part(self, chunk: bytes) -> None:
        raise AssertionError("streams were refused")

    async def end(self) -> None:
        raise AssertionError("streams were refused")

    async def fail(self, failure: Failure, wording: Wording, headers: Mapping[str, str]) -> None:
        await self.whole(failure.status, wording.body(failure), headers)

    def answer(self, exchange: Exchange) -> AnsweredRequest:
        account = exchange.account
        tokens = _tokens(account.tokens) if self.status < 400 else Tokens()
        return AnsweredRequest(self.status, account.request_id, self._body, tokens)


def _tokens(counted: TokenCounter) -> Tokens:
    return Tokens(
        input=counted.prompt_tokens,
        cached=counted.cached_tokens,
        output=counted.completion_tokens,
        reasoning=counted.reasoning_tokens,
    )
