"""The line a request of a batch walks: route, lease, answer, release. No socket, no HTTP to ourselves: it is
the same code that answers online, with the route known beforehand and behind everybody who waits online."""

import asyncio
import logging
import time
import uuid

import orjson

from memory_tiers.errors import LeaseRejected
from server.batch_answers import Answer
from server.chat import begin
from server.errors import BadRequest, error_body, rendering_of, translated
from server.openai import ChatRequest, engine_body, parse_chat
from server.services import Services

PAUSE_S = 1.0
"""Before a request asks again that found the queue full and was not told for how long."""
ENDPOINTS = ("/v1/chat/completions",)

log = logging.getLogger("coe.batches")


class BatchLine:
    """Failures are answers: nothing is raised but cancellation."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def route(self, body: bytes) -> str | Answer:
        """The expert that shall answer, or what is answered where none can."""
        try:
            return (await self._services.route(_parsed(body))).expert.name
        except Exception as error:
            return _failed(error, _request_id())

    async def answer(self, body: bytes, expert: str) -> Answer:
        """``expert``: as it was routed. One that is not configured any more is routed again."""
        request_id, began = _request_id(), time.monotonic()
        try:
            answer = await self._answer(body, expert, request_id)
        except Exception as error:
            answer = _failed(error, request_id)
        seconds = time.monotonic() - began
        self._services.metrics.request_done(expert, str(answer.status), seconds)
        log.info("%s expert=%s outcome=%s seconds=%.3f", request_id, expert, answer.status, seconds)
        return answer

    async def _answer(self, body: bytes, expert: str, request_id: str) -> Answer:
        services, chat = self._services, _parsed(body)
        known = services.experts.get(expert)
        chosen = known if known is not None else (await services.route(chat)).expert
        while True:
            try:
                async with await begin(
                    services.tiers,
                    chosen.name,
                    engine_body(chat, chosen),
                    whole=True,
                    fail_fast=False,
                    priority="low",
                ) as begun:
                    status, body = begun.answer.status, begun.head
                    return Answer(status, request_id, _json(body) if status < 400 else translated(status, body))
            except LeaseRejected as rejected:
                if rejected.reason != "queue_full":
                    raise
                pause_s = rejected.retry_after_s
            await asyncio.sleep(PAUSE_S if pause_s is None else pause_s)


def _parsed(body: bytes) -> ChatRequest:
    """Raises BadRequest."""
    chat = parse_chat(body)
    if chat.stream:
        raise BadRequest("A batch cannot stream: leave out 'stream'.", "stream")
    return chat


def _json(body: bytes) -> bytes:
    return orjson.dumps(orjson.loads(body))


def _request_id() -> str:
    return uuid.uuid4().hex


def _failed(error: Exception, request_id: str) -> Answer:
    status = rendering_of(error).status
    if status == 500:
        log.error("request %s failed", request_id, exc_info=error)
    return Answer(status, request_id, error_body(error))
