"""Whether bytes are what OpenAI's published description says, by the types that its SDK has of it.

The SDK builds its objects without looking. Here they are validated strictly: every required field, of the
right type, every closed set kept. What the types cannot say is checked beside them: which fields are required
though they may be null, and how a stream is framed. Fields that the description does not know are left alone.
"""

import json
from collections.abc import Sequence
from typing import Any, TypeVar

import httpx
from openai.types import (
    Batch,
    Completion,
    CompletionChoice,
    CreateEmbeddingResponse,
    FileDeleted,
    FileObject,
    Model,
)
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent
from openai.types.shared import ErrorObject
from pydantic import BaseModel, TypeAdapter

T = TypeVar("T")


class Error(BaseModel):
    """What every refusal is."""

    error: ErrorObject


class Listed(BaseModel):
    """What every list has."""

    object: str
    data: list[dict[str, Any]]


class StreamedChoice(CompletionChoice):
    """The SDK's type has no null here, which every piece but the last one is streamed with."""

    finish_reason: Any = None


class StreamedCompletion(Completion):
    choices: list[StreamedChoice]  # type: ignore[assignment]


NULLABLE: dict[Any, tuple[str, ...]] = {
    ChatCompletion: ("choices.*.message.content", "choices.*.message.refusal", "choices.*.logprobs"),
    Completion: ("choices.*.logprobs", "choices.*.finish_reason"),
    StreamedCompletion: ("choices.*.logprobs", "choices.*.finish_reason"),
    ChatCompletionChunk: ("choices.*.finish_reason",),
    Error: ("error.param", "error.code"),
}
"""Required, though they may be null."""

EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)


def read(kind: type[T], body: bytes | str) -> T:
    """Raises pydantic's ValidationError, AssertionError."""
    made = TypeAdapter(kind).validate_json(body, strict=True)
    tree = json.loads(body)
    for path in NULLABLE.get(kind, ()):
        _check_there(tree, path.split("."), path)
    return made


def chat(answer: httpx.Response) -> ChatCompletion:
    return read(ChatCompletion, _plain(answer))


def completion(answer: httpx.Response) -> Completion:
    return read(Completion, _plain(answer))


def chat_chunks(answer: httpx.Response) -> list[ChatCompletionChunk]:
    """Of one stream, which belong together."""
    chunks = [read(ChatCompletionChunk, event) for event in _events(answer)]
    _check_together(chunks)
    assert chunks[0].choices[0].delta.role == "assistant"
    return chunks


def completion_chunks(answer: httpx.Response) -> list[StreamedCompletion]:
    chunks = [read(StreamedCompletion, event) for event in _events(answer)]
    _check_together(chunks)
    return chunks


def embeddings(answer: httpx.Response) -> CreateEmbeddingResponse:
    """In floats: the types know no base64."""
    return read(CreateEmbeddingResponse, _plain(answer))


def models(answer: httpx.Response) -> list[Model]:
    return listed(Model, answer)


def model(answer: httpx.Response) -> Model:
    return read(Model, _plain(answer))


def batch(answer: httpx.Response) -> Batch:
    return read(Batch, _plain(answer))


def file(answer: httpx.Response) -> FileObject:
    return read(FileObject, _plain(answer))


def file_deleted(answer: httpx.Response) -> FileDeleted:
    return read(FileDeleted, _plain(answer))


def listed(kind: type[T], answer: httpx.Response) -> list[T]:
    whole = read(Listed, _plain(answer))
    assert whole.object == "list"
    return [read(kind, json.dumps(each)) for each in whole.data]


def response(answer: httpx.Response) -> Response:
    return read(Response, _plain(answer))


def response_events(answer: httpx.Response, first: int = 0) -> list[Any]:
    """Each is named as its own type says, and their numbers rise by one from ``first`` on."""
    made = []
    for block in _blocks(answer):
        name, data = block.split("\n")
        made.append(EVENT.validate_json(data.removeprefix("data: "), strict=True))
        assert name == f"event: {made[-1].type}"
    assert [event.sequence_number for event in made] == list(range(first, first + len(made)))
    return made


def error(answer: httpx.Response, status: int) -> ErrorObject:
    assert answer.status_code == status, (answer.status_code, answer.text)
    assert answer.headers["content-type"].startswith("application/json")
    return read(Error, answer.content).error


def _plain(answer: httpx.Response) -> bytes:
    assert answer.status_code == 200, (answer.status_code, answer.text)
    assert answer.headers["content-type"].startswith("application/json")
    assert int(answer.headers["content-length"]) == len(answer.content)
    return answer.content


def _blocks(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, (answer.status_code, answer.text)
    assert answer.headers["content-type"].startswith("text/event-stream")
    text = answer.content.decode()
    assert text.endswith("\n\n")
    blocks = text.removesuffix("\n\n").split("\n\n")
    return [block for block in blocks if not block.startswith(":")]  # a comment keeps the connection


def _events(answer: httpx.Response) -> list[str]:
    """Of a chat completion or a completion: one line each, and a last one."""
    *blocks, last = _blocks(answer)
    assert last == "data: [DONE]"
    assert all(block.startswith("data: {") and "\n" not in block for block in blocks), blocks
    return [block.removeprefix("data: ") for block in blocks]


def _check_together(chunks: Sequence[ChatCompletionChunk | StreamedCompletion]) -> None:
    assert len({(chunk.id, chunk.model, chunk.created) for chunk in chunks}) == 1
    counted = [chunk for chunk in chunks if not chunk.choices]
    assert counted in ([], [chunks[-1]])  # only what counts the tokens, at the end
    ended = [(choice.index, choice.finish_reason) for chunk in chunks for choice in chunk.choices]
    for index in {index for index, _ in ended}:
        reasons = [reason for each, reason in ended if each == index]
        assert reasons[-1] is not None
        assert set(reasons[:-1]) <= {None}


def _check_there(tree: Any, path: Sequence[str], whole: str) -> None:
    if not path:
        return
    if path[0] == "*":
        for each in tree:
            _check_there(each, path[1:], whole)
    else:
        assert path[0] in tree, f"{whole} is missing"
        _check_there(tree[path[0]], path[1:], whole)
