"""The line a request of a batch walks: route, lease, answer, release.

No HTTP to ourselves: what answers online is called with a route that is known beforehand, behind everybody
who waits online, and of its key's limits only the models and the day's tokens hold.
"""

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace

from experts.spec import Expert
from memory_tiers.errors import LeaseRejected, ManagerBroken
from server.access.admission import Admission, check_model
from server.access.token_estimate import TokenEstimate
from server.access.usage import Spent
from server.batches.output_file import AnsweredRequest
from server.batches.records import Tokens
from server.error_table import Failure, failure_of, rendering_of
from server.errors import BadRequest, BreakerOpen, Unauthorized
from server.exchange.dialect import Dialect
from server.exchange.engine_call import begin
from server.exchange.engine_errors import engine_failure
from server.exchange.token_counter import usage_in
from server.model_request import ModelRequest
from server.openai.chat import Chat
from server.openai.completions import Completions
from server.openai.embeddings import Embeddings
from server.responses.responses import Responses
from server.responses.stored_responses import StoredResponses
from server.services import Services
from server.transport.body_limits import check_request

ENDPOINTS: Mapping[str, Callable[[Services, StoredResponses, str], Dialect]] = {
    "/v1/chat/completions": lambda services, stored, owner: Chat(),
    "/v1/completions": lambda services, stored, owner: Completions(),
    "/v1/embeddings": lambda services, stored, owner: Embeddings(),
    "/v1/responses": lambda services, stored, owner: Responses(services, stored, {}, owner=owner),
}
"""To what speaks them for one request of an owner."""
PAUSE_S = 1.0
"""Before a request asks again that was turned away for reasons that are not its own."""
MENDING_S = 120.0
"""How long a request waits for an expert, or an engine, that is not asked because it failed too often."""

log = logging.getLogger("coe.batches")


class BatchLine:
    """Of one endpoint and owner. What goes wrong is an answer too: nothing is raised but cancellation."""

    def __init__(
        self, services: Services, stored: StoredResponses, endpoint: str, owner: str, key: str
    ) -> None:
        """``key``: its name."""
        self._services = services
        self._stored = stored
        self._endpoint = endpoint
        self._owner = owner
        self._key = key

    async def route(self, body: bytes) -> str | AnsweredRequest:
        """The expert that shall answer, or the answer where none is needed or none can."""
        walk = self._walk()
        try:
            request = await walk.read(body, self._key)
            here = await walk.dialect.here(request, self._services)
            if here is None:
                return (await self._services.route(request)).expert.name
            assert isinstance(here, bytes), "what is streamed online alone was refused"
            await walk.enter(request)
            answer = walk.answered(walk.counted(here))
        except Exception as error:
            answer = walk.failed(failure_of(error), error)
        walk.settle("", answer)
        return answer

    async def answer(self, body: bytes, expert: str) -> AnsweredRequest:
        """``expert``: as it was routed."""
        walk = self._walk()
        answer: AnsweredRequest | None = None
        try:
            answer = await self._answer(walk, body, expert)
        except Exception as error:
            answer = walk.failed(failure_of(error), error)
        finally:
            walk.settle(expert, answer)
        return answer

    def _walk(self) -> "_Walk":
        return _Walk(self._services, ENDPOINTS[self._endpoint](self._services, self._stored, self._owner))

    async def _answer(self, walk: "_Walk", body: bytes, expert: str) -> AnsweredRequest:
        request = await walk.read(body, self._key)
        await walk.enter(request)
        known = self._services.experts.get(expert)  # a reload may have taken it away since
        chosen = (await self._services.route(request)).expert if known is None else known
        return await self._run(walk, request, chosen)

    async def _run(self, walk: "_Walk", request: ModelRequest, expert: Expert) -> AnsweredRequest:
        """Raises BreakerOpen, LeaseRejected, EngineError."""
        tiers, breakers, dialect = self._services.tiers, self._services.breakers, walk.dialect
        path, body = dialect.engine_path, dialect.engine_body(request, expert)
        mended = time.monotonic() + MENDING_S
        while True:
            try:
                async with await begin(
                    tiers, breakers, expert, path, body, whole=True, fail_fast=False, priority="low"
                ) as begun:
                    status = begun.answer.status
                    if status >= 400:
                        return walk.failed(engine_failure(status, begun.head))
                    return walk.answered(await dialect.whole(walk.counted(begun.head)))
            except BreakerOpen:
                if time.monotonic() >= mended:
                    raise
            except (LeaseRejected, ManagerBroken) as error:
                if isinstance(error, LeaseRejected) and error.reason != "queue_full":
                    raise
            await asyncio.sleep(PAUSE_S)


class _Walk:
    """One request on the line."""

    def __init__(self, services: Services, dialect: Dialect) -> None:
        self._services = services
        self.dialect = dialect
        self._id = uuid.uuid4().hex
        self._began = time.monotonic()
        self._admission: Admission | None = None  # until its key is known
        self._tokens = Tokens()

    async def read(self, body: bytes, key_name: str) -> ModelRequest:
        """Raises Unauthorized, UnknownModel, and what ``Dialect.read`` does."""
        key = self._services.keys.named(key_name)
        if key is None:
            raise Unauthorized("The API key that this batch was made with is not known any more.")
        self._admission = self._services.admissions.of(key, offline=True)
        request = replace(await self.dialect.read(body), asker=key.name)
        if request.stream:
            raise BadRequest("A batch cannot stream: leave out 'stream'.", "stream")
        check_request(request, self._services.settings.server)
        check_model(key, self._services.catalog.name_of(request.model))
        return request

    async def enter(self, request: ModelRequest) -> None:
        """Reserves what it may use of its key's day. Raises OverBudget."""
        assert self._admission is not None
        need = await TokenEstimate.of(request, self._services.workers)
        self._admission.enter(self._services.catalog.name_of(request.model), need)

    def counted(self, body: bytes) -> bytes:
        """``body``, in the engine's words, of which the tokens are counted."""
        self._tokens = Tokens.of(usage_in(body))
        return body

    def answered(self, body: bytes) -> AnsweredRequest:
        return AnsweredRequest(200, self._id, body, self._tokens)

    def failed(self, failure: Failure, error: Exception | None = None) -> AnsweredRequest:
        if failure.status == 500:
            log.error("request %s failed", self._id, exc_info=error)
        elif error is not None and rendering_of(error).message is not None:
            log.warning("request %s: %s", self._id, error)
        return AnsweredRequest(failure.status, self._id, self.dialect.error_body(failure), Tokens())

    def settle(self, expert: str, answer: AnsweredRequest | None) -> None:
        """Counts it. ``expert``: empty if it had none. ``answer``: None if nobody waits for it any more."""
        tokens = self._tokens
        seconds, outcome = (
            time.monotonic() - self._began,
            "client_left" if answer is None else str(answer.status),
        )
        if self._admission is not None:
            spent = Spent(
                prompt_tokens=tokens.input, completion_tokens=tokens.output, cached_tokens=tokens.cached
            )
            self._admission.settle(expert, spent, failed=answer is not None and not answer.succeeded)
        self._services.metrics.request_done(expert, outcome, seconds)
        log.info("%s expert=%s outcome=%s seconds=%.3f", self._id, expert or "-", outcome, seconds)
