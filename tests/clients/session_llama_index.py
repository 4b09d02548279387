"""LlamaIndex's OpenAILike and OpenAILikeEmbedding."""

import asyncio

import openai
import pytest
from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.embeddings.openai_like import OpenAILikeEmbedding
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel

from tests.clients.checks import (
    API,
    COMPOSITION,
    EMBEDDER,
    KEY,
    MODEL,
    PROMPT,
    Leaving,
    Session,
    until_answered,
)

session = Session()
USER = [ChatMessage(role="user", content=PROMPT)]


def model(name: str = MODEL, **fields: object) -> OpenAILike:
    given = {
        "max_tokens": 24,
        "temperature": 0,
        "is_chat_model": True,
        "is_function_calling_model": True,
    } | fields
    return OpenAILike(model=name, api_base=API, api_key=KEY, max_retries=0, context_window=2048, **given)


class Place(BaseModel):
    """A place."""

    continent: bool


def clock(utc: bool) -> str:
    """Says what time it is."""
    return "noon" if utc else "midnight"


@session.check
def chat() -> None:
    answer = model().chat(USER)
    assert answer.message.content
    assert answer.raw.usage.completion_tokens <= 24
    assert model(COMPOSITION).chat(USER).message.content


@session.check
def completion() -> None:
    assert model(is_chat_model=False).complete("The sky is").text


@session.check
def stream() -> None:
    plain = model().chat(USER)
    pieces = list(model().stream_chat(USER))
    assert (
        "".join(piece.delta or "" for piece in pieces) == pieces[-1].message.content == plain.message.content
    )


@session.check
def tools() -> None:
    tool = FunctionTool.from_defaults(clock)
    caller = model(max_tokens=150)
    answer = caller.chat_with_tools([tool], user_msg="What time is it?", tool_required=True)
    calls = caller.get_tool_calls_from_response(answer)
    assert calls[0].tool_name == "clock"
    assert isinstance(calls[0].tool_kwargs["utc"], bool)


@session.check
def a_json_schema_is_kept() -> None:
    structured = model(max_tokens=150, should_use_structured_outputs=True).as_structured_llm(Place)
    assert isinstance(structured.chat(USER).raw, Place)


@session.check
def embeddings() -> None:
    embedder = OpenAILikeEmbedding(model_name=EMBEDDER, api_base=API, api_key=KEY, max_retries=0)
    first, second = embedder.get_text_embedding_batch(["The sky is blue.", "A dog barks."])
    assert len(first) == len(second) == len(embedder.get_query_embedding("blue"))


@session.check
async def a_cancelled_task_is_cancelled() -> None:
    """A stream that is left it does not close."""
    async with Leaving():
        patient = model(
            max_tokens=1500, reuse_client=False, additional_kwargs={"extra_body": {"ignore_eos": True}}
        )
        task = asyncio.create_task(patient.achat(USER))
        await until_answered()
        task.cancel()
        await asyncio.wait([task])


@session.check
def errors() -> None:
    for kind, wrong, prompt in (
        (openai.NotFoundError, {"name": "gpt-9"}, PROMPT),
        (openai.BadRequestError, {}, "word " * 5000),
    ):
        with pytest.raises(kind):
            model(**wrong).chat([ChatMessage(role="user", content=prompt)])


if __name__ == "__main__":
    asyncio.run(session.run())
