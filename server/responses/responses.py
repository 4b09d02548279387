"""Responses, OpenAI's newer endpoint: each is a chat completion of an expert, and is kept to go on from."""

import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message

from experts.spec import Expert
from server.access.auth import authorization_of
from server.access.limit_headers import openai
from server.access.owner import owner_of
from server.access.rate_limits import Remaining
from server.error_table import Failure, error_body
from server.errors import BadRequest, ResponsesUnavailable, UnknownResponse
from server.exchange.exchange import Exchange
from server.model_request import ModelRequest, engine_chat
from server.responses.detached import Detached
from server.responses.event_journal import Following, Journal
from server.responses.events import error_event, sse
from server.responses.from_chat import Answering
from server.responses.items import Item, input_items, reference
from server.responses.request import ResponsesRequest, chat_request, echo, read_request
from server.responses.store import KeptResponse
from server.responses.stored_responses import StoredResponses
from server.responses.tools import Tools
from server.services import Services

_PARAMS = {
    "messages": "input",
    "max_tokens": "max_output_tokens",
    "max_completion_tokens": "max_output_tokens",
    "response_format": "text.format",
    "reasoning_effort": "reasoning.effort",
    "truncate_prompt_tokens": "truncation",
}
"""Fields of the chat completion, and where the client said it."""
LONGEST = 4 * 2**20
"""Bytes of an engine's whole answer. To make a response of one takes some 30 ms for each MiB, in which nobody
else is served, and only log-probabilities are so many."""


