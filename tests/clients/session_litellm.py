"""LiteLLM's client, which sorts errors by their texts and codes."""

import asyncio
import json
import os

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # it asks the internet for prices otherwise

import litellm
import pytest
from pydantic import BaseModel

from tests.clients.checks import API, COMPOSITION, EMBEDDER, KEY, MODEL, PROMPT, Leaving, Session

session = Session()
litellm.suppress_debug_info = True
USER = [{"role": "user", "content": PROMPT}]
CLOCK = {
    "type": "function",
    "function": {
        "name": "clock",
        "parameters": {
            "type": "object",
            "properties": {"utc": {"type": "boolean"}},
            "required": ["utc"],
            "additionalProperties": False,
        },
    },
}


class Place(BaseModel):
    continent: bool


def given(**fields: object) -> dict[str, object]:
    name = fields.pop("model", MODEL)
    return {
        "model": f"openai/{name}", "api_base": API, "api_key": KEY, "max_retries": 0, "max_tokens": 24,
        "messages": USER, "temperature": 0,
    } | fields  # fmt: skip


@session.check
def chat() -> None:
    answer = litellm.completion(**given())
    assert answer.choices[0].message.content
    assert answer.usage.completion_tokens <= 24
    assert litellm.completion(**given(model=COMPOSITION)).choices[0].message.content


@session.check
async def stream() -> None:
    plain = await litellm.acompletion(**given())
    chunks = [chunk async for chunk in await litellm.acompletion(**given(stream=True))]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == plain.choices[0].message.content


@session.check
def tools() -> None:
    choice = {"type": "function", "function": {"name": "clock"}}
    answer = litellm.completion(**given(tools=[CLOCK], tool_choice=choice, max_tokens=150))
    call = answer.choices[0].message.tool_calls[0]
    assert call.function.name == "clock"
    assert isinstance(json.loads(call.function.arguments)["utc"], bool)


@session.check
def a_json_schema_is_kept() -> None:
    answer = litellm.completion(**given(response_format=Place, max_tokens=150))
    Place.model_validate_json(answer.choices[0].message.content)


@session.check
def embeddings() -> None:
    answer = litellm.embedding(
        model=f"openai/{EMBEDDER}", api_base=API, api_key=KEY, input=["The sky is blue.", "A dog barks."]
    )
    assert len(answer.data[0]["embedding"]) == len(answer.data[1]["embedding"])


@session.check
async def a_stream_left_is_cancelled() -> None:
    async with Leaving():
        answer = await litellm.acompletion(
            **given(stream=True, max_tokens=1500, extra_body={"ignore_eos": True})
        )
        await anext(answer)
        await answer.aclose()


@session.check
def errors() -> None:
    for kind, wrong in (
        (litellm.NotFoundError, {"model": "gpt-9"}),
        (litellm.ContextWindowExceededError, {"messages": [{"role": "user", "content": "word " * 5000}]}),
        (litellm.BadRequestError, {"temperature": -1}),
    ):
        with pytest.raises(kind):
            litellm.completion(**given(**wrong))


if __name__ == "__main__":
    asyncio.run(session.run())
