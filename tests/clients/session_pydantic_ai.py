"""pydantic-ai's agents over its OpenAI models."""

import asyncio

import pytest
from pydantic import BaseModel
from pydantic_ai import Agent, Embedder, NativeOutput, ToolOutput
from pydantic_ai.embeddings.openai import OpenAIEmbeddingModel
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider

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
PROVIDER = OpenAIProvider(base_url=API, api_key=KEY)
SHORT = {"max_tokens": 24, "temperature": 0}
ROOMY = {"max_tokens": 150, "temperature": 0}


class Place(BaseModel):
    """A place."""

    continent: bool


def model(name: str = MODEL) -> OpenAIChatModel:
    return OpenAIChatModel(name, provider=PROVIDER)


@session.check
async def chat() -> None:
    answer = await Agent(model()).run(PROMPT, model_settings=SHORT)
    assert answer.output
    assert answer.usage.output_tokens <= 24
    assert (await Agent(model(COMPOSITION)).run(PROMPT, model_settings=SHORT)).output


@session.check
async def stream() -> None:
    plain = await Agent(model()).run(PROMPT, model_settings=SHORT)
    async with Agent(model()).run_stream(PROMPT, model_settings=SHORT) as answer:
        text = "".join([piece async for piece in answer.stream_text(delta=True)])
    assert text == plain.output


@session.check
async def tools() -> None:
    agent = Agent(model(), output_type=ToolOutput(Place))
    assert isinstance((await agent.run("Is Europe a continent?", model_settings=ROOMY)).output, Place)


@session.check
async def a_json_schema_is_kept() -> None:
    agent = Agent(model(), output_type=NativeOutput(Place))
    assert isinstance((await agent.run("Is Europe a continent?", model_settings=ROOMY)).output, Place)


@session.check
async def responses() -> None:
    agent = Agent(OpenAIResponsesModel(MODEL, provider=PROVIDER))
    assert (await agent.run(PROMPT, model_settings=SHORT)).output


@session.check
async def embeddings() -> None:
    embedder = Embedder(OpenAIEmbeddingModel(EMBEDDER, provider=PROVIDER))
    answer = await embedder.embed_documents(["The sky is blue.", "A dog barks."])
    assert len(answer.embeddings[0]) == len(answer.embeddings[1])


@session.check
async def a_stream_left_is_cancelled() -> None:
    async with Leaving():
        settings = {"max_tokens": 1500, "extra_body": {"ignore_eos": True}}
        run = asyncio.create_task(Agent(model()).run(PROMPT, model_settings=settings))
        await until_answered()
        run.cancel()
        await asyncio.wait([run])


@session.check
async def errors() -> None:
    for status, agent, prompt in (
        (404, Agent(model("gpt-9")), PROMPT),
        (400, Agent(model()), "word " * 5000),
    ):
        with pytest.raises(ModelHTTPError) as caught:
            await agent.run(prompt, model_settings=SHORT)
        assert caught.value.status_code == status
        assert caught.value.body["type"] == "invalid_request_error"


if __name__ == "__main__":
    asyncio.run(session.run())