class Responses:
    """Implements ``server.exchange.dialect.Dialect``. Of what a client that left was answered nothing is
    kept.

    In the background the client is answered here, and the same request walks the line again with nobody
    attached, as ``run``: the response, which is kept already.
    """

    engine_path = "/v1/chat/completions"
    any_of_family = False

    def __init__(
        self,
        services: Services,
        stored: StoredResponses,
        headers: Mapping[str, str],
        run: KeptResponse | None = None,
        owner: str = "",
        journal: Journal | None = None,
    ) -> None:
        """``owner``: of a request that comes without its client's key; empty: by ``headers``. ``journal``: of
        a ``run`` that is streamed; its first events are there."""
        self._services = services
        self._stored = stored
        self._headers = headers
        self._owner = owner
        self._runs = run is not None
        self._id = f"resp_{uuid.uuid4().hex}" if run is None else run.id
        self._created_at = int(time.time()) if run is None else run.response["created_at"]
        self._raw = b""
        self._asked: ResponsesRequest
        self._tools: Tools
        self._items: Sequence[Item] = ()
        self._answering: Answering | None = None
        self._journal = journal
        self._following: Following | None = None  # its client follows the run
        self.failure: Failure | None = None
        self.exchange: Exchange | None = None  # its own, if that may be gone on from in the background

    async def read(self, raw: bytes) -> ModelRequest:
        self._raw = raw
        headers = self._headers
        if not self._owner:
            self._owner = owner_of(self._services.keys.check(authorization_of(headers)), headers)
        asked = self._asked = read_request(raw)
        self._tools = Tools.of(asked.tools, asked.tool_choice)
        self._items = await self._resolved(input_items(asked.input))
        earlier: Sequence[Item] = ()
        if asked.previous_response_id is not None:
            most = int(self._services.settings.server.max_body)
            earlier = await self._stored.kept.conversation(self._owner, asked.previous_response_id, most)
        return chat_request(asked, self._tools, earlier, self._items)

    async def here(self, request: ModelRequest, services: Services) -> bytes | AsyncIterator[bytes] | None:
        if not self._asked.background or self._runs:
            return None
        if self.exchange is None:
            raise BadRequest("'background' is for requests online; leave it out.", "background")
        await services.explain(request, self._headers.get("x-coe-category"))  # or refuses it at once
        return await self._queue(request)

    def engine_body(self, request: ModelRequest, expert: Expert) -> dict[str, Any]:
        body = engine_chat(request, expert)
        self._answering = Answering(self._response(expert.name, body), self._told)
        return body

    async def whole(self, body: bytes) -> bytes:
        """Raises BadRequest."""
        if len(body) > LONGEST:
            raise BadRequest(
                f"The answer has {len(body):,} bytes, more than the {LONGEST:,} of a response that is not "
                "streamed: ask for fewer 'top_logprobs', or for a stream.",
                "top_logprobs",
            )
        assert self._answering is not None
        for _ in self._answering.take(orjson.loads(body)):
            pass
        for _ in self._answering.end(int(time.time())):
            pass
        await self._keep(self._answering)
        return orjson.dumps(self._answering.response)

    async def stream(self, events: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        answering = self._answering
        assert answering is not None
        yield sse(answering.begin())
        async for chunk in events:
            for event in chunk.split(b"\n\n"):
                if event.startswith(b":"):  # keeps the connection alive
                    yield event + b"\n\n"
                elif event.startswith(b"data: {"):
                    yield sse(answering.take(orjson.loads(event[len(b"data: ") :])))
        yield sse(answering.end(int(time.time())))
        await self._keep(answering)  # before the client hears of the end and goes on from it
        yield sse([answering.last()])

    def limit_headers(self, remaining: Remaining) -> Mapping[str, str]:
        return openai(remaining)

    def error_body(self, failure: Failure) -> bytes:
        self.failure = _renamed(failure)
        return b"" if self._runs else error_body(self.failure)

    def error_event(self, failure: Failure) -> bytes:
        failure = _renamed(failure)
        if self._runs:
            self.failure = failure
            return b""
        if self._answering is not None and self._answering.begun:
            return sse(self._answering.fail(failure))
        return error_event(failure, self._following.next if self._following else 0)

    def failed(self, kept: KeptResponse) -> Answering:
        """As far as it came, to be told that it failed."""
        if self._answering is not None and self._answering.begun:
            return self._answering
        return Answering(kept.response, self._told)

    @property
    def _told(self) -> int:
        """Events of its journal."""
        return 0 if self._journal is None else self._journal.next

    async def _resolved(self, items: Iterable[Item]) -> list[Item]:
        """With the items that are referred to. Raises BadRequest."""
        return [item if reference(item) is None else await self._item(str(reference(item))) for item in items]

    async def _item(self, id: str) -> Item:
        """An item's id says which response it is of."""
        try:
            kept = await self._stored.kept.find(self._owner, f"resp_{id.partition('_')[2][:32]}")
        except UnknownResponse:
            found: list[Item] = []
        else:
            found = [item for item in kept.items if item.get("id") == id]
        if not found:
            raise BadRequest(f"Item with id {id[:100]!r} not found.", "input")
        return found[0]

    def _response(self, model: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Before anything of it is there."""
        return {
            "id": self._id,
            "object": "response",
            "created_at": self._created_at,
            "completed_at": None,
            "status": "in_progress",
            "model": model,
            "output": [],
            "error": None,
            "incomplete_details": None,
            "usage": None,
            **echo(self._asked, self._tools, body),
        }

    def _kept(self, response: dict[str, Any]) -> KeptResponse:
        previous = self._asked.previous_response_id
        return KeptResponse(self._id, self._owner, previous, self._items, response)

    async def _keep(self, answering: Answering) -> None:
        """An answer that cannot be kept is one all the same, and says so."""
        if not self._asked.kept:
            return
        try:
            await self._stored.kept.keep(self._kept(answering.response))
        except ResponsesUnavailable:  # the log has why
            answering.response["store"] = False

    async def _queue(self, request: ModelRequest) -> bytes | AsyncIterator[bytes]:
        """Begins the run, and says so, or follows it where the client asks for a stream."""
        stored, exchange = self._stored, self.exchange
        assert exchange is not None
        response = self._response(request.model, request.body)
        kept, queued = self._kept(response), response | {"status": "queued"}
        journal = stored.journals.open(self._id) if self._asked.stream else None
        if journal is not None:
            journal.write(sse(Answering(queued).queue()))
        try:
            stored.background.start(self._id, lambda: _run(exchange, stored, self._raw, kept, journal))
            await stored.kept.keep(kept)
        except BaseException:  # also a client that left: it has not heard the id
            await stored.background.cancel(self._id)
            stored.journals.drop(self._id)
            with contextlib.suppress(UnknownResponse, ResponsesUnavailable):
                await stored.kept.delete(self._owner, self._id)
            raise
        if journal is None:
            return orjson.dumps(queued)
        self._following = Following(journal, 0)
        return self._following.events()


async def create_response(request: Request) -> Response:
    """Make a response: whole, streamed or in the background."""
    state = request.app.state
    dialect = Responses(state.services, state.responses, request.headers)
    dialect.exchange = Exchange(request, dialect)
    return dialect.exchange


async def _run(
    exchange: Exchange, stored: StoredResponses, raw: bytes, kept: KeptResponse, journal: Journal | None
) -> None:
    """Makes the response, and keeps how it ended. ``journal``: of one that is streamed."""
    dialect = Responses(exchange.services, stored, exchange.request.headers, kept, journal=journal)

    async def hear(message: Message) -> None:
        if journal is not None and message.get("body"):
            journal.write(message["body"])

    try:
        await Detached(exchange, raw, dialect, hear).run()
        if dialect.failure is not None:
            answering = dialect.failed(kept)
            events = sse(answering.fail(dialect.failure))
            try:
                await stored.kept.keep(replace(kept, response=answering.response))
            finally:
                if journal is not None:
                    journal.write(events)
    finally:
        stored.journals.end(kept.id)


def _renamed(failure: Failure) -> Failure:
    """Its field as the client called it."""
    field = (failure.param or "").partition("[")[0]
    return replace(failure, param=_PARAMS[field]) if field in _PARAMS else failure
