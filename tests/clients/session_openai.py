"""OpenAI's own Python SDK, of whichever version is installed."""

import asyncio
import json
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
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
client: Any = OpenAI(base_url=API, api_key=KEY, max_retries=0, timeout=120)
"""Of no type: it is sent what its types refuse."""
USER = [{"role": "user", "content": PROMPT}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather in a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
CLOCK = {
    "type": "function",
    "function": {
        "name": "clock",
        "parameters": {"type": "object", "properties": {}, "additionalProperties": False},
    },
}


class Place(BaseModel):
    continent: bool
    letters: int


@session.check
def chat() -> None:
    answer = client.chat.completions.create(
        model=MODEL, messages=USER, max_completion_tokens=20, temperature=0
    )
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "length"
    assert answer.model == MODEL
    assert answer.usage.completion_tokens == 20
    assert answer._request_id


@session.check
def a_composition_chooses_an_expert() -> None:
    answer = client.chat.completions.with_raw_response.create(
        model=COMPOSITION,
        messages=[{"role": "user", "content": "What is the derivative of x^3 + 2x?"}],
        max_tokens=5,
    )
    assert answer.headers["x-coe-expert"] == "math"
    assert answer.parse().model == "math"


@session.check
def stream() -> None:
    plain = client.chat.completions.create(model=MODEL, messages=USER, max_tokens=24, temperature=0)
    chunks = list(
        client.chat.completions.create(
            model=MODEL,
            messages=USER,
            max_tokens=24,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == plain.choices[0].message.content
    assert (chunks[-1].choices, chunks[-1].usage.completion_tokens) == ([], 24)
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert {chunk.model for chunk in chunks} == {MODEL}


@session.check
def the_streaming_helper_accumulates() -> None:
    with client.chat.completions.stream(model=MODEL, messages=USER, stop=[" "], temperature=0) as events:
        kinds = {event.type for event in events}
        answer = events.get_final_completion()
    assert {"chunk", "content.delta", "content.done"} <= kinds
    assert answer.choices[0].message.content


@session.check
def a_named_tool_is_called() -> None:
    answer = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "How is the weather in Rome?"}],
        tools=[CLOCK, WEATHER],
        tool_choice={"type": "function", "function": {"name": "weather"}},
        max_tokens=150,
        temperature=0,
    )
    (call,) = answer.choices[0].message.tool_calls
    assert (call.type, call.function.name) == ("function", "weather")
    assert json.loads(call.function.arguments)["city"] in ("Paris", "Rome")
    assert call.id


@session.check
def a_required_tool_is_called_and_its_result_is_taken() -> None:
    asked = [{"role": "user", "content": "How is the weather in Rome?"}]
    answer = client.chat.completions.create(
        model=MODEL,
        messages=asked,
        tools=[WEATHER],
        tool_choice="required",
        parallel_tool_calls=False,
        max_tokens=150,
        temperature=0,
    )
    message = answer.choices[0].message
    assert answer.choices[0].finish_reason == "tool_calls"
    (call,) = message.tool_calls
    result = {"role": "tool", "tool_call_id": call.id, "content": "sunny"}
    more = client.chat.completions.create(
        model=MODEL, messages=[*asked, message, result], tools=[WEATHER], max_tokens=10
    )
    assert more.choices[0].message.role == "assistant"


@session.check
def a_tool_call_is_streamed_in_pieces() -> None:
    with client.chat.completions.stream(
        model=MODEL,
        messages=[{"role": "user", "content": "How is the weather in Rome?"}],
        tools=[WEATHER],
        tool_choice="required",
        parallel_tool_calls=False,
        max_tokens=150,
        temperature=0,
    ) as events:
        answer = events.get_final_completion()
    assert answer.choices[0].message.tool_calls
    for call in answer.choices[0].message.tool_calls:  # a small model may call more than once
        assert call.function.name == "weather"
        assert json.loads(call.function.arguments)["city"]


@session.check
def tools_may_be_left_alone() -> None:
    for choice in ("auto", "none"):
        answer = client.chat.completions.create(
            model=MODEL, messages=USER, tools=[WEATHER], tool_choice=choice, max_tokens=8
        )
        assert answer.choices[0].message.content


@session.check
def a_json_schema_is_kept() -> None:
    answer = client.chat.completions.parse(
        model=MODEL,
        messages=[{"role": "user", "content": "Is Europe a continent, and how many letters has it?"}],
        response_format=Place,
        max_tokens=100,
        temperature=0,
    )
    assert isinstance(answer.choices[0].message.parsed, Place)


