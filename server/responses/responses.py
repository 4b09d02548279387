"""Responses, OpenAI's newer endpoint: each is a chat completion of an expert, and is kept to go on from."""

import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from experts.spec import Expert
from server.error_table import Failure, error_body
from server.errors import BadRequest, ResponsesUnavailable, UnknownResponse
from server.exchange.arrival import Caller
from server.exchange.destination import StreamedAnswer
from server.exchange.endpoint import Detach
from server.exchange.engine.call import EngineRequest
from server.exchange.over_http import ModelResponse
from server.exchange.pass_through import OpenAIEndpoint
from server.model_request import ModelRequest, engine_chat
from server.responses.background_run import BackgroundRun
from server.responses.kept.event_journal import Following
from server.responses.kept.store import KeptResponse
from server.responses.kept.stored_responses import StoredResponses
from server.responses.streamed_response import StreamedResponse
from server.responses.wire.events import error_event, events_of
from server.responses.wire.from_chat import Answering
from server.responses.wire.items import Item, input_items, reference
from server.responses.wire.request import ResponsesRequest, chat_request, echo, read_request, renamed
from server.responses.wire.tools import Tools
from server.services import Services

LONGEST = 4 * 2**20
"""Bytes of an engine's whole answer. To make a response of one takes some 30 ms for each MiB, in which no
other request is served, and only log-probabilities are so many."""


class Responses(OpenAIEndpoint):
    """Implements ``server.exchange.endpoint.Endpoint``. Keeps nothing of an answer whose client left."""

    def __init__(self, stored: StoredResponses, services: Services) -> None:
        self._stored = stored
        self._services = services

    async def read(self, raw: bytes, caller: Caller) -> "ResponseCall":
        asked = read_request(raw)
        tools = Tools.of(asked.tools, asked.tool_choice)
        items = await self._resolved(caller.owner, input_items(asked.input))
        earlier: Sequence[Item] = ()
        if asked.previous_response_id is not None:
            most = int(self._services.settings.server.max_body)
            earlier = await self._stored.kept.conversation(caller.owner, asked.previous_response_id, most)
        request = caller.asks(chat_request(asked, tools, earlier, items))
        return ResponseCall(request, asked, tools, items, caller, self._stored, _new_id(), int(time.time()))

    def error_body(self, failure: Failure, request_id: str) -> bytes:
        return error_body(renamed(failure))

    def error_event(self, failure: Failure, request_id: str) -> bytes:
        return error_event(renamed(failure), 0)

    async def _resolved(self, owner: str, items: Iterable[Item]) -> list[Item]:
        """Puts the items that are referred to in the place of references. Raises BadRequest."""
        return [
            item if (id := reference(item)) is None else await self._item(owner, str(id)) for item in items
        ]

    async def _item(self, owner: str, id: str) -> Item:
        """Finds an item by its id, which says which response it is part of. Raises BadRequest."""
        try:
            kept = await self._stored.kept.find(owner, f"resp_{id.partition('_')[2][:32]}")
        except UnknownResponse:
            found: list[Item] = []
        else:
            found = [item for item in kept.items if item.get("id") == id]
        if not found:
            raise BadRequest(f"Item with id {id[:100]!r} not found.", "input")
        return found[0]


@dataclass(frozen=True, slots=True)
class ResponseCall:
    """Implements ``server.exchange.endpoint.Call``. ``items``: the input's, with what was referred to.

    In the background its client is answered at once, and the same call is answered again as a run, which
    ``runs``: to no client, but into the kept response and, where it is streamed, a journal. ``told``: how
    many events that journal has by then.
    """

    engine_path = "/v1/chat/completions"

    request: ModelRequest
    asked: ResponsesRequest
    tools: Tools
    items: Sequence[Item]
    caller: Caller
    stored: StoredResponses
    id: str
    created_at: int
    runs: bool = False
    told: int = 0

    async def local_answer(self, services: Services, detach: Detach | None) -> bytes | StreamedAnswer | None:
        if not self.asked.background or self.runs:
            return None
        if detach is None:
            raise BadRequest("'background' is for requests online; leave it out.", "background")
        category = self.caller.headers.get("x-coe-category")
        await services.explain(self.request, category)  # or refuses it at once
        return await self._queue(detach)

    def engine_body(self, expert: Expert) -> dict[str, Any]:
        return engine_chat(self.request, expert)

    async def whole(self, body: bytes, sent: EngineRequest) -> bytes:
        """Raises BadRequest."""
        if len(body) > LONGEST:
            raise BadRequest(
                f"The answer has {len(body):,} bytes, more than the {LONGEST:,} of a response that is not "
                "streamed: ask for fewer 'top_logprobs', or for a stream.",
                "top_logprobs",
            )
        answering = self._answering(sent)
        for _ in answering.take(orjson.loads(body)):
            pass
        for _ in answering.end(int(time.time())):
            pass
        await self._keep(answering)
        return orjson.dumps(answering.response)

    def streamed(self, events: AsyncIterator[bytes], sent: EngineRequest) -> StreamedAnswer:
        return StreamedResponse(events, self._answering(sent), self._keep)

    def _answering(self, sent: EngineRequest) -> Answering:
        return Answering(self._response(self.request.alias or sent.expert.name, sent.body), self.told)

    def _response(self, model: str, body: Any) -> dict[str, Any]:
        """Makes the response before anything of its answer is there."""
        return {
            "id": self.id,
            "object": "response",
            "created_at": self.created_at,
            "completed_at": None,
            "status": "in_progress",
            "model": model,
            "output": [],
            "error": None,
            "incomplete_details": None,
            "usage": None,
            **echo(self.asked, self.tools, body),
        }

    def _kept(self, response: dict[str, Any]) -> KeptResponse:
        return KeptResponse(self.id, self.caller.owner, self.asked.previous_response_id, self.items, response)

    async def _keep(self, answering: Answering) -> None:
        """An answer that cannot be kept is one all the same, and says so."""
        if not self.asked.kept:
            return
        try:
            await self.stored.kept.keep(self._kept(answering.response))
        except ResponsesUnavailable:  # the log has why
            answering.response["store"] = False

    async def _queue(self, detach: Detach) -> bytes | StreamedAnswer:
        """Begins the run and says so, or follows it where the client asks for a stream."""
        stored, response = self.stored, self._response(self.request.sent_model, self.request.body)
        kept, queued = self._kept(response), response | {"status": "queued"}
        journal = stored.journals.open(self.id) if self.asked.stream else None
        if journal is not None:
            journal.write(events_of(Answering(queued).queue()))
        told = 0 if journal is None else journal.next
        run = BackgroundRun(kept, journal, told, stored)
        call = replace(self, runs=True, told=told)
        try:
            stored.background.start(
                self.id, self.caller.owner, lambda: run.made_by(lambda: detach(call, run))
            )
            await stored.kept.keep(kept)
        except BaseException:  # also a client that left: it has not heard the id
            await stored.background.cancel(self.id)
            stored.journals.drop(self.id)
            with contextlib.suppress(UnknownResponse, ResponsesUnavailable):
                await stored.kept.delete(self.caller.owner, self.id)
            raise
        return orjson.dumps(queued) if journal is None else Following(journal, 0)


async def create_response(request: Request) -> Response:
    """Make a response: whole, streamed or in the background."""
    return ModelResponse(request, request.app.state.responses_endpoint)


def _new_id() -> str:
    return f"resp_{uuid.uuid4().hex}"
