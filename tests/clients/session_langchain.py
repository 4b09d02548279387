"""LangChain's ChatOpenAI and OpenAIEmbeddings; its conformance suite is in langchain_standard.py."""

import asyncio

import openai
import pytest
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel

from tests.clients.checks import API, COMPOSITION, EMBEDDER, KEY, MODEL, PROMPT, Leaving, Session

session = Session()


def model(name: str = MODEL, **fields: object) -> ChatOpenAI:
    return ChatOpenAI(
        model=name,
        base_url=API,
        api_key=KEY,
        max_retries=0,
        stream_usage=True,
        **({"max_tokens": 24, "temperature": 0} | fields),
    )


class Place(BaseModel):
    """A place."""

    continent: bool


@tool
def clock(utc: bool) -> str:
    """Says what time it is."""
    return "noon" if utc else "midnight"


@session.check
def chat() -> None:
    answer = model().invoke(PROMPT)
    assert answer.text
    assert answer.usage_metadata["output_tokens"] <= 24
    assert answer.response_metadata["model_name"] == MODEL


@session.check
def a_composition_chooses_an_expert() -> None:
    answer = model(COMPOSITION, include_response_headers=True).invoke("What is the derivative of x^3 + 2x?")
    assert answer.response_metadata["headers"]["x-coe-expert"] == "math"


@session.check
async def stream() -> None:
    plain = await model().ainvoke(PROMPT)
    chunks = [chunk async for chunk in model().astream(PROMPT)]
    assert "".join(chunk.text for chunk in chunks) == plain.text
    assert sum(chunk.usage_metadata["output_tokens"] for chunk in chunks if chunk.usage_metadata) <= 24


@session.check
def tools() -> None:
    answer = model(max_tokens=150).bind_tools([clock], tool_choice="clock").invoke("What time is it?")
    (call,) = answer.tool_calls
    assert (call["name"], type(call["args"]["utc"])) == ("clock", bool)
    required = model(max_tokens=150).bind_tools([clock], tool_choice="any", parallel_tool_calls=False)
    assert required.invoke("What time is it?").tool_calls[0]["name"] == "clock"


@session.check
def a_json_schema_is_kept() -> None:
    for method in ("json_schema", "function_calling"):
        answer = (
            model(max_tokens=150)
            .with_structured_output(Place, method=method)
            .invoke("Is Europe a continent?")
        )
        assert isinstance(answer, Place)


@session.check
def embeddings() -> None:
    embedder = OpenAIEmbeddings(model=EMBEDDER, base_url=API, api_key=KEY, check_embedding_ctx_length=False)
    first, second = embedder.embed_documents(["The sky is blue.", "A dog barks."])
    assert len(first) == len(second) == len(embedder.embed_query("blue"))


@session.check
async def a_stream_left_is_cancelled() -> None:
    async with Leaving():
        answer = model(max_tokens=1500, extra_body={"ignore_eos": True}).astream(PROMPT)
        await anext(answer)
        await answer.aclose()


@session.check
def errors() -> None:
    for kind, wrong, prompt in (
        (openai.NotFoundError, {"name": "gpt-9"}, PROMPT),
        (openai.BadRequestError, {}, "word " * 5000),
        (openai.BadRequestError, {"temperature": -1}, PROMPT),
    ):
        with pytest.raises(kind):
            model(**wrong).invoke(prompt)


if __name__ == "__main__":
    asyncio.run(session.run())
