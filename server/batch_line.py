"""The line a request of a batch walks: route, lease, answer, release.

No HTTP to ourselves: what answers online is called with a route that is known beforehand, behind everybody
who waits online, and no bound on what a client may ask for at a time is in its way.
"""

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Mapping

import orjson

from memory_tiers.errors import LeaseRejected, ManagerBroken
from server.batch_answers import Answer
from server.chat import Chat
from server.completions import Completions
from server.dialect import Dialect
from server.embeddings import Embeddings
from server.errors import BadRequest, Failure, engine_failure, failure_of
from server.line import begin
from server.openai import ModelRequest
from server.services import Services

ENDPOINTS: Mapping[str, Callable[[], Dialect]] = {
    "/v1/chat/completions": Chat,
    "/v1/completions": Completions,
    "/v1/embeddings": Embeddings,
}
PAUSE_S = 1.0
"""Before a request asks again that was turned away for reasons that are not its own."""

log = logging.getLogger("coe.batches")


class BatchLine:
    """Of one endpoint. What goes wrong is an answer too: nothing is raised but cancellation."""

    def __init__(self, services: Services, endpoint: str) -> None:
        self._services = services
        self._dialect = ENDPOINTS[endpoint]

    async def route(self, body: bytes) -> str | Answer:
        """The expert that shall answer, or the answer where none is needed or none can."""
        dialect, request_id, began = self._dialect(), _request_id(), time.monotonic()
        try:
            request = await _read(dialect, body)
            here = await dialect.here(request, self._services)
            if here is None:
                return (await self._services.route(request)).expert.name
            answer = Answer(200, request_id, orjson.loads(here))
        except Exception as error:
            answer = _failed(dialect, error, request_id)
        self._record(answer, "", began)
        return answer

    async def answer(self, body: bytes, expert: str) -> Answer:
        """``expert``: as it was routed."""
        dialect, request_id, began = self._dialect(), _request_id(), time.monotonic()
        try:
            answer = await self._answer(dialect, body, expert, request_id)
        except Exception as error:
            answer = _failed(dialect, error, request_id)
        self._record(answer, expert, began)
        return answer

    def _record(self, answer: Answer, expert: str, began: float) -> None:
        seconds = time.monotonic() - began
        self._services.metrics.request_done(expert, str(answer.status), seconds)
        log.info(
            "%s expert=%s outcome=%s seconds=%.3f", answer.request_id, expert or "-", answer.status, seconds
        )

    async def _answer(self, dialect: Dialect, body: bytes, expert: str, request_id: str) -> Answer:
        services, request = self._services, await _read(dialect, body)
        known = services.experts.get(expert)  # a reload may have taken it away since
        chosen = (await services.route(request)).expert if known is None else known
        to_engine = dialect.engine_body(request, chosen)
        while True:
            try:
                async with await begin(
                    services.tiers,
                    chosen.name,
                    dialect.engine_path,
                    to_engine,
                    whole=True,
                    fail_fast=False,
                    priority="low",
                ) as begun:
                    status = begun.answer.status
                    if status >= 400:
                        return _refused(dialect, engine_failure(status, begun.head), request_id)
                    return Answer(status, request_id, orjson.loads(await dialect.whole(begun.head)))
            except (LeaseRejected, ManagerBroken) as error:
                if isinstance(error, LeaseRejected) and error.reason != "queue_full":
                    raise
            await asyncio.sleep(PAUSE_S)


async def _read(dialect: Dialect, body: bytes) -> ModelRequest:
    """Raises what ``Dialect.read`` does."""
    request = await dialect.read(body)
    if request.stream:
        raise BadRequest("A batch cannot stream: leave out 'stream'.", "stream")
    return request


def _request_id() -> str:
    return uuid.uuid4().hex


def _failed(dialect: Dialect, error: Exception, request_id: str) -> Answer:
    failure = failure_of(error)
    if failure.status == 500:
        log.error("request %s failed", request_id, exc_info=error)
    return _refused(dialect, failure, request_id)


def _refused(dialect: Dialect, failure: Failure, request_id: str) -> Answer:
    return Answer(failure.status, request_id, orjson.loads(dialect.error_body(failure)))