@session.check
def a_json_object_is_json() -> None:
    answer = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": 'Say {"a": 1}'}],
        response_format={"type": "json_object"},
        max_tokens=200,
        temperature=0,
    )
    if answer.choices[0].finish_reason == "stop":
        json.loads(answer.choices[0].message.content)
    else:
        assert answer.choices[0].message.content.lstrip().startswith("{")


@session.check
def completions() -> None:
    answer = client.completions.create(model=MODEL, prompt=["The sky", "A dog"], max_tokens=8, temperature=0)
    assert [choice.index for choice in answer.choices] == [0, 1]
    chunks = list(
        client.completions.create(model=MODEL, prompt="The sky", max_tokens=8, temperature=0, stream=True)
    )
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == answer.choices[0].text


@session.check
def embeddings() -> None:
    texts = ["The sky is blue.", "The heavens are azure.", "Invoices are due in thirty days."]
    packed = client.embeddings.create(model=EMBEDDER, input=texts)  # the SDK asks for base64
    plain = client.embeddings.create(model=EMBEDDER, input=texts, encoding_format="float")
    assert [each.index for each in packed.data] == [0, 1, 2]
    vectors = [each.embedding for each in plain.data]
    for one, other in zip([each.embedding for each in packed.data], vectors, strict=True):
        assert max(abs(a - b) for a, b in zip(one, other, strict=True)) < 1e-6
    near, far = (sum(a * b for a, b in zip(vectors[0], other, strict=True)) for other in vectors[1:])
    assert near > far
    assert plain.usage.prompt_tokens == plain.usage.total_tokens > 0


@session.check
def models() -> None:
    names = [model.id for model in client.models.list()]
    assert {MODEL, COMPOSITION} <= set(names)
    assert client.models.retrieve(MODEL).id == MODEL


@session.check
def responses() -> None:
    first = client.responses.create(model=MODEL, input=PROMPT, max_output_tokens=24)
    assert first.output_text
    assert first.usage.output_tokens <= 24
    events = list(
        client.responses.create(
            model=MODEL,
            input="And at night?",
            previous_response_id=first.id,
            max_output_tokens=24,
            stream=True,
        )
    )
    assert events[0].type == "response.created"
    assert events[-1].type in ("response.completed", "response.incomplete")
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == events[-1].response.output_text
    assert client.responses.retrieve(first.id).output_text == first.output_text


@session.check
def a_closed_stream_is_cancelled() -> None:
    with Leaving():
        stream = client.chat.completions.create(
            model=MODEL, messages=USER, max_tokens=1500, stream=True, extra_body={"ignore_eos": True}
        )
        for _, _chunk in zip(range(3), stream, strict=False):
            pass
        stream.close()


@session.check
async def a_cancelled_task_is_cancelled() -> None:
    async with Leaving():
        patient: Any
        async with AsyncOpenAI(base_url=API, api_key=KEY, max_retries=0) as patient:
            task = asyncio.create_task(
                patient.chat.completions.create(
                    model=MODEL, messages=USER, max_tokens=1500, extra_body={"ignore_eos": True}
                )
            )
            await until_answered()
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()


@session.check
def a_client_that_does_not_wait_is_cancelled() -> None:
    with Leaving(), pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=0.5).chat.completions.create(
            model=MODEL, messages=USER, max_tokens=1500, extra_body={"ignore_eos": True}
        )


def refused(kind: type[openai.APIStatusError], **fields: object) -> openai.APIStatusError:
    """The error of a chat request with other ``fields``."""
    given = {"model": MODEL, "messages": USER, "max_tokens": 5} | fields
    with pytest.raises(kind) as caught:
        client.chat.completions.create(**given)
    assert caught.value.request_id
    assert caught.value.type == "invalid_request_error", caught.value.body
    return caught.value


@session.check
def a_wrong_key_is_refused() -> None:
    if KEY == "none":
        return
    with pytest.raises(openai.AuthenticationError) as caught:
        client.with_options(api_key="wrong").models.list()
    assert caught.value.code == "invalid_api_key"


@session.check
def an_unknown_model_is_not_found() -> None:
    error = refused(openai.NotFoundError, model="gpt-9")
    assert (error.code, error.param) == ("model_not_found", "model")


@session.check
def a_prompt_too_long_is_a_bad_request() -> None:
    error = refused(openai.BadRequestError, messages=[{"role": "user", "content": "word " * 5000}])
    assert error.code == "context_length_exceeded"


@session.check
def bad_parameters_are_named() -> None:
    assert refused(openai.BadRequestError, temperature="warm").param == "temperature"
    assert refused(openai.BadRequestError, temperature=-1).param == "temperature"
    assert refused(openai.BadRequestError, messages=[]).param == "messages"


if __name__ == "__main__":
    asyncio.run(session.run())
