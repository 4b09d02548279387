import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from experts.engines.http_client import HttpClient, HttpResponse
from experts.errors import AnswerFailed, EngineLost, EngineUnavailable
from experts.vllm.response import VllmResponse

ERROR = b'data: {"error":{"message":"EngineCore encountered an issue"}}\n\n'
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def answered_by(handler: Handler, socket: Path) -> AsyncIterator[HttpResponse]:
    app = web.Application()
    app.router.add_post("/", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.UnixSite(runner, str(socket)).start()
    client = HttpClient(socket)
    yield await client.request("POST", "/", b"{}")
    await client.close()
    await runner.cleanup()


def whole_engine() -> bool:
    return True


def broken_engine() -> bool:
    return False


def events(*pieces: bytes, cut: bool = False) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for piece in pieces:
            await response.write(piece)
            await asyncio.sleep(0.01)
        if cut:
            assert request.transport is not None
            request.transport.abort()
        return response

    return handler


async def test_the_expert_is_named_however_the_stream_is_cut(tmp_path: Path) -> None:
    whole = b'data: {"model":"coe-engine","n":1}\n\ndata: {"model":"coe-engine","n":2}\n\ndata: [DONE]\n\n'
    pieces = [whole[at : at + 5] for at in range(0, len(whole), 5)]
    async with answered_by(events(*pieces), tmp_path / "s") as response:
        answer = await VllmResponse.begin(response, 'la"w', whole_engine)
        chunks = [chunk async for chunk in answer.chunks()]
    assert b"".join(chunks) == whole.replace(b'"coe-engine"', b'"la\\"w"')
    assert all(chunk.endswith(b"\n\n") for chunk in chunks)


async def test_a_text_that_mentions_the_internal_name_stays_as_it_is(tmp_path: Path) -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.json_response(text=r'{"model":"coe-engine","content":"\"model\":\"coe-engine\""}')

    async with answered_by(handler, tmp_path / "s") as response:
        answer = await VllmResponse.begin(response, "law", whole_engine)
        (body,) = [chunk async for chunk in answer.chunks()]
    assert body == rb'{"model":"law","content":"\"model\":\"coe-engine\""}'


async def test_an_end_before_the_first_byte_may_be_tried_again(tmp_path: Path) -> None:
    async with answered_by(events(cut=True), tmp_path / "s") as response:
        with pytest.raises(EngineUnavailable):
            await VllmResponse.begin(response, "law", whole_engine)


async def test_an_end_in_the_middle_loses_the_answer(tmp_path: Path) -> None:
    async with answered_by(events(b"data: 1\n\n", cut=True), tmp_path / "s") as response:
        answer = await VllmResponse.begin(response, "law", whole_engine)
        with pytest.raises(EngineLost):
            _ = [chunk async for chunk in answer.chunks()]


async def test_an_error_event_of_a_broken_engine_loses_the_answer(tmp_path: Path) -> None:
    async with answered_by(events(b"data: 1\n\n", ERROR, b"data: [DONE]\n\n"), tmp_path / "s") as response:
        answer = await VllmResponse.begin(response, "law", broken_engine)
        with pytest.raises(EngineLost):
            _ = [chunk async for chunk in answer.chunks()]


async def test_what_came_with_the_error_event_of_a_broken_engine_is_passed_on(tmp_path: Path) -> None:
    pieces = (b"data: 1\n\n", b"data: 2\n\n" + ERROR)
    async with answered_by(events(*pieces), tmp_path / "s") as response:
        answer = await VllmResponse.begin(response, "law", broken_engine)
        chunks = answer.chunks()
        assert [await anext(chunks), await anext(chunks)] == [b"data: 1\n\n", b"data: 2\n\n"]
        with pytest.raises(EngineLost):
            await anext(chunks)


async def test_an_answer_of_a_broken_engine_that_is_lost_at_once_has_no_pieces(tmp_path: Path) -> None:
    async with answered_by(events(b"data: 1\n\n" + ERROR), tmp_path / "s") as response:
        answer = await VllmResponse.begin(response, "law", broken_engine)
        with pytest.raises(EngineLost):  # and so it may be tried again
            await anext(answer.chunks())


@pytest.mark.parametrize("status", [500, 503])
async def test_an_error_of_a_broken_engine_may_be_tried_again(tmp_path: Path, status: int) -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.json_response({"error": {}}, status=status)

    async with answered_by(handler, tmp_path / "s") as response:
        with pytest.raises(EngineUnavailable):
            await VllmResponse.begin(response, "law", broken_engine)


async def test_an_error_in_the_middle_of_an_answer_ends_it_after_what_came_before(tmp_path: Path) -> None:
    async with answered_by(events(b"data: 1\n\n" + ERROR + b"data: [DONE]\n\n"), tmp_path / "s") as response:
        answer = await VllmResponse.begin(response, "law", whole_engine)
        chunks = answer.chunks()
        assert await anext(chunks) == b"data: 1\n\n"
        with pytest.raises(AnswerFailed, match="gave up"):
            await anext(chunks)


async def test_a_stream_that_begins_with_an_error_is_an_answer_of_its_status(tmp_path: Path) -> None:
    refusal = b'{"error": {"message": "coe-engine takes 20 at most", "param": "logprobs", "code": 400}}'
    whole = b"data: " + refusal + b"\n\ndata: [DONE]\n\n"
    async with answered_by(events(whole[:20], whole[20:]), tmp_path / "s") as response:
        answer = await VllmResponse.begin(response, 'la"w', whole_engine)
        (body,) = [chunk async for chunk in answer.chunks()]
    assert (answer.status, answer.content_type) == (400, "application/json")
    assert body == refusal.replace(b"coe-engine", rb"la\"w")


async def test_an_errors_message_names_the_expert(tmp_path: Path) -> None:
    async def handler(request: web.Request) -> web.Response:
        text = '{"error": {"message": "coe-engine is not a multimodal model", "code": 400}}'
        return web.json_response(text=text, status=400)

    async with answered_by(handler, tmp_path / "s") as response:
        answer = await VllmResponse.begin(response, "law", whole_engine)
        (body,) = [chunk async for chunk in answer.chunks()]
    assert b'"law is not a multimodal model"' in body
